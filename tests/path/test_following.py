"""Path following against dense float64 solutions of another method, and the problems that it is there for."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from scipy.special import logsumexp
from soak_dual import Penalty
from soak_reference import transport

import geomsink
from geomsink import costs, solve
from geomsink.measures import Measure
from geomsink.multiscale import Cloud
from geomsink.path import nearest_cost
from geomsink.path.pairs import AllPairs, Around
from geomsink.path.sums import StoredSums
from geomsink.path.trees import TreePairs

HARD = Path(__file__).parents[3] / "shared" / "hard" / "problems.py"


def truth(x, y, a, b, epsilon, rho=None):
    C = ((x[:, None] - y) ** 2).sum(-1)
    kinds = (Penalty(), Penalty()) if rho is None else (Penalty("kl", rho), Penalty("kl", rho))
    return transport(C, a, b, epsilon, *kinds)


def uniform(n):
    return np.full(n, 1 / n)


@pytest.mark.parametrize("sizes", [(90, 90), (90, 70), (70, 90)])
@pytest.mark.parametrize("blur", [0.02, 0.005, 0.001])
def test_low_temperatures_are_right(sizes, blur):
    r = default_rng(sizes[0] + 2 * sizes[1])
    x, y = r.random((sizes[0], 3)), r.random((sizes[1], 3))
    a = r.random(sizes[0])
    s = solve(x, y, a / a.sum(), blur=blur)
    exact = truth(x, y, a / a.sum(), uniform(sizes[1]), s.epsilon)
    assert s.converged and s.strategy == "path-following" and len(s.temperatures) > 5
    assert abs(s.value - exact.value) <= min(s.value_error, 1e-5 * exact.value) + exact.error + exact.rounding


def test_penalties_at_low_temperatures():
    r = default_rng(3)
    x, y, a, b = r.random((60, 2)), r.random((50, 2)), r.random(60) / 30, r.random(50) / 20
    s = solve(x, y, a, b, blur=0.01, reach=0.3)
    exact = truth(x, y, a, b, s.epsilon, rho=2 * 0.3**2)
    assert s.converged and s.strategy == "path-following"
    assert abs(s.value - exact.value) <= 1e-5 * exact.value + exact.error + exact.rounding


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean", "power:1.5"])
def test_any_cost(cost):
    x, y = default_rng(4).random((2, 80, 2))
    s = solve(x, y, epsilon=1e-3, cost=cost, tol=1e-8)
    f, g = s.potentials
    C = costs.get(cost)(torch.tensor(x), torch.tensor(y)).numpy()
    P = np.exp((f[:, None] + g - C) / 1e-3) / 80**2
    assert s.converged and np.abs(P.sum(0) - 1 / 80).sum() + np.abs(P.sum(1) - 1 / 80).sum() <= 1e-8


def test_points_without_weight_have_potentials():
    r = default_rng(5)
    x, y, a = r.random((40, 2)), r.random((40, 2)), r.random(40)
    a[::7] = 0.0
    b = a[::-1] / a.sum()
    s = solve(x, y, a / a.sum(), b, blur=0.01, cost="sqeuclidean")
    f, g = s.potentials
    assert s.strategy == "path-following"
    C = ((x[:, None] - y) ** 2).sum(-1)
    found = -s.epsilon * logsumexp((f[:, None] - C) / s.epsilon, axis=0, b=(a / a.sum())[:, None])
    assert s.converged and np.isfinite(f).all() and np.allclose(g[b == 0], found[b == 0], atol=1e-9)


def test_updates_that_are_not_enough_are_followed_by_the_path():
    """Two clusters whose masses differ by little: 1,000 cycles of updates stopped at a marginal error of 0.3."""
    r = default_rng(0)
    x, y = 0.1 * r.standard_normal((2, 100, 3))
    x[50:, 0] += 10.0
    y[52:, 0] += 10.0
    s = solve(x, y, blur=0.08)
    exact = truth(x, y, uniform(100), uniform(100), s.epsilon)
    assert s.converged
    assert abs(s.value - exact.value) <= 1e-5 * exact.value + exact.error + exact.rounding


def test_from_cells_to_points():
    """Three stages, of 512 cells, 2,048 cells and the points; all pairs are looked at in the end."""
    r = default_rng(6)
    x, y = r.random((6200, 2)), r.random((6150, 2))
    s = solve(x, y, blur=0.004)
    f, g = s.potentials
    rows, columns = np.zeros(6200), np.zeros(6150)
    for i in range(0, 6200, 500):
        part = slice(i, i + 500)
        C = ((x[part, None] - y) ** 2).sum(-1)
        P = np.exp((f[part, None] + g - C) / s.epsilon) / (6200 * 6150)
        rows[part], columns = P.sum(1), columns + P.sum(0)
    assert s.converged and s.strategy == "path-following"
    assert np.abs(rows - 1 / 6200).sum() + np.abs(columns - 1 / 6150).sum() <= s.tol


def test_in_the_limit_it_is_the_assignment():
    """At a hundredth of the spacing: an exact method's cost, and the entropy of a permutation."""
    x, y = default_rng(0).random((2, 500, 3))
    exact = geomsink.transport.matching(x, y)
    spacing = nearest_cost(torch.tensor(x), torch.ones(len(x)), costs.get("sqeuclidean")) ** 0.5
    s = solve(x, y, blur=spacing / 100, tol=1e-8)
    assert s.converged and exact.exact
    assert s.transport_cost == pytest.approx(exact.cost, rel=1e-6)
    assert s.value - s.epsilon * np.log(500) == pytest.approx(exact.cost, rel=1e-6)


def measures():
    r = default_rng(7)
    return [Measure(torch.tensor(r.random((n, 2))), torch.full((n,), 1 / n, dtype=torch.float64)) for n in (700, 600)]


def costs_of(alpha, beta):
    return torch.cdist(alpha.points, beta.points, compute_mode="donot_use_mm_for_euclid_dist") ** 2


def test_pairs_of_trees_are_those_of_all_pairs():
    alpha, beta = measures()
    cost = costs.get("sqeuclidean")
    f, g = 0.1 * alpha.points[:, 0], -0.05 * beta.points[:, 1]
    every, trees = (
        AllPairs(costs_of(alpha, beta)),
        TreePairs(*(Cloud(m, cost, 1e-3) for m in (alpha, beta)), cost, "dense"),
    )
    few, found = every.near(f, g, 0.02), trees.near(f, g, 0.02)
    inside = lambda p: int((p.costs - f[p.places.rows] - g[p.places.columns] < 0.02).sum())  # noqa: E731
    assert inside(found) == inside(few) == len(few.costs) and len(few.costs) > 1000
    assert torch.equal(few.places.rows, found.places.rows) and torch.equal(few.places.columns, found.places.columns)
    assert torch.allclose(trees.highest(g, 1e-3), every.highest(g, 1e-3))


def test_pairs_at_hand_follow_potentials_that_move_far():
    alpha, beta = measures()
    every = AllPairs(costs_of(alpha, beta))
    around, r = Around(every), default_rng(8)
    f, g = torch.zeros(700, dtype=torch.float64), torch.zeros(600, dtype=torch.float64)
    for slack in (0.01, 0.02, 0.001, 0.001, 0.0005):
        f = f + torch.tensor(r.normal(0.0, 0.003, 700))
        few, known = every.near(f, g, slack), around.near(f, g, slack)
        sums = [float(pairs.kernel(f, g, 1e-3).entries.sum()) for pairs in (few, known)]
        assert sums[0] == pytest.approx(sums[1], rel=1e-12)


def test_stored_sums_are_sums():
    alpha, beta = measures()
    every = AllPairs(costs_of(alpha, beta))
    sums = StoredSums(alpha, beta, Around(every))
    C, epsilon, r = every.costs, 2e-3, default_rng(9)
    g = torch.tensor(r.normal(0.0, epsilon, 600))
    f = -epsilon * ((g - C) / epsilon + beta.log_weights).logsumexp(1)
    for drift in (0.0, 1.0, 3.0, 50.0):
        f = f + drift * epsilon
        rows = (f / epsilon)[:, None] + (g - C) / epsilon + beta.log_weights
        assert torch.allclose(sums.log_rows(f, g, epsilon), rows.logsumexp(1), atol=1e-6)
        columns = ((f / epsilon + alpha.log_weights)[:, None] + (g - C) / epsilon).logsumexp(0)
        assert torch.allclose(sums.log_columns(f, g, epsilon), columns, atol=1e-6)
        w = torch.tensor(r.normal(size=(600, 2)))
        assert torch.allclose(sums.row_products(f, g, epsilon, w), rows.exp() @ w, rtol=1e-6)
        w, entries = torch.tensor(r.normal(size=(700, 2))), (columns_of(f, g, C, epsilon) * alpha.weights[:, None]).T
        assert torch.allclose(sums.column_products(f, g, epsilon, w), entries @ w, rtol=1e-6)


def columns_of(f, g, C, epsilon):
    return ((f[:, None] + g - C) / epsilon).exp()


def test_nearest_cost_is_that_of_the_nearest():
    points = torch.tensor(default_rng(10).random((50, 3)))
    distances = torch.cdist(points, points) ** 2 + 1e9 * torch.eye(50)
    cost, nearest = costs.get("sqeuclidean"), float(distances.amin(1).median())
    assert nearest_cost(points, torch.ones(50), cost) == pytest.approx(nearest, rel=1e-9)
    assert nearest_cost(points[:1], torch.ones(1), cost) == 0.0
    # Padding does not count, and of a batch only the first item does.
    padded = torch.cat((points, torch.zeros(40, 3)))
    batch, weights = torch.stack((padded, torch.zeros(90, 3))), torch.ones(2, 90)
    weights[0, 50:] = 0.0
    assert nearest_cost(batch, weights, cost) == pytest.approx(nearest, rel=1e-9)


@pytest.mark.skipif(not HARD.exists(), reason="needs the folder of hard problems beside the checkout")
def test_hard_problems():
    """All of 300 points, at the defaults, against a bound that knows nothing of the solver: 18 of 34 did not."""
    spec = importlib.util.spec_from_file_location("hard_problems", HARD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = [name for name in module.PROBLEMS if "-300-" in f"{name}-"]
    assert len(names) >= 30
    for name in names:
        x, y, a, b, blur = module.PROBLEMS[name]()
        s = geomsink.solve(x, y, a, b, blur=blur)
        a, b = (uniform(len(p)) if w is None else w for p, w in ((x, a), (y, b)))
        f, g = s.potentials
        C = ((x[:, None] - y) ** 2).sum(-1)
        P = a[:, None] * b * np.exp((f[:, None] + g - C) / s.epsilon)
        error = np.abs(P.sum(1) - a).sum() + np.abs(P.sum(0) - b).sum()
        assert s.converged and error <= s.tol, name
        upper = rounded_cost(P, a, b, C, s.epsilon)
        assert s.value <= upper + 1e-9 * abs(upper), name
        assert upper - s.value <= 1e-5 * abs(s.value) + 2 * error * C.max(), name


def rounded_cost(P, a, b, C, epsilon):
    """⟨P, C⟩ + ε KL(P | a ⊗ b) of the plan rounded to its marginals (Altschuler et al. 2017, arXiv:1705.09634)."""
    P = np.minimum(1.0, a / P.sum(1))[:, None] * P
    P = P * np.minimum(1.0, b / P.sum(0))
    rest = a - P.sum(1), b - P.sum(0)
    P = P + np.outer(*rest) / max(rest[0].sum(), 1e-300)
    entropy = np.where(P > 0, P * np.log(np.maximum(P, 1e-300) / np.outer(a, b)), 0.0)
    return (P * C).sum() + epsilon * entropy.sum()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_points_without_weight_change_nothing_at_low_temperatures(seed):
    """Their potentials are the softmins against the others, as from any solution; on the way down they are left out."""
    r = default_rng(seed)
    x, y = r.normal(size=(36, 8)), r.normal(size=(12, 8))
    a, b = r.random(36), r.random(12)
    a[::3], b[::4] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    s = solve(x, y, a, b, cost="euclidean", epsilon=1e-6)
    few = solve(x[a > 0], y[b > 0], a[a > 0], b[b > 0], cost="euclidean", epsilon=1e-6)
    assert s.converged and few.converged and s.strategy == "path-following"
    assert s.value == pytest.approx(few.value, rel=1e-12)
    C = np.linalg.norm(x[:, None] - y, axis=-1)
    f, g = s.potentials
    softmin = -s.epsilon * logsumexp((g - C) / s.epsilon, axis=1, b=b)
    np.testing.assert_allclose(f[a == 0], softmin[a == 0], rtol=0, atol=1e-12)
    softmin = -s.epsilon * logsumexp((f[:, None] - C) / s.epsilon, axis=0, b=a[:, None])
    np.testing.assert_allclose(g[b == 0], softmin[b == 0], rtol=0, atol=1e-12)


def test_trees_of_potentials_that_no_pair_is_near():
    """As those of an earlier call may be, from which clouds have moved far away: nothing was no answer."""
    alpha, beta = measures()
    cost = costs.get("sqeuclidean")
    trees = TreePairs(*(Cloud(m, cost, 1e-3) for m in (alpha, beta)), cost, "dense")
    few = trees.near(alpha.points[:, 0] - 50.0, beta.points[:, 0] - 50.0, 0.02)
    assert few.places.shape == (700, 600) and not len(few.costs)
