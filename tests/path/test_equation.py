"""Newton's equation, by every method, on a CPU and on a pretend GPU, against dense algebra."""

import contextlib
from unittest import mock

import numpy as np
import pytest
import torch
from pretend import pretend
from scipy.sparse.linalg import splu

from geomsink.multiscale import Places, Sparse
from geomsink.path import equation, groups
from geomsink.path.equation import NewtonEquation
from geomsink.path.factor import SparseFactor
from geomsink.path.sums import Plan


@pytest.fixture(scope="module")
def local():
    """A plan between neighbours on a line, whose slow modes are long waves; and a right-hand side."""
    n, rng = 1200, np.random.default_rng(0)
    x, y = np.sort(rng.random((2, n)), axis=1)
    P = np.exp(-(((x[:, None] - y) / 0.004) ** 2))
    P[P < 1e-12] = 0.0
    P /= P.sum()
    r, s = P.sum(1) * rng.standard_normal(n), P.sum(0) * rng.standard_normal(n)
    s -= P.sum(0) * (s.sum() - r.sum())
    return P, r, s


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    with pretend() if request.param == "cuda" else contextlib.nullcontext():
        yield request.param


def equation_of(P, sparse, residual=1e-10, in_groups=None, device="cpu"):
    rows, columns = (torch.from_numpy(P.sum(axis)).to(device) for axis in (1, 0))
    kernel = sparse_of(P, device) if sparse else torch.from_numpy(P).to(device)
    plan = Plan(kernel, torch.ones_like(rows), torch.ones_like(columns))
    return NewtonEquation(plan, rows, columns, residual, in_groups)


def sparse_of(P, device="cpu"):
    i, j = torch.from_numpy(P).nonzero(as_tuple=True)
    places = Places(i.int().to(device), j.int().to(device), P.shape)
    return Sparse.of(places, torch.from_numpy(P)[i, j].to(device))


def solved(P, sparse, r, s, device="cpu", **options):
    """λ and μ, on the device, and what was solved."""
    equation = equation_of(P, sparse, device=device, **options)
    found = equation.solve(*(torch.from_numpy(t).to(device) for t in (r, s)))
    assert {t.device.type for t in (*found, equation.left)} == {device}
    return found, equation


def missed(P, found, r, s):
    """Relative residual, by dense products."""
    du, dv = (h.cpu().numpy() for h in found)
    left = r - P.sum(1) * du - P @ dv, s - P.sum(0) * dv - P.T @ du
    return np.abs(np.concatenate(left)).sum() / np.abs(np.concatenate((r, s))).sum()


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("few", [0, 2000])
def test_full_and_iterative_methods_solve_it(local, monkeypatch, sparse, few, device):
    P, r, s = local
    monkeypatch.setattr(equation, "FEW", few)
    assert missed(P, solved(P, sparse, r, s, device)[0], r, s) < 1e-7


@pytest.mark.parametrize("few", [0, 100])
def test_the_smaller_side_is_solved_for(local, monkeypatch, few, device):
    """With fewer rows, and with fewer columns; what is left of the rows is told."""
    P, r, s = local
    monkeypatch.setattr(equation, "FEW", few)
    for wide, *right in ((P[:90, :110], r[:90], s[:110]), (P[:110, :90], r[:110], s[:90])):
        wide = wide + 1e-9
        right[1] = right[1] - wide.sum(0) * (right[1].sum() - right[0].sum()) / wide.sum()
        found, of = solved(wide, True, *right, device)
        assert missed(wide, found, *right) < 1e-6
        left = right[0] - wide.sum(1) * found[0].cpu().numpy() - wide @ found[1].cpu().numpy()
        np.testing.assert_allclose(of.left.cpu().numpy(), left, atol=1e-12)


def chain(n=1500, broken=()):
    """A plan that is a tree: each point shares mass with its neighbours, but for some places where it is in pieces."""
    rng = np.random.default_rng(1)
    P = np.diag(rng.random(n) + 0.5) + np.diag(rng.random(n - 1) + 0.5, 1)
    for k in broken:
        P[k, k + 1] = 0.0
    P /= P.sum()
    return P, P.sum(1) * rng.standard_normal(n)


def test_trees_are_factorised_on_the_host(device):
    """By copies in one place, there and back; conjugate gradients would need as many iterations as there are points."""
    P, r = chain()
    s = P.sum(0) * np.random.default_rng(2).standard_normal(len(r))
    s -= P.sum(0) * (s.sum() - r.sum())
    with pretend() as log:
        found, _ = solved(P, True, r, s, device)
    assert missed(P, found, r, s) < 1e-9
    places = [event.where.split(":")[0] for event in log.events if event.kind in ("read", "copy")]
    assert places.count("path/factor.py") == 5 * (device == "cuda") and set(places) <= {"path/factor.py", "the caller"}


def test_a_factorisation_that_rounding_breaks_off_is_made_with_a_larger_shift(device):
    """Of two pieces, each with a constant that nothing determines."""
    P, r = chain(60, broken=(30,))
    S = P / np.sqrt(P.sum(1)[:, None] * P.sum(0))
    matrix = np.eye(60) - S @ S.T
    values, vectors = np.linalg.eigh(matrix)
    inside = vectors[:, values > 1e-9]
    assert inside.shape[1] == 58
    right = inside @ (inside.T @ r)
    with mock.patch("scipy.sparse.linalg.splu", wraps=splu) as made:
        found = SparseFactor(sparse_of(S, device)).solve(torch.from_numpy(right).to(device), 1e-20)
    assert found.device.type == device and made.call_count > 1
    np.testing.assert_allclose(inside.T @ found.cpu().numpy(), (inside.T @ right) / values[values > 1e-9], rtol=1e-6)


def test_groups_take_the_place_of_iterations(local, monkeypatch, device):
    P, r, s = local
    for name, value in {"FEW": 0, "MOST": 0, "SPARSE": 0.0, "ITERATIONS": (50, 50)}.items():
        monkeypatch.setattr(equation, name, value)
    order = torch.arange(len(r))
    parts = groups.groups_of(order)
    assert int(parts.max()) + 1 == len(r) // groups.SIZE and bool((parts.diff() >= 0).all())
    assert missed(P, solved(P, True, r, s, device)[0], r, s) > 1e-3
    parts = parts.to(device)
    assert missed(P, solved(P, True, r, s, device, in_groups=(parts, parts))[0], r, s) < 1e-5


def test_groups_follow_an_order():
    order = torch.tensor([3, 0, 2, 1] * 24) * 24 + torch.arange(24).repeat_interleave(4)
    found = groups.groups_of(order)
    assert found[order].tolist() == sorted(found.tolist())
    assert torch.bincount(found).tolist() == [24] * 4


def test_matrices_that_are_none_of_numbers_have_no_solution():
    """And are not factorised with larger and larger shifts without end."""
    kernel = torch.full((3, 3), float("nan"), dtype=torch.float64)
    ones = torch.ones(3, dtype=torch.float64)
    found, _ = NewtonEquation(Plan(kernel, ones, ones), ones, ones, 1e-8).solve(ones, ones)
    assert found.isnan().all()
    one = torch.zeros(1, dtype=torch.int32)
    broken = Sparse.of(Places(one, one, (1, 1)), torch.tensor([float("nan")], dtype=torch.float64))
    assert SparseFactor(broken).solve(torch.ones(1, dtype=torch.float64), 1e-14).isnan().all()
