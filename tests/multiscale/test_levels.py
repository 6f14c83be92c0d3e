"""Coarse to fine: the same answers as on one level, the levels chosen, what the result says, and earlier potentials."""

from pathlib import Path

import numpy as np
import pytest
import torch

import geomsink
from geomsink import costs, shapes, sinkhorn_divergence, solve

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOL = 1e-6
# Values are of second order in the marginal error, 1e-12 here; what sketches and truncation leave out of the plan's
# mass, up to TOL, is estimated from 1,024 points and corrected, to a few hundredths of it times epsilon.
WITHIN = 3e-6


def surfaces(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    return shapes.sample("knot", n, seed=0), shapes.sample("star", m, seed=1)


def uniform(n: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, dimension))


def clusters(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0, 0], [5.0, 0, 0], [0, 7.0, 0], [3.0, 3, 9]])
    return centres[np.arange(n) % 4] + 0.05 * rng.standard_normal((n, 3)) + 0.2 * seed


def weights(n: int, seed: int, decades: float = 8.0) -> np.ndarray:
    w = 10.0 ** (-decades * np.random.default_rng(seed).random(n))
    return w / w.sum()


LINE = np.linspace(0.0, 1.0, 1200)[:, None]
CASES = {
    "a line": dict(x=LINE * [1.0, 0.5, 0.2], y=LINE**2 * [1.0, 0.5, 0.2] + 0.1),
    "a plane": dict(x=uniform(1200, 2) @ np.eye(2, 3), y=uniform(1100, 2, 1) ** 2 @ np.eye(2, 3)),
    "clusters far apart": dict(x=clusters(1200, 0), y=clusters(1100, 1)),
    "clusters against one": dict(x=clusters(1600, 0), y=uniform(1500, 3), blur=0.2),
    "heavy duplicates": dict(x=uniform(20, 3).repeat(60, 0), y=uniform(1100, 3, 1), blur=0.1),
    "one point, many times": dict(x=np.full((1200, 3), 0.3), y=uniform(1100, 3)),
    "sizes far apart": dict(x=uniform(300, 3), y=uniform(8000, 3, 1) ** 2),
    "weights over eight decades": dict(
        x=uniform(1200, 3), y=uniform(1100, 3, 1) ** 2, a=weights(1200, 0), b=weights(1100, 1)
    ),
    "weights of zero": dict(
        x=uniform(1200, 3), y=uniform(1100, 3, 1) ** 2, a=np.r_[np.zeros(600), np.full(600, 1 / 600)]
    ),
    "D = 1": dict(x=uniform(1200, 1), y=uniform(1100, 1, 1) ** 2, blur=0.02),
    "D = 2": dict(x=uniform(1200, 2), y=uniform(1100, 2, 1) ** 2, blur=0.03),
    "D = 10": dict(x=uniform(1200, 10), y=uniform(1100, 10, 1) ** 2, blur=0.5),
    "blur below the spacing": dict(x=uniform(1200, 2), y=uniform(1100, 2, 1) ** 2, blur=0.015),
    "euclidean": dict(x=uniform(1200, 3), y=uniform(1100, 3, 1) ** 2, cost="euclidean"),
    "a power": dict(x=uniform(1200, 3), y=uniform(1100, 3, 1) ** 2, cost="power:1.5", blur=0.2),
    "on the sphere": dict(
        x=np.random.default_rng(0).standard_normal((1200, 3)) + 1.0,
        y=np.random.default_rng(1).standard_normal((1100, 3)),
        cost="geodesic",
        blur=0.2,
    ),
    "cosine": dict(
        x=np.random.default_rng(0).standard_normal((1200, 3)) + 1.0,
        y=np.random.default_rng(1).standard_normal((1100, 3)),
        cost="cosine",
        epsilon=0.02,
        blur=None,
    ),
    "a user's own cost": dict(
        x=uniform(1200, 2),
        y=uniform(1100, 2, 1) ** 2,
        cost=costs.Cost(name="saturating", expression=lambda x, y: 1.0 - (-((x - y) ** 2).sum(-1)).exp()),
        epsilon=0.01,
        blur=None,
    ),
    "a user's own asymmetric cost": dict(
        x=uniform(1200, 2),
        y=uniform(1100, 2, 1) ** 2,
        cost=costs.Cost(
            name="uphill",
            expression=lambda x, y: ((x - y) ** 2).sum(-1) + 0.3 * (y - x).relu().sum(-1),
            symmetric=False,
        ),
        epsilon=0.01,
        blur=None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_that_of_one_level(name):
    case = {"blur": 0.05, **CASES[name]}
    x, y = case.pop("x"), case.pop("y")
    one = solve(x, y, tol=TOL, max_iter=3000, multiscale=False, **case)
    several = solve(x, y, tol=TOL, max_iter=3000, multiscale=True, **case)
    assert one.approximation is None and several.approximation is not None
    assert one.converged and several.converged
    assert several.value == pytest.approx(one.value, abs=WITHIN * max(abs(one.value), one.epsilon))
    error = full_marginal_error(x, y, case, several)
    # The reported error has room for what 1,024 audited points do not show: three standard errors of it.
    assert error <= several.marginal_error + 1e-9
    self_one = solve(x, x, case.get("a"), case.get("a"), tol=TOL, multiscale=False, **without_weights(case))
    self_several = solve(x, x, case.get("a"), case.get("a"), tol=TOL, multiscale=True, **without_weights(case))
    assert self_several.value == pytest.approx(self_one.value, abs=WITHIN * max(abs(self_one.value), one.epsilon))


def without_weights(case: dict) -> dict:
    return {key: value for key, value in case.items() if key not in ("a", "b")}


def full_marginal_error(x: np.ndarray, y: np.ndarray, case: dict, solution: geomsink.Solution) -> float:
    """‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ over all pairs in dense float64, from the potentials."""
    cost = costs.get(case.get("cost", "sqeuclidean"))
    x, y = (cost.map(torch.from_numpy(np.asarray(p, dtype=np.float64))) for p in (x, y))
    f, g = (torch.from_numpy(p) for p in solution.potentials)
    a, b = (
        torch.full((len(p),), 1.0 / len(p), dtype=torch.float64) if case.get(k) is None else torch.from_numpy(case[k])
        for p, k in ((x, "a"), (y, "b"))
    )
    error, columns = 0.0, torch.zeros_like(b)
    for i in torch.arange(len(x)).split(256):
        P = a[i, None] * b * ((f[i, None] + g - cost.expression(x[i, None], y[None])) / solution.epsilon).exp()
        error += float((P.sum(1) - a[i]).abs().sum())
        columns += P.sum(0)
    return error + float((columns - b).abs().sum())


@pytest.mark.parametrize(("n", "blur"), [(25_000, 0.05), (50_000, 0.03)])
def test_tens_of_thousands_of_points(n, blur):
    """At the default tolerance: the error that the result states, found again over all pairs; and so is the value."""
    sources = (DATA / "stanford-bunny.obj", DATA / "igea.ply")
    if all(path.exists() for path in sources):
        x, y = (shapes.sample(path, n, seed=seed, normalize=True) for seed, path in enumerate(sources))
    else:
        x, y = surfaces(n, n)
    r = sinkhorn_divergence(x, y, blur=blur)
    used = r.xy.approximation
    assert r.converged and r.dtype == "float32" and used is not None and used.share < 0.25 and max(used.nodes) < n
    rows, columns = r.xy.plan.operator.row_sums().double(), r.xy.plan.T.operator.row_sums().double()
    error = float((n * rows - 1).abs().mean() + (n * columns - 1).abs().mean())
    # float32 rounds exponents of size C/ε by 6e-8 C/ε, at 0.02 some 1e-4, and sums average most of it.
    assert error <= r.xy.marginal_error + 1e-4
    f, g = r.xy.potentials
    dual = f.mean(dtype=np.float64) + g.mean(dtype=np.float64) - r.epsilon * float(columns.sum() - 1)
    assert r.xy.value == pytest.approx(dual, abs=1e-5 * r.value)


def test_truncated_costs_that_are_no_squares():
    """A cost that is no square has no sketch; what its rows skip is bounded, and that bound is reported."""
    x, y = clusters(2000, 0), clusters(2000, 1)
    s = solve(x, y, blur=0.05, cost="euclidean", multiscale=True, tol=1e-4)
    used = s.approximation
    assert s.converged and used.share < 0.7 and used.audit == 0.0
    assert 0.0 < used.skipped <= 0.06 * s.tol and used.nodes == (2000, 2000)
    assert full_marginal_error(x, y, dict(cost="euclidean"), s) <= s.marginal_error + 1e-9


def test_a_cost_without_a_bound_is_not_truncated():
    own = costs.Cost(name="own", expression=lambda x, y: ((x - y) ** 2).sum(-1), degree=2.0)
    x, y = uniform(1600, 3), uniform(1500, 3, 1) ** 2
    s = solve(x, y, blur=0.1, cost=own, multiscale=True)
    assert s.converged and s.approximation.share == 1.0 and s.approximation.skipped == 0.0
    assert s.value == pytest.approx(solve(x, y, blur=0.1).value, rel=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "blur", "levels"),
    [
        (*surfaces(5000, 5000), 0.05, True),
        (*surfaces(1000, 1000), 0.05, False),  # a few milliseconds an evaluation
        (uniform(5000, 10), uniform(5000, 10, 1), 0.05, False),  # no two points of a cell within the blur
    ],
)
@pytest.mark.filterwarnings("ignore::geomsink.ConvergenceWarning")
def test_by_default_where_it_pays(x, y, blur, levels):
    s = solve(x, y, blur=blur, max_iter=1)
    assert s.strategy == ("coarse-to-fine" if levels else "one-level")
    assert (s.approximation is not None) == levels


def test_fewer_evaluations_than_over_relaxation():
    """Evaluations between all points, which is where the time goes."""
    x, y = surfaces(3000, 3000)
    several = solve(x, y, blur=0.05, tol=TOL, dtype="float64", multiscale=True)
    one = solve(x, y, blur=0.05, tol=TOL, dtype="float64", multiscale=False)
    assert several.history[-1].evaluations <= 12
    assert several.history[-1].evaluations < 0.25 * one.history[-1].evaluations


@pytest.mark.parametrize("multiscale", [False, True])
def test_init_of_the_same_problem(multiscale):
    x, y = surfaces(3000, 3000)
    options = dict(blur=0.05, tol=1e-4, dtype="float64", multiscale=multiscale)
    first = sinkhorn_divergence(x, y, **options)
    again = sinkhorn_divergence(x, y, **options, init=first)
    assert again.converged and again.n_iter <= 4
    assert again.value == pytest.approx(first.value, rel=1e-6)
    pair = solve(x, y, **options, init=first.xy.potentials)
    assert pair.n_iter == 1 and pair.value == pytest.approx(first.xy.value, rel=1e-6)
    assert solve(x, y, **options, init=first.xy).n_iter == 1


def test_init_after_a_small_move_costs_a_fraction():
    x, y = surfaces(2000, 2000)
    moved = (x + 0.002 * np.sin(9 * x[:, ::-1])).astype(np.float32)
    options = dict(blur=0.05, dtype="float64", multiscale=False)
    first, old = sinkhorn_divergence(moved, y, **options), sinkhorn_divergence(x, y, **options)
    again = sinkhorn_divergence(moved, y, **options, init=old)
    assert again.converged and again.value == pytest.approx(first.value, rel=1e-5)
    assert again.xy.history[-1].evaluations < 0.4 * first.xy.history[-1].evaluations


def test_init_with_another_mass():
    x, y = surfaces(300, 200)
    a, b = np.full(300, 0.01, np.float32), np.full(200, 0.015, np.float32)
    first = solve(x, y, a, b, blur=0.1, tol=1e-5)
    assert solve(x, y, a, b, blur=0.1, tol=2e-5, init=first).n_iter <= 2


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (3.0, "init: a float was given, expected an earlier solution or a pair"),
        (([0.0] * 5, [0.0] * 4), r"init, g: shape is \(4,\), expected \(5,\)"),
        (([0.0] * 5, [np.nan] * 5), "init, g: 5 of 5 numbers are NaN"),
        ((["0"] * 5, ["0"] * 5), "init, f: dtype is <U1, expected real numbers"),
    ],
)
def test_bad_init(init, message):
    x = uniform(5, 2)
    with pytest.raises((TypeError, ValueError), match=message):
        solve(x, x, blur=0.1, init=init)


def test_bad_options():
    x = uniform(5, 2)
    with pytest.raises(TypeError, match="init: a tuple was given, expected an earlier Divergence"):
        sinkhorn_divergence(x, x, blur=0.1, init=(x, x))
    with pytest.raises(ValueError, match=r"init.xy, f: shape is \(5,\), expected \(4,\)"):
        sinkhorn_divergence(x[:4], x, blur=0.1, init=sinkhorn_divergence(x, x, blur=0.1))
    with pytest.raises(TypeError, match="multiscale: a str was given, expected None, True or False"):
        solve(x, x, blur=0.1, multiscale="yes")
