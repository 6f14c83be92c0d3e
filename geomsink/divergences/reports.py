"""From solved problems to what the caller is told."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import engine
from ..certificates import Interval
from ..derivatives import NewtonOperator, optimal_potentials, optimal_value
from ..engine import UNIT
from ..plan import Clouds, Plan
from ..solver import Problem
from .problems import Setup, Solved
from .solution import Solution


def solution_of(setup: Setup, solved: Solved) -> Solution:
    """The report of a solve, in the caller's kind of arrays and mass, with history where there is any.

    With P = m P₁ for the plan of mass 1, OT_ε = m OT_ε,₁ − ε m log m + ε (m² − m), and f + g is lower by
    ε log m.
    """
    solver, options, inputs = solved.solver, setup.options, setup.inputs
    problem, terms = solver.problem, setup.terms(problem=solver.problem)
    f, g = solver.state.f, solver.state.g
    value = solver.value()
    live = solved.unrolled is not None or (terms.live and not setup.container.is_numpy)
    operator: NewtonOperator | None = None
    if solved.unrolled is not None:
        f, g = solved.unrolled
        value = terms.dual_value(f, g)
    elif live:
        if options.differentiation == "implicit" or options.form == "sharp":
            plain = problem.is_self or setup.container.layouts is not None
            clouds = None if plain else (setup.cloud(problem.alpha), setup.cloud(problem.beta))
            operator = NewtonOperator(solver, clouds)
            f, g = optimal_potentials(operator, terms)
        value = optimal_value(solver, terms, (f, g) if operator else None)
        live = operator is not None
    interval = solved.interval
    if interval is not None and solved.unrolled is None:  # what stand-ins are off by, the interval knows better
        value = value + (value.detach().clamp(interval.lower, interval.upper) - value.detach())
    reported, constant = (f, g), torch.zeros_like(value)
    if options.balanced:
        shift, lower = 0.5 * ((terms.b * g).sum(-1) - (terms.a * f).sum(-1)), torch.zeros_like(inputs.mass)
        if setup.epsilon < math.inf:
            mass, epsilon = inputs.mass, inputs.epsilon
            value, constant = mass * value, epsilon * (mass * mass - mass - mass * mass.log())
            lower = 0.5 * epsilon * mass.log()
        reported = f + (shift - lower)[..., None], g - (shift + lower)[..., None]
    error, container = solver.marginal_error, setup.container_of(problem.alpha, problem.beta)
    plan, kept = solver.plan(), problem.pair
    pair = engine.pair(kept.x, kept.y, kept.cost, kept.name, setup.lengths(problem.alpha, problem.beta))
    plan = replace(plan, pair=pair, u=plan.u + setup.mass.log()[..., None].to(plan.u))  # this pair keeps no costs
    scaled = replace(terms, a=inputs.mass[..., None] * terms.a)
    scaled = scaled if live else scaled.detached()
    interval = interval and _scaled(setup, interval)
    certified = (None, None) if interval is None else _bounds(setup, interval, constant.detach())
    return Solution(
        value=setup.container.number(value + constant),
        potentials=(container.array(reported[0], 0), container.array(reported[1], 1)),
        converged=error <= setup.tol,
        status="converged" if error <= setup.tol else solved.status,
        marginal_error=error,
        marginal_errors=container.number(solver.marginal_errors(setup.epsilon)) if container.layouts else None,
        n_iter=solver.cycles,
        epsilon=setup.epsilon,
        temperatures=problem.temperatures,
        tol=setup.tol,
        engine=problem.pair.name,
        dtype=solver.dtype,
        seconds=solved.seconds,
        lower=certified[0],
        upper=certified[1],
        approximation=solver.approximation,
        history=tuple(solver.history),
        plan=Plan(plan, container, scaled, f, g, live, _clouds(setup, problem)),
        linear_solves=operator.solves if operator else [],
        in_difference=value,
        interval=interval,
    )


def _scaled(setup: Setup, interval: Interval) -> Interval:
    """That of the caller's mass, without the constant that cancels in a divergence."""
    mass = setup.mass if setup.options.balanced else torch.ones_like(setup.mass)
    return Interval(mass * interval.lower, mass * interval.upper, mass * interval.uncertain)


def _bounds(setup: Setup, interval: Interval, constant: Tensor) -> tuple[Any, Any]:
    mass, size = setup.mass, interval.lower.abs() + interval.upper.abs()
    if bool((constant != 0.0).any()):  # ε (m² − m − m log m), which cancels for masses close to 1
        size = size + setup.epsilon * mass * (mass + 1.0 + mass.log().abs())
    slack = 8.0 * UNIT[torch.float64] * size
    container = setup.container
    return container.bound(interval.lower + constant - slack, -1), container.bound(interval.upper + constant + slack, 1)


def _clouds(setup: Setup, problem: Problem) -> Clouds:
    """The points of a problem, as the caller gave them, and how others become features."""
    points = [setup.inputs.points[0 if m is setup.alpha else 1] for m in (problem.alpha, problem.beta)]
    return Clouds(points[0], points[1], partial(setup.inputs.features, setup.cost))
