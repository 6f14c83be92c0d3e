"""Trees: balanced cells in one order, cut at medians, and their masses and centroids against NumPy."""

import itertools

import numpy as np
import pytest
import torch
from pretend import pretend

from geomsink.measures.measures import Measure
from geomsink.multiscale import tree as module
from geomsink.multiscale.tree import Tree

EPS = np.finfo(np.float64).eps
CLOUDS = [(1, 2), (2, 2), (3, 2), (7, 1), (256, 1), (1000, 2), (777, 10)]
clouds = pytest.mark.parametrize(("n", "d"), CLOUDS)


def measure(n, d, seed=0, dtype=torch.float64):
    """Stretched clouds, some points repeated, and weights over eight orders of magnitude."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(n, d)) * random.uniform(0.1, 3.0, size=d)
    points[random.integers(n, size=n // 5)] = points[0]
    weights = 10.0 ** random.uniform(-8, 0, size=n)
    return Measure(torch.as_tensor(points).to(dtype), torch.as_tensor(weights / weights.sum()))


def cells(tree, level):
    bounds = tree.bounds(level).tolist()
    return [slice(begin, end) for begin, end in itertools.pairwise(bounds)]


def straightforward(points, depth):
    """The order, cell by cell."""
    order = np.arange(len(points))
    for level in range(depth):
        bounds = [k * len(points) >> level + 1 for k in range(2 ** (level + 1) + 1)]
        for begin, middle, end in zip(bounds[:-1:2], bounds[1::2], bounds[2::2], strict=True):
            here = order[begin:end]
            key = points[here, np.ptp(points[here], axis=0).argmax()]
            smaller = np.sort(key.argsort(kind="stable")[: middle - begin])
            order[begin:end] = np.concatenate((here[smaller], np.delete(here, smaller)))
    return order


def check_cuts(points, tree):
    """Every cell's halves lie on two sides along a coordinate in which the cell is widest."""
    for level in range(tree.depth):
        finer = cells(tree, level + 1)
        for k, cell in enumerate(cells(tree, level)):
            widths = np.ptp(points[cell], axis=0)
            left, right = points[finer[2 * k]], points[finer[2 * k + 1]]
            separate = left.max(0) <= right.min(0)
            assert separate[widths == widths.max()].any()


@clouds
def test_order_is_a_permutation_and_rank_its_inverse(n, d):
    given = measure(n, d)
    tree = Tree.of(given)
    assert len(tree) == n and sorted(tree.order.tolist()) == list(range(n))
    assert torch.equal(tree.order[tree.rank], torch.arange(n)) and torch.equal(tree.rank[tree.order], torch.arange(n))
    assert torch.equal(tree.measure.points, given.points[tree.order])
    assert torch.equal(tree.measure.weights[tree.rank], given.weights)


@clouds
def test_cells_are_near_equal_ranges_that_refine_the_ones_above(n, d):
    tree = Tree.of(measure(n, d))
    assert 2**tree.depth <= n < 2 ** (tree.depth + 1)
    for level in range(tree.depth + 1):
        bounds = tree.bounds(level).numpy()
        sizes = np.diff(bounds)
        assert len(sizes) == 2**level and bounds[0] == 0 and bounds[-1] == n
        assert sizes.max() - sizes.min() <= 1 and sizes.min() >= 1
        assert level == 0 or np.array_equal(bounds[::2], tree.bounds(level - 1).numpy())


@clouds
def test_cells_are_cut_at_the_median_of_their_widest_coordinate(n, d):
    tree = Tree.of(measure(n, d))
    check_cuts(tree.measure.points.numpy(), tree)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("cpu", torch.float64), ("cuda", torch.float32)])
@pytest.mark.parametrize("values", [None, 5, 2, 1], ids=["distinct", "few values", "two values", "one value"])
def test_the_order_is_a_straightforward_ones(monkeypatch, device, dtype, values):
    """Bit for bit, whatever is equal, and whatever is sorted at a time; a GPU sorts in another way."""
    monkeypatch.setattr(module, "chunk", lambda device: 500)  # cells of upper levels one by one, of lower ones some
    random = np.random.default_rng(3)
    for n, d in [(1, 2), (2, 1), (3, 2), (13, 2), (127, 3), (129, 10), (256, 1), (300, 3)]:
        points = random.normal(size=(n, d)) if values is None else random.integers(values, size=(n, d))
        given = torch.as_tensor(points).to(dtype)
        with pretend():
            tree = Tree.of(Measure(given.to(device), torch.full((n,), 1 / n, dtype=torch.float64, device=device)))
            order = tree.order.cpu()
        np.testing.assert_array_equal(order.numpy(), straightforward(given.numpy(), tree.depth))


def test_levels_are_limited():
    tree = Tree.of(measure(300, 2), depth=3)
    assert tree.depth == 3 and tree.coarse(3).points.shape == (8, 2)
    check_cuts(tree.measure.points.numpy(), tree)


@clouds
def test_members_and_cells_of_points(n, d):
    tree = Tree.of(measure(n, d))
    for level in range(tree.depth + 1):
        members, padding = tree.members(level)
        of = tree.cell_of(level)
        for k, cell in enumerate(cells(tree, level)):
            assert members[k][~padding[k]].tolist() == list(range(n))[cell]
            assert (of[members[k]] == k).all()  # padding too
        assert torch.equal(of, of.sort().values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@clouds
def test_coarse_masses_and_centroids_are_numpys(n, d, dtype):
    tree = Tree.of(measure(n, d, dtype=dtype))
    points, weights = tree.measure.points.double().numpy(), tree.measure.weights.numpy()
    for level in range(tree.depth + 1):
        coarse = tree.coarse(level)
        assert coarse.points.dtype == dtype and coarse.weights.dtype == torch.float64
        masses = [weights[cell].sum() for cell in cells(tree, level)]
        centroids = [np.average(points[cell], axis=0, weights=weights[cell]) for cell in cells(tree, level)]
        # As many roundings as a cell has points, and one to the points' precision.
        np.testing.assert_allclose(coarse.weights.numpy(), masses, rtol=2 * n * EPS)
        error = 2 * n * EPS + torch.finfo(dtype).eps
        np.testing.assert_allclose(coarse.points.numpy(), centroids, rtol=0, atol=error * np.abs(points).max())


def test_points_without_weight_count_only_in_cells_without_any():
    given = measure(640, 3)
    order = Tree.of(given).order
    weights = given.weights.clone()
    weights[order[:160]] = 0.0  # the first two cells of eight
    weights[order[160::2]] = 0.0  # and half of the others
    tree = Tree.of(Measure(given.points, weights))
    coarse, points = tree.coarse(3), tree.measure.points.numpy()
    assert (coarse.weights[:2] == 0).all() and (coarse.weights[2:] > 0).all()
    for k, cell in enumerate(cells(tree, 3)):
        w = tree.measure.weights[cell].numpy()
        expected = np.average(points[cell], axis=0, weights=w if k > 1 else None)
        np.testing.assert_allclose(coarse.points[k].numpy(), expected, rtol=0, atol=1e-13 * np.abs(points).max())


def test_sums_over_cells_of_vectors_and_matrices():
    tree = Tree.of(measure(100, 2))
    values = torch.rand(100, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = np.stack([values[cell].numpy().sum(0) for cell in cells(tree, 4)])
    np.testing.assert_allclose(tree.sums(4, values).numpy(), expected, rtol=1e-13)
    np.testing.assert_allclose(tree.sums(4, values[:, 0, 0]).numpy(), expected[:, 0, 0], rtol=1e-13)


def test_equal_points():
    tree = Tree.of(Measure(torch.full((100, 3), 0.1), torch.full((100,), 0.01, dtype=torch.float64)))
    assert sorted(tree.order.tolist()) == list(range(100))
    coarse = tree.coarse(tree.depth)
    assert (coarse.points == 0.1).all()
    np.testing.assert_allclose(coarse.weights.numpy(), 0.01 * tree.bounds(tree.depth).diff().numpy(), rtol=1e-14)


def test_the_order_is_one_of_neighbours():
    """On a line, the tree sorts: cells of the finest level are intervals in order, up to pairs."""
    given = measure(1024, 1)
    x = Tree.of(given).measure.points[:, 0]
    assert torch.equal(x, given.points[:, 0].sort().values)
