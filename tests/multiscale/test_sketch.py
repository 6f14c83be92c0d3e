"""Sketches: sums over nodes against sums over all points, and their algebra against NumPy's, in dense float64."""

import numpy as np
import pytest
import torch
from reference import squared_distances

from geomsink import costs
from geomsink.choose import FEW_NODES
from geomsink.measures import Measure
from geomsink.multiscale.choosing import FEWEST, FINEST, MOST, WIDEST, width
from geomsink.multiscale.sketch import RIDGE, Nodes
from geomsink.multiscale.tree import Tree

COST = costs.get("sqeuclidean")
# Points, coordinates and σ, of many spacings: few nodes stand for all.
WIDE = [(2000, 1, 0.02), (3000, 2, 0.15), (3000, 3, 0.7)]
# What float64 leaves of sums of a thousand numbers, and of solving with a kernel of condition 1/accuracy².
ROUNDING = 1e-12


def uniform(n, d, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=(n, d)))


def weights(n, seed=1):
    w = torch.from_numpy(np.random.default_rng(seed).exponential(size=n))
    return w / w.sum()


def nodes_of(points, sigma, accuracy, engine="dense"):
    """Of points, for a kernel of this σ."""
    tree = Tree.of(Measure(points, torch.ones(len(points), dtype=torch.float64)))
    epsilon = 2.0 * sigma**2 * COST.quadratic
    assert width(COST, epsilon) == pytest.approx(sigma, rel=1e-15)
    return Nodes.of(tree, COST, epsilon, accuracy, engine)


def kernel(x, y, sigma):
    x, y = (p.double().numpy() if isinstance(p, torch.Tensor) else p for p in (x, y))
    return np.exp(-squared_distances(x, y) / (2.0 * sigma**2))


def positions(nodes):
    return nodes.tree.measure.points[nodes.index]


def errors(nodes, points, w, sigma, slope=0.0, rows=None):
    """Of Σ_j w_j exp(slope · Σ y_j/σ) K(x, y_j) at rows, relative to the sums of |w_j|: over nodes against over all."""
    rows = points[:: max(1, len(points) // 200)] if rows is None else rows
    found = nodes.sketch(Measure(points, w)) if bool((w >= 0).all()) else None
    omega = nodes.project(w[nodes.tree.order, None])[:, 0] if found is None else found.weights
    all_, some = (slope / sigma * p.double().sum(1).numpy() for p in (points, positions(nodes)))
    top = all_.max()
    full = kernel(rows, points, sigma) * np.exp(all_ - top)
    sums = (kernel(rows, positions(nodes), sigma) * np.exp(some - top)) @ omega.numpy()
    return np.abs(sums - full @ w.numpy()) / (full @ np.abs(w.numpy()))


# ------------------------------------------------------------------------------ sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("accuracy", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize(("n", "d", "sigma"), WIDE)
def test_sums_are_more_accurate_than_said(n, d, sigma, accuracy, dtype):
    points = uniform(n, d).to(dtype)
    nodes = nodes_of(points, sigma, accuracy)
    assert not nodes.alone.any() and len(nodes) < FEW_NODES * n
    # The accuracy is of a kernel at one point, in the worst place: errors of single points differ in sign.
    assert errors(nodes, points, weights(n), sigma).max() < 0.2 * accuracy
    # With weights of both signs nothing is said of relative errors, but of those relative to all sizes.
    signed = weights(n) * torch.from_numpy(np.random.default_rng(2).choice([-1.0, 1.0], n))
    assert errors(nodes, points, signed, sigma).max() < 0.2 * accuracy
    # A factor e^{g/ε} of a potential that displaces by σ, as a kernel that is seen from there.
    assert errors(nodes, points, weights(n), sigma, slope=1.0 / np.sqrt(d)).max() < accuracy


def test_the_finest_accuracy():
    """Its square is what float64 can tell from zero; the kernel's condition number, 10¹³, does not matter."""
    for n, d, sigma in WIDE[:2]:
        points = uniform(n, d)
        nodes = nodes_of(points, sigma, FINEST)
        assert errors(nodes, points, weights(n), sigma).max() < 0.2 * FINEST
        assert torch.equal(nodes.index, nodes_of(points, sigma, 1e-12).index)


def test_sums_anywhere():
    """At points that are none of the cloud: the kernel at any point is missed by less than the accuracy."""
    n, d, sigma, accuracy = 4000, 2, 0.15, 1e-3
    points, rows = uniform(n, d), 3.0 * uniform(400, d, 5) - 1.0
    nodes, w = nodes_of(points, sigma, accuracy), weights(n)
    full = kernel(rows, points, sigma) @ w.numpy()
    found = kernel(rows, positions(nodes), sigma) @ nodes.sketch(Measure(points, w)).weights.numpy()
    assert np.abs(found - full).max() < 0.05 * accuracy


def test_fewer_are_enough_for_less_accuracy_and_for_wider_kernels():
    points = uniform(4000, 2)
    sizes = [len(nodes_of(points, *how)) for how in ((0.08, 1e-4), (0.08, 1e-2), (0.3, 1e-2))]
    assert 4000 > sizes[0] > 1.5 * sizes[1] > 3 * sizes[2] > 0


def test_engines_agree():
    points, w = uniform(4000, 2).float(), weights(4000)
    dense, keops = (nodes_of(points, 0.15, 1e-3, engine) for engine in ("dense", "keops"))
    assert torch.equal(dense.index, keops.index)
    one, other = (nodes.sketch(Measure(points, w)) for nodes in (dense, keops))
    # Coefficients feel rounding as much as the kernel's condition number, 10⁶, lets them.
    torch.testing.assert_close(one.weights, other.weights, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.nearby, other.nearby, rtol=1e-5, atol=0)
    values = positions(dense).double().sin()
    torch.testing.assert_close(dense.interpolate(values), keops.interpolate(values), rtol=0, atol=1e-9)


def test_the_same_again():
    points, w = uniform(3000, 3), weights(3000)
    one, other = (nodes_of(points, 0.5, 1e-3).sketch(Measure(points, w)) for _ in range(2))
    for name in ("points", "weights", "nearby"):
        assert torch.equal(getattr(one, name), getattr(other, name))


# --------------------------------------------------------------- the algebra, cell by cell


def cell_by_cell(nodes, sigma):
    """Each cell's range of points and of nodes, its points, its nodes, G and K between these."""
    points, z = nodes.tree.measure.points.double().numpy(), positions(nodes).double().numpy()
    for (begin, end), (first, last), alone in zip(
        nodes.cells.tolist(), nodes.ends.tolist(), nodes.alone.tolist(), strict=True
    ):
        y, own = points[begin:end], z[first:last]
        yield slice(begin, end), slice(first, last), y, own, alone, kernel(own, own, sigma), kernel(own, y, sigma)


def mixed():
    """A dense square, and points too far from each other to have nodes: 2000 and 500."""
    random = np.random.default_rng(3)
    return torch.from_numpy(np.concatenate((random.uniform(size=(2000, 2)), 5.0 + 40.0 * random.random((500, 2)))))


def test_cells_and_their_nodes():
    points, sigma, accuracy = mixed(), 0.15, 1e-3
    nodes = nodes_of(points, sigma, accuracy)
    assert 0 < int(nodes.alone.sum()) < len(nodes.alone)
    assert nodes.cells[0, 0] == 0 and nodes.cells[-1, 1] == 2500
    assert torch.equal(nodes.cells[1:, 0], nodes.cells[:-1, 1]) and (nodes.cells.diff() > 0).all()
    assert nodes.ends[0, 0] == 0 and nodes.ends[-1, 1] == len(nodes) and (nodes.index.diff() > 0).all()
    far = nodes.tree.measure.points.amax(1) > 2.0
    assert torch.isin(far.nonzero()[:, 0], nodes.index).all()
    left = [points.stop - points.start for points, *_, alone, _, _ in cell_by_cell(nodes, sigma) if alone]
    assert nodes.left_alone() == pytest.approx(sum(left) / 2500) and nodes.left_alone() >= 0.2
    for points, own, y, z, alone, G, K in cell_by_cell(nodes, sigma):
        index = nodes.index[own].numpy()
        assert (points.start <= index).all() and (index < points.stop).all()
        if alone:
            assert len(index) == len(y)
            continue
        assert len(z) <= min(MOST, 0.6 * len(y)) and np.ptp(y, axis=0).max() <= WIDEST * sigma
        # The power function: what the nodes leave of the kernel at each point.
        left = 1.0 - (K * np.linalg.solve(G, K)).sum(0)
        assert left.max() <= 1.01 * accuracy**2


@pytest.mark.parametrize("points", [mixed(), uniform(3000, 3)], ids=["mixed", "cube"])
def test_project_is_the_inverse_kernel_times_the_kernel(points):
    sigma = 0.4 if points.shape[1] == 3 else 0.15
    nodes = nodes_of(points, sigma, 1e-2)
    w = torch.from_numpy(np.random.default_rng(4).normal(size=(len(points), 2)))
    found = nodes.project(w).numpy()
    for points, own, _, _, alone, G, K in cell_by_cell(nodes, sigma):
        wanted = w[points].numpy() if alone else np.linalg.solve(G, K @ w[points].numpy())
        np.testing.assert_allclose(found[own], wanted, rtol=0, atol=1e-15 * np.linalg.cond(G) + ROUNDING)


@pytest.mark.parametrize("points", [mixed(), uniform(3000, 3)], ids=["mixed", "cube"])
def test_interpolate_is_a_linear_fit_and_the_kernel_times_its_inverse(points):
    sigma = 0.4 if points.shape[1] == 3 else 0.15
    nodes = nodes_of(points, sigma, 1e-2)
    values = torch.from_numpy(np.random.default_rng(4).normal(size=(len(nodes), 2)))
    found = nodes.interpolate(values).numpy()
    for points, own, y, z, alone, G, K in cell_by_cell(nodes, sigma):
        h = values[own].numpy()
        if alone:
            np.testing.assert_array_equal(found[points], h)
            continue
        t, mean = z - z.mean(0), h.mean(0)
        slope = np.linalg.solve(t.T @ t + RIDGE * sigma**2 * len(z) * np.eye(z.shape[1]), t.T @ (h - mean))
        wanted = mean + (y - z.mean(0)) @ slope + K.T @ np.linalg.solve(G, h - mean - t @ slope)
        wanted[nodes.index[own].numpy() - points.start] = h
        np.testing.assert_allclose(found[points], wanted, rtol=0, atol=1e-9)


def test_project_and_interpolate_are_adjoint_but_for_the_linear_part():
    """⟨project w, h⟩ = ⟨w, interpolate h⟩ for values whose linear fit is nothing: what the fit adds is small."""
    points = uniform(3000, 2)
    nodes = nodes_of(points, 0.15, 1e-4)
    z, w = positions(nodes), weights(3000)[:, None]
    values = (z / 0.15).sin().sum(1, keepdim=True)
    one = float((nodes.project(w) * values).sum())
    assert one == pytest.approx(float((w * nodes.interpolate(values)).sum()), abs=1e-5)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize(("n", "d", "sigma"), WIDE)
def test_smooth_functions_are_interpolated(n, d, sigma, accuracy):
    """The kernel itself, at 20 centres; a linear function, by the fit up to its ridge; a constant, to rounding."""
    points = uniform(n, d)
    nodes = nodes_of(points, sigma, accuracy)
    assert len(nodes) < FEW_NODES * n
    sorted_ = nodes.tree.measure.points
    smooth = torch.from_numpy(kernel(sorted_, uniform(20, d, 7), sigma))
    # The ridge leaves a part of the slopes, which is as smooth as the rest.
    linear = (sorted_ @ torch.arange(1.0, d + 1.0, dtype=torch.float64))[:, None] / sigma
    constant = torch.full_like(linear, 1e6)
    for values, within in ((smooth, 8 * accuracy), (linear, 2 * accuracy), (constant, ROUNDING)):
        found = nodes.interpolate(values[nodes.index])
        assert torch.equal(found[nodes.index], values[nodes.index])
        assert float((found - values).abs().max()) < within * float(values.abs().max())


def test_points_that_are_looked_at():
    points, sigma = mixed(), 0.15
    nodes = nodes_of(points, sigma, 1e-3)
    looked_at, cells = nodes.checks()
    assert torch.equal(cells, (~nodes.alone).nonzero()[:, 0])
    rank = nodes.tree.rank[looked_at]
    assert ((nodes.cells[cells, :1] <= rank) & (rank < nodes.cells[cells, 1:])).all()
    assert (rank.diff() > 0).all()
    some = cells[::2]
    wanted = torch.cat([nodes.tree.order[begin:end] for begin, end in nodes.cells[some].tolist()])
    assert torch.equal(nodes.points_of(some), wanted)


# --------------------------------------------------------------------- the sketch's weights


@pytest.mark.parametrize(("n", "d", "sigma"), WIDE)
def test_masses(n, d, sigma):
    """The weights sum to the mass as nearly as the constant 1 is interpolated; what is nearby, but for float32."""
    points, w, accuracy = uniform(n, d), 3.0 * weights(n), 1e-3
    nodes = nodes_of(points, sigma, accuracy)
    found = nodes.sketch(Measure(points, w))
    assert torch.equal(found.points, positions(nodes))
    assert found.mass == pytest.approx(3.0, rel=0.1 * accuracy)
    assert (found.nearby >= 0).all() and float(found.nearby.sum()) == pytest.approx(3.0, rel=1e-6)
    assert found.sizes is found.nearby and torch.equal(found.signs, found.weights.sign())
    # Cell by cell: mass stays where it is.
    for cell, own, *_ in cell_by_cell(nodes, sigma):
        mass = float(w[nodes.tree.order][cell].sum())
        assert float(found.nearby[own].sum()) == pytest.approx(mass, rel=1e-5)


def test_what_is_nearby():
    """Each point's mass is shared in proportion to a kernel of an eighth of ε, among the nodes of its cell."""
    points, w, sigma = mixed(), weights(2500), 0.15
    nodes = nodes_of(points, sigma, 1e-2)
    found = nodes.sketch(Measure(points, w)).nearby.numpy()
    for points, own, y, z, alone, *_ in cell_by_cell(nodes, sigma):
        mass = w[nodes.tree.order][points].numpy()
        near = kernel(z, y, sigma / np.sqrt(8.0))
        wanted = mass if alone else near / near.sum(0) @ mass
        np.testing.assert_allclose(found[own], wanted, rtol=2e-5, atol=1e-12)


def test_the_order_of_the_points_is_the_callers():
    points, w = uniform(3000, 2), weights(3000)
    shuffled = torch.from_numpy(np.random.default_rng(6).permutation(3000))
    one = nodes_of(points, 0.15, 1e-3).sketch(Measure(points, w))
    other = nodes_of(points[shuffled], 0.15, 1e-3).sketch(Measure(points[shuffled], w[shuffled]))
    # Cells are the same, and ordered in themselves otherwise: other points may be chosen from some.
    rows = uniform(100, 2, 8)
    a, b = (kernel(rows, s.points, 0.15) @ s.weights.numpy() for s in (one, other))
    np.testing.assert_allclose(a, b, rtol=1e-4)


def far_apart():
    centres = torch.tensor([[0.0, 0, 0], [50.0, 0, 0], [0, 700.0, 0], [3.0, 3, -90]], dtype=torch.float64)
    return centres[torch.arange(4000) % 4] + 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=(4000, 3)))


def eight_decades(n):
    w = 10.0 ** (-8.0 * torch.from_numpy(np.random.default_rng(0).random(n)))
    return w / w.sum()


ODD = {
    "weights of zero": (uniform(3000, 2), torch.cat((torch.zeros(1500), torch.full((1500,), 1 / 1500))).double(), 0.15),
    "weights over eight decades": (uniform(3000, 2), eight_decades(3000), 0.15),
    "clusters far apart": (far_apart(), weights(4000), 0.15),
    "twenty points, sixty times": (uniform(20, 3).repeat(60, 1), weights(1200), 0.1),
    "one point, many times": (torch.full((1000, 2), 0.3, dtype=torch.float64), weights(1000), 0.1),
    "on a line in space": (uniform(3000, 1) @ torch.tensor([[1.0, 0.5, -0.2]]).double(), weights(3000), 0.05),
    "far from the origin": (uniform(3000, 2) + 1e6, weights(3000), 0.15),
    "on a lattice": (torch.cartesian_prod(*[torch.linspace(0, 1, 60).double()] * 2), weights(3600), 0.1),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_clouds(name):
    points, w, sigma = ODD[name]
    accuracy = 1e-3
    nodes = nodes_of(points, sigma, accuracy)
    found = nodes.sketch(Measure(points, w))
    assert len(nodes) < FEW_NODES * len(points)
    assert found.weights.isfinite().all() and found.mass == pytest.approx(float(w.sum()), rel=accuracy)
    assert (found.nearby >= 0).all() and float(found.nearby.sum()) == pytest.approx(float(w.sum()), rel=1e-6)
    rows = points[:: len(points) // 250]
    full = kernel(rows, points, sigma) @ w.numpy()
    off = np.abs(kernel(rows, positions(nodes), sigma) @ found.weights.numpy() - full)
    assert off.max() < 0.1 * accuracy * full.max()


def test_equal_points_have_one_node():
    points, w, sigma = ODD["one point, many times"]
    nodes = nodes_of(points, sigma, FINEST)
    found = nodes.sketch(Measure(points, w))
    assert len(nodes) == 1 and float(found.weights) == pytest.approx(1.0, rel=1e-12)
    points, w, sigma = ODD["twenty points, sixty times"]
    nodes = nodes_of(points, sigma, 1e-6)
    # Cells of a kd-tree cut through equal points: each has its own node of these.
    z = positions(nodes)
    assert len(z.unique(dim=0)) == 20 and len(z) <= 20 * len(nodes.cells)
    np.testing.assert_allclose(errors(nodes, points, w, sigma), 0.0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, FEWEST - 1, FEWEST, 100])
def test_small_clouds(n):
    points, w = uniform(n, 2), weights(n)
    nodes = nodes_of(points, 1.0, 1e-2)
    found = nodes.sketch(Measure(points, w))
    assert bool(nodes.alone.all()) == (n < FEWEST) and nodes.left_alone() == float(n < FEWEST)
    if n < FEWEST:
        assert torch.equal(found.weights, w[nodes.tree.order]) and torch.equal(found.nearby, found.weights)
        values = torch.arange(2.0 * n, dtype=torch.float64).view(n, 2)
        assert torch.equal(nodes.interpolate(values), values) and torch.equal(nodes.project(values), values)
    else:
        assert len(nodes) < 0.6 * n
    assert errors(nodes, points, w, 1.0).max() < 1e-2


@pytest.mark.parametrize("sigma", [1e-3, 0.01])
def test_kernels_as_narrow_as_the_spacing_have_none(sigma):
    points, w = uniform(4000, 2), weights(4000)
    nodes = nodes_of(points, sigma, 1e-2)
    assert len(nodes) == 4000 and nodes.alone.all() and nodes.left_alone() == 1.0
    found = nodes.sketch(Measure(points, w))
    assert torch.equal(found.weights, w[nodes.tree.order]) and torch.equal(found.nearby, found.weights)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-3])
def test_a_sketch_of_a_sketch(accuracy):
    """The measure that is sketched may have signs: a sketch for a wider kernel, from one for a narrow kernel."""
    points, w = uniform(20_000, 2), weights(20_000)
    once = nodes_of(points, 0.1, accuracy).sketch(Measure(points, w))
    assert (once.weights < 0).any() and len(once.points) > 500
    nodes = nodes_of(once.points, 0.3, accuracy)
    twice = nodes.sketch(once)
    assert len(twice.points) < FEW_NODES * len(once.points)
    assert twice.mass == pytest.approx(1.0, rel=accuracy)
    assert (twice.nearby >= 0).all() and float(twice.nearby.sum()) == pytest.approx(1.0, rel=2e-6)
    rows = points[::100]
    full = kernel(rows, points, 0.3) @ w.numpy()
    assert np.abs(kernel(rows, twice.points, 0.3) @ twice.weights.numpy() / full - 1.0).max() < accuracy
