"""Gradients, which are of first order in what a plan is off by, where values are of second order."""

import numpy as np
import pytest
import torch
from soak_reference import transport

import geomsink


def test_between_clusters_that_exchange_little_mass():
    """A value is right long before the mass is that goes from one cluster to the other, and pays for the way."""
    x = np.array([22.4795, -19.8341, 24.8090, 22.4062, -19.9161, -19.7983])[:, None]
    y = np.array([22.4863, -19.7688, 24.8564, 24.8646, -19.7488, 24.8228])[:, None]
    a = np.array([0.00293, 0.01790, 0.04942, 0.03472, 0.01117, 0.00598])
    b = np.array([0.03751, 0.01907, 0.00914, 0.00688, 0.01606, 0.03346])
    x, y, a, b = map(torch.from_numpy, (x, y, a, b))
    x.requires_grad_()
    s = geomsink.sinkhorn_divergence(x, y, a, b, epsilon=8.858)
    (gradient,) = torch.autograd.grad(s.value, x)
    points, exact = {"x": x.detach(), "y": y}, torch.zeros_like(y)
    for first, second, share in (("x", "y", 1.0), ("x", "x", -0.5)):
        u, v = points[first], points[second]
        weights = {"x": a.numpy(), "y": b.numpy()}
        P = torch.from_numpy(transport(((u - v.T) ** 2).numpy(), weights[first], weights[second], 8.858).plan)
        moved = 2.0 * share * (P[..., None] * (u[:, None] - v)).sum(1)
        exact = exact + (moved if second == "y" else 2.0 * moved)
    assert s.converged and s.marginal_error < s.tol
    assert (gradient - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize(("seed", "blur"), [(4, 0.5), (2, 0.2), (0, 1.0)])
def test_of_equal_clouds_are_zero(seed, blur):
    """The three problems are one: what is left is rounding, also where one weight is most of the mass."""
    r = np.random.default_rng(seed)
    weights = np.r_[1.0, 10.0 ** r.uniform(-8, -6, 10)]
    points = r.normal(size=(11, 3))
    x, y = (torch.from_numpy(points.copy()).requires_grad_() for _ in range(2))
    a = torch.from_numpy(weights / weights.sum())
    s = geomsink.sinkhorn_divergence(x, y, a, a, blur=blur)
    gradients = torch.autograd.grad(s.value, (x, y))
    assert s.converged and s.value == 0.0
    assert max(float(g.abs().max()) for g in gradients) < 2e-11
