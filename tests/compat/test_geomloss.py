"""GeomLoss's SamplesLoss, converged: against an independent dense solver, and GeomLoss itself if it is installed."""

import math

import pytest
import torch

# Options, and masses of a and b; for the three problems the value and the first entries of its gradients in x and in a
# (for fixed marginals, centred), as a dense solver finds them that stops at residuals of 1e-14.
from geomloss_cases import (
    CONVERGED,
    DEFAULTS,
    IDS,
    batch,
    centred,
    differentiated,
    fixed,
    gaussian,
    half_squares,
    problem,
)
from torch.autograd import grad

import geomsink
import geomsink.compat.geomloss as compat
from geomsink.compat.geomloss import SamplesLoss

# ----------------------------------------------------------------------------------- values and gradients


@pytest.mark.parametrize(("options", "masses", "expected"), CONVERGED, ids=IDS)
def test_values_and_gradients_are_the_converged_ones(options, masses, expected):
    for seed, (value, dx, da) in enumerate(expected, 1):
        a, x, b, y = problem(seed, masses)
        loss = SamplesLoss(**options)
        found, gx, ga = differentiated(loss, a, x, b, y)
        assert found.shape == () and (options.get("debias") is False or loss.report.value == found)
        assert found.item() == pytest.approx(value, rel=1e-7)
        share = 1e-3 if "loss" not in options else 1e-7
        assert gx[0, 0].item() == pytest.approx(dx, abs=share * gx.abs().max().item())
        ga = centred(ga, a) if fixed(options) else ga
        assert ga[0].item() == pytest.approx(da, abs=share * ga.abs().max().item())


@pytest.mark.parametrize(("options", "value"), DEFAULTS.values(), ids=DEFAULTS)
def test_defaults(options, value):
    assert SamplesLoss(**options)(*problem(1)).item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("scaling", [0.3, 0.9, 0.99])
def test_the_result_does_not_depend_on_the_scaling(scaling):
    value, gx, _ = differentiated(SamplesLoss(blur=0.1, scaling=scaling), *problem(1))
    assert value.item() == pytest.approx(0.100872229, rel=1e-7)
    assert gx[0, 0].item() == pytest.approx(-0.029928962, rel=1e-3)


@pytest.mark.parametrize("p", [0.5, 1.5])
def test_any_power(p):
    a, x, b, y = problem(1)
    expected = geomsink.sinkhorn_divergence(
        x, y, a, b, epsilon=p * 0.1**p, rho=p * 0.3**p, cost=f"power:{p}", tol=1e-6
    ).value
    assert SamplesLoss(p=p, blur=0.1, reach=0.3)(a, x, b, y).item() == pytest.approx(expected.item() / p, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (dict(p=2, blur=0.1), [0.104069996, 0.324696831]),
        (dict(p=1, blur=0.1, reach=0.3), [0.201816661, 0.314919453]),
        (dict(loss="energy"), [0.184423539, 0.457643059]),
        (dict(loss="gaussian", blur=0.3), [0.247392273, 0.406948309]),
        (dict(loss="gaussian", blur=0.3, kernel=gaussian), [0.247392273, 0.406948309]),
        (dict(p=2, blur=0.1, cost=half_squares), [0.104069996, 0.324696831]),
        (dict(p=2, blur=0.1, backend="multiscale"), [0.104069996, 0.324696831]),
    ],
)
def test_batches_are_their_items(options, values):
    a, x, b, y = batch()
    loss = SamplesLoss(**options)
    assert loss(a, x, b, y).tolist() == pytest.approx(values, rel=1e-6)
    assert loss(a[..., None], x, b[..., None], y).tolist() == pytest.approx(values, rel=1e-6)
    one = loss(a[:1], x[:1], b[:1], y[:1])
    assert one.shape == (1,) and one.item() == pytest.approx(values[0], rel=1e-6)
    F, G = SamplesLoss(potentials=True, **options)(a, x, b, y)
    assert F.shape == a.shape and G.shape == b.shape


def test_a_common_mass_is_a_factor_of_the_gradient_in_the_points():
    a, x, b, y = problem(1)
    _, gx, _ = differentiated(SamplesLoss(blur=0.1), a, x, b, y)
    _, gx_m, _ = differentiated(SamplesLoss(blur=0.1), 1.7 * a, x, 1.7 * b, y)
    assert torch.allclose(gx_m, 1.7 * gx, rtol=1e-9)


def test_infinite_reach_is_none():
    assert SamplesLoss(reach=math.inf)(*problem(1)) == SamplesLoss()(*problem(1))


# --------------------------------------------------------------------------------------------- potentials


POTENTIALS = [dict(loss="gaussian", blur=0.3), dict(loss="energy"), dict(blur=0.1), dict(p=1, blur=0.1, debias=False)]


@pytest.mark.parametrize("options", POTENTIALS)
def test_potentials_are_derivatives_in_the_weights(options):
    a, x, b, y = problem(1)
    F, G = SamplesLoss(potentials=True, **options)(a, x, b, y)
    value = SamplesLoss(**options)(a.requires_grad_(), x, b.requires_grad_(), y)
    half = 1.0 if fixed(options) else 0.5
    assert (half * (F @ a + G @ b)).item() == pytest.approx(value.item(), rel=1e-6)
    for h, w, gradient in zip((F[0], G[0]), (a.detach(), b.detach()), grad(value, (a, b)), strict=True):
        h, gradient = (centred(t, w) if fixed(options) else t for t in (h, gradient))
        assert (h - gradient).norm() < 1e-3 * gradient.norm()


def test_potentials_with_reach_are_geomlosses():
    F, G = SamplesLoss(blur=0.1, reach=0.3, potentials=True)(*problem(1))
    assert F[0, :2].tolist() == pytest.approx([0.101701912, 0.073090982], abs=2e-4)  # at scaling 0.99
    assert G[0, :2].tolist() == pytest.approx([0.047565554, 0.088816105], abs=2e-4)


@pytest.mark.parametrize("options", [dict(), dict(reach=0.3), dict(debias=False), dict(reach=0.3, debias=False, p=1)])
def test_potentials_have_their_true_gradients(options):
    a, x, b, y = problem(1)
    weights = torch.linspace(-1, 1, len(a) + len(b)).double()
    loss = SamplesLoss(blur=0.2, potentials=True, tol=1e-11, **options)

    def functional(x, a):
        F, G = loss(a, x, b, y)
        F, G = F[0], G[0]
        if fixed(options):  # without the free constant
            F, G = F - (F * a).sum() / a.sum(), G - (b @ G) / b.sum()
        return torch.cat((F, G)) @ weights

    x, a = x.requires_grad_(), a.requires_grad_()
    gx, ga = grad(functional(x, a), (x, a))
    v, h = torch.linspace(-1, 1, 12).double(), 1e-4
    moved = v[:, None] * torch.tensor([1.0, -0.5]).double()
    with torch.no_grad():
        along_a = (functional(x, a + h * v) - functional(x, a - h * v)) / (2 * h)
        along_x = (functional(x + h * moved, a) - functional(x - h * moved, a)) / (2 * h)
    assert (ga @ v).item() == pytest.approx(along_a.item(), rel=1e-5)
    assert (gx * moved).sum().item() == pytest.approx(along_x.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("backend", "labels", "batched", "shape"),
    [
        ("auto", False, False, (1, 12)),
        ("tensorized", False, False, (1, 12)),
        ("online", False, True, (1, 12)),
        ("multiscale", False, False, (12,)),
        ("multiscale", False, True, (12,)),
        ("auto", True, False, (12,)),
    ],
)
def test_shapes_of_potentials_are_geomlosses(backend, labels, batched, shape):
    a, x, b, y = (t[None] if batched else t for t in problem(1))
    l_x = torch.zeros(12, dtype=torch.int32) if labels else None
    F, _ = SamplesLoss(potentials=True, backend=backend)(l_x, a, x, None, b, y)
    assert F.shape == shape


# -------------------------------------------------------------------------------------- GeomLoss itself


@pytest.mark.parametrize(("options", "masses", "expected"), CONVERGED, ids=IDS)
def test_geomloss_tends_to_the_same(options, masses, expected):
    geomloss = pytest.importorskip("geomloss")
    for seed in (1, 2, 3):
        clouds = problem(seed, masses)
        value, gx, ga = differentiated(SamplesLoss(**options), *clouds)
        theirs = differentiated(geomloss.SamplesLoss(scaling=0.99, **options), *clouds)
        assert value.item() == pytest.approx(theirs[0].item(), rel=1e-3)
        in_weights = [centred(g, clouds[0]) if fixed(options) else g for g in (ga, theirs[2])]
        for ours, other in ((gx, theirs[1]), in_weights):
            if "reach" not in options:
                assert (ours - other).norm() < 0.06 * other.norm()
            elif options.get("debias", True) or ours is gx:  # the others of theirs are not even proportional
                epsilon, rho = (options[name] ** options["p"] for name in ("blur", "reach"))
                factor = (rho + epsilon / 2) / (rho + epsilon)
                assert (factor * ours - other).norm() < min(0.03 * other.norm(), 0.5 * (ours - other).norm())


# Relative errors of GeomLoss's value and gradient in x, in per cent, by scaling: those of docs/geomloss.md.
ERRORS = {
    "p2": {0.5: (8.0, 56), 0.9: (2.2, 50), 0.99: (0.11, 4.3)},
    "p1": {0.5: (0.83, 14), 0.9: (0.12, 5.5), 0.99: (0.026, 0.62)},
    "reach": {0.5: (4.0, 55), 0.9: (0.65, 13), 0.99: (0.016, 4.6)},
}


@pytest.mark.parametrize("scaling", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", DEFAULTS)
def test_how_far_geomloss_is_off(name, scaling):
    geomloss = pytest.importorskip("geomloss")
    ours, theirs = (
        differentiated(module.SamplesLoss(scaling=scaling, **DEFAULTS[name][0]), *problem(1))
        for module in (compat, geomloss)
    )
    found = [100 * ((u - v).norm() / u.norm()).item() for u, v in zip(ours[:2], theirs[:2], strict=True)]
    assert found == pytest.approx(ERRORS[name][scaling], rel=0.05)


@pytest.mark.parametrize("potentials", [False, True])
def test_shapes_are_geomlosses(potentials):
    geomloss = pytest.importorskip("geomloss")
    a, x, b, y = problem(1)
    calls = [(x, y), (a, x, b, y), (a[:, None], x, b[:, None], y), tuple(t[None] for t in (a, x, b, y)), batch()]
    for loss in ("sinkhorn", "gaussian", "energy"):
        for args in calls:
            theirs, ours = (module.SamplesLoss(loss, potentials=potentials)(*args) for module in (geomloss, compat))
            pairs = zip(ours, theirs, strict=True) if potentials else [(ours, theirs)]
            assert all(one.shape == other.shape and one.dtype == other.dtype for one, other in pairs)
