"""Flows reach their targets, and interpolations begin and end as they should, with the right shape in between."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

import geomsink
from geomsink import (
    MMD,
    ConvergenceWarning,
    EntropicOT,
    SinkhornDivergence,
    hausdorff_divergence,
    shapes,
    sinkhorn_divergence,
)
from geomsink.transport.flows import gradient_flow
from geomsink.transport.interpolation import interpolate


def disc(n, seed=0):
    random = np.random.default_rng(seed)
    radius, angle = 0.5 * np.sqrt(random.random(n)), 2 * np.pi * random.random(n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def moons(n, seed=0):
    random = np.random.default_rng(seed)
    angle, upper = np.pi * random.random(n), random.random(n) < 0.5
    one = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.where(upper[:, None], one, [1.0, 0.5] - one)
    return points + 0.05 * random.normal(size=(n, 2))


# ---------------------------------------------------------------------------------- flows


def test_a_disc_flows_into_two_moons():
    x, y = disc(100), moons(100, seed=1)
    flow = gradient_flow(x, y, blur=0.1)
    values = flow.history.values
    assert flow.history.converged and values[-1] < 1e-4 * values[0]
    found = sinkhorn_divergence(flow.points, y, blur=0.1)
    # Evaluated afresh, after solves to a marginal error of 1e-3 in two ways.
    assert found.value == pytest.approx(values[-1], rel=0.05)


def test_a_sphere_flows_into_a_torus():
    x, y = shapes.procedural("sphere", 300), shapes.procedural("torus", 300, seed=1)
    flow = gradient_flow(x, y, blur=0.1, tol=None, steps=40)
    assert flow.points.dtype == np.float32
    assert flow.history.values[-1] < 1e-4 * flow.history.values[0]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.3)])
def test_other_optimisers(optimizer):
    x, y = disc(40), moons(40, seed=1)
    loss = SinkhornDivergence(blur=0.2, tol=1e-6)
    flow = gradient_flow(x, y, loss=loss, optimizer=optimizer, lr=0.1 if optimizer == "adam" else None, steps=50)
    assert flow.history.values[-1] < 5e-3 * flow.history.values[0]
    assert flow.times[-1] == flow.history.n_steps


@pytest.mark.parametrize(
    ("loss", "lr", "share"),
    [
        (EntropicOT(blur=0.2), None, 0.2),
        (MMD(kernel="energy"), 0.2, 0.01),
        (partial(hausdorff_divergence, blur=0.3), 0.3, 0.05),
        (lambda x, y: sinkhorn_divergence(x, y, blur=0.2).value, None, 1e-3),
        (lambda x, y: ((x.mean(0) - y.mean(0)) ** 2).sum(), None, 1e-6),
    ],
)
def test_losses_come_down(loss, lr, share):
    x, y = disc(60), moons(50, seed=1)
    flow = gradient_flow(x, y, loss=loss, lr=lr, steps=40)
    values = flow.history.values
    assert values[-1] < share * values[0]
    # Steps as short as these follow the flow, along which a loss can only come down, but for the solver's error.
    assert all(after < before + 1e-4 * values[0] for before, after in pairwise(values))


def test_one_step_is_eulers():
    """x − η (1/a) ∂S/∂x, for any weights."""
    random = np.random.default_rng(0)
    x, y, a, b = disc(20), moons(30), random.random(20) + 0.1, random.random(30) + 0.1
    a, b = 3.0 * a / a.sum(), 3.0 * b / b.sum()
    flow = gradient_flow(x, y, a, b, loss=SinkhornDivergence(blur=0.2, tol=1e-9), lr=0.3, steps=1)
    points = torch.from_numpy(x).requires_grad_()
    others = [torch.from_numpy(t) for t in (y, a, b)]
    sinkhorn_divergence(points, *others, blur=0.2, tol=1e-9).value.backward()
    expected = x - 0.3 * points.grad.numpy() / a[:, None]
    np.testing.assert_allclose(flow.points, expected, atol=1e-7)


def test_translates_are_reached_in_one_step():
    x = disc(50)
    flow = gradient_flow(x, x + 2.0, blur=0.2, steps=1)
    np.testing.assert_allclose(flow.points, x + 2.0, atol=1e-3)  # the marginal error


def test_frames():
    x, y = disc(30), moons(30)
    flow = gradient_flow(x, y, blur=0.3, lr=0.25, steps=7, tol=None, frames=3)
    assert flow.times == (0.0, 0.75, 1.5, 1.75) and len(flow.frames) == 4
    np.testing.assert_array_equal(flow.frames[0], x)
    np.testing.assert_array_equal(flow.frames[-1], flow.points)
    shorter = gradient_flow(x, y, blur=0.3, lr=0.25, steps=3, tol=None)
    np.testing.assert_array_equal(flow.frames[1], shorter.points)  # reproducible, too


def test_torch_in_torch_out():
    x, y = torch.from_numpy(disc(20)).float().requires_grad_(), torch.from_numpy(moons(20)).float()
    before = x.detach().clone()
    flow = gradient_flow(x, y, blur=0.3, steps=3)
    assert flow.points.dtype == torch.float32 and not flow.points.requires_grad and not flow.frames[0].requires_grad
    assert torch.equal(x.detach(), before) and x.grad is None


def test_a_loss_that_did_not_converge_is_reported_once():
    loss = SinkhornDivergence(blur=0.02, max_iter=1, tol=1e-9)
    for _ in range(2):  # the module itself warns once in its life
        with pytest.warns(ConvergenceWarning, match="^gradient flow: ") as caught:
            flow = gradient_flow(disc(30), moons(30), loss=loss, steps=3)
        assert len(caught) == 1
        assert not flow.history.converged and "4 of its evaluations were not converged" in flow.history.status


X = disc(5)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        ((X, X), dict(), ValueError, "^loss, blur: neither given, expected one of the two"),
        ((X, X), dict(blur=1.0, loss=MMD(blur=1.0)), ValueError, "^loss, blur: both given"),
        ((X, X), dict(loss="mmd"), TypeError, "^loss: a str was given, expected a callable"),
        ((X, X), dict(blur=1.0, frames=0), ValueError, "^frames: 0 given, expected a whole number of at least 1"),
        ((X, X), dict(blur=1.0, steps=1.5), TypeError, "^steps: a float was given"),
        ((X, X), dict(blur=1.0, lr="fast"), TypeError, "^lr: a str was given, expected a number"),
        ((X, X[:, :1]), dict(blur=1.0), ValueError, "^y: 1 coordinates a point, but x has 2"),
        ((X, X, np.ones(5), np.ones(5) * 2), dict(blur=1.0), ValueError, "^a, b: they sum to 5 and 10"),
        ((X[None], X[None]), dict(blur=1.0), ValueError, "^x: a batch of 1 clouds was given, expected one cloud"),
        ((X, X), dict(loss=lambda x, y: x), TypeError, r"^gradient flow: the loss gave shape \(5, 2\)"),
    ],
)
def test_bad_input(arguments, options, error, sentence):
    with pytest.raises(error, match=sentence):
        gradient_flow(*arguments, **options)


# -------------------------------------------------------------------------- interpolation


def test_the_ends_are_the_clouds():
    random = np.random.default_rng(0)
    x, y, a, b = disc(30), moons(40), random.random(30), random.random(40)
    a[3] = 0.0
    b *= a.sum() / b.sum()
    (first, first_weights), (middle, middle_weights), (last, last_weights) = interpolate(
        x, y, [0, 0.3, 1], a, b, blur=0.2
    )
    for found, expected in ((first, x), (first_weights, a), (last, y), (last_weights, b)):
        np.testing.assert_array_equal(found, expected)
    assert middle.shape == (70, 2) and np.isfinite(middle).all()
    np.testing.assert_allclose(middle_weights, np.concatenate([0.7 * a, 0.3 * b]))


def test_half_way_to_a_translate():
    """The plan to a translate is the plan to itself: displacements are the translation, to the solver's tolerance."""
    x = disc(100).astype(np.float32)
    ((points, weights),) = interpolate(x, x + np.float32(100.0), 0.5, blur=0.1)
    assert points.dtype == np.float32
    # Both halves; float32 has steps of 8e-6 at 100, and solves to a tolerance of 1e-5 are a part of the blur off.
    np.testing.assert_allclose(points, np.concatenate([x, x]) + 50.0, atol=1e-4)
    np.testing.assert_allclose(weights, 1 / 200, rtol=1e-6)


def gaussian(n, mean, covariance, seed):
    z = np.random.default_rng(seed).normal(size=(n, 2))
    z -= z.mean(0)
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T, bias=True)), z.T).T
    return mean + z @ np.linalg.cholesky(covariance).T


@pytest.mark.parametrize("blur", [0.25, 0.5])
def test_gaussians_on_the_way(blur):
    """((1 − t) I + t A) S ((1 − t) I + t A), with A the linear map between the Gaussians (McCann 1997)."""
    start, end = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.4, -0.2], [-0.2, 1.2]])
    root = sqrtm(start).real
    inverse = np.linalg.inv(root)
    a = inverse @ sqrtm(root @ end @ root).real @ inverse
    x, y = gaussian(500, np.zeros(2), start, 0), gaussian(400, np.full(2, 3.0), end, 1)
    times = [0.25, 0.5, 0.75]
    for t, (points, weights) in zip(times, interpolate(x, y, times, blur=blur), strict=True):
        m = (1 - t) * np.eye(2) + t * a
        np.testing.assert_allclose(np.average(points, axis=0, weights=weights), 3.0 * t, atol=1e-3)
        found = np.cov(points.T, aweights=weights, bias=True)
        # The bias is of order ε²; that of (1 − t) x + t y under the entropic plan, t (1 − t) ε/2, is 0.06 here for the
        # larger blur. Samples are not quite linear maps of each other.
        np.testing.assert_allclose(found, m @ start @ m, atol=0.01)


def test_interpolation_keeps_torch_and_precision():
    x, y = torch.from_numpy(disc(20)).float().requires_grad_(), torch.from_numpy(moons(25)).float()
    start, half = interpolate(x, y, (0.0, 0.5), blur=0.3)
    assert torch.equal(start[0], x.detach()) and not start[0].requires_grad
    assert half[0].dtype == half[1].dtype == torch.float32 and half[0].shape == (45, 2)


@pytest.mark.parametrize(
    ("times", "options", "error", "sentence"),
    [
        (1.5, dict(blur=1.0), ValueError, "^times: 1.5 given, expected a number from 0 to 1"),
        ([0.5, np.nan], dict(blur=1.0), ValueError, "^times: "),
        ("half", dict(blur=1.0), TypeError, "^times: 'half' given, expected a number from 0 to 1"),
        (0.5, dict(), ValueError, "^blur"),
    ],
)
def test_bad_times(times, options, error, sentence):
    with pytest.raises(error, match=sentence):
        interpolate(X, X, times, **options)


def test_an_interpolation_that_is_not_solved_warns():
    with pytest.warns(geomsink.ConvergenceWarning):
        interpolate(disc(30), moons(30), 0.5, blur=1e-3, tol=1e-12)
