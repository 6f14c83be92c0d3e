"""Penalties of the marginals, against dense algebra, convex programs on the plan, and limits."""

import numpy as np
import pytest
import torch
from reference import squared_distances
from scipy.optimize import linprog, minimize
from scipy.special import logsumexp, wrightomega, xlogy

import geomsink
from geomsink import sinkhorn_divergence, solve
from geomsink.measures import Measure
from geomsink.solver.penalties import KL, L2, TV, Balanced, Partial
from geomsink.solver.updates import translated

TIGHT = dict(tol=1e-11, max_iter=20_000)


def clouds(n: int = 40, m: int = 30, d: int = 2, seed: int = 0, masses: tuple[float, float] = (1.3, 0.8)):
    random = np.random.default_rng(seed)
    a, b = random.random(n) + 0.1, random.random(m) + 0.1
    x, y = random.random((n, d)), random.random((m, d)) + 0.3
    return x, y, masses[0] * a / a.sum(), masses[1] * b / b.sum()


def kl(p, q):
    return (xlogy(p, p / q) - p + q).sum()


def step(rho, penalty: str, softmin, epsilon: float):
    if rho is None:
        return softmin
    if penalty == "kl":
        return softmin / (1 + epsilon / rho)
    if penalty == "l2":  # f = s + ε log(1 − f/ρ), by Lambert's W
        return rho - epsilon * wrightomega(np.log(rho / epsilon) + (rho - softmin) / epsilon)
    return softmin.clip(-rho if penalty == "tv" else None, rho)


def penalised(rho, penalty: str, marginal, weights) -> float:
    if rho is None:
        return 0.0
    if penalty == "l2":
        return 0.5 * rho * ((marginal - weights) ** 2 / weights).sum()
    if penalty == "partial":
        return rho * (weights - marginal).sum()
    return rho * (kl(marginal, weights) if penalty == "kl" else np.abs(marginal - weights).sum())


def dense(C, a, b, epsilon: float, rho, penalty: str = "kl", n_iter: int = 100_000):
    """The plan by textbook updates until they stand still, and the primal value of it with its parts."""
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(n_iter):
        last = f
        f = step(rho[0], penalty, -epsilon * logsumexp((g - C) / epsilon + np.log(b), axis=1), epsilon)
        g = step(
            rho[1], penalty, -epsilon * logsumexp((f[:, None] - C) / epsilon + np.log(a)[:, None], axis=0), epsilon
        )
        if np.abs(f - last).max() < 1e-15:
            break
    P = np.exp((f[:, None] + g - C) / epsilon) * np.outer(a, b)
    sharp = (P * C).sum() + penalised(rho[0], penalty, P.sum(1), a) + penalised(rho[1], penalty, P.sum(0), b)
    return sharp + epsilon * kl(P, np.outer(a, b)), sharp, P


CASES = {
    "kl": ((0.3, 0.3), "kl"),
    "two kl": ((0.1, 2.0), "kl"),
    "semi": ((0.3, None), "kl"),
    "other semi": ((None, 0.3), "kl"),
    "tv": ((0.15, 0.15), "tv"),
    "two tv": ((0.1, 0.4), "tv"),
    "semi tv": ((0.2, None), "tv"),
    "l2": ((0.3, 0.3), "l2"),
    "two l2": ((0.1, 2.0), "l2"),
    "semi l2": ((0.3, None), "l2"),
    "partial": ((0.05, 0.1), "partial"),
}


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("case", CASES)
def test_dense_algebra(case, engine):
    (rho, penalty), (x, y, a, b), epsilon = CASES[case], clouds(), 0.05
    value, _, P = dense(squared_distances(x, y), a, b, epsilon, rho, penalty)
    s = solve(x, y, a, b, epsilon=epsilon, rho=rho, penalty=penalty, engine=engine, **TIGHT)
    assert s.value == pytest.approx(value, rel=1e-9)  # strong duality: the dual value is the primal of the plan
    assert s.transport_cost == pytest.approx((P * squared_distances(x, y)).sum(), rel=1e-8)
    for found, expected in ((s.plan @ np.ones(30), P.sum(1)), (s.plan.T @ np.ones(40), P.sum(0))):
        assert found == pytest.approx(expected, rel=1e-7)
    assert abs(P.sum(1) - a).sum() > 1e-2 or rho[0] is None  # the penalties are in use
    back = solve(y, x, b, a, epsilon=epsilon, rho=rho[::-1], penalty=penalty, engine=engine, **TIGHT)
    assert back.value == pytest.approx(s.value, rel=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_divergence(case):
    """S_ε = OT(α, β) − ½ OT(α, α) − ½ OT(β, β) + ½ ε (m_α − m_β)², each measure with its own penalty throughout."""
    (rho, penalty), (x, y, a, b), epsilon = CASES[case], clouds(), 0.1
    problems = ((x, y, a, b, rho), (x, x, a, a, rho[:1] * 2), (y, y, b, b, rho[1:] * 2))
    parts = [dense(squared_distances(p, q), u, v, epsilon, r, penalty)[:2] for p, q, u, v, r in problems]
    entropic, sharp = (xy - 0.5 * xx - 0.5 * yy for xy, xx, yy in zip(*parts, strict=True))
    options = dict(epsilon=epsilon, rho=rho, penalty=penalty, **TIGHT)
    r = sinkhorn_divergence(x, y, a, b, **options)
    assert r.value == pytest.approx(entropic + 0.5 * epsilon * 0.5**2, rel=1e-8)
    assert sinkhorn_divergence(x, y, a, b, form="sharp", **options).value == pytest.approx(sharp, rel=1e-7)
    if rho[0] == rho[1]:
        assert r.value > 0 and abs(sinkhorn_divergence(x, x, a, a, **options).value) < 1e-14


@pytest.mark.parametrize("masses", [(1.0, 1.0), (3.0, 0.2), (1e-3, 1e3)])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_never_negative(masses, scale):
    random = np.random.default_rng(2)
    for penalty in ("kl", "tv", "l2"):
        for _ in range(3):
            x = random.random((20, 2))
            y = x + scale * random.normal(size=x.shape)
            a, b = (m * w / w.sum() for m, w in zip(masses, random.random((2, 20)), strict=True))
            r = sinkhorn_divergence(x, y, a, b, epsilon=0.1, rho=0.3, penalty=penalty, tol=1e-9, max_iter=20_000)
            assert r.value > -1e-13 * max(masses) ** 2


@pytest.mark.parametrize(
    ("rho", "penalty"),
    [((0.3, 0.3), "kl"), ((0.3, None), "kl"), ((0.2, 0.2), "tv"), ((0.3, 0.3), "l2"), ((0.05, 0.05), "partial")],
)
def test_the_primal_by_a_general_solver(rho, penalty):
    """Convex optimisation over the entries of the plan, which knows nothing of duals; TV by bounds on its parts."""
    x, y, a, b = clouds(4, 3)
    C, epsilon, reference = squared_distances(x, y), 0.3, np.outer(a, b)
    # Marginals a − s⁺ + s⁻ with both parts ≥ 0 make TV linear; entries are exponentials of the variables otherwise.
    value, *_ = dense(C, a, b, epsilon, rho, penalty)

    def primal(entries):
        P = entries[:12].reshape(4, 3)
        whole = (P * C).sum() + epsilon * kl(P, reference)
        if penalty == "tv":
            return whole + rho[0] * entries[12:].sum()
        return whole + penalised(rho[0], penalty, P.sum(1), a) + penalised(rho[1], penalty, P.sum(0), b)

    conditions, bounds, start = [], [(1e-12, None)] * 12, reference.ravel() / 1.3
    if penalty == "partial":
        left = lambda e: np.concatenate((a - e.reshape(4, 3).sum(1), b - e.reshape(4, 3).sum(0)))  # noqa: E731
        conditions.append({"type": "ineq", "fun": left})
    if rho[1] is None:
        conditions.append({"type": "eq", "fun": lambda e: e[:12].reshape(4, 3).sum(0) - b})
    if penalty == "tv":
        bounds, start = bounds + [(0, None)] * 14, np.concatenate((start, np.ones(14)))
        gap = lambda e: np.concatenate((e[:12].reshape(4, 3).sum(1) - a, e[:12].reshape(4, 3).sum(0) - b))  # noqa: E731
        conditions.append({"type": "eq", "fun": lambda e: gap(e) - e[12:19] + e[19:]})
    options = dict(maxiter=2000, ftol=1e-13)
    best = minimize(primal, start, method="SLSQP", bounds=bounds, constraints=conditions, options=options)
    found = solve(x, y, a, b, epsilon=epsilon, rho=rho, penalty=penalty, **TIGHT).value
    assert best.success and best.fun == pytest.approx(value, rel=1e-6)
    assert found == pytest.approx(best.fun, rel=1e-6) and found <= best.fun + 1e-9


def test_squares_of_masses():
    """With weights all alike "l2" is ½ reg_m ‖P1 − a‖², as other libraries have it, for ρ = reg_m a_i: the gradient of
    the whole in the plan vanishes."""
    x, y, _, _ = clouds(12, 9)
    a, b, reg_m, epsilon = np.full(12, 1 / 12), np.full(9, 1.4 / 9), 2.0, 0.05
    s = solve(x, y, a, b, epsilon=epsilon, rho=(reg_m / 12, reg_m * 1.4 / 9), penalty="l2", **TIGHT)
    P, C, reference = s.plan.to_dense(), squared_distances(x, y), np.outer(a, b)
    rows, columns = P.sum(1) - a, P.sum(0) - b
    slopes = C + epsilon * np.log(P / reference) + reg_m * (rows[:, None] + columns)
    value = (P * C).sum() + epsilon * kl(P, reference) + 0.5 * reg_m * ((rows**2).sum() + (columns**2).sum())
    assert abs(slopes).max() < 1e-8 and s.value == pytest.approx(value, rel=1e-9)


def test_partial_transport_as_epsilon_falls():
    """TV is partial transport, a linear program: min ⟨P, C⟩ + ρ(m_a + m_b − 2 ΣP) with P1 ≤ a and Pᵀ1 ≤ b."""
    x, y, a, b = clouds(25, 20)
    C, rho = squared_distances(x, y), 0.1
    rows, columns = np.kron(np.eye(25), np.ones(20)), np.kron(np.ones(25), np.eye(20))
    program = linprog((C - 2 * rho).ravel(), np.vstack((rows, columns)), np.concatenate((a, b)))
    exact = program.fun + rho * (a.sum() + b.sum())
    gaps = []
    for epsilon in (1e-2, 1e-3):
        s = solve(x, y, a, b, epsilon=epsilon, rho=rho, penalty="tv", tol=1e-6, max_iter=20_000)
        # ε KL(P | a ⊗ b) is at most ε (ΣP log(1/min a_i b_j) + m_a m_b) above, and at least 0.
        gaps.append(s.value - exact)
        assert -1e-6 <= gaps[-1] <= epsilon * (0.8 * np.log(1 / (a.min() * b.min())) + 1.04)
    assert gaps[1] < 0.2 * gaps[0]
    assert (s.plan @ np.ones(20)).sum() == pytest.approx(program.x.sum(), rel=1e-2)


@pytest.mark.parametrize("penalty", ["kl", "tv", "l2"])
def test_a_large_reach(penalty):
    """It tends to the balanced problem, and needs few cycles: a constant is moved between f and g in each."""
    x, y, a, b = clouds(60, 50, masses=(1.0, 1.0))
    balanced = solve(x, y, a, b, blur=0.1, tol=1e-8, max_iter=5000)
    gaps = []
    for reach in (10.0, 100.0, 1000.0):
        s = solve(x, y, a, b, blur=0.1, reach=reach, penalty=penalty, tol=1e-8, max_iter=5000)
        gaps.append(abs(s.value / balanced.value - 1))
        assert s.n_iter <= 50
    assert gaps[2] < 1e-6
    if penalty in ("kl", "l2"):  # first order in 1/ρ = 1/(2 reach²), and from below
        assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.05) and s.value < balanced.value + 1e-12
    else:  # no potential is as large as ρ
        assert gaps[0] < 1e-8


@pytest.mark.parametrize("penalty", ["kl", "tv", "l2"])
def test_levels(penalty):
    """From cells to points against all pairs, with masses that differ."""
    x, y, a, b = clouds(1500, 1400, 3)
    options = dict(blur=0.1, reach=0.4, penalty=penalty, tol=1e-6, max_iter=5000)
    whole = sinkhorn_divergence(x, y, a, b, multiscale=False, **options)
    levels = sinkhorn_divergence(x, y, a, b, multiscale=True, **options)
    assert levels.xy.approximation is not None and whole.xy.approximation is None
    assert levels.value == pytest.approx(whole.value, rel=1e-5)
    mass = [r.xy.plan @ np.ones(1400) for r in (levels, whole)]
    assert np.abs(mass[0] - mass[1]).sum() < 1e-4 * mass[1].sum()


@pytest.mark.parametrize(
    "penalties", [(KL(0.3), KL(2.0)), (KL(0.3), Balanced()), (Balanced(), KL(0.3)), (TV(0.5), TV(0.7)),
                  (TV(0.5), Balanced()), (KL(0.2), TV(0.6)), (L2(0.6), L2(0.9)), (L2(0.8), Balanced()),
                  (Balanced(), L2(0.8)), (Partial(0.5), Partial(0.3))],
)  # fmt: skip
def test_translation(penalties):
    """The best constant: no other raises the dual, f + g stays, ranges are kept, and a second one is zero."""
    generator = torch.Generator().manual_seed(0)
    f, g, a, b = (torch.rand(2, n, generator=generator, dtype=torch.float64) * 0.4 for n in (7, 6, 7, 6))
    a, b = a + 0.1, b + 0.1
    measures = Measure(f, a), Measure(g, b)
    if isinstance(penalties[1], TV):
        g = g - 0.3

    def value(t):
        return penalties[0].dual(a, f + t) + penalties[1].dual(b, g - t)

    new_f, new_g = translated(penalties, measures, f, g)
    t = (new_f - f)[:, :1]
    torch.testing.assert_close(new_f, f + t, rtol=0, atol=1e-14)
    torch.testing.assert_close(new_g, g - t, rtol=0, atol=1e-14)
    for potential, penalty in ((new_f, penalties[0]), (new_g, penalties[1])):
        assert penalty.low - 1e-14 <= potential.min() and potential.max() <= penalty.high + 1e-14
    for shift in (-0.3, -1e-2, 1e-2, 0.3):
        inside = [
            ((h >= p.low) & (h <= p.high)).all(-1)
            for p, h in ((penalties[0], new_f + shift), (penalties[1], new_g - shift))
        ]
        allowed = inside[0] & inside[1]
        assert not (allowed & (value(t + shift) > value(t) + 1e-14)).any()
    again, _ = translated(penalties, measures, new_f, new_g)
    torch.testing.assert_close(again, new_f, rtol=0, atol=1e-12)


def test_no_translation_of_fixed_marginals():
    f, g = torch.rand(3), torch.rand(4)
    assert translated((Balanced(), Balanced()), (Measure(f, f), Measure(g, g)), f, g) == (f, g)


def test_an_outlier_is_left_behind():
    """Far from everything its mass is not moved: ρ a is what it costs, and its gradient is zero."""
    x, y, a, b = clouds()
    far = torch.tensor(np.concatenate((x, [[40.0, 40.0]])), requires_grad=True)
    weights, rest = torch.tensor(np.append(a, 0.1)), (torch.tensor(y), torch.tensor(b))
    s = solve(far, rest[0], weights, rest[1], epsilon=0.05, rho=0.3, **TIGHT)
    few = solve(x, y, a, b, epsilon=0.05, rho=0.3, **TIGHT)
    # ε m_a m_b, the constant of KL, counts the outlier's weight as well.
    assert s.value.item() == pytest.approx(few.value + 0.3 * 0.1 + 0.05 * 0.1 * b.sum(), rel=1e-9)
    s.value.backward()
    assert far.grad.isfinite().all() and not far.grad[-1].any() and far.grad[:-1].any()


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (dict(reach=1.0, rho=1.0), ValueError, r"^reach, rho: both were given \(1.0 and 1.0\)"),
        (dict(reach=-1.0), ValueError, r"^reach: -1.0 given, expected a positive number"),
        (dict(rho=(1.0, 0.0)), ValueError, r"^rho: 0.0 given, expected a positive number"),
        (dict(reach=(1.0, 2.0, 3.0)), ValueError, r"^reach: 3 values given, expected one or a pair"),
        (dict(reach="far"), TypeError, r"^reach: a str was given, expected a number"),
        (dict(rho=float("nan")), ValueError, r"^rho: nan given"),
        (dict(penalty="tv"), ValueError, r"^penalty: 'tv' is given without reach or rho"),
        (dict(penalty="l3", rho=1.0), ValueError, r"^penalty: unknown name 'l3'; expected one of kl, tv, l2, partial"),
        (dict(penalty="partial", rho=(1.0, None)), ValueError, r"^rho: \(1.0, None\) given with penalty='partial'"),
        (dict(), ValueError, r"^a, b: they sum to 1.3 and 0.8; expected the same mass, or reach= for others"),
        (dict(reach=1.0, cost="cosine"), ValueError, r"^reach: cost 'cosine' is no power of a length; give rho"),
        (dict(reach=1.0, epsilon=float("inf")), ValueError, r"^epsilon: inf is given with reach or rho"),
    ],
)
def test_bad_options_are_refused(options, error, sentence):
    x, y, a, b = clouds()
    for function in (solve, sinkhorn_divergence):
        with pytest.raises(error, match=sentence):
            function(x, y, a, b, **(dict(epsilon=0.1) | options))


@pytest.mark.parametrize("penalty", ["kl", "l2", "tv"])
@pytest.mark.parametrize("moved", [1.0, 2.0, -3.0])
def test_a_start_from_which_nothing_arrives(penalty, moved):
    """Potentials of clouds that were near: with l2 the mass that they ask for was believed to be there, and half of the
    value said to have converged, to 2e-16."""
    drawn = np.random.default_rng(0)
    x, y = drawn.random((300, 2)), drawn.random((300, 2))
    options = dict(blur=0.05, rho=0.5, penalty=penalty)
    start = geomsink.solve(x, y, **options).potentials
    for init in (start, (np.full(300, -1e6), np.full(300, -1e6))):
        cold, warm = (geomsink.solve(x, y + moved, init=given, **options) for given in (None, init))
        assert warm.converged and warm.value == pytest.approx(cold.value, rel=1e-5)
    loss = geomsink.SinkhornDivergence(**options)
    loss(*map(torch.from_numpy, (x, y)))
    expected = geomsink.sinkhorn_divergence(x, y + moved, **options).value
    assert float(loss(*map(torch.from_numpy, (x, y + moved)))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("penalty", ["l2", "tv"])
def test_all_pairs_are_summed_where_none_is_near(penalty):
    """What truncation would have lost was told of sums that were made without it, and kept from converging."""
    drawn = np.random.default_rng(0)
    x, y = drawn.random((1500, 2)), drawn.random((1500, 2)) + 2.0
    found, plain = (geomsink.solve(x, y, blur=0.05, rho=0.5, penalty=penalty, multiscale=m) for m in (None, False))
    assert found.converged and found.strategy == "coarse-to-fine" and found.approximation.skipped <= 1e-3
    assert found.value == pytest.approx(plain.value, rel=1e-9)
