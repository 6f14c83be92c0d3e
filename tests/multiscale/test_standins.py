"""Stand-ins: sums over them against sums over all points, in dense float64."""

import numpy as np
import pytest
import torch

from geomsink.measures.measures import Measure
from geomsink.multiscale.standins import FEWEST, MOST, Bases, StandIns
from geomsink.multiscale.tree import Tree

# Rounding of the coefficients, which are stored in float32, in some thousand terms of one sign or nearly.
ROUNDING = 1e-5
# Cloud sizes, dimensions and σ, of three spacings at least: there are fewer stand-ins than points.
WIDE = [(4000, 2, 0.15), (4000, 2, 0.08), (6000, 3, 0.25)]


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch: on a machine that is busy, threads that wait for each other make these many small steps slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tree_of(n, d, seed=0):
    points = torch.as_tensor(np.random.default_rng(seed).uniform(size=(n, d)))
    return Tree.of(Measure(points, torch.full((n,), 1 / n, dtype=torch.float64)))


def exponents(kind, y, sigma):
    """Smooth exponents at points, and their gradients: σ² times these is a displacement of up to half a unit."""
    slope = torch.arange(1, y.shape[1] + 1, dtype=torch.float64) * 0.5 / sigma**2
    if kind == "constant":
        return torch.full_like(y[:, 0], -7.0), torch.zeros_like
    if kind == "linear":
        return y @ slope, lambda p: slope.expand_as(p)
    return 0.5 / sigma**2 * torch.sin(4.0 * y).sum(1) / 4.0, lambda p: 0.5 / sigma**2 * torch.cos(4.0 * p)


def errors(standins, tree, v, displacement, sigma):
    """Relative errors of sums at points that most of the mass they see is a displacement away from."""
    y = tree.measure.points
    rows = (y - displacement)[:: max(1, len(y) // 200)].numpy()
    exponent = -((rows[:, None] - y.numpy()) ** 2).sum(-1) / (2 * sigma**2)
    top = (v.numpy() + exponent).max(1, keepdims=True)
    sources, factors = standins.spread(v)
    found = np.exp(sources.numpy() + exponent[:, standins.index.numpy()] - top) @ factors.numpy()[:, 0]
    return np.abs(found / np.exp(v.numpy() + exponent - top).sum(1) - 1)


@pytest.mark.parametrize("accuracy", [1e-1, 1e-2, 1e-4])
@pytest.mark.parametrize("kind", ["constant", "linear", "curved"])
@pytest.mark.parametrize(("n", "d", "sigma"), WIDE)
def test_sums_are_as_accurate_as_said(n, d, sigma, kind, accuracy):
    tree = tree_of(n, d)
    v, gradient = exponents(kind, tree.measure.points, sigma)
    standins = StandIns.of(Bases(tree, sigma, accuracy), v, gradient)
    assert not standins.are_points and len(standins) < (0.5 if accuracy > 1e-3 else 0.8) * n
    found = errors(standins, tree, v, sigma**2 * gradient(tree.measure.points), sigma)
    # A point's kernel is missed by its share at most in the cell's norm; sums are over cells that differ in size.
    assert found.max() < 5 * accuracy + ROUNDING and found.mean() < accuracy + ROUNDING


def test_fewer_are_enough_for_less_accuracy_and_for_wider_kernels():
    tree = tree_of(4000, 2)
    zeros = torch.zeros(4000, dtype=torch.float64)
    sizes = [
        len(StandIns.of(Bases(tree, sigma, accuracy), zeros, torch.zeros_like))
        for sigma, accuracy in ((0.08, 1e-4), (0.08, 1e-2), (0.3, 1e-2))
    ]
    assert 4000 > sizes[0] > 1.5 * sizes[1] > 3 * sizes[2] > 0


def test_other_exponents_than_those_they_were_chosen_for():
    """Stand-ins stay good when the exponents have changed, by more than their cells were chosen for."""
    tree, sigma, accuracy = tree_of(4000, 2), 0.15, 1e-3
    y = tree.measure.points
    standins = StandIns.of(Bases(tree, sigma, accuracy), torch.zeros_like(y[:, 0]), torch.zeros_like)
    for scale in (0.5, 3.0):
        v = scale * torch.cos(5.0 * y[:, 0]) * y[:, 1]
        assert errors(standins, tree, v, torch.zeros_like(y), sigma).max() < 5 * accuracy


@pytest.mark.parametrize("noise", [0.3, 3.0])
@pytest.mark.parametrize(("n", "d", "sigma"), WIDE)
def test_rough_exponents(n, d, sigma, noise):
    """Where v varies from point to point, cells are cut, down to the points."""
    tree, accuracy = tree_of(n, d), 1e-3
    smooth, gradient = exponents("curved", tree.measure.points, sigma)
    v = smooth + noise * torch.as_tensor(np.random.default_rng(1).normal(size=n))
    standins = StandIns.of(Bases(tree, sigma, accuracy), v, gradient)
    assert standins.are_points == (noise == 3.0)
    found = errors(standins, tree, v, sigma**2 * gradient(tree.measure.points), sigma)
    assert found.max() < 5 * accuracy + ROUNDING


def test_exponents_that_are_rough_in_places():
    tree, sigma, accuracy = tree_of(6000, 2), 0.12, 1e-3
    x = tree.measure.points[:, 0]
    noise = torch.as_tensor(np.random.default_rng(1).normal(size=6000))
    v = torch.where(x > 0.6, 3.0 * noise, 0.0)
    v[::500] = -1e30  # points without weight
    standins = StandIns.of(Bases(tree, sigma, accuracy), v, torch.zeros_like)
    taken = torch.zeros(6000, dtype=torch.bool)
    taken[standins.index] = True
    assert taken[x > 0.6].all() and taken[x < 0.5].double().mean() < 0.8
    assert errors(standins, tree, v, torch.zeros_like(tree.measure.points), sigma).max() < 5 * accuracy


@pytest.mark.parametrize("sigma", [1e-3, 0.01])
def test_kernels_as_narrow_as_the_spacing_have_none(sigma):
    tree = tree_of(4000, 2)
    standins = StandIns.of(Bases(tree, sigma, 1e-2), torch.zeros(4000, dtype=torch.float64), torch.zeros_like)
    assert standins.are_points and torch.equal(standins.index, torch.arange(4000))


@pytest.mark.parametrize("n", [1, 2, FEWEST - 1, FEWEST, 100])
def test_small_clouds(n):
    tree, sigma = tree_of(n, 2), 1.0
    v, gradient = exponents("linear", tree.measure.points, sigma)
    standins = StandIns.of(Bases(tree, sigma, 1e-2), v, gradient)
    assert standins.are_points == (n < FEWEST)
    assert errors(standins, tree, v, sigma**2 * gradient(tree.measure.points), sigma).max() < 0.05


def test_equal_points_have_one_stand_in():
    points = torch.full((1000, 2), 0.3, dtype=torch.float64)
    tree = Tree.of(Measure(points, torch.full((1000,), 1e-3, dtype=torch.float64)))
    v = 0.5 * torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    standins = StandIns.of(Bases(tree, 0.1, 1e-6), v, torch.zeros_like)
    assert len(standins) == 1
    sources, factors = standins.spread(v)
    np.testing.assert_allclose((sources.exp() * factors[:, 0]).sum(), np.exp(v.numpy()).sum(), rtol=1e-6)


def test_none_is_the_points():
    tree = tree_of(50, 2)
    v = torch.rand(50, dtype=torch.float64)
    standins = StandIns.none(tree.measure.points)
    assert standins.are_points and len(standins) == 50 and torch.equal(standins.index, torch.arange(50))
    sources, factors = standins.spread(v)
    assert torch.equal(sources, v) and (factors == 1).all()


def test_bases_are_kept_between_exponents():
    """They depend on the points alone: a second set of exponents takes the ones that are there."""
    tree, sigma = tree_of(4000, 2), 0.15
    bases = Bases(tree, sigma, 1e-2)
    y = tree.measure.points
    for kind in ("constant", "curved", "linear"):
        v, gradient = exponents(kind, y, sigma)
        again, fresh = StandIns.of(bases, v, gradient), StandIns.of(Bases(tree, sigma, 1e-2), v, gradient)
        assert torch.equal(again.index, fresh.index)
        for a, b in zip(again.spread(v), fresh.spread(v), strict=True):
            # Cells are summed in another order where these were found in another.
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_cells_have_a_limit():
    """A cell that would need more than MOST stand-ins is cut: its sums are right all the same."""
    tree, sigma, accuracy = tree_of(6000, 3), 0.25, 1e-4
    bases = Bases(tree, sigma, accuracy)
    standins = StandIns.of(bases, torch.zeros(6000, dtype=torch.float64), torch.zeros_like)
    for level in range(tree.depth):
        for basis in bases.at(level, torch.arange(2**level)) if len(tree) >> level >= FEWEST else []:
            assert basis.pivots.shape[1] <= MOST
    y = tree.measure.points
    assert errors(standins, tree, torch.zeros_like(y[:, 0]), torch.zeros_like(y), sigma).max() < accuracy


def test_an_accuracy_beyond_float64_is_not_attempted():
    """The kernel matrix of close points is singular to float64: what is asked for below 3e-7 is given as 3e-7."""
    points = torch.from_numpy(np.random.default_rng(0).random((4000, 2)))
    tree = Tree.of(Measure(points, torch.full((4000,), 1 / 4000, dtype=torch.float64)))
    bases, level = Bases(tree, 0.5, 1e-12), 4
    assert bases.accuracy == 3e-7
    for basis in bases.at(level, torch.arange(2**level)):
        assert basis.phi.isfinite().all()
