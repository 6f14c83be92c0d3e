"""Points of any size: scaled by s they have s^p times the cost, in float64 where float32 does not do, or a refusal."""

import math

import numpy as np
import pytest
import torch

import geomsink
from geomsink import hausdorff_divergence, mmd, sinkhorn_divergence, solve, wasserstein_bounds

generator = torch.Generator().manual_seed(0)
X, Y = (torch.rand(n, 3, generator=generator, dtype=torch.float64) + t for n, t in ((12, 0.0), (9, 0.3)))
MANY = torch.rand(1100, 3, generator=generator, dtype=torch.float64)
LARGE, SMALL = 2.0**266, 2.0**-266  # of 1e80: their squares' squares leave the range
LOSSES = {
    "divergence": lambda x, y, s, p, **of: sinkhorn_divergence(x, y, blur=0.3 * s, **of),
    "implicit": lambda x, y, s, p, **of: sinkhorn_divergence(x, y, blur=0.3 * s, differentiation="implicit", **of),
    "sharp": lambda x, y, s, p, **of: sinkhorn_divergence(x, y, blur=0.3 * s, form="sharp", **of),
    "keops": lambda x, y, s, p, **of: sinkhorn_divergence(x, y, blur=0.3 * s, engine="keops", **of),
    "unbalanced": lambda x, y, s, p, **of: sinkhorn_divergence(x, y, blur=0.3 * s, reach=0.5 * s, **of),
    "hausdorff": lambda x, y, s, p, **of: hausdorff_divergence(x, y, blur=0.3 * s, **of),
}


def value_and_gradient(loss, s, p, dtype=torch.float64, **of):
    x = (s * X).to(dtype).requires_grad_()
    result = loss(x, (s * Y).to(dtype), s, p, **of)
    (gradient,) = torch.autograd.grad(result.value, x)
    return result, result.value.detach().double() / s**p, gradient.double() / s ** (p - 1)


@pytest.mark.parametrize("s", [LARGE, SMALL, 2.0**465, 2.0**-465])
@pytest.mark.parametrize(("cost", "p"), [("sqeuclidean", 2), ("euclidean", 1), ("power:1.5", 1.5)])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_scale(name, cost, p, s):
    _, value, gradient = value_and_gradient(LOSSES[name], 1.0, p, cost=cost)
    result, scaled, scaled_gradient = value_and_gradient(LOSSES[name], s, p, cost=cost)
    assert result.converged and result.dtype == "float64"
    torch.testing.assert_close(scaled, value, rtol=1e-9, atol=0)
    torch.testing.assert_close(scaled_gradient, gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("s", [2.0**90, 2.0**-90, 2.0**-60])
@pytest.mark.parametrize("multiscale", [True, False])
def test_float32_points_whose_squares_leave_its_range_are_summed_in_float64(s, multiscale):
    """More pairs than always are: the distances themselves are in range."""
    how = {"cost": "euclidean", "multiscale": multiscale}
    plain = solve(MANY.float(), (MANY + 0.1).float(), blur=0.1, dtype="float64", **how)
    scaled = solve((s * MANY).float(), (s * (MANY + 0.1)).float(), blur=0.1 * s, **how)
    assert scaled.converged and scaled.dtype == "float64"
    assert float(scaled.value) / s == pytest.approx(float(plain.value), rel=1e-6)
    with pytest.raises(ValueError, match="leave the range of float32"):
        solve((s * MANY).float(), (s * MANY).float(), blur=0.1 * s, dtype="float32", **how)
    kernel = mmd((s * MANY).float(), (s * (MANY + 0.1)).float(), kernel="energy")
    expected = mmd(MANY, MANY + 0.1, kernel="energy").value
    assert kernel.dtype == "float64" and float(kernel.value) / s == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("cost", ["cosine", "geodesic"])
@pytest.mark.parametrize("s", [2.0**530, 2.0**-530, 2.0**-1000])
def test_directions_have_no_size(cost, s):
    plain, scaled = (sinkhorn_divergence(t * (X - 0.4), t * (Y - 0.4), epsilon=0.1, cost=cost) for t in (1.0, s))
    assert torch.equal(plain.value, scaled.value) and plain.value > 0.01


@pytest.mark.parametrize("name", LOSSES)
def test_what_float32_does_not_hold_is_refused(name):
    x, y = (1e25 * X).float(), (1e25 * Y).float()
    with pytest.raises(ValueError, match=r"results reach .*e\+49, which float32 does not hold; give points in float64"):
        value_and_gradient(LOSSES[name], 1e25, 2, torch.float32, cost="sqeuclidean")
    result, _, _ = value_and_gradient(LOSSES[name], 1e25, 2, torch.float64, cost="sqeuclidean")
    assert result.value.isfinite()
    with pytest.raises(ValueError, match="which float32 does not hold"):
        solve(x.numpy(), y.numpy(), blur=3e24)
    with pytest.raises(ValueError, match="which float32 does not hold"):
        mmd(x, y, kernel="-sqeuclidean")
    assert float(solve(x, y, blur=3e24, cost="euclidean").value) == pytest.approx(
        1e25 * float(solve(X, Y, blur=0.3, cost="euclidean").value), rel=1e-6
    )


@pytest.mark.parametrize("s", [1e152, 1e200, 1e307, 1e-160, 1e-200, 1e-310])
def test_what_float64_does_not_hold_is_refused(s):
    for cost in ("sqeuclidean", "euclidean", "power:0.5"):
        for call in (solve, sinkhorn_divergence, hausdorff_divergence):
            with pytest.raises(ValueError, match="x, y: coordinates, or features, extend over"):
                call(s * X, s * Y, epsilon=0.1, cost=cost)
    with pytest.raises(ValueError, match="x, y: coordinates, or features, extend over"):
        wasserstein_bounds(s * X, s * Y, p=1)
    for kernel in ("energy", "-sqeuclidean"):
        with pytest.raises(ValueError, match="coordinates reach"):
            mmd(s * X, s * Y, kernel=kernel)
    far = mmd(X, Y, blur=0.3)
    assert mmd(s * X, s * Y, blur=0.3 * s).value == pytest.approx(float(far.value), rel=1e-6)


def test_a_temperature_below_the_range_is_refused():
    with pytest.raises(ValueError, match=r"epsilon is 1e-310, expected more than 1e-290"):
        solve(X, Y, epsilon=1e-310)
    with pytest.raises(ValueError, match=r"epsilon is 1e-310, expected more than 1e-290"):
        solve(0 * X, 0 * Y, epsilon=1e-310)


def test_points_at_one_place_need_no_scale():
    for at in (0.0, 1e-300, 1e200):
        s = solve(np.full((3, 2), at), np.full((4, 2), at), blur=0.1)
        assert s.converged and s.value == pytest.approx(0.0, abs=1e-15)


def test_distances_keep_their_accuracy_where_costs_end():
    bounds = wasserstein_bounds(X * 1e140, Y * 1e140, p=2)
    plain = wasserstein_bounds(X, Y, p=2)
    assert bounds.distance[0] / 1e140 == pytest.approx(float(plain.distance[0]), rel=1e-6)
    assert math.isfinite(bounds.upper)


def test_mahalanobis_costs_far_from_the_origin():
    """Points are centred before they are mapped, or the map would round coordinates of 1e8."""
    x = np.array([[1e8 + 0.25, -3e8]])
    y = x + [[0.5, -0.25]]
    assert solve(x, y, epsilon=1.0, cost="mahalanobis:2,3").value == pytest.approx(0.6875, rel=1e-14)


@pytest.mark.parametrize("scale", [3e-20, 1e20])
def test_annealing_in_float32_keeps_to_what_that_holds(scale):
    """From 2^15 pairs on its kernels are in float32: one scale was an error of torch's, the other started from zero."""
    drawn = np.random.default_rng(0)
    x, y = drawn.random((182, 2)), drawn.random((182, 2))
    found, plain = (geomsink.solve(s * x, s * y, blur=0.1 * s) for s in (scale, 1.0))
    assert found.converged and found.n_iter == plain.n_iter
    assert found.value == pytest.approx(scale**2 * plain.value, rel=1e-9)
