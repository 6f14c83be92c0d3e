"""Temperatures far below the costs: what annealing hands over, what over-relaxation hides, and what is returned of a
solve that does not converge. Against dense float64 solutions of another method."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from soak_dual import Penalty
from soak_reference import transport

import geomsink
from geomsink import costs, engine, solve
from geomsink.measures import Measure
from geomsink.progress import Progress
from geomsink.solver import Goal, Problem, Solver


def truth(x, y, epsilon):
    weights = (np.full(len(p), 1 / len(p)) for p in (x, y))
    return transport(((x[:, None] - y) ** 2).sum(-1), *weights, epsilon, Penalty(), Penalty())


def is_right(s, x, y):
    exact = truth(x, y, s.epsilon)
    assert s.converged
    assert abs(s.value - exact.value) <= s.value_error + exact.error + exact.rounding + 1e-12 * abs(s.value)
    assert abs(s.value - exact.value) <= 1e-5 * exact.value


def test_points_that_are_paired_beside_points_that_are_not():
    """One cycle a temperature left a start from which over-relaxed updates diverged: a plan of mass 7 was returned."""
    r = default_rng(5)
    x, y = 10 * r.random((10, 128)), 10 * r.random((10, 128))
    y[:5] = x[:5]
    s = solve(x, y, epsilon=1e-3)
    is_right(s, x, y)
    assert s.n_iter <= 100 and s.plan.mass == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("n", [5, 8, 11])
def test_few_points_far_apart(n):
    """Of 20 draws each 4, 11 and 19 did not converge."""
    for seed in range(20):
        r = default_rng(seed)
        x, y = 255 * r.random((n, 2)), 255 * r.random((n, 2))
        is_right(solve(x, y, blur=0.05), x, y)


def test_plain_cycles_find_what_over_relaxed_ones_hide():
    x, y = default_rng(15).random((2, 6, 2))
    is_right(solve(x, y, blur=0.01, max_iter=300), x, y)


def test_newtons_steps_are_tried_again():
    """Once, after 20 cycles, was too early: 680 cycles and more were not enough."""
    x, y = default_rng(0).random((2, 300, 3))
    s = solve(x, y, blur=0.01)
    is_right(s, x, y)
    assert s.n_iter <= 300


@pytest.mark.filterwarnings("ignore::geomsink.ConvergenceWarning")
@pytest.mark.parametrize("max_iter", [7, 10, 11, 40])
def test_the_best_state_is_returned(max_iter):
    """And the last cycle is a plain one, after which the rows' marginal is right."""
    x, y = default_rng(1).random((2, 200, 3))
    s = solve(x, y, blur=0.001, max_iter=max_iter)
    own = [step.marginal_error for step in s.history if step.epsilon == s.epsilon]
    assert not s.converged and s.n_iter <= max_iter
    assert s.marginal_error == pytest.approx(min(own), rel=1e-8)  # and what exponents are rounded by
    rows, columns = (np.asarray(m) for m in (s.plan.row_marginal(), s.plan.column_marginal()))
    found = np.abs(rows - 1 / 200).sum() + np.abs(columns - 1 / 200).sum()
    assert found == pytest.approx(s.marginal_error, rel=1e-6)


def test_a_hopeless_solve_ends_at_the_limit():
    with pytest.warns(geomsink.ConvergenceWarning, match="max_iter=3 is reached"):
        s = solve(*default_rng(1).random((2, 50, 3)), blur=0.001, max_iter=3)
    assert s.marginal_error <= 2.0 and s.plan.mass == pytest.approx(1.0, abs=1.0)


def test_no_correction_of_marginals_that_are_exact():
    """Where all mass is given up, the error may be 0 to the last digit: it was divided by."""
    points = torch.from_numpy(default_rng(0).random((20, 2)))
    alpha, beta = (Measure(p, torch.full((20,), 0.05, dtype=torch.float64)) for p in (points, points + 1.0))
    pair = engine.pair(alpha.points, beta.points, costs.get("sqeuclidean"), "dense")
    correction = SimpleNamespace(step=lambda f, g, rho, shift: torch.zeros_like(g), left=0.0)
    solver = Solver(Problem(alpha, beta, pair, (0.1,), 4.0), Goal(1e-9), 10, Progress(False), correction=correction)
    assert solver.marginal_error == 0.0 and list(solver._corrected(correction, accelerated=True)) == []
