"""Sums over cells against sums over all pairs in dense float64: what is skipped, and when patterns are made again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cellsums_cases import (
    COST,
    EPSILON,
    ROUNDING,
    SKIPPED,
    arguments,
    cell_sums,
    full,
    gradient,
    log_sums,
    problem,
    sides,
    skipped_by_rows,
)
from reference import exponents, squared_distances
from scipy.special import logsumexp

from geomsink import costs, engine
from geomsink.measures import Measure
from geomsink.multiscale.cellsums import CellSums, Side
from geomsink.multiscale.clouds import Cloud
from geomsink.solver import FullSums


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("skipped", [1e-6, 1e-2])
def test_sums_of_converged_potentials(skipped, dtype):
    p = problem()
    sums, exact = cell_sums(p, skipped=skipped, dtype=dtype), full(p)
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    rows = sums.log_rows(f, g, EPSILON) - exact.log_rows(f, g, EPSILON)
    columns = sums.log_columns(f, g, EPSILON) - exact.log_columns(f, g, EPSILON)
    for side, off in ((sums.rows, rows), (sums.columns, columns)):
        assert 0.0 < side.lost <= skipped
        off, rest = off.expm1(), ROUNDING[dtype]
        assert off.max() <= rest and off.min() >= -side.lost - rest  # what is skipped is missed
        assert side.share < 0.98
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
    side = Side(cloud, cloud, COST, (torch.zeros_like,) * 2, SKIPPED, "dense", torch.float32)
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


@pytest.mark.parametrize("name", ["euclidean", "power:1.5"])
def test_costs_that_are_not_quadratic(name):
    """Are truncated without slopes, and not sketched; a cost without bounds is summed in full."""
    given, cost = problem(), costs.get(name)
    p = SimpleNamespace(**{**vars(given), "C": cost(given.alpha.points, given.beta.points).numpy()})
    u, v = exponents(p.C, p.a, p.b, EPSILON, 2)
    p.f, p.g = EPSILON * (u - np.log(p.a)), EPSILON * (v - np.log(p.b))
    for ground, most in ((cost, 0.98), (costs.Cost(name="unknown", expression=cost.expression), 1.0)):
        side = sides(p, cost=ground)[0]
        assert not side.columns.is_sketched(1e-2)
        u, v = arguments(p)
        off = np.expm1(side.log_sums(u, v, EPSILON).numpy() - log_sums(p, u, v))
        assert -side.lost - 1e-11 <= off.min() and off.max() <= 1e-11
        assert side.share <= most and (side.lost > 0) == (ground is cost)


@pytest.mark.parametrize("change", [-2000.0, 2000.0])
def test_sums_out_of_range_are_made_in_full(change):
    p = problem()
    sums = cell_sums(p)
    f, g = torch.as_tensor(p.f) + change * EPSILON, torch.as_tensor(p.g)
    u, v = arguments(p, f)
    assert sums.rows.log_sums(u, v, EPSILON) is None
    np.testing.assert_allclose(sums.log_rows(f, g, EPSILON).numpy(), log_sums(p, u, v), rtol=0, atol=1e-9)
    # The columns' sums are over these rows.
    exact = full(p).log_columns(f, g, EPSILON)
    torch.testing.assert_close(sums.log_columns(f, g, EPSILON), exact, rtol=0, atol=2e-4)


def test_one_side_does_for_a_self_problem():
    alpha = problem().alpha
    cloud, slopes = Cloud(alpha, COST, EPSILON), (gradient(alpha.points, alpha.log_weights),) * 2
    C = squared_distances(alpha.points.numpy(), alpha.points.numpy())
    exact = logsumexp(alpha.log_weights.numpy() - C / EPSILON, axis=1)
    f = -EPSILON * torch.as_tensor(exact)
    side = Side(cloud, cloud, COST, slopes, SKIPPED, "dense", torch.float64)
    sums = CellSums(FullSums(engine.pair(alpha.points, alpha.points, COST, "dense"), alpha, alpha), side, side)
    zeros = torch.zeros_like(f)
    # Rows whose sums are 1, and columns whose are; audits of sums that are claimed to be half.
    rows, columns = sums.log_rows(f, zeros, EPSILON), sums.log_columns(zeros, f, EPSILON)
    for found in (rows, columns):
        assert alpha.weights @ found.expm1().abs() <= SKIPPED
    half = torch.full_like(f, np.log(0.5))
    exact = sums.full.log_columns(0 * f, f, EPSILON)
    torch.testing.assert_close(exact, zeros, rtol=0, atol=1e-10)
    found = sums.audit(zeros, f, half, half, EPSILON)
    assert (found.off, found.missing) == pytest.approx((1.0, 0.5), abs=1e-10)
