"""Certified intervals of the functions that users call, and how narrow they are."""

import numpy as np
import pytest
import torch
from reference import NAMES, dense_ot, load, squared_distances

import geomsink
from geomsink import shapes


def clouds(n: int = 60, m: int = 50):
    rng = np.random.default_rng(0)
    return rng.random((n, 3)), rng.random((m, 3)) + 0.1


@pytest.mark.parametrize(
    ("name", "options", "width"),
    [
        (NAMES[0], dict(certify=True), 5e-2),
        (NAMES[2], dict(certify=True), 5e-2),
        (NAMES[1], dict(tol_gap=1e-3), 1e-3),
        (NAMES[2], dict(tol_gap=1e-4, dtype="float64"), 1e-4),
    ],
)
def test_solved_problems_are_inside_of_narrow_intervals(name, options, width):
    solved = load(name)
    r = geomsink.sinkhorn_divergence(solved["x"], solved["y"], blur=float(solved["blur"]), **options)
    assert r.converged
    for found, key in ((r, "divergence"), (r.xy, "ot"), (r.xx, "ot_xx"), (r.yy, "ot_yy")):
        assert found.lower <= float(solved[key]) <= found.upper, key
        assert found.lower <= found.value <= found.upper, key
    assert r.gap <= width * r.value
    assert r.gap == r.upper - r.lower


@pytest.mark.parametrize("name", NAMES[:1])
def test_sums_in_float32_over_the_pairs_that_count(name, monkeypatch):
    """What clouds of 10⁵ points have: rounding is most of the width, and bounded."""
    solved = load(name)
    monkeypatch.setattr("geomsink.choose.CHEAP", 0)
    r = geomsink.sinkhorn_divergence(solved["x"], solved["y"], blur=float(solved["blur"]), certify=True)
    assert r.dtype == "float32" and r.lower <= float(solved["divergence"]) <= r.upper
    assert r.gap <= 5e-2 * r.value
    assert float(r.xy.interval.uncertain) > 0.3 * r.xy.gap
    narrow = geomsink.sinkhorn_divergence(solved["x"], solved["y"], blur=float(solved["blur"]), tol_gap=1e-3)
    assert narrow.converged and narrow.lower <= float(solved["divergence"]) <= narrow.upper


def test_any_mass_weights_and_zeros():
    x, y = clouds()
    rng = np.random.default_rng(1)
    a, b = rng.random(len(x)), rng.random(len(y))
    a[:5] = 0.0
    a, b = 3.7 * a / a.sum(), 3.7 * b / b.sum()
    epsilon = 0.02
    s = geomsink.solve(x, y, a, b, epsilon=epsilon, certify=True)
    kept = a > 0
    value, *_ = dense_ot(squared_distances(x[kept], y), a[kept], b, epsilon)
    assert s.lower <= value + 1e-9 and value - 1e-9 <= s.upper  # of the dense sums
    assert s.gap < 5e-3 * value


@pytest.mark.parametrize("reach", [0.4, (0.4, None), (None, 0.4)])
@pytest.mark.parametrize("penalty", ["kl", "tv"])
def test_unbalanced_divergences(reach, penalty):
    x, y = clouds()
    a, b = np.full(len(x), 1.0), np.full(len(y), 1.3)
    options = dict(epsilon=0.05, reach=reach, penalty=penalty)
    if penalty == "tv" and isinstance(reach, tuple):
        a, b = a / a.sum(), b / b.sum()
    r = geomsink.sinkhorn_divergence(x, y, a, b, certify=True, **options)
    t = geomsink.sinkhorn_divergence(x, y, a, b, tol=1e-10, **options)
    for key in ("xy", "xx", "yy"):
        found, value = getattr(r, key), getattr(t, key).value
        assert found.lower <= value + 1e-9 * abs(value) and value <= found.upper + 1e-9 * abs(value), key
    assert r.lower <= t.value <= r.upper
    assert r.gap < 1e-2 * r.xy.value


def test_batches_and_float32_tensors():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, n, 3, generator=generator) for n in (40, 50))
    r = geomsink.sinkhorn_divergence(x, y, blur=0.2, tol_gap=1e-3)
    assert r.lower.shape == (3,) and r.lower.dtype == torch.float32
    for k in range(3):
        one = geomsink.sinkhorn_divergence(x[k].double(), y[k].double(), blur=0.2, tol=1e-9)
        assert float(r.lower[k]) <= float(one.value) <= float(r.upper[k])
    # What float32 cannot hold is rounded outwards.
    assert bool((r.gap <= 1e-3 * r.value + 2.4e-7 * r.value).all())
    assert geomsink.sinkhorn_divergence(list(x), list(y), blur=0.2, certify=True).upper.shape == (3,)


def test_gradients_are_those_of_the_value():
    x, y = (torch.tensor(c, requires_grad=True) for c in clouds())
    gradients = []
    for certify in (False, True):
        r = geomsink.sinkhorn_divergence(x, y, blur=0.2, certify=certify)
        gradients.append(torch.autograd.grad(r.value, x)[0])
    assert not r.lower.requires_grad and not r.upper.requires_grad
    assert torch.equal(*gradients)


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean"])
def test_infinite_and_endless_temperatures(cost):
    x, y = clouds()
    C = squared_distances(x, y) if cost == "sqeuclidean" else squared_distances(x, y) ** 0.5
    for epsilon in (np.inf, 1e10 * C.max()):
        s = geomsink.solve(x, y, epsilon=epsilon, cost=cost, certify=True)
        assert s.lower <= C.mean() <= s.upper
        assert s.gap < 1e-8 * C.mean()


def test_without_a_certificate_there_is_none():
    x, y = clouds()
    r = geomsink.sinkhorn_divergence(x, y, blur=0.2)
    assert (r.lower, r.upper, r.gap, r.xy.lower, r.xy.gap) == (None,) * 5


def test_a_width_that_cannot_be_had_is_reported():
    x, y = clouds()
    with pytest.warns(geomsink.ConvergenceWarning, match="the certified interval is .* wide, relative, and tol_gap"):
        r = geomsink.sinkhorn_divergence(x, y, blur=0.2, tol_gap=1e-17)
    assert not r.converged and "certified interval" in r.status and r.gap < 1e-9
    with pytest.warns(geomsink.ConvergenceWarning, match="the certified interval is"):
        s = geomsink.solve(x, y, blur=0.2, tol_gap=1e-17)
    assert not s.converged and s.marginal_error < s.tol


def test_unrolled_potentials_are_certified_as_they_are():
    x, y = clouds()
    options = dict(blur=0.1, differentiation="unrolled", iterations=2)
    few = geomsink.solve(x, y, certify=True, **options)
    value = geomsink.solve(x, y, blur=0.1, tol=1e-10).value
    assert few.lower <= value <= few.upper and few.gap > 1e-4 * value


def test_one_tree_serves_the_solve_and_its_certificate():
    """Large clouds: several levels, sketches, and an interval over the points themselves."""
    x, y = shapes.sample("torus", 3000, seed=0), shapes.sample("star", 3000, seed=1)
    r = geomsink.sinkhorn_divergence(x, y, blur=0.1, certify=True)
    exact = geomsink.sinkhorn_divergence(
        x.astype(np.float64), y.astype(np.float64), blur=0.1, tol=1e-7, multiscale=False
    )
    assert r.xy.strategy == "sketched" and max(r.xy.approximation.nodes) < 1500
    assert r.lower <= exact.value <= r.upper


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(certify=1), "certify: a int was given, expected True or False."),
        (dict(tol_gap="x"), "tol_gap: a str was given, expected a number or None."),
        (dict(tol_gap=0.0), "tol_gap: 0.0 given, expected a positive relative width."),
        (dict(certify=True, form="sharp"), "certify: given with form='sharp', but intervals are of the entropic form."),
        (
            dict(tol_gap=0.1, differentiation="unrolled", iterations=3),
            "tol_gap: given with differentiation='unrolled', whose iterations are chosen.",
        ),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        geomsink.sinkhorn_divergence(*clouds(), blur=0.1, **options)


@pytest.mark.parametrize("penalty", ["kl", "tv"])
@pytest.mark.parametrize("reach", [0.3, (0.3, None)])
def test_clouds_so_far_apart_that_all_exponents_underflow(penalty, reach):
    x, y = clouds()
    options = dict(blur=0.05, reach=reach, penalty=penalty)
    s = geomsink.solve(x, y + 10.0, certify=True, **options)
    assert s.lower <= geomsink.solve(x, y + 10.0, **options).value * (1 + 1e-9) and s.value <= s.upper


@pytest.mark.parametrize("mass", [1.001, 1 + 1e-6, 7.0])
@pytest.mark.parametrize("warmth", [1e-2, 1e5, 1e9])
def test_single_points_in_closed_form(mass, warmth):
    """The plan is m², m C + ε(m² − m − m log m): its constant cancels for masses close to 1."""
    x, y = np.zeros((1, 2)), np.array([[0.6, 0.3]])
    cost, log = 0.45, np.log1p(mass - 1)
    epsilon, excess = warmth * cost, mass - 1.0
    series = excess**2 * (0.5 + excess * (1 / 6 - excess / 12))  # m² − m − m log m, for m close to 1
    constant = series if excess < 1e-2 else mass * (excess - log)
    s = geomsink.solve(x, y, np.array([mass]), np.array([mass]), epsilon=epsilon, certify=True)
    assert s.lower <= mass * cost + epsilon * constant <= s.upper


@pytest.mark.parametrize("rho", [1e3, 1e6, 1e8])
def test_penalties_that_are_almost_fixed_marginals(rho):
    x, y = clouds(5, 6)
    s = geomsink.solve(x, y, epsilon=0.05, rho=rho, certify=True)
    value, *_ = dense_ot(squared_distances(x, y), np.full(5, 0.2), np.full(6, 1 / 6), 0.05)
    assert s.lower <= s.upper
    # A large ρ is a fixed marginal to within 1/ρ.
    assert s.lower - 1e-9 - 1.0 / rho <= value <= s.upper + 1e-9 + 1.0 / rho


def test_endless_temperatures_of_costs_that_are_far_from_their_extreme_points():
    x = np.concatenate((np.full((20, 20), 0.99), np.eye(20)))
    epsilon = 4.2e8
    s = geomsink.solve(x, -x, epsilon=epsilon, certify=True)
    C = squared_distances(x, -x)
    assert s.lower <= C.mean() - C.var() / (2 * epsilon) <= s.upper
