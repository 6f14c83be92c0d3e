"""Newton's equation, by every method, against dense algebra."""

import numpy as np
import pytest
import torch

from geomsink.multiscale import Places, Sparse
from geomsink.path import equation, groups
from geomsink.path.equation import NewtonEquation
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


def equation_of(P, sparse, residual=1e-10, in_groups=None):
    rows, columns = (torch.from_numpy(P.sum(axis)) for axis in (1, 0))
    kernel = sparse_of(P) if sparse else torch.from_numpy(P)
    plan = Plan(kernel, torch.ones_like(rows), torch.ones_like(columns))
    return NewtonEquation(plan, rows, columns, residual, in_groups)


def sparse_of(P):
    i, j = torch.from_numpy(P).nonzero(as_tuple=True)
    return Sparse.of(Places(i.int(), j.int(), P.shape), torch.from_numpy(P)[i, j])


def missed(P, found, r, s):
    """Relative residual, by dense products."""
    du, dv = (h.numpy() for h in found)
    left = r - P.sum(1) * du - P @ dv, s - P.sum(0) * dv - P.T @ du
    return np.abs(np.concatenate(left)).sum() / np.abs(np.concatenate((r, s))).sum()


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("few", [0, 2000])
def test_full_and_iterative_methods_solve_it(local, monkeypatch, sparse, few):
    P, r, s = local
    monkeypatch.setattr(equation, "FEW", few)
    found = equation_of(P, sparse).solve(torch.from_numpy(r), torch.from_numpy(s))
    assert missed(P, found, r, s) < 1e-7


def test_groups_take_the_place_of_iterations(local, monkeypatch):
    P, r, s = local
    for name, value in {"FEW": 0, "MOST": 0, "SPARSE": 0.0, "ITERATIONS": (50, 50)}.items():
        monkeypatch.setattr(equation, name, value)
    order = torch.arange(len(r))
    parts = groups.groups_of(order)
    assert int(parts.max()) + 1 == len(r) // groups.SIZE and bool((parts.diff() >= 0).all())
    right = torch.from_numpy(r), torch.from_numpy(s)
    assert missed(P, equation_of(P, True).solve(*right), r, s) > 1e-3
    assert missed(P, equation_of(P, True, in_groups=(parts, parts)).solve(*right), r, s) < 1e-5


def test_groups_follow_an_order():
    order = torch.tensor([3, 0, 2, 1] * 24) * 24 + torch.arange(24).repeat_interleave(4)
    found = groups.groups_of(order)
    assert found[order].tolist() == sorted(found.tolist())
    assert torch.bincount(found).tolist() == [24] * 4
