"""Newton's step and its two-grid form, against the same equations in dense float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pretend import pretend
from reference import exponents, mask, squared_distances
from scipy.special import logsumexp

from geomsink import costs, engine
from geomsink.engine import Blocks
from geomsink.measures.measures import Measure
from geomsink.multiscale import newton
from geomsink.multiscale.clouds import Cloud
from geomsink.multiscale.newton import DROPPED, Newton, NewtonSystem, SparsePlan
from geomsink.multiscale.sparse import Places, Sparse
from geomsink.multiscale.tree import Tree
from geomsink.multiscale.twogrid import TwoGrid, averages
from geomsink.solver.penalties import Balanced

FIXED = (Balanced(), Balanced())
COST = costs.get("sqeuclidean")


def problem(n, m, sigma, n_iter, seed=0):
    """Two small measures, their costs, and exponents after some updates, in NumPy."""
    random = np.random.default_rng(seed)
    alpha = measure(random.uniform(size=(n, 2)), np.ones(n))
    beta = measure(random.uniform(size=(m, 2)) * [0.7, 0.5] + 0.1, random.uniform(0.5, 1.5, size=m))
    return described(alpha, beta, 2 * sigma**2, n_iter)


def described(alpha, beta, epsilon, n_iter):
    a, b = alpha.weights.numpy(), beta.weights.numpy()
    C = squared_distances(alpha.points.numpy(), beta.points.numpy())
    u, v = exponents(C, a, b, epsilon, n_iter)
    f, g = epsilon * (u - np.log(a)), epsilon * (v - np.log(b))
    return SimpleNamespace(alpha=alpha, beta=beta, a=a, b=b, C=C, epsilon=epsilon, u=u, v=v, f=f, g=g)


def plan_of(p, u=None, v=None):
    u, v = p.u if u is None else u, p.v if v is None else v
    return np.exp(u[:, None] + v - p.C / p.epsilon)


def updated(p, g):
    """f of the row update that follows g, and the log(Pᵀ1 / b) that it leaves."""
    v = g / p.epsilon + np.log(p.b)
    u = np.log(p.a) - logsumexp(v - p.C / p.epsilon, axis=1)
    return p.epsilon * (u - np.log(p.a)), np.log(plan_of(p, u, v).sum(0) / p.b)


def error_of(p, g):
    return np.abs(p.b * np.expm1(updated(p, g)[1])).sum()


def sparse_plan(p, blocks=None, margin=0.0):
    return SparsePlan(p.alpha, p.beta, COST, *tensors(p.u, p.v), p.epsilon, blocks, margin)


def newton_of(p):
    return Newton(*(Cloud(m, COST, p.epsilon) for m in (p.alpha, p.beta)), COST, p.epsilon, FIXED)


def step_of(correction, p, g, shift):
    f, log_columns = updated(p, g)
    return correction.step(*tensors(f, g, -p.b * np.expm1(log_columns)), shift)


def tensors(*arrays):
    return [torch.as_tensor(array) for array in arrays]


def measure(points, weights):
    return Measure(torch.as_tensor(points), torch.as_tensor(weights / weights.sum()))


def ranges(n, size):
    begin = torch.arange(0, n, size)
    return torch.stack((begin, (begin + size).clamp(max=n)), 1)


@pytest.mark.parametrize("chunk", [2**20, 500])
def test_sparse_plans_keep_what_counts(chunk, monkeypatch):
    monkeypatch.setattr("geomsink.memory.CHUNK", chunk)
    p = problem(150, 130, 0.03, 50)
    found = sparse_plan(p).matrix(*tensors(p.u, p.v))
    exact = plan_of(p)
    counts = exact > DROPPED * np.minimum(p.a[:, None], p.b)
    assert found.dtype == torch.float64 and len(found.entries) == counts.sum() < 0.25 * counts.size
    np.testing.assert_allclose(found.full(), np.where(counts, exact, 0.0), rtol=1e-12)


def test_sparse_plans_have_room_for_changes():
    """Entries that come to count when both exponents change by half the margin are there."""
    p, margin = problem(150, 130, 0.02, 50), 3.0
    random = np.random.default_rng(1)
    u, v = (e + random.uniform(-margin / 2, margin / 2, size=len(e)) for e in (p.u, p.v))
    matrix = sparse_plan(p, margin=margin).matrix(*tensors(u, v)).full().numpy()
    exact, least = plan_of(p, u, v), DROPPED * np.minimum(p.a[:, None], p.b)
    assert ((exact > least) & (plan_of(p) < least)).any()
    np.testing.assert_allclose(matrix[exact > least], exact[exact > least], rtol=1e-12)


def test_plans_that_are_nearly_full_are_stored_in_full():
    p = problem(80, 70, 0.3, 50)
    found = sparse_plan(p).matrix(*tensors(p.u, p.v))
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, plan_of(p), rtol=1e-6, atol=DROPPED / 70)


@pytest.mark.parametrize("pairs", [2**20, 300])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_pairs_of_a_pattern(density, pairs):
    n, m = 103, 91
    rows, columns = ranges(n, 8), ranges(m, 10)
    keep = torch.rand(len(rows), len(columns), generator=torch.Generator().manual_seed(2)) < density
    keep[3] = False  # rows that see nothing, and rows that see all
    keep[5] = density > 0
    blocks = Blocks.from_mask(rows, columns, keep)
    expected = mask(blocks, n, m)
    assert np.array_equal(expected, keep.repeat_interleave(8, 0)[:n].repeat_interleave(10, 1)[:, :m].numpy())
    found = [newton.pairs_of(part, torch.device("cpu")) for part in blocks.parts(pairs)]
    i, j = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    assert np.array_equal(np.stack((i, j)), np.stack(expected.nonzero()))  # row by row, and in order


def test_plans_of_a_pattern_have_its_pairs_alone():
    p = problem(150, 130, 0.03, 50)
    rows, columns = ranges(150, 8), ranges(130, 8)
    keep = torch.rand(len(rows), len(columns), generator=torch.Generator().manual_seed(3)) < 0.5
    blocks = Blocks.from_mask(rows, columns, keep)
    exact = plan_of(p)
    counts = (exact > DROPPED * np.minimum(p.a[:, None], p.b)) & mask(blocks, 150, 130)
    found = sparse_plan(p, blocks).matrix(*tensors(p.u, p.v)).full().numpy()
    np.testing.assert_allclose(found, np.where(counts, exact, 0.0), rtol=1e-12)


def solved(P, rho, shift):
    """ξ with ⟨a, ξ⟩ = 0 and (1/b) Pᵀ ξ, from the equation of the module's docstring, with P's own marginals."""
    a, b = P.sum(1), P.sum(0)
    matrix = (1 + shift) * np.diag(a) - P @ (P / b).T
    # Constants are the null space where there is no shift: one more equation takes them out.
    system, right = np.vstack((matrix, a)), np.append(P @ (rho / b), 0.0)
    xi = np.linalg.lstsq(system, right, rcond=None)[0]
    return xi, P.T @ xi / b


def stored(P, kind, device="cpu"):
    """A plan as it is on a CPU, sparse or full, and on a GPU, sparse or a full tensor."""
    if kind == "sparse":
        i, j = torch.as_tensor(P).nonzero(as_tuple=True)
        places = Places(i.int().to(device), j.int().to(device), P.shape)
        return Sparse.of(places, torch.as_tensor(P)[i, j].to(device))
    return {"tensor": torch.as_tensor(P).to(device), "float64": P, "float32": P.astype(np.float32)}[kind]


@pytest.mark.parametrize("shift", [0.0, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("kind", ["sparse", "float64", "float32", "tensor"])
def test_newtons_equation(shift, kind, monkeypatch):
    monkeypatch.setattr(newton, "RESIDUAL", 1e-12 if kind != "float32" else 1e-5)
    monkeypatch.setattr(newton, "EXACTLY", 1e-12 if kind != "float32" else 1e-5)
    p = problem(120, 100, 0.07, 30)
    P = plan_of(p)
    rho = p.b - P.sum(0)
    system = NewtonSystem(stored(P, kind))
    # The residual, or float32's rounding, times the condition of the system, whose least eigenvalue is about 0.02.
    error = 1e-9 if kind != "float32" else 1e-3
    for found, expected in zip((system.solve, system.smooth), solved(P, rho, shift), strict=True):
        found = found(torch.as_tensor(rho), shift)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["sparse", "tensor"])
def test_newtons_equation_on_a_gpu(kind, monkeypatch):
    """A pretend one, where iterations are looked at every ten, and full plans are factorised."""
    monkeypatch.setattr(newton, "RESIDUAL", 1e-12)
    p = problem(120, 100, 0.07, 30)
    P = plan_of(p)
    rho = p.b - P.sum(0)
    expected, _ = solved(P, rho, 0.1)
    with pretend():
        xi = NewtonSystem(stored(P, kind, "cuda")).solve(torch.as_tensor(rho).cuda(), 0.1)
        assert xi.is_cuda
        np.testing.assert_allclose(xi.cpu().numpy(), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_newtons_equation_to_its_tolerance():
    """As it is solved by default: to RESIDUAL of the right-hand side, in the norm of conjugate gradients."""
    p = problem(120, 100, 0.05, 30)
    P = plan_of(p)
    a, b, rho = P.sum(1), P.sum(0), p.b - P.sum(0)
    xi = NewtonSystem(P).solve(torch.as_tensor(rho), 0.01).numpy()
    right = P @ (rho / b)
    residual = (1.01 * a * xi - P @ (P.T @ xi / b) - right) / np.sqrt(a)
    size = np.linalg.norm(right / np.sqrt(a))
    assert 1e-6 * size < np.linalg.norm(residual) <= newton.RESIDUAL * size * (1 + 1e-9)


def test_a_large_shift_leads_back_to_the_plain_update():
    p = problem(120, 100, 0.05, 30)
    P = plan_of(p)
    rho = torch.as_tensor(p.b - P.sum(0))
    sizes = [float(NewtonSystem(P).smooth(rho, shift).norm()) for shift in (0.0, 1.0, 1e3)]
    assert sizes[0] > 5 * sizes[1] > 1e3 * sizes[2]


@pytest.mark.parametrize("kind", ["float64", "tensor"])
def test_two_clusters_between_which_no_mass_goes(kind):
    """The matrix has a second null vector, and the answer is that of each cluster by itself."""
    p = problem(60, 50, 0.1, 30)
    P = np.kron(np.eye(2), plan_of(p)) / 2
    rho = np.concatenate((p.b, p.b)) / 2 - P.sum(0)
    found = NewtonSystem(stored(P, kind)).smooth(torch.as_tensor(rho), 0.0).numpy()
    assert np.abs(found).max() < 1e3
    # Up to a constant in each, which changes nothing, and to RESIDUAL.
    expected = solved(plan_of(p), p.b - plan_of(p).sum(0), 0.0)[1]
    expected -= expected.mean()
    for half in np.split(found, 2):
        np.testing.assert_allclose(half - half.mean(), expected, rtol=0, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize(("sigma", "n_iter"), [(0.07, 60), (0.05, 150)])
def test_a_step_near_the_solution(sigma, n_iter):
    """200 points at spacing 0.07: the error falls tenfold, where a plain update takes away a few per cent of it."""
    p = problem(200, 200, sigma, n_iter)
    error = error_of(p, p.g)
    assert 1e-5 < error < 0.01
    step = step_of(newton_of(p), p, p.g, 0.03 * error).numpy()
    plain = p.g - p.epsilon * updated(p, p.g)[1]
    assert error_of(p, plain) > 0.5 * error
    assert error_of(p, plain + step) < 0.1 * error


def test_steps_are_in_the_callers_order():
    p = problem(200, 150, 0.06, 40)
    i, j = (np.random.default_rng(k).permutation(n) for k, n in ((1, 200), (2, 150)))
    alpha, beta = measure(p.alpha.points[i], p.a[i]), measure(p.beta.points[j], p.b[j])
    shuffled = described(alpha, beta, p.epsilon, 0)
    one, other = step_of(newton_of(p), p, p.g, 0.01), step_of(newton_of(shuffled), shuffled, p.g[j], 0.01)
    # The trees, and so all sums, are the same up to the roundings of the potentials.
    np.testing.assert_allclose(other.numpy(), one.numpy()[j], rtol=0, atol=1e-6 * one.abs().max())


def test_pairs_are_looked_for_again_when_exponents_have_changed(monkeypatch):
    p, built = problem(200, 150, 0.05, 150), []
    correction, x = newton_of(p), p.beta.points[:, 0].numpy()
    monkeypatch.setattr(newton, "SparsePlan", lambda *args: built.append(args) or SparsePlan(*args))
    for change, plans in ((0.0, 1), (3.0, 1), (20.0, 2)):
        g = p.g + change * p.epsilon * (x - x.mean())
        step_of(correction, p, g, 0.1)
        assert len(built) == plans
    step_of(correction, p, g + 100.0 * p.epsilon, 0.1)  # f takes the same constant away
    assert len(built) == 2


def test_too_many_pairs_are_left_alone(monkeypatch):
    monkeypatch.setattr("geomsink.choose.LOOKED_AT", (1000, 2**26))
    p = problem(200, 150, 0.3, 20)
    correction = newton_of(p)
    monkeypatch.setattr(correction, "_drift", lambda *_: pytest.fail("there is no plan to drift from"))
    for _ in range(2):
        assert step_of(correction, p, p.g, 0.1) is None


@pytest.mark.parametrize(("n_iter", "level"), [(10, 7), (25, 8)])
def test_a_two_grid_step(n_iter, level):
    """1000 points at σ = 0.1, and cells of about that size: the error falls tenfold."""
    p = problem(1000, 900, 0.1, n_iter)
    trees = Tree.of(p.alpha), Tree.of(p.beta)
    coarse = described(*(tree.coarse(level) for tree in trees), p.epsilon, 200)
    system = NewtonSystem(sparse_plan(coarse).matrix(*tensors(coarse.u, coarse.v)))
    pair = engine.pair(p.beta.points, coarse.alpha.points, COST.transpose(), "dense")
    cell = trees[1].cell_of(level)[trees[1].rank]
    correction = TwoGrid(system, pair, torch.as_tensor(coarse.u), FIXED[1], cell, 2**level, p.epsilon)
    error = error_of(p, p.g)
    assert 1e-3 < error < 0.1
    step = step_of(correction, p, p.g, 0.03 * error).numpy()
    plain = p.g - p.epsilon * updated(p, p.g)[1]
    assert error_of(p, plain) > 0.5 * error
    assert error_of(p, plain + step) < 0.1 * error


def test_averages_are_means_under_the_kernel():
    p = problem(90, 70, 0.1, 10)
    values = np.random.default_rng(4).normal(size=(70, 3))
    pair = engine.pair(p.alpha.points, p.beta.points, COST, "dense")
    found = averages(pair, *tensors(p.u + 1.0, p.v), p.epsilon, torch.as_tensor(values)).numpy()
    P = plan_of(p)
    np.testing.assert_allclose(found, P @ values / P.sum(1, keepdims=True), rtol=0, atol=1e-12)
