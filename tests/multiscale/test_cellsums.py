"""Sums over cells against sums over all pairs in dense float64: what is skipped, and what stand-ins do."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import exponents, mask, squared_distances
from scipy.special import logsumexp

from geomsink import costs, engine
from geomsink.measures.measures import Measure
from geomsink.multiscale.cellsums import AUDITED, CellSums, Cloud, Side
from geomsink.solver.sums import FullSums

COST = costs.get("sqeuclidean")
EPSILON = 2 * 0.08**2
SKIPPED = 1e-4
# Rounding of exponents of some tens, and of stand-ins' coefficients in float32.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-11}


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch: on a machine that is busy, threads that wait for each other make these many small steps slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def problem(seed=0):
    """2000 points against 1600, of other weights and to one side, at a σ of three spacings, after some updates."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(size=(2000, 2)), random.uniform(size=(1600, 2)) * [0.9, 0.8] + [0.4, 0.1]
    a, b = random.uniform(0.8, 1.2, size=2000) * np.exp(3 * x[:, 0]), random.uniform(0.8, 1.2, size=1600)
    a, b = a / a.sum(), b / b.sum()
    C = squared_distances(x, y)
    u, v = exponents(C, a, b, EPSILON, 5)
    alpha, beta = (Measure(torch.as_tensor(p), torch.as_tensor(w)) for p, w in ((x, a), (y, b)))
    return SimpleNamespace(
        alpha=alpha, beta=beta, a=a, b=b, C=C, f=EPSILON * (u - np.log(a)), g=EPSILON * (v - np.log(b))
    )


def gradient(points, exponents):
    """A callable: gradients of −log Σ_j exp(v_j − ‖p − y_j‖²/ε) at points p."""

    def slopes(p):
        plan = torch.softmax(exponents - ((p[:, None] - points) ** 2).sum(-1) / EPSILON, dim=1)
        return (2.0 / EPSILON) * (p - plan @ points)

    return slopes


def sides(p, skipped=SKIPPED, accuracy=0.0, dtype=torch.float64, cost=COST):
    """For the rows, and for the columns."""
    u, v = (torch.as_tensor(e) / EPSILON + m.log_weights for e, m in ((p.f, p.alpha), (p.g, p.beta)))
    alpha, beta = (Cloud(m, cost, EPSILON) for m in (p.alpha, p.beta))
    slopes = backwards = None
    if cost.quadratic is not None:
        slopes = gradient(p.beta.points, v), gradient(p.alpha.points, u)
        backwards = slopes[1], slopes[0]
    how = skipped, accuracy
    return (
        Side(alpha, beta, cost, slopes, *how, v, "dense", dtype),
        Side(beta, alpha, cost.transpose(), backwards, *how, u, "dense", dtype),
    )


def full(p, cost=COST):
    return FullSums(engine.pair(p.alpha.points, p.beta.points, cost, "dense"), p.alpha, p.beta)


def cell_sums(p, **how):
    return CellSums(full(p), *sides(p, **how))


def arguments(p, f=None, g=None):
    """u of the rows, and v of the columns with their weights."""
    f, g = p.f if f is None else f, p.g if g is None else g
    return torch.as_tensor(f) / EPSILON, torch.as_tensor(g) / EPSILON + p.beta.log_weights


def log_sums(p, u, v):
    return u.numpy() + logsumexp(v.numpy() - p.C / EPSILON, axis=1)


def skipped_by_rows(side, p, u, v):
    """Shares of their mass that rows skip, in the order of the tree; without stand-ins."""
    rows, columns = side.rows.tree.order.numpy(), side.columns.tree.order.numpy()
    plan = np.exp(u.numpy()[rows, None] + v.numpy()[columns] - p.C[rows][:, columns] / EPSILON)
    return (plan * ~mask(side._pattern.blocks, *plan.shape)).sum(1) / plan.sum(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("accuracy", [0.0, 1e-3, 1e-2])
@pytest.mark.parametrize("skipped", [1e-6, 1e-2])
def test_sums_of_converged_potentials(skipped, accuracy, dtype):
    p = problem()
    sums, exact = cell_sums(p, skipped=skipped, accuracy=accuracy, dtype=dtype), full(p)
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    rows = sums.log_rows(f, g, EPSILON) - exact.log_rows(f, g, EPSILON)
    columns = sums.log_columns(f, g, EPSILON) - exact.log_columns(f, g, EPSILON)
    for side, off in ((sums.rows, rows), (sums.columns, columns)):
        assert 0.0 < side.lost <= skipped
        assert side.sources.are_points == (accuracy == 0.0)
        # What is skipped is missed, and stand-ins are off both ways: in the mean by less than the accuracy, and by
        # more in sums that see the tails of kernels alone.
        off, rest = off.expm1(), ROUNDING[dtype]
        assert side.rows.measure.weights @ off.abs() <= side.lost + accuracy + rest
        assert off.max() <= 20 * accuracy + rest and off.min() >= -(side.lost + 20 * accuracy + rest)
        n_sources, n = len(side.sources), len(side.columns.measure.points)
        assert n_sources < {0.0: n + 1, 1e-3: 0.9 * n, 1e-2: 0.5 * n}[accuracy]
        assert side.share < 0.98 * n_sources / n
    assert sums.skipped == sums.rows.lost + sums.columns.lost


def test_what_is_lost_is_a_bound():
    """Of what the rows of the last sums have skipped, to the last pair."""
    p = problem()
    u, v = arguments(p)
    side = sides(p)[0]
    found = side.log_sums(u, v, EPSILON).numpy()
    real = skipped_by_rows(side, p, u, v)
    assert 0.0 < real.max() <= side.lost <= SKIPPED
    missing = -np.expm1(found - log_sums(p, u, v))[side.rows.tree.order.numpy()]
    np.testing.assert_allclose(missing, real, rtol=0, atol=1e-11)


def drifts(p):
    """Changes of f and g by up to 10 ε, smooth and not."""
    x, y = p.alpha.points.numpy(), p.beta.points.numpy()
    noise = np.random.default_rng(1).normal(size=len(y))
    return {
        "smooth": (np.zeros(len(x)), 10 * EPSILON * np.sin(6 * y[:, 0])),
        "rows": (10 * EPSILON * np.cos(5 * x[:, 1]), np.zeros(len(y))),
        "rough": (np.zeros(len(x)), 4 * EPSILON * noise),
        "one point": (np.zeros(len(x)), 10 * EPSILON * (np.arange(len(y)) == 7)),
        "constants": (np.full(len(x), -10 * EPSILON), np.full(len(y), 10 * EPSILON)),
        "mass": (np.full(len(x), 10 * EPSILON), np.zeros(len(y))),
    }


@pytest.mark.parametrize("updated", [False, True], ids=["as-it-is", "updated"])
@pytest.mark.parametrize("name", drifts(problem()))
def test_patterns_follow_the_exponents(name, updated):
    """Rebuilt where they must be, and within their bound whether the rows have been updated or not."""
    p = problem()
    side = sides(p)[0]
    side.log_sums(*arguments(p), EPSILON)
    before = side._pattern
    df, dg = drifts(p)[name]
    u, v = arguments(p, p.f + df, p.g + dg)
    if updated:
        u = torch.as_tensor(u.numpy() - log_sums(p, u, v))
    found = side.log_sums(u, v, EPSILON).numpy()
    if name in ("smooth", "rough", "one point"):
        assert side._pattern is not before
    if name in ("constants", "mass", "rows"):  # which change no share of a row
        assert side._pattern is before
    assert skipped_by_rows(side, p, u, v).max() <= side.lost <= SKIPPED
    off = np.expm1(found - log_sums(p, u, v))
    assert -side.lost - 1e-11 <= off.min() and off.max() <= 1e-11


def test_rows_of_little_mass():
    """Shares are of the mass that a row has, not of 1: the first pattern skips too much, and the second does not."""
    p = problem()
    side, (u, v) = sides(p)[0], arguments(p)
    off = np.expm1(side.log_sums(u - 12.0, v, EPSILON).numpy() + 12.0 - log_sums(p, u, v))
    assert skipped_by_rows(side, p, u, v).max() <= side.lost <= SKIPPED
    assert -side.lost - 1e-11 <= off.min() and off.max() <= 1e-11


def test_rows_of_no_mass_do_no_lasting_harm():
    """Sums that were given up for some exponents are found for others."""
    p = problem()
    side, (u, v) = sides(p)[0], arguments(p)
    assert side.log_sums(u - 50.0, v, EPSILON) is None
    assert side.log_sums(u, v, EPSILON) is not None


def test_rounding_of_the_rows_exponents_is_undone():
    """One point against itself: what is left of two large exponents, of which one is no float32."""
    one = Measure(torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    cloud, u, v = Cloud(one, COST, EPSILON), torch.tensor([1000.3]).double() + 1e-6, torch.tensor([-1000.0]).double()
    side = Side(cloud, cloud, COST, (torch.zeros_like,) * 2, SKIPPED, 1e-2, v, "dense", torch.float32)
    torch.testing.assert_close(side.log_sums(u, v, EPSILON), u + v, rtol=0, atol=1e-6)


def test_small_changes_keep_the_pattern():
    p = problem()
    side = sides(p)[0]
    side.log_sums(*arguments(p), EPSILON)
    before = side._pattern
    u, v = arguments(p, g=p.g + 0.5 * EPSILON * np.sin(6 * p.beta.points[:, 0].numpy()))
    found = side.log_sums(u, v, EPSILON).numpy()
    assert side._pattern is before and side.lost <= SKIPPED
    off = np.expm1(found - log_sums(p, u, v))
    assert -side.lost - 1e-11 <= off.min() and off.max() <= 1e-11


def test_stand_ins_after_a_drift():
    """They were chosen for other exponents, and serve for these, that have other slopes by up to 0.6 σ, as well."""
    p, accuracy = problem(), 1e-3
    side = sides(p, accuracy=accuracy)[0]
    u, v = arguments(p, g=p.g + 2 * EPSILON * np.sin(4 * p.beta.points[:, 0].numpy()))
    u = torch.as_tensor(u.numpy() - log_sums(p, u, v))
    off = np.abs(np.expm1(side.log_sums(u, v, EPSILON).numpy()))
    # Sums in the tails of a kernel, of little weight, lose most.
    assert p.a @ off < accuracy + SKIPPED and off.max() < 30 * accuracy


@pytest.mark.parametrize("name", ["euclidean", "power:1.5"])
def test_costs_that_are_not_quadratic(name):
    """Are truncated without slopes, and have no stand-ins; a cost without bounds is summed in full."""
    given, cost = problem(), costs.get(name)
    p = SimpleNamespace(**{**vars(given), "C": cost(given.alpha.points, given.beta.points).numpy()})
    u, v = exponents(p.C, p.a, p.b, EPSILON, 2)
    p.f, p.g = EPSILON * (u - np.log(p.a)), EPSILON * (v - np.log(p.b))
    for ground, most in ((cost, 0.98), (costs.Cost(name="unknown", expression=cost.expression), 1.0)):
        side = sides(p, accuracy=1e-2, cost=ground)[0]
        assert side.sources.are_points
        u, v = arguments(p)
        off = np.expm1(side.log_sums(u, v, EPSILON).numpy() - log_sums(p, u, v))
        assert -side.lost - 1e-11 <= off.min() and off.max() <= 1e-11
        assert side.share <= most and (side.lost > 0) == (ground is cost)


def test_sums_that_are_not_positive_are_made_in_full():
    """Coefficients have both signs: with exponents much rougher than those they were chosen for, sums may too."""
    p = problem()
    sums = cell_sums(p, accuracy=0.03)
    side, noise = sums.rows, np.random.default_rng(3).normal(size=1600)
    u, v = arguments(p, g=p.g + 10 * EPSILON * noise)
    u = torch.as_tensor(u.numpy() - log_sums(p, u, v))
    sources, factors = side.sources.spread(v[side.columns.tree.order])
    points = side.columns.tree.measure.points[side.sources.index].numpy()
    exponent = u.numpy()[:, None] + sources.numpy() - squared_distances(p.alpha.points.numpy(), points) / EPSILON
    assert (np.exp(exponent) @ factors.numpy()).min() < 0
    assert side.log_sums(u, v, EPSILON) is None
    found = sums.log_rows(EPSILON * u, torch.as_tensor(p.g + 10 * EPSILON * noise), EPSILON)
    np.testing.assert_allclose(found.numpy(), np.zeros(2000), rtol=0, atol=1e-11)


@pytest.mark.parametrize("change", [-2000.0, 2000.0])
@pytest.mark.parametrize("accuracy", [0.0, 1e-2])
def test_sums_out_of_range_are_made_in_full(accuracy, change):
    p = problem()
    sums = cell_sums(p, accuracy=accuracy)
    f, g = torch.as_tensor(p.f) + change * EPSILON, torch.as_tensor(p.g)
    u, v = arguments(p, f)
    assert sums.rows.log_sums(u, v, EPSILON) is None
    np.testing.assert_allclose(sums.log_rows(f, g, EPSILON).numpy(), log_sums(p, u, v), rtol=0, atol=1e-9)
    # The columns' sums are over these rows.
    exact = full(p).log_columns(f, g, EPSILON)
    torch.testing.assert_close(sums.log_columns(f, g, EPSILON), exact, rtol=0, atol=2e-4 + 5 * accuracy)


def test_audits_find_the_mean_difference():
    """Of claims that are off by known amounts, larger where the weights are, against all rows."""
    p = problem()
    u, v = arguments(p)
    side, exact = sides(p)[0], log_sums(p, u, v)
    wrong = 0.02 * np.random.default_rng(5).normal(size=2000) + 0.01 * (p.a > np.median(p.a))
    found = side.audit(u, v, torch.as_tensor(exact + wrong), EPSILON)
    off, missing = found.off, found.missing
    difference = np.exp(exact) - np.exp(exact + wrong)
    mean, size = p.a @ difference, p.a @ np.abs(difference)
    errors = [np.sqrt(p.a @ (d - p.a @ d) ** 2 / AUDITED) for d in (difference, np.abs(difference))]
    assert abs(missing - mean) < 4 * errors[0] < abs(mean)
    assert size < off < size + 7 * errors[1]
    assert side.audit(u, v, torch.as_tensor(exact), EPSILON).off < 1e-11


def test_audits_of_stand_ins():
    """Of the marginal error that all sums together are off by, and of the mass that is missing in the columns."""
    p = problem()
    sums, exact = cell_sums(p, accuracy=1e-2), full(p)
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    claimed = sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
    found = sums.audit(f, g, *claimed, EPSILON)
    off, missing = found.off, found.missing
    differences = [
        (w, (one.exp() - other.exp()).numpy())
        for w, one, other in zip(
            (p.a, p.b), (exact.log_rows(f, g, EPSILON), exact.log_columns(f, g, EPSILON)), claimed, strict=True
        )
    ]
    size = sum(w @ np.abs(d) for w, d in differences)
    b, d = differences[1]
    assert size <= off < 1.5 * size and size > 1e-5
    assert abs(missing - b @ d) < 4 * np.sqrt(b @ d**2 / AUDITED)


def test_without_stand_ins_truncation_is_audited_for_the_value():
    p = problem()
    sums = CellSums(full(p), *sides(p, skipped=0.5))
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    rows, columns = sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
    left_out = float(p.beta.weights @ (sums.full.log_columns(f, g, EPSILON).exp() - columns.exp()))
    audit = sums.audit(f, g, rows, columns, EPSILON)
    assert audit.off == 0.0 and 1e-9 < left_out < sums.skipped
    assert abs(audit.missing - left_out) <= audit.uncertain < 3.0 * left_out


@pytest.mark.parametrize("accuracy", [0.0, 1e-2])
def test_one_side_does_for_a_self_problem(accuracy):
    alpha = problem().alpha
    cloud, slopes = Cloud(alpha, COST, EPSILON), (gradient(alpha.points, alpha.log_weights),) * 2
    C = squared_distances(alpha.points.numpy(), alpha.points.numpy())
    exact = logsumexp(alpha.log_weights.numpy() - C / EPSILON, axis=1)
    f = -EPSILON * torch.as_tensor(exact)
    side = Side(cloud, cloud, COST, slopes, SKIPPED, accuracy, alpha.log_weights, "dense", torch.float64)
    sums = CellSums(FullSums(engine.pair(alpha.points, alpha.points, COST, "dense"), alpha, alpha), side, side)
    zeros = torch.zeros_like(f)
    # Rows whose sums are 1, and columns whose are; audits of sums that are claimed to be half.
    rows, columns = sums.log_rows(f, zeros, EPSILON), sums.log_columns(zeros, f, EPSILON)
    for found in (rows, columns):
        assert alpha.weights @ found.expm1().abs() <= SKIPPED + accuracy
    half = torch.full_like(f, np.log(0.5))
    expected = (1.0 if accuracy else 0.0, 0.5)
    exact = sums.full.log_columns(0 * f, f, EPSILON)
    torch.testing.assert_close(exact, zeros, rtol=0, atol=1e-10)
    found = sums.audit(zeros, f, half, half, EPSILON)
    assert (found.off, found.missing) == pytest.approx(expected, abs=1e-10)


def test_clouds_keep_what_they_prepare():
    p = problem()
    cloud, v = Cloud(p.beta, COST, EPSILON), torch.zeros(1600, dtype=torch.float64)
    assert cloud.tree is cloud.tree and cloud.boxes is cloud.boxes
    assert len(cloud.small_boxes.centre) > 4 * len(cloud.boxes.centre)
    flat = torch.zeros_like
    first = cloud.sources(1e-2, v, flat)
    bases = cloud._bases[1e-2]
    assert torch.equal(cloud.sources(1e-2, v, flat).index, first.index) and cloud._bases[1e-2] is bases
    assert len(cloud.sources(1e-4, v, flat)) > len(first)
    assert cloud.sources(0.0, v, flat).are_points and cloud.sources(1e-2, v, None).are_points
