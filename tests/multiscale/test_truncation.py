"""Truncation: what rows really skip, in dense float64, against what they are said to skip."""

import numpy as np
import pytest
import torch
from reference import exponents, mask
from scipy.special import logsumexp

from geomsink import costs
from geomsink.measures.measures import Measure
from geomsink.multiscale.tree import Tree
from geomsink.multiscale.truncation import RIDGE, TEMPORARIES, Boxes, pattern

# All that is registered, and members of the families.
NAMES = [*(name for name in costs.names() if ":" not in name), "power:0.5", "power:1.5", "mahalanobis:1,2,3"]
BOUNDED = [costs.get(name) for name in NAMES if costs.get(name).lower_bound is not None]
QUADRATIC = [cost for cost in BOUNDED if cost.quadratic is not None]
N, M, BLOCK = 403, 301, 8


def ids(cost):
    return cost.name


def cloud(n, seed, shift=0.0):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n, 3)) * [1.0, 0.6, 0.3] + shift)


def in_order(points):
    """In the order of a tree, so that blocks are near."""
    uniform = torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    return Tree.of(Measure(points, uniform)).measure.points


def problem(cost, x=None, y=None):
    """Boxes of two mapped clouds, the costs, and a temperature at which far pairs do not count."""
    x = in_order(cost.map(cloud(N, 0) if x is None else x))
    y = in_order(cost.map(cloud(M, 1, 0.3) if y is None else y))
    C = cost.expression(x[:, None], y[None]).numpy()
    return Boxes.of(x, BLOCK), Boxes.of(y, BLOCK), C, 0.02 * C.mean()


def converged(C, epsilon):
    """Exponents of a converged problem, whose row sums are 1."""
    n, m = C.shape
    u, v = exponents(C, np.full(n, 1 / n), np.full(m, 1 / m), epsilon, 20)
    return torch.as_tensor(u + np.log(n)), torch.as_tensor(v)


def skipped_by_rows(found, u, v, C, epsilon):
    plan = np.exp(u.numpy()[:, None] + v.numpy() - C / epsilon)
    return (plan * ~mask(found.blocks, *C.shape)).sum(1)


def check(found, u, v, C, epsilon, skipped):
    # Exponents of some hundreds are rounded.
    real = skipped_by_rows(found, u, v, C, epsilon)
    assert (real <= found.bound.numpy() * (1 + 1e-10)).all() and (found.bound <= skipped * (1 + 1e-10)).all()
    assert found.share == mask(found.blocks, *C.shape).mean()


@pytest.mark.parametrize("skipped", [1e-6, 1e-2])
@pytest.mark.parametrize("tilted", [False, True], ids=["flat", "slopes"])
@pytest.mark.parametrize("cost", BOUNDED, ids=ids)
def test_rows_skip_no_more_than_said(cost, tilted, skipped):
    rows, columns, C, epsilon = problem(cost)
    u, v = converged(C, epsilon)
    slopes = (rows.slopes(u), columns.slopes(v)) if tilted else None
    found = pattern(rows, columns, u, v, slopes, cost, epsilon, skipped)
    check(found, u, v, C, epsilon, skipped)
    # Distances to a power below one differ too little for blocks of these to be told apart at 2 % of their mean.
    assert found.share < (1.0 if cost.degree != 0.5 else 1.1)


@pytest.mark.parametrize("size", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("cost", QUADRATIC, ids=ids)
def test_any_exponents_and_any_slopes(cost, size):
    """The bound holds for exponents far from convergence, and for slopes that are not theirs."""
    rows, columns, C, epsilon = problem(cost)
    random = torch.Generator().manual_seed(0)
    u, v = (size * torch.randn(n, generator=random, dtype=torch.float64) for n in (N, M))
    u -= torch.as_tensor(logsumexp(v.numpy() - C / epsilon, axis=1))
    v[::7] = -1e30  # points without weight
    for scale in (0.0, 1.0, 30.0):
        slopes = tuple(
            scale * torch.randn(b.centre.shape, generator=random, dtype=torch.float64) for b in (rows, columns)
        )
        check(pattern(rows, columns, u, v, slopes, cost, epsilon, 1e-3), u, v, C, epsilon, 1e-3)


def test_rows_whose_mass_is_small_may_skip_everything():
    rows, columns, C, epsilon = problem(costs.get("sqeuclidean"))
    u, v = converged(C, epsilon)
    found = pattern(rows, columns, u - 100.0, v, None, costs.get("sqeuclidean"), epsilon, 1e-3)
    assert found.blocks.pairs == 0 and found.share == 0.0
    check(found, u - 100.0, v, C, epsilon, 1e-3)


@pytest.mark.parametrize(("shift", "ratio"), [(0.0, 1.0), (0.5, 0.97), (4.0, 0.5)])
@pytest.mark.parametrize("name", ["sqeuclidean", "mahalanobis:1,2,3"])
def test_slopes_follow_a_translation(name, shift, ratio):
    """A displacement as long as the clouds makes flat bounds useless, and those with slopes no worse."""
    cost, x = costs.get(name), cloud(N, 0)
    epsilon = 0.2 * problem(cost, x, x)[3]
    rows, columns, C, _ = problem(cost, x, x + shift)
    u, v = converged(C, epsilon)
    flat, tilted = (
        pattern(rows, columns, u, v, slopes, cost, epsilon, 1e-4)
        for slopes in (None, (rows.slopes(u), columns.slopes(v)))
    )
    check(flat, u, v, C, epsilon, 1e-4)
    check(tilted, u, v, C, epsilon, 1e-4)
    assert tilted.share <= ratio * flat.share


def test_more_is_skipped_where_more_may_be():
    cost = costs.get("sqeuclidean")
    rows, columns, C, epsilon = problem(cost)
    u, v = converged(C, epsilon)
    shares = [pattern(rows, columns, u, v, None, cost, epsilon, skipped).share for skipped in (1e-8, 1e-4, 1e-2)]
    assert shares[0] > shares[1] > shares[2] > 0.0


def test_a_cost_without_lower_bound_skips_nothing():
    cost = costs.Cost(name="manhattan", expression=lambda x, y: (x - y).abs().sum(-1), degree=1)
    rows, columns, C, epsilon = problem(cost)
    u, v = converged(C, epsilon)
    found = pattern(rows, columns, u, v, (rows.slopes(u), columns.slopes(v)), cost, epsilon, 1e-2)
    assert found.share == 1.0 and (found.bound == 0).all() and found.bound.shape == (N,)
    assert mask(found.blocks, N, M).all()


def test_chunks_of_rows_change_nothing(monkeypatch):
    cost = costs.get("sqeuclidean")
    rows, columns, C, epsilon = problem(cost)
    u, v = converged(C, epsilon)
    slopes = rows.slopes(u), columns.slopes(v)
    whole = pattern(rows, columns, u, v, slopes, cost, epsilon, 1e-4)
    seven = 7 * columns.centre.numel()  # blocks of rows at a time
    monkeypatch.setattr("geomsink.memory.CHUNK", TEMPORARIES * seven)
    parts = pattern(rows, columns, u, v, slopes, cost, epsilon, 1e-4)
    assert np.array_equal(mask(whole.blocks, N, M), mask(parts.blocks, N, M))
    torch.testing.assert_close(whole.bound, parts.bound, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("n", "block", "blocks"), [(1, 8, 1), (7, 8, 1), (8, 8, 1), (403, 8, 50), (33_000, 8, 4096)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_boxes_cover_their_points(n, block, blocks, dtype):
    points = in_order(cloud(n, 2)).to(dtype)
    boxes = Boxes.of(points, block)
    assert boxes.ranges.shape == (blocks, 2) and boxes.bounds[0] == 0 and boxes.bounds[-1] == n
    sizes = boxes.bounds.diff()
    assert sizes.max() - sizes.min() <= 1
    inside = points.double() - boxes.centre.repeat_interleave(sizes, 0)
    half = boxes.half.repeat_interleave(sizes, 0)
    assert (inside.abs() <= half * (1 + 1e-12) + 1e-15).all()  # centre and half width are rounded
    for k in range(0, blocks, 37):  # and are no larger than needed
        width = np.ptp(points[boxes.bounds[k] : boxes.bounds[k + 1]].double().numpy(), axis=0)
        np.testing.assert_allclose(2 * boxes.half[k].numpy(), width, rtol=1e-12, atol=1e-15)


def test_slopes_of_a_linear_function():
    boxes = Boxes.of(in_order(cloud(N, 3)), 16)
    slope = torch.tensor([3.0, -20.0, 7.0], dtype=torch.float64)
    found = boxes.slopes(boxes.points @ slope + 5.0).numpy()
    ends = boxes.bounds.tolist()
    limits = []
    for begin, end, wrong in zip(ends, ends[1:], np.linalg.norm(found - slope.numpy(), axis=1), strict=False):
        inside = boxes.points[begin:end].numpy()
        gram = np.cov(inside.T, bias=True)
        # The ridge shrinks a slope along an axis by its share of the squared width there; the last point of smaller
        # blocks counts twice.
        limits.append(1.2 * RIDGE * gram.trace() / 3 / np.linalg.eigvalsh(gram)[0])
        assert wrong <= limits[-1] * float(slope.norm())
    assert np.median(limits) < 0.05


def test_flat_blocks_have_no_slope_across():
    x = torch.linspace(0, 1, 64, dtype=torch.float64)
    line = Boxes.of(torch.stack((x, torch.zeros_like(x)), 1), 16)
    found = line.slopes(4.0 * x)
    torch.testing.assert_close(found, torch.tensor([[4.0, 0.0]]).double().expand(4, 2), rtol=RIDGE, atol=1e-12)
    point = Boxes.of(torch.ones(16, 2, dtype=torch.float64), 16)
    assert (point.slopes(x[:16]) == 0).all()


@pytest.mark.parametrize("cost", BOUNDED, ids=ids)
def test_lower_bounds_are_lower_bounds(cost):
    """Between points of random boxes, near and far, by their distance and by that of the boxes."""
    random = np.random.default_rng(0)
    for size in (1e-6, 1e-2, 1.0):
        low = random.normal(size=(2, 200, 1, 3))
        low[1, :100] = low[0, :100]  # half of the boxes overlap
        x, y = (cost.map(torch.as_tensor(low[k] + size * random.uniform(size=(200, 20, 3)))) for k in (0, 1))
        values = cost.expression(x, y)
        distance = (x - y).norm(dim=-1)
        assert (cost.lower_bound(distance) <= values * (1 + 1e-13) + 1e-300).all()
        ends = [(p.amin(1), p.amax(1)) for p in (x, y)]
        gap = torch.maximum(ends[0][0] - ends[1][1], ends[1][0] - ends[0][1]).clamp(min=0.0).norm(dim=-1)
        assert (cost.lower_bound(gap)[:, None] <= values * (1 + 1e-13) + 1e-300).all()
    ascending = cost.lower_bound(torch.logspace(-6, 0.3, 500, dtype=torch.float64))
    assert (ascending.diff() >= 0).all() and cost.lower_bound(torch.zeros(1)) == 0


@pytest.mark.parametrize("cost", QUADRATIC, ids=ids)
def test_quadratic_costs_are(cost):
    x, y = cost.map(cloud(50, 0)).numpy(), cost.map(cloud(40, 1)).numpy()
    squared = ((x[:, None] - y) ** 2).sum(-1)
    np.testing.assert_allclose(cost(cloud(50, 0), cloud(40, 1)).numpy(), cost.quadratic * squared, rtol=1e-13)


def test_which_costs_have_bounds():
    assert {cost.name for cost in BOUNDED} >= {"sqeuclidean", "euclidean", "power:1.5", "cosine", "geodesic"}
    assert {cost.name for cost in QUADRATIC} == {"sqeuclidean", "cosine", "mahalanobis"}
