"""Sums over cells against sums over all pairs in dense float64: what is skipped, with weights of both signs too."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import exponents, mask, squared_distances
from scipy.special import logsumexp

from geomsink import costs, engine
from geomsink.measures import Measure
from geomsink.multiscale.audit import AUDITED, Audit, Audited, right_with
from geomsink.multiscale.cellsums import CellSums, Side
from geomsink.multiscale.clouds import Cloud
from geomsink.progress import Progress
from geomsink.solver import FullSums, Goal, OneLevel, Problem

COST = costs.get("sqeuclidean")
EPSILON = 2 * 0.08**2
SKIPPED = 1e-4
# Rounding of exponents of some tens.
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-11}


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


def gradient(points, exponents, signs=None):
    """A callable: gradients of −log Σ_j s_j exp(v_j − ‖p − y_j‖²/ε) at points p."""

    def slopes(p):
        plan = torch.softmax(exponents - ((p[:, None] - points) ** 2).sum(-1) / EPSILON, dim=1)
        if signs is not None:
            plan = plan * signs / (plan @ signs)[:, None]
        return (2.0 / EPSILON) * (p - plan @ points)

    return slopes


def sides(p, skipped=SKIPPED, dtype=torch.float64, cost=COST):
    """For the rows, and for the columns."""
    u, v = (torch.as_tensor(e) / EPSILON + m.log_weights for e, m in ((p.f, p.alpha), (p.g, p.beta)))
    alpha, beta = (Cloud(m, cost, EPSILON) for m in (p.alpha, p.beta))
    slopes = backwards = None
    if cost.quadratic is not None:
        slopes = gradient(p.beta.points, v, p.beta.signs), gradient(p.alpha.points, u, p.alpha.signs)
        backwards = slopes[1], slopes[0]
    return (
        Side(alpha, beta, cost, slopes, skipped, "dense", dtype),
        Side(beta, alpha, cost.transpose(), backwards, skipped, "dense", dtype),
    )


@functools.cache
def signed_problem():
    """The same between sketches: weights of both signs, and the potentials at the nodes."""
    p, clouds = problem(), []
    for measure, potential in ((p.alpha, p.f), (p.beta, p.g)):
        nodes = Cloud(measure, COST, EPSILON).nodes(1e-3)
        index = nodes.tree.order[nodes.index]
        clouds.append((nodes.sketch(measure), potential[index.numpy()]))
    (alpha, f), (beta, g) = clouds
    assert min(float((m.weights < 0).double().mean()) for m in (alpha, beta)) > 0.02
    C = squared_distances(alpha.points.numpy(), beta.points.numpy())
    return SimpleNamespace(alpha=alpha, beta=beta, a=alpha.weights.numpy(), b=beta.weights.numpy(), C=C, f=f, g=g)


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
    """Shares of their mass that rows skip, in the order of the tree."""
    rows, columns = side.rows.tree.order.numpy(), side.columns.tree.order.numpy()
    plan = np.exp(u.numpy()[rows, None] + v.numpy()[columns] - p.C[rows][:, columns] / EPSILON)
    return (plan * ~mask(side._pattern.blocks, *plan.shape)).sum(1) / plan.sum(1)


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


# ------------------------------------------------------------------- weights of both signs


def signed_sums(p, u, v):
    """Σ_j s_j exp(u_i + v_j − C_ij/ε), and the same of sizes: without s."""
    plan = np.exp(u.numpy()[:, None] + v.numpy() - p.C / EPSILON)
    return plan @ np.sign(p.b), plan.sum(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("skipped", [1e-6, 1e-2])
def test_sums_with_signs(skipped, dtype):
    """What is skipped has both signs, and counts with its size against the sum that is left."""
    p = signed_problem()
    (u, v), side = arguments(p), sides(p, skipped, dtype)[0]
    exact, sizes = signed_sums(p, u, v)
    assert (sizes / exact).max() > 1.05
    np.testing.assert_allclose(exact, 1.0, atol=2e-3)  # potentials of the points' problem nearly solve this
    off = np.abs(side.log_sums(u, v, EPSILON).exp().numpy() / exact - 1.0)
    assert 0.0 < side.lost <= skipped and 0.0 < side.share < 0.98
    assert off.max() <= side.lost + ROUNDING[dtype] * (sizes / exact).max()
    order, columns = side.rows.tree.order.numpy(), side.columns.tree.order.numpy()
    plan = np.exp(u.numpy()[order, None] + v.numpy()[columns] - p.C[order][:, columns] / EPSILON)
    left_out = (plan * ~mask(side._pattern.blocks, *plan.shape)).sum(1) / exact[order]
    assert 0.0 < left_out.max() <= side.lost


def test_products_with_signs():
    """Σ_j b_j exp((f_i + g_j − C_ij)/ε) w_j, with the weights' signs, for both sides."""
    p, random = signed_problem(), np.random.default_rng(3)
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    sums, exact = cell_sums(p), full(p)
    plan = np.exp((p.f[:, None] + p.g - p.C) / EPSILON)
    ws = random.normal(size=(len(p.g), 3)), random.normal(size=(len(p.f), 3))
    sizes = plan * np.abs(p.b), plan.T * np.abs(p.a)
    wanted = (plan * p.b) @ ws[0], (plan.T * p.a) @ ws[1]
    # Before there are sums there is no pattern, and all pairs are in.
    for owner, within in ((sums, 1e-11), (exact, 1e-11), (sums, SKIPPED)):
        if within == SKIPPED:
            sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
        found = (
            owner.row_products(f, g, EPSILON, torch.from_numpy(ws[0])),
            owner.column_products(f, g, EPSILON, torch.from_numpy(ws[1])),
        )
        for one, other, w, size in zip(found, wanted, ws, sizes, strict=True):
            assert np.abs(one.numpy() - other).max() <= within * np.abs(w).max() * (1.0 + size.sum(1).max())
    assert sums.rows.share < 0.98 and sums.columns.share < 0.98


def test_full_sums_with_signs():
    p = signed_problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    plan = np.exp((p.f[:, None] + p.g - p.C) / EPSILON)
    np.testing.assert_allclose(full(p).log_rows(f, g, EPSILON), np.log(plan @ p.b), rtol=0, atol=1e-11)
    np.testing.assert_allclose(full(p).log_columns(f, g, EPSILON), np.log(plan.T @ p.a), rtol=0, atol=1e-11)
    # Exponents out of range: maxima are taken out.
    found = full(p).log_rows(f + 2000.0 * EPSILON, g, EPSILON)
    np.testing.assert_allclose(found, np.log(plan @ p.b) + 2000.0, rtol=0, atol=1e-9)


def test_sums_with_signs_that_are_not_positive_are_made_in_full():
    """Exponents much rougher than a kernel: what carries most of a row may be negative, and its sum has no logarithm,
    which a solver has to see."""
    p = signed_problem()
    (u, v), sums = arguments(p), cell_sums(p)
    rough = v + 10.0 * torch.from_numpy(np.random.default_rng(3).normal(size=len(p.g)))
    exact, sizes = signed_sums(p, u, rough)
    assert exact.min() < 0.0
    u = u - torch.from_numpy(np.log(sizes))
    assert sums.rows.log_sums(u, rough, EPSILON) is None
    g = EPSILON * (rough - p.beta.log_weights)
    found = sums.log_rows(EPSILON * u, g, EPSILON).numpy()
    assert np.array_equal(np.isnan(found), exact < 0.0)
    right = exact > 1e-3 * sizes
    np.testing.assert_allclose(found[right], np.log(exact[right] / sizes[right]), rtol=0, atol=1e-9)


# ------------------------------------------------------------------------------- patterns


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


# --------------------------------------------------------------------------------- audits


def claims(p):
    """Logarithms of the rows' sums in dense float64, and the same wrong by known amounts, larger where weights are."""
    exact = log_sums(p, *arguments(p))
    wrong = 0.02 * np.random.default_rng(5).normal(size=2000) + 0.01 * (p.a > np.median(p.a))
    return exact, exact + wrong


def test_audits_find_the_mean_difference():
    p = problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    audited = Audited(p.alpha, p.beta, full(p).pair)
    exact, claimed = claims(p)
    found = audited.against(f, g, torch.as_tensor(claimed), EPSILON)
    difference = np.exp(exact) - np.exp(claimed)
    mean, size, square = p.a @ difference, p.a @ np.abs(difference), p.a @ difference**2
    rows = AUDITED[1]  # few columns
    errors = [np.sqrt(p.a @ (d - p.a @ d) ** 2 / rows) for d in (difference, np.abs(difference), difference**2)]
    assert abs(found.missing - mean) < 4 * errors[0] < abs(mean)
    assert found.uncertain == pytest.approx(3 * errors[0], rel=0.2)
    assert size < found.off < size + 7 * errors[1]
    assert abs(found.square - square) < 4 * errors[2]
    right = audited.against(f, g, torch.as_tensor(exact), EPSILON)
    assert max(right.off, abs(right.missing), right.uncertain) < 1e-11 and right.square < 1e-22


def test_rows_are_drawn_with_their_weights():
    p = problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    drawn, sums = Audited(p.alpha, p.beta, full(p).pair).sample(f, g, EPSILON)
    assert len(drawn) == AUDITED[1]
    np.testing.assert_allclose(sums, log_sums(p, *arguments(p))[drawn.numpy()], rtol=0, atol=1e-11)
    # The first coordinate's mean under the weights, to four standard errors of a thousand draws.
    x = p.alpha.points[:, 0].numpy()
    assert abs(x[drawn.numpy()].mean() - p.a @ x) < 4 * np.sqrt(p.a @ (x - p.a @ x) ** 2 / len(drawn))


def test_audits_by_way_of_sums_that_are_near():
    """The near sums' own error is measured on few rows, and what is claimed against these on many: the errors of both
    are counted, and the mean is found better."""
    p = problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    audited = Audited(p.alpha, p.beta, full(p).pair)
    exact, claimed = claims(p)
    near = torch.as_tensor(exact + 1e-3)
    alone = audited.against(f, g, torch.as_tensor(claimed), EPSILON)
    found = audited.against(f, g, torch.as_tensor(claimed), EPSILON, lambda rows: near[rows])
    difference = np.exp(exact) - np.exp(claimed)
    assert found.uncertain < 0.6 * alone.uncertain
    assert abs(found.missing - p.a @ difference) < found.uncertain
    assert p.a @ np.abs(difference) < found.off < p.a @ np.abs(difference) + 4e-3
    # Near sums that are wrong do not hide it.
    hidden = audited.against(f, g, torch.as_tensor(claimed), EPSILON, lambda rows: torch.as_tensor(claimed)[rows])
    assert hidden.off == pytest.approx(alone.off, rel=1e-9) and hidden.missing == pytest.approx(alone.missing, rel=1e-9)


def test_audits_of_truncation():
    """The mass that is missing in the columns, and the marginal error of both sides."""
    p = problem()
    sums = CellSums(full(p), *sides(p, skipped=0.5))
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    rows, columns = sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
    left_out = [
        float(w @ (exact.exp() - found.exp()))
        for w, exact, found in (
            (p.alpha.weights, sums.full.log_rows(f, g, EPSILON), rows),
            (p.beta.weights, sums.full.log_columns(f, g, EPSILON), columns),
        )
    ]
    audit = sums.audit(f, g, rows, columns, EPSILON)
    assert 1e-9 < left_out[1] < sums.skipped
    assert abs(audit.missing - left_out[1]) <= audit.uncertain < 3.0 * left_out[1]
    assert sum(left_out) <= audit.off < 3.0 * sum(left_out)


def test_audits_of_unequal_masses():
    """Errors are relative to the mean mass, and the missing mass is a mass."""
    given = problem()
    alpha, beta = Measure(given.alpha.points, 3.0 * given.alpha.weights), given.beta
    sums = FullSums(full(given).pair, alpha, beta)
    f, g = torch.as_tensor(given.f), torch.as_tensor(given.g)
    rows, columns = sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
    claimed = rows - 0.1, columns - 0.2
    cells = CellSums(sums, *sides(SimpleNamespace(**{**vars(given), "alpha": alpha})))
    found = cells.audit(f, g, *claimed, EPSILON)
    gone = (rows.exp() * -np.expm1(-0.1)).mean(), (columns.exp() * -np.expm1(-0.2)).mean()
    drawn = [
        Audited(*pair).sample(*potentials, EPSILON)[1].exp().mean()
        for pair, potentials in (((alpha, beta, sums.pair), (f, g)), ((beta, alpha, sums.pair.T), (g, f)))
    ]
    wanted = (3.0 * -np.expm1(-0.1) * float(drawn[0]) + -np.expm1(-0.2) * float(drawn[1])) / 2.0
    assert found.off == pytest.approx(wanted, rel=0.05) and min(map(float, gone)) > 0.0
    assert found.missing == pytest.approx(-np.expm1(-0.2) * float(drawn[1]), rel=1e-9)


def test_an_audit_counts_in_the_error_of_the_value():
    """ε times what is uncertain of the mass, and twice the mean square: a goal without room for it is not reached."""
    p = problem()
    problem_ = Problem(p.alpha, p.beta, full(p).pair, (EPSILON,), 2.0)
    found = OneLevel(Goal(1e-6, share=1e-6), 2000).solve(problem_, Progress(False)).solver
    before, value = found.accuracy.left, float(found.value())
    assert right_with(found, Audit(), Goal(1e-6, share=1e-6)) and found.accuracy.left == before
    fine = Audit(uncertain=1e-8 * value / EPSILON, square=1e-8 * value / EPSILON)
    assert right_with(found, fine, Goal(1e-6, share=1e-6))
    assert float(found.accuracy.left) == pytest.approx(float(before) + 3e-8 * value, rel=1e-9)
    assert not right_with(found, Audit(square=1e-6 * value / EPSILON), Goal(1e-6, share=1e-6))
    # Nobody asks for values.
    assert right_with(found, Audit(square=1.0), Goal(1e-6))


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
