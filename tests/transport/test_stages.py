"""Stages of a registration: cells first, then all points in parameters that suit the loss."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from geomsink import shapes
from geomsink.measures import Measure
from geomsink.transport import register
from geomsink.transport.descent import descend
from geomsink.transport.motions import Linear
from geomsink.transport.stages import curvature, stages

pytestmark = pytest.mark.slow


def cloud(n, seed=0):
    points = torch.from_numpy(shapes.procedural("star", n, seed=seed).astype(np.float64))
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Measure(points, weights / weights.sum())


def test_cells_are_as_small_as_the_blur_asks_for():
    alpha, beta = cloud(8000), cloud(6000, 1)
    found = stages(alpha, beta, (0.4, 0.2, 0.1))
    assert [stage.blur for stage in found] == [0.4, 0.2, 0.1, 0.1]
    assert [stage.is_last for stage in found] == [False, False, True, True]
    assert [stage.is_whole for stage in found] == [False, False, False, True]
    assert found[-1].sizes == (8000, 6000) and found[0].sizes == (256, 256)
    for stage in found:
        assert stage.alpha.mass == pytest.approx(1.0) and stage.beta.mass == pytest.approx(1.0)
        torch.testing.assert_close(stage.alpha.weights @ stage.alpha.points, alpha.weights @ alpha.points)
    cells = found[-2].alpha
    # What a cell's centroid leaves out of the second moments is how far its points are from there.
    lost = alpha.weights @ alpha.points.square() - cells.weights @ cells.points.square()
    assert 0.2 * 0.1 < float(lost.sum()) ** 0.5 <= 0.5 * 0.1


def test_few_points_or_a_small_blur_have_no_cells_at_the_end():
    found = stages(cloud(8000), cloud(8000, 1), (0.1, 0.05, 0.025, 0.0125))
    assert [stage.sizes[0] for stage in found] == [256, 512, 1024, 8000] and found[-1].is_whole
    assert [stage.sizes for stage in stages(cloud(300), cloud(200), (0.4, 0.2))] == [(300, 200)] * 2


def test_points_without_mass_take_no_part():
    alpha = cloud(500)
    alpha.weights[:100] = 0.0
    (stage,) = stages(alpha, cloud(400), (0.2,))
    assert stage.sizes == (400, 400) and stage.is_whole


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_curvature_and_the_parameters_that_it_makes(kind):
    """Against autograd's second derivatives of sums of squares; in the parameters that follow they are the identity."""
    x = cloud(50).points
    y = x @ torch.from_numpy(Rotation.from_rotvec([0.2, 0.1, -0.2]).as_matrix()).T + 0.1
    motion = Linear(kind, torch.eye(3, dtype=x.dtype), x.new_zeros(3), x.mean(0), 0.3, 0.1)
    (parameter,) = motion.parameters

    def loss():
        return (motion(x) - y).square().sum(-1).mean()

    def second():
        (first,) = torch.autograd.grad(loss(), parameter, create_graph=True)
        return torch.stack([torch.autograd.grad(g, parameter, retain_graph=True)[0] for g in first])

    with torch.no_grad():
        parameter += 0.1
    exact, before = second(), parameter.detach().clone()
    found = curvature(motion, loss, 1.0)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02 * float(exact.abs().max()))
    torch.testing.assert_close(parameter.detach(), before, rtol=0, atol=0)
    moved = motion(x).detach()
    motion.settle(0.05, exact)
    torch.testing.assert_close(motion(x), moved, rtol=0, atol=1e-12)
    history = descend(motion.parameters, loss, optimizer="lbfgs", steps=20, tol=0.0)
    assert history.values[-1] < 1e-6 * history.values[0]
    motion.settle(0.02, second())  # of turns that are not zero, which the new ones are
    torch.testing.assert_close(second(), torch.eye(len(parameter), dtype=x.dtype), rtol=0, atol=0.1)


@pytest.mark.parametrize("transform", ["rigid", "affine"])
def test_cells_first_find_the_same_motion_in_few_steps_between_all_points(transform):
    random = np.random.default_rng(0)
    x = shapes.procedural("knot", 5000, seed=0).astype(np.float64)
    turn, shift = Rotation.from_rotvec([0.2, 0.1, -0.2]).as_matrix(), np.array([0.1, -0.2, 0.3])
    y = random.permutation(x @ turn.T + shift)
    found = register(x, y, transform=transform, blur=0.1)
    assert found.converged and found.blurs[-2:] == (0.1, 0.1) and len(found.history) == len(found.sizes)
    assert found.sizes[-1] == (5000, 5000) and max(max(sizes) for sizes in found.sizes[:-1]) <= 1024
    assert found.history[-1].n_steps <= 4
    assert np.abs(found.points - (x @ turn.T + shift)).max() < 1e-4
    direct = register(x[:200], y[:200], transform=transform, blur=0.1)
    assert direct.blurs[-2] > direct.blurs[-1] and set(direct.sizes) == {(200, 200)}


def test_a_descent_evaluates_no_point_twice():
    """A line search ends where the loss is known already, and the next one begins there."""
    p, seen = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True), []

    def loss():
        seen.append(tuple(p.tolist()))
        return (p * p.new_tensor([1.0, 10.0])).square().sum()

    history = descend([p], loss, optimizer="lbfgs", steps=6, tol=None)
    assert len(seen) == len(set(seen)) and history.values[-1] < 1e-3 * history.values[0]
