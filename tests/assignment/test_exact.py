"""Exact transport against SciPy's dense assignment and linear programs: ties, places, sizes, costs, and both loops."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog

from geomsink import costs, engine
from geomsink.assignment import exact, least_transport
from geomsink.assignment.flow import Flow
from geomsink.assignment.graph import Graph
from geomsink.assignment.masses import whole
from geomsink.assignment.pricing import Pricing
from geomsink.measures import Measure
from geomsink.multiscale import Tree

UPHILL = costs.Cost(name="uphill", expression=lambda x, y: ((y - x).exp() + (x - y) ** 2).sum(-1), symmetric=False)
BELOW_ZERO = costs.Cost(name="negative", expression=lambda x, y: -((x - y) ** 2).sum(-1))
COSTS = [*map(costs.get, ("sqeuclidean", "euclidean", "power:0.5", "power:1.5")), UPHILL, BELOW_ZERO]


def uniform(points):
    points = torch.as_tensor(points)
    return Measure(points, torch.full((len(points),), 1.0 / len(points), dtype=torch.float64))


def check_potentials(found, C):
    """They are feasible for all pairs, and as good as the plan."""
    size = max(np.abs(C).max(), 1e-300)
    assert (found.f[:, None] + found.g - C).max() <= 1e-12 * size
    assert found.exact and found.cost - found.lower <= 1e-12 * size


def check_assignment(x, y, cost, **options):
    found = least_transport(uniform(x), uniform(y), cost, **options)
    C = cost(torch.as_tensor(x), torch.as_tensor(y)).numpy()
    best = C[linear_sum_assignment(C)]
    assert found.i.tolist() == list(range(len(x))) and sorted(found.j) == list(range(len(x)))
    assert found.cost == pytest.approx(C[found.i, found.j].mean(), rel=1e-13, abs=1e-300)
    assert abs(found.cost - best.mean()) <= 1e-13 * np.abs(best).max()
    check_potentials(found, C)
    return found


@pytest.mark.parametrize("complete", [2**18, 0], ids=["all pairs", "candidates"])
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.name)
def test_random_assignments_are_those_of_scipy(cost, complete, monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", complete)
    for seed in range(5):
        random = np.random.default_rng(seed)
        n, d = int(random.integers(1, 150)), int(random.integers(1, 5))
        draw = (lambda: random.integers(0, 4, (n, d)).astype(float)) if seed % 2 else (lambda: random.random((n, d)))  # noqa: B023
        check_assignment(draw(), draw(), cost)


@pytest.mark.parametrize("cost", COSTS[:2], ids=lambda cost: cost.name)
def test_2000_points_with_blocks_left_out(cost, monkeypatch):
    monkeypatch.setattr("geomsink.choose.PAYS", 0)
    random = np.random.default_rng(0)
    found = check_assignment(random.random((2000, 3)), random.random((2000, 3)), cost)
    assert found.edges < 2000**2 / 20


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_points(n):
    check_assignment(np.arange(n, dtype=float)[:, None], np.arange(n, dtype=float)[::-1, None] + 0.5, COSTS[0])


@pytest.mark.parametrize("candidates", [1, 8])
def test_clouds_in_few_places(candidates, monkeypatch):
    """Hundreds of ties to a row: candidates would all be the same ones."""
    monkeypatch.setattr(exact, "COMPLETE", 0)
    random = np.random.default_rng(0)
    x, y = (random.integers(0, 2, (600, 1)).astype(float) for _ in "xy")
    found = check_assignment(x, y, COSTS[0], candidates=candidates)
    assert found.rounds < 60
    assert check_assignment(np.ones((300, 3)), np.ones((300, 3)), COSTS[0], candidates=candidates).cost == 0.0


def test_a_cloud_and_itself_in_another_order(monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", 0)
    x, order = np.random.default_rng(0).random((500, 3)), np.random.default_rng(1).permutation(500)
    found = check_assignment(x, x[order], COSTS[0])
    assert found.cost == 0.0 and np.array_equal(order[found.j], np.arange(500))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_costs_of_any_size(scale, monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", 0)
    random = np.random.default_rng(0)
    x, y = random.random((300, 2)), random.random((300, 2))
    plain, scaled = check_assignment(x, y, COSTS[0]), check_assignment(scale * x, scale * y, COSTS[0])
    assert np.array_equal(plain.j, scaled.j) and scaled.cost == pytest.approx(scale**2 * plain.cost, rel=1e-12)


def test_many_coordinates_whose_costs_are_matrix_products_elsewhere(monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", 0)
    random = np.random.default_rng(0)
    check_assignment(random.normal(size=(200, 40)), random.normal(size=(200, 40)), COSTS[0])


@pytest.mark.parametrize("complete", [2**18, 0], ids=["all pairs", "candidates"])
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.name)
def test_weighted_plans_are_those_of_a_linear_program(cost, complete, monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", complete)
    for seed in range(4):
        random = np.random.default_rng(seed)
        n, m = random.integers(2, 40, 2)
        x, y, a, b = random.random((n, 2)), random.random((m, 2)), random.random(n), random.random(m)
        a[0] = b[-1] = 0.0
        a, b = a / a.sum(), b / b.sum()
        if seed == 3:
            a, b = np.full(n, 1 / n), np.full(m, 1 / m)
        found = least_transport(*(Measure(*map(torch.from_numpy, pair)) for pair in ((x, a), (y, b))), cost)
        C = cost(torch.from_numpy(x), torch.from_numpy(y)).numpy()
        marginals = np.vstack((np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))))
        best = linprog(C.ravel(), A_eq=marginals, b_eq=np.concatenate((a, b))).fun
        P = np.zeros((n, m))
        P[found.i, found.j] = found.mass
        np.testing.assert_allclose(P.sum(1), a, rtol=0, atol=1e-14)
        np.testing.assert_allclose(P.sum(0), b, rtol=0, atol=1e-14)
        assert found.cost == pytest.approx(best, rel=1e-9) and (found.mass > 0.0).all()
        check_potentials(found, C)


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.name)
def test_points_of_a_line_are_sorted_where_costs_are_convex(cost, monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", 0)
    random = np.random.default_rng(1)
    for draw in (random.random, lambda shape: random.integers(0, 9, shape).astype(float)):
        found = check_assignment(draw((120, 1)), draw((120, 1)), cost)
        assert (found.rounds == 1) == (cost.name not in ("power:0.5", "negative"))
    x, y, a, b = random.random((50, 1)), random.random((40, 1)), random.random(50), random.random(40)
    a[:3] *= 0.0
    for weights in ((a, b), (a[3:], b)):  # with points without mass, and without them
        points = x[-len(weights[0]) :]
        alpha, beta = (
            Measure(torch.as_tensor(p), torch.as_tensor(w / w.sum())) for p, w in zip((points, y), weights, strict=True)
        )
        found, C = least_transport(alpha, beta, cost), cost(alpha.points, beta.points).numpy()
        check_potentials(found, C)
        rows, columns = np.kron(np.eye(len(C)), np.ones(40)), np.kron(np.ones(len(C)), np.eye(40))
        right = np.concatenate((alpha.weights.numpy(), beta.weights.numpy()))
        best = linprog(C.ravel(), A_eq=np.vstack((rows, columns)), b_eq=right, method="highs").fun
        assert found.cost == pytest.approx(best, abs=1e-9 * np.abs(C).max())


def test_without_a_compiler_the_same_comes_out(monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.random((120, 2)), random.integers(0, 3, (120, 2)) + 0.1
    monkeypatch.setattr(exact, "COMPLETE", 0)
    compiled = check_assignment(x, y, COSTS[0])

    def refuse(*arguments):
        raise engine.BuildError("none")

    monkeypatch.setattr(engine, "shortest_paths", refuse)
    plain = check_assignment(x, y, COSTS[0])
    assert plain.cost == pytest.approx(compiled.cost, rel=1e-14)


def test_both_loops_send_weights_and_take_them_back_alike(monkeypatch):
    """Columns with flow from many rows, which paths then take from some; and rows that reach nothing soon."""
    random = np.random.default_rng(0)
    n, m = 40, 12
    supply, demand, _ = whole(random.random(n), random.random(m))
    i, j = (index.ravel() for index in np.indices((n, m)))
    costs, kept = random.random(n * m), random.random(n * m) < 0.4
    kept[j == 0] = True
    graph = Graph.of((n, m), i[kept], j[kept], costs[kept])
    compiled, plain = (Flow(graph, supply, demand, np.zeros(m)) for _ in range(2))
    left = [compiled.solve(0.5, 3), compiled.solve(0.5, 100)]

    def refuse(*arguments):
        raise engine.BuildError("none")

    monkeypatch.setattr(engine, "shortest_paths", refuse)
    assert left == [plain.solve(0.5, 3), plain.solve(0.5, 100)] and left[0] > 0
    np.testing.assert_array_equal(plain.mass, compiled.mass)
    np.testing.assert_allclose(plain.g - plain.g[0], compiled.g - compiled.g[0], rtol=0, atol=1e-13)
    assert left[1] == 0 and (np.bincount(graph.i, plain.mass, n) == supply).all()
    assert (plain.slack >= -1e-13).all() and np.abs(plain.slack[plain.mass > 0.0]).max() <= 1e-13


def test_a_tolerance_stops_earlier_and_its_bounds_hold(monkeypatch):
    monkeypatch.setattr(exact, "COMPLETE", 0)
    random = np.random.default_rng(0)
    x, y = random.random((800, 2)), random.random((800, 2))
    best = check_assignment(x, y, COSTS[0])
    loose = least_transport(uniform(x), uniform(y), COSTS[0], tol_gap=0.5)
    assert loose.rounds < best.rounds and loose.lower <= best.cost <= loose.cost <= 2.0 * loose.lower


def test_what_a_plan_that_is_not_the_least_lacks_is_seen():
    """A flow between too few candidates: pricing over all pairs names the others, and the gap is theirs."""
    x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    crossed = Graph.of((3, 3), np.arange(3), np.array([2, 1, 0]), np.array([4.0, 0.0, 4.0]))
    flow = Flow(crossed, np.ones(3), np.ones(3), np.zeros(3))
    assert flow.solve(1.0, 100) == 0 and (flow.mass == 1.0).all()
    search = exact._Search(Pricing.of(x, x, COSTS[0]), flow, np.ones(3), np.ones(3), 8)
    f, g, (i, j, _) = search.price()
    assert {(0, 0), (2, 2)} <= set(zip(i.tolist(), j.tolist(), strict=True))
    assert f.sum() + g.sum() <= 0.0
    assert (f[:, None] + g <= (x - x.T).numpy() ** 2 + 1e-15).all()


@pytest.mark.parametrize("cost", COSTS[:4], ids=lambda cost: cost.name)
def test_bounds_of_blocks_are_below_all_reduced_costs(cost, monkeypatch):
    from geomsink.assignment.bounds import below

    random = np.random.default_rng(0)
    x, y = (torch.from_numpy(random.random((n, 2))) for n in (700, 500))
    x, y = (Tree.of(uniform(p)).measure.points for p in (x, y))
    pricing = Pricing.of(x, y, cost)
    f, g = x.square().sum(1) - x[:, 0], 0.3 * y[:, 1] + torch.from_numpy(0.01 * random.random(500))
    reduced = cost(x, y) - f[:, None] - g
    bounds = below(pricing.rows, pricing.columns, f, g, cost)
    for row, (r0, r1) in enumerate(pricing.rows.ranges.tolist()):
        for column, (c0, c1) in enumerate(pricing.columns.ranges.tolist()):
            assert bounds[row, column] <= reduced[r0:r1, c0:c1].min()


def test_masses_are_whole_and_balanced():
    random = np.random.default_rng(0)
    for _ in range(20):
        a, b = random.random(int(random.integers(1, 50))) ** 8, random.random(int(random.integers(1, 50)))
        units_a, units_b, total = whole(a / a.sum(), b / b.sum())
        assert units_a.sum() == units_b.sum() == total
        assert (units_a == units_a.round()).all() and (units_a >= 0).all()
        np.testing.assert_allclose(units_a / total, a / a.sum(), rtol=0, atol=2.0**-49)
