"""Strategies: each, made by hand, solves one problem to the value and potentials of dense float64 updates."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from reference import dense_ot, squared_distances

from geomsink import costs, engine, shapes, solve
from geomsink.derivatives import Terms, Unrolled
from geomsink.measures import Measure
from geomsink.multiscale import Cloud, CoarseToFine, Levels, Newton
from geomsink.progress import Progress
from geomsink.solver import Balanced, Goal, Limit, OneLevel, Problem, Strategy, temperatures

COST = costs.get("sqeuclidean")
EPSILON, TOL = 0.05, 1e-9
PENALTIES = Balanced(), Balanced()


def measures(*sizes):
    random, found = np.random.default_rng(0), []
    for n in sizes:
        weights = random.exponential(size=n)
        found.append(Measure(torch.from_numpy(random.random((n, 2))), torch.from_numpy(weights / weights.sum())))
    return found


def problem(alpha, beta, epsilon=EPSILON):
    pair = engine.pair(alpha.points, beta.points, COST, "dense")
    steps = (math.inf,) if epsilon == math.inf else temperatures(2.0, epsilon, 0.5, 2.0)
    return Problem(alpha, beta, pair, steps, 2.0)


def one_level(p):
    return OneLevel(Goal(TOL), 1000)


def with_newton(p):
    clouds = Cloud(p.alpha, COST, EPSILON), Cloud(p.beta, COST, EPSILON)
    return OneLevel(Goal(TOL), 1000, Newton(*clouds, COST, EPSILON, PENALTIES))


def coarse_to_fine(p):
    clouds = Cloud(p.alpha, COST, EPSILON), Cloud(p.beta, COST, EPSILON)
    return CoarseToFine(Goal(TOL), 1000, 0.5, "dense", clouds, Levels.of(*clouds, deep=True))


def unrolled(p):
    epsilon, pairs = torch.tensor(EPSILON, dtype=torch.float64), engine.Pairs.of(p.pair)
    points = p.alpha.points, p.beta.points
    terms = Terms(*points, p.alpha.weights, p.beta.weights, epsilon, (), COST, PENALTIES, pairs)
    return Unrolled(TOL, 200, False, terms)


@pytest.fixture(scope="module")
def solved_by_hand():
    alpha, beta = measures(300, 270)
    C = squared_distances(alpha.points.numpy(), beta.points.numpy())
    return alpha, beta, dense_ot(C, alpha.weights.numpy(), beta.weights.numpy(), EPSILON)


@pytest.mark.parametrize("make", [one_level, with_newton, coarse_to_fine, unrolled])
def test_each_finds_the_solution(make, solved_by_hand):
    alpha, beta, (value, _, f, g) = solved_by_hand
    p = problem(alpha, beta)
    strategy = make(p)
    found = strategy.solve(p, Progress(False))
    assert found.strategy == strategy.name and found.seconds > 0.0
    assert found.status == ("200 iterations are done" if make is unrolled else "converged")
    assert found.solver.marginal_error <= TOL
    assert float(found.solver.value()) == pytest.approx(value, rel=1e-10)
    shift = f.mean() - float(found.potentials[0].mean())
    np.testing.assert_allclose(found.potentials[0] + shift, f, atol=1e-7)
    np.testing.assert_allclose(found.potentials[1] - shift, g, atol=1e-7)
    assert (found.live is not None) == (make is unrolled)


@pytest.mark.parametrize("make", [one_level, coarse_to_fine])
def test_a_solve_goes_on_from_another(make, solved_by_hand):
    """Evaluations, history and seconds are those of both."""
    alpha, beta, (value, *_) = solved_by_hand
    p = problem(alpha, beta)
    strategy = make(p)
    rough = dataclasses.replace(strategy, goal=Goal(1e-3)).solve(p, Progress(False))
    fine = strategy.solve(p, Progress(False), rough.potentials, rough)
    assert rough.solver.marginal_error > TOL >= fine.solver.marginal_error
    assert fine.seconds > rough.seconds and fine.solver.evaluations > rough.solver.evaluations
    assert tuple(fine.solver.history[: len(rough.solver.history)]) == tuple(rough.solver.history)
    assert float(fine.solver.value()) == pytest.approx(value, rel=1e-10)


def test_the_limit_is_the_product():
    """f_i = Σ_j b_j C_ij − ½ ⟨a, Cb⟩."""
    alpha, beta = measures(60, 50)
    C = squared_distances(alpha.points.numpy(), beta.points.numpy())
    a, b = alpha.weights.numpy(), beta.weights.numpy()
    found = Limit(TOL).solve(problem(alpha, beta, math.inf), Progress(False))
    assert (found.status, found.strategy) == ("converged", "limit") and found.solver.cycles == 1
    np.testing.assert_allclose(found.potentials[0], C @ b - 0.5 * a @ C @ b, rtol=1e-12)
    np.testing.assert_allclose(found.potentials[1], C.T @ a - 0.5 * a @ C @ b, rtol=1e-12)
    assert float(found.solver.value()) == pytest.approx(a @ C @ b, rel=1e-12)


@pytest.mark.parametrize("kind", [OneLevel, CoarseToFine, Unrolled, Limit])
def test_strategies_are_small_frozen_objects(kind):
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert isinstance(kind.name, str) and "name" not in {field.name for field in dataclasses.fields(kind)}
    wanted, found = (inspect.signature(owner.solve).parameters for owner in (Strategy, kind))
    assert list(wanted) == list(found)


def test_levels_of_clouds_that_are_too_small():
    small, large = measures(200, 3000)
    clouds = [Cloud(m, COST, EPSILON) for m in (small, large)]
    assert Levels.of(clouds[0], clouds[0]) is None
    levels = Levels.of(*clouds)
    assert set(levels.alpha) == {None} and None not in levels.beta and 0.0 < levels.width < math.inf
    uneven = Levels.of(Cloud(measures(300)[0], COST, EPSILON), clouds[1])  # too few points for cells of four
    assert set(uneven.alpha) == {None} and 0.0 < uneven.width < math.inf


@pytest.mark.parametrize("short", [1e-2, 1e-4])
def test_potentials_just_short_of_a_bound(short):
    """Where they are as large as a penalty lets them be, the value is of first order in how far they are from there:
    what is stated covers it, and it is small."""
    x, y = shapes.sample("knot", 1000, seed=0).astype(float), shapes.sample("star", 800, seed=1).astype(float) + 0.3
    options = dict(multiscale=True, dtype="float64", blur=0.05, reach=0.3, penalty="tv")
    exact = solve(x, y, tol=1e-8, max_iter=20_000, **options)
    bound = 2 * options["reach"] ** 2
    start = tuple(h - short * exact.epsilon * (h >= bound) for h in exact.potentials)
    assert any((h >= bound).any() for h in exact.potentials)
    found = solve(x, y, tol=1e-3, init=start, **options)
    assert found.strategy == "coarse-to-fine" and found.converged
    assert abs(found.value - exact.value) <= found.value_error + exact.value_error <= 2e-5 * exact.value
