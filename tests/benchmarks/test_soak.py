"""The reference of the soak against closed forms and other solvers, and the soak itself: it sees what is wrong."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog, minimize, minimize_scalar
from soak_costs import Ground
from soak_dual import FIXED, Penalty
from soak_problems import KINDS, kind_of, problem
from soak_reference import transport
from soak_truth import Asked, marginal_error, truth

SQUARED = Ground("power", (2.0,), 2.0)


def unregularised(C, a, b):
    """The linear programme."""
    n, m = C.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    return linprog(C.ravel(), A_eq=np.vstack((rows, columns)), b_eq=np.concatenate((a, b)), method="highs").fun


def drawn(seed, n, m, d=2):
    r = np.random.default_rng(seed)
    x, y, a, b = r.random((n, d)), r.random((m, d)) + 0.2, r.exponential(size=n) + 0.1, r.exponential(size=m) + 0.1
    return x, y, a / a.sum(), b / b.sum()


# ------------------------------------------------------------------------- the reference


@pytest.mark.parametrize("penalties", [(Penalty("kl", 0.7), Penalty("kl", 2.0)), (Penalty("tv", 0.3),) * 2])
@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 10.0])
def test_single_points(penalties, epsilon):
    """One number, the mass of the plan, is all there is."""
    cost, masses = 0.5, (2.0, 0.3)

    def primal(log_p):
        p = np.exp(log_p)
        value = p * cost + epsilon * (p * np.log(p / (masses[0] * masses[1])) - p + masses[0] * masses[1])
        return value + sum(q.primal(np.array([w]), np.array([p])) for q, w in zip(penalties, masses, strict=True))

    found = transport(np.array([[cost]]), np.array(masses[:1]), np.array(masses[1:]), epsilon, *penalties)
    grid = np.linspace(-40.0, 2.0, 4001)
    best = grid[np.argmin([primal(t) for t in grid])]
    right = minimize_scalar(primal, bounds=(best - 0.02, best + 0.02), method="bounded", options={"xatol": 1e-12}).fun
    assert found.value == pytest.approx(right, rel=1e-9) and found.known


def test_kl_of_single_points_in_closed_form():
    epsilon, rho, cost, masses = 0.1, 0.7, 0.5, (2.0, 0.3)
    log_p = (np.log(masses[0] * masses[1]) * (1.0 + rho / epsilon) - cost / epsilon) / (1.0 + 2.0 * rho / epsilon)
    kl = Penalty("kl", rho)
    found = transport(np.array([[cost]]), np.array(masses[:1]), np.array(masses[1:]), epsilon, kl, kl)
    assert found.plan[0, 0] == pytest.approx(np.exp(log_p), rel=1e-10)


@pytest.mark.parametrize("penalties", [(FIXED, FIXED), (Penalty("kl", 0.5), FIXED), (FIXED, Penalty("kl", 0.5))])
@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_the_dual_by_another_optimiser(penalties, epsilon):
    x, y, a, b = drawn(0, 2, 2)
    C = SQUARED.matrix(x, y)

    def negative(h):
        f, g = h[:2], h[2:]
        P = a[:, None] * b * np.exp((f[:, None] + g - C) / epsilon)
        return -penalties[0].dual(a, f) - penalties[1].dual(b, g) + epsilon * (P.sum() - a.sum() * b.sum())

    right = -minimize(negative, np.zeros(4), method="BFGS", options={"gtol": 1e-10}).fun
    assert transport(C, a, b, epsilon, *penalties).value == pytest.approx(right, rel=1e-8)


def test_the_linear_programme_is_the_limit():
    for seed, (n, m) in enumerate([(6, 9), (20, 20), (30, 12)]):
        x, y, a, b = drawn(seed, n, m)
        C = SQUARED.matrix(x, y)
        found = transport(C, a, b, 1e-9)
        assert found.known and found.value == pytest.approx(unregularised(C, a, b), rel=1e-6)
    C = SQUARED.matrix(*(drawn(7, 40, 40)[:2]))
    found = transport(C, np.full(40, 1 / 40), np.full(40, 1 / 40), 1e-7)
    assert found.sharp == pytest.approx(C[linear_sum_assignment(C)].mean(), rel=1e-6)


@pytest.mark.parametrize("mismatch", [1e-6, 4e-4, 0.1])
def test_clusters_far_apart(mismatch):
    """What little mass goes from one to the other costs most."""
    r, away = np.random.default_rng(0), 300.0
    x, y = r.random((16, 2)), r.random((18, 2))
    x[8:] += away
    y[9:] += away
    a, b = np.full(16, 1 / 16), np.repeat([(0.5 + mismatch) / 9, (0.5 - mismatch) / 9], 9)
    C = SQUARED.matrix(x, y)
    found = transport(C, a, b, 1e-6)
    assert found.known and found.value == pytest.approx(unregularised(C, a, b), rel=1e-4)
    f, g = found.f, found.g
    assert marginal_error(C, a, b, f, g, 1e-6, (FIXED, FIXED)) < 1e-3  # exponents are rounded by 2e5 · 1e-16 / 1e-6


def test_weights_over_many_decades_and_zeros():
    x, y, a, b = drawn(3, 30, 25)
    a = 10.0 ** np.random.default_rng(1).uniform(-12, 0, size=30)
    a[::5] = 0.0
    a = a / a.sum()
    C = SQUARED.matrix(x, y)
    found = transport(C, a, b, 0.01)
    assert found.known and np.abs(found.plan.sum(1) - a).max() < 1e-14 and np.isfinite(found.f).all()
    P = a[:, None] * b * np.exp((found.f[:, None] + found.g - C) / 0.01)
    np.testing.assert_allclose(P, found.plan, rtol=1e-9, atol=1e-300)


def test_large_temperatures_do_not_cancel():
    x, y, a, b = drawn(4, 20, 30)
    C = SQUARED.matrix(x, y)
    limit = transport(C, a, b, np.inf).value
    assert limit == pytest.approx(float(a @ C @ b), rel=1e-14)
    assert transport(C, a, b, 1e12).value == pytest.approx(limit, rel=1e-11)


def test_mass():
    """Of both measures, and of the term that it adds."""
    x, y, a, b = drawn(5, 8, 9)
    C, m, epsilon = SQUARED.matrix(x, y), 3.0, 0.1
    one, many = transport(C, a, b, epsilon), transport(C, m * a, m * b, epsilon)
    assert many.value == pytest.approx(m * one.value + epsilon * (m * m - m - m * np.log(m)), rel=1e-12)
    P = m * m * a[:, None] * b * np.exp((many.f[:, None] + many.g - C) / epsilon)
    np.testing.assert_allclose(P, many.plan, rtol=1e-9)


GROUNDS = [
    SQUARED, Ground("power", (1.0,), 1.0), Ground("power", (1.5,), 1.5), Ground("mahalanobis", ([2.0, 0.5, 1.0],), 2.0),
    Ground("cosine"), Ground("geodesic", (), 1.0), Ground("manhattan"), Ground("dot"), Ground("sloped", (1.0, 0.2)),
    Ground("features", (np.arange(6.0).reshape(2, 3) / 3, 0.1), 2.0),
]  # fmt: skip


@pytest.mark.parametrize("ground", GROUNDS, ids=lambda g: g.kind)
@pytest.mark.parametrize(
    "penalties", [(FIXED, FIXED), (Penalty("kl", 0.8), Penalty("kl", 0.3)), (Penalty("kl", 1.0), FIXED)]
)
def test_gradients_are_differences(ground, penalties):
    x, y, a, b = drawn(6, 4, 5, 3)
    if penalties != (FIXED, FIXED):
        b = 1.7 * b
    asked = Asked(x, y, a, b, ground, 0.2, penalties, ground.symmetric, False)
    found, r, h = truth(asked), np.random.default_rng(0), 1e-5
    assert found.known and found.exact
    for name, at in (("x", x), ("y", y), ("a", a), ("b", b)):
        way = r.normal(size=at.shape)
        if name in "ab":  # masses stay, and so does the freedom of potentials
            way = at * (way - (at @ way) / at.sum() if penalties == (FIXED, FIXED) else way)
        ends = [truth(dataclasses.replace(asked, **{name: at + s * h * way})).value for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        assert (found.gradients[name] * way).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8)


# ------------------------------------------------------------------------------ the soak


def easy(kind="plain", **want):
    """The first problem of a kind that is small and warm."""
    for index in range(1000):
        if kind_of(0, index) != kind:
            continue
        found = problem(0, index)
        small = (
            max(len(i.x) + len(i.y) for i in found.items) < 60 and found.ground == SQUARED and len(found.items[0].x) > 3
        )
        if small and found.epsilon > 0.02 and all(getattr(found, key) == value for key, value in want.items()):
            return found
    raise AssertionError("none found")


def test_problems_are_determined_by_their_number():
    for index in range(30):
        one, again = problem(5, index), problem(5, index)
        assert one.kind == kind_of(5, index) and one.describe() == again.describe()
        np.testing.assert_array_equal(one.items[0].x, again.items[0].x)


def test_a_soak(tmp_path):
    import soak
    from common import write

    report = soak.soak(seed=2, minutes=0.2, only=None, problems=6)
    text = soak.markdown(report)
    assert len(report["outcomes"]) == 6 and all(o["known"] for o in report["outcomes"])
    write(tmp_path / "soak.json", report, text)
    assert "| all | 6 |" in text and set(KINDS) >= {o["kind"] for o in report["outcomes"]}


def test_what_is_wrong_is_seen(monkeypatch):
    import soak_checks

    import geomsink

    drawn_, solve = easy(function="solve", live=(), dtype="float64", torch=False, balanced=True), geomsink.solve
    assert not soak_checks.run(drawn_).faults

    def changed(**fields):
        def wrong(*args, **options):
            found = solve(*args, **options)
            made = {key: change(found) for key, change in fields.items()}
            return dataclasses.replace(found, **made)

        monkeypatch.setattr(geomsink, "solve", wrong)
        return set(soak_checks.run(drawn_).faults)

    assert changed(value=lambda s: s.value * (1.0 + 3e-5)) >= {"value"}
    assert "nan" in changed(value=lambda s: float("nan"))
    assert changed(potentials=lambda s: (s.potentials[0] * 1.3, s.potentials[1])) == {"marginals"}
    assert changed(lower=lambda s: s.value * 2.0, upper=lambda s: s.value * 3.0) == {"interval"}

    def broken(*args, **options):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(geomsink, "solve", broken)
    outcome = soak_checks.run(drawn_)
    assert outcome.state == "crashed" and set(outcome.faults) == {"crash"}


def test_a_wrong_gradient_is_seen():
    import soak_checks

    drawn_ = next(
        p for p in (problem(0, k) for k in range(200)) if p.kind == "plain" and "x" in p.live and p.epsilon > 0.1
    )
    found = soak_checks.truths(drawn_)
    for factor, faults in ((1.0, 0), (1.05, 1)):
        outcome = soak_checks.Outcome(drawn_, "converged")
        gradients = {"x": [factor * found[0].gradients["x"]]}
        soak_checks.check_gradients(outcome, gradients, type("Result", (), {"dtype": "float64"}), found)
        assert len(outcome.faults) == faults
