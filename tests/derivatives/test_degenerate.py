"""Gradients where a cost has a kink: coinciding points, antipodes, identical clouds. A pair there pulls nowhere.

A kink is symmetric about its point, so that central differences see the derivative without it.
"""

import pytest
import torch

import geomsink

generator = torch.Generator().manual_seed(0)
BASE = 0.4 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
ANGLES = ("cosine", "geodesic")
COSTS = ("euclidean", "power:1.5", "power:0.5", "sqeuclidean", "mahalanobis:1,2,3", *ANGLES)
KERNELS = ("gaussian", "laplacian", "energy", "-euclidean", "-power:0.5", "-power:1.5", "-geodesic", "-cosine")


def clouds(kind):
    x, y = BASE.clone(), 1.3 * BASE.flip(0) + 0.2
    if kind == "coinciding":
        y[0], y[1] = x[0], x[1]
    elif kind == "twins":
        x[1], y[1], y[2] = x[0], y[0], x[0]
    elif kind == "antipodes":
        y[0], y[1] = -x[0], -2.0 * x[1]
    elif kind == "identical":
        y = x.clone()
    elif kind == "one place":
        x[:], y[:] = BASE[0], BASE[0]
    elif kind == "zero vectors":
        x[0], y[0] = 0.0, 0.0
    return x, y


KINDS = ("coinciding", "twins", "antipodes", "identical", "one place", "zero vectors")
NEAR = ("coinciding", "identical", "one place")


def central(value, x, step):
    """Differences of a value in one point's coordinates, the first's."""
    found = []
    for k in range(3):
        moved = [x.clone(), x.clone()]
        for sign, points in zip((1.0, -1.0), moved, strict=True):
            points[0, k] += sign * step
        found.append((float(value(moved[0])) - float(value(moved[1]))) / (2.0 * step))
    return torch.tensor(found, dtype=torch.float64)


def check(value, x, expected):
    """First derivatives against differences; second ones are for the caller to look at."""
    for engine in ("dense", "keops"):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(leaf, engine=engine), leaf, create_graph=True)
        torch.testing.assert_close(gradient[0].detach(), expected, rtol=1e-4, atol=2e-5)
        yield leaf, gradient


@pytest.mark.parametrize(
    ("kind", "call"),
    [*((kind, "divergence") for kind in KINDS), *((kind, "solve") for kind in NEAR)],
)
@pytest.mark.parametrize("cost", COSTS)
def test_transport(cost, kind, call):
    """What is wrong between two clouds is in their divergence too, but where self problems could take it away."""
    x, y = clouds(kind)
    function = geomsink.solve if call == "solve" else geomsink.sinkhorn_divergence
    expected = None
    for differentiation in ("envelope", "implicit"):
        # Points in one place are moved a little, and the limit of a large ε is as right as ε is larger than all costs.
        tol = 1e-4 if kind == "one place" else 1e-11
        how = {"epsilon": 0.3, "cost": cost, "tol": tol, "differentiation": differentiation}
        if kind == "zero vectors" and cost in ANGLES:
            with pytest.raises(ValueError, match="a point at the origin has no direction"):
                function(x, y, **how)
            continue
        value = lambda p, engine="dense", how=how: function(p, y, engine=engine, **how).value  # noqa: E731
        if expected is None:  # values are the same, however they are differentiated
            expected = central(value, x, 1e-7 if cost == "power:0.5" else 1e-6)
        for leaf, gradient in check(value, x, expected):
            if differentiation == "implicit":
                (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
                assert second.isfinite().all()


@pytest.mark.parametrize("kind", KINDS[:-1])
@pytest.mark.parametrize("kernel", KERNELS)
def test_discrepancies(kernel, kind):
    x, y = clouds(kind)
    blur = 0.7 if kernel in ("gaussian", "laplacian") else None
    value = lambda p, engine="dense": geomsink.mmd(p, y, kernel=kernel, blur=blur, engine=engine).value  # noqa: E731
    for leaf, gradient in check(value, x, central(value, x, 1e-7 if "0.5" in kernel else 1e-6)):
        (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
        assert second.isfinite().all()


@pytest.mark.parametrize("cost", ["euclidean", "power:1.5", "power:0.5"])
def test_a_pair_at_one_place_pulls_nowhere(cost):
    """Of two points each, far apart: the plan is the identity, one pair of it coincides, and the other is 2 apart."""
    x = torch.tensor([[0.0, 0.0], [100.0, 0.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[0.0, 0.0], [100.0, 2.0]], dtype=torch.float64)
    p = geomsink.costs.get(cost).degree
    for engine in ("dense", "keops"):
        for dtype in (torch.float32, torch.float64):
            s = geomsink.solve(x.to(dtype), y.to(dtype), epsilon=0.01, cost=cost, engine=engine)
            (gradient,) = torch.autograd.grad(s.value, x)
            expected = torch.tensor([[0.0, 0.0], [0.0, -0.5 * p * 2.0 ** (p - 1)]], dtype=torch.float64)
            torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_identical_clouds_have_no_gradient():
    for cost in COSTS:
        x = BASE.clone().requires_grad_()
        for call in (geomsink.sinkhorn_divergence, geomsink.hausdorff_divergence):
            (gradient,) = torch.autograd.grad(call(x, BASE, epsilon=0.3, cost=cost).value, x)
            assert gradient.abs().max() < 1e-8  # solved to the default tolerance
