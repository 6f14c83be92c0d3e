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
from ..derivatives import ImplicitOperator, Terms, optimal_potentials, optimal_value, weight_gradient
from ..engine import UNIT
from ..multiscale import SharedIterate
from ..plan import Clouds, Plan
from ..solver import Approximation, Iterate, Problem, Solved, free_constant, rounding, share_of
from .options import Options
from .problems import Problems
from .refining import stated_error
from .requests import Request
from .solution import Scattered, Solution


def solution_of(problems: Problems, solved: Solved, interval: Interval | None = None) -> Solution:
    """The report of a solve, in the caller's kind of arrays and mass, with history where there is any.

    With P = m P₁ for the plan of mass 1, OT_ε = m OT_ε,₁ + `free_constant`, and f + g is lower by ε log m. The
    certified interval is that of mass 1.
    """
    request = problems.request
    solver, options, inputs = solved.solver, request.options, request.inputs
    problem, terms = solver.problem, problems.terms(solver.problem)
    f, g = solver.state.f, solver.state.g
    value = solver.value()
    live = solved.live is not None or (terms.live and not request.container.is_numpy)
    operator: ImplicitOperator | None = None
    if isinstance(solver, SharedIterate):
        value, live = _of_parts(problems, solver, value), False
    elif solved.live is not None:
        f, g = solved.live
        value = terms.dual_value(f, g)
    elif live:
        plain = problem.is_self or request.batched or request.sharded or request.cost.looked_up
        clouds = None if plain else (problems.cloud(problem.alpha), problems.cloud(problem.beta))
        operator = ImplicitOperator(solver, clouds)
        live = options.differentiation == "implicit" or options.form == "sharp"
        if live:
            f, g = optimal_potentials(operator, terms)
        value = optimal_value(operator, terms, (f, g) if live else None)
    if interval is not None and solved.live is None:  # what sketches are off by, the interval knows better
        value = value + (value.detach().clamp(interval.lower, interval.upper) - value.detach())
    reported, constant = (f, g), torch.zeros_like(value)
    if options.balanced:
        shift = solver.completed(0.5 * ((terms.b * g).sum(-1) - (terms.a * f).sum(-1)))
        lower = torch.zeros_like(inputs.mass)
        value = inputs.mass * value
        if request.epsilon < math.inf:
            constant, _ = free_constant(inputs.mass, inputs.epsilon)
            lower = 0.5 * inputs.epsilon * inputs.mass.log()
        reported = f + (shift - lower)[..., None], g - (shift + lower)[..., None]
    error, container = solver.marginal_error, request.container_of(problem.alpha, problem.beta)
    off = (inputs.mass.detach() if options.balanced else 1.0) * stated_error(problems, solved, False, interval)
    converged, status = verdict(solved, options, off, value.detach() + constant.detach())
    interval = interval and _scaled(request, interval)
    certified = (None, None) if interval is None else _bounds(request, interval, constant.detach())
    return Solution(
        value=request.container.number(value + constant),
        potentials=(container.array(reported[0], 0), container.array(reported[1], 1)),
        converged=converged,
        status=status,
        marginal_error=error,
        marginal_errors=container.number(solver.marginal_errors(request.epsilon)) if container.layouts else None,
        value_error=request.container.error(off, value.detach() + constant.detach()),
        n_iter=solver.cycles,
        epsilon=request.epsilon,
        temperatures=problem.temperatures,
        tol=options.tol,
        strategy=solved.strategy,
        engine=problem.pair.name,
        dtype=solver.dtype,
        seconds=solved.seconds,
        lower=certified[0],
        upper=certified[1],
        approximation=_approximation(request, solver),
        history=tuple(solver.history),
        plan=_plan(problems, solver, terms, (f, g), live),
        linear_solves=operator.solves if operator else [],
        in_difference=value,
        interval=interval,
    )


class _OfPart(ImplicitOperator):
    """Of the points that a process has, against a sketch: how they move its nodes is not known."""

    def check_defined(self) -> None:
        """Refuse derivatives of the potentials.

        Raises
        ------
        ValueError
        """
        raise ValueError(
            "differentiation: second derivatives were asked for after a solve between sketches with group=, expected "
            "first ones, or differentiation='implicit', for which all pairs are summed."
        )


def _of_parts(problems: Problems, solver: SharedIterate, value: Tensor) -> Tensor:
    """A value of the whole, with the history of what this process has of it: its own points as rows, of one measure
    and of the other, against the sketch of the other one, by the envelope theorem."""
    request, problem = problems.request, solver.problem
    whole, options = request.whole, request.options
    assert whole is not None
    sides, factor = request.sides(problem.alpha, problem.beta), 1.0
    parts = list(zip(sides, solver.parts, strict=True))
    if problem.is_self:  # the second argument's derivative is the first one's
        parts, factor = parts[:1], 2.0
    for side, part in parts:
        terms = problems.terms_of_part(part, side)
        if terms.live:
            # Of no points it is 0, with a history like that of any.
            own = optimal_value(_OfPart(part), terms, None) if len(terms.x) else terms.x.sum() + terms.a.sum()
            value = value + factor * (own - own.detach())
        if whole.live and (options.balanced or options.normalize):  # weights count by their share of the mass
            gradient = weight_gradient(part, terms.detached(), 0) if len(terms.x) else terms.a.detach()
            mean = factor * solver.completed((terms.a.detach() * gradient).sum())
            mass = whole.masses[side]
            value = value - mean * (mass / mass.detach() - 1.0)
    return value


def _plan(problems: Problems, solver: Iterate, terms: Terms, potentials: tuple[Tensor, Tensor], live: bool) -> Plan:
    request, problem = problems.request, solver.problem
    if request.whole is not None:
        return Scattered(tuple(request.whole.counts[side] for side in request.sides(problem.alpha, problem.beta)))
    plan, kept, mass = solver.plan(), problem.pair, request.inputs.mass
    pair = engine.pair(kept.x, kept.y, kept.cost, kept.name, request.lengths(problem.alpha, problem.beta))
    plan = replace(plan, pair=pair, u=plan.u + request.mass.log()[..., None].to(plan.u))  # this pair keeps no costs
    scaled = replace(terms, a=mass[..., None] * terms.a)
    scaled, container = scaled if live else scaled.detached(), request.container_of(problem.alpha, problem.beta)
    return Plan(plan, container, scaled, *potentials, live, _clouds(request, problem))


def _approximation(request: Request, solver: Iterate) -> Approximation | None:
    """With the accuracy of sketches that were given, which the solve has not seen."""
    found = solver.approximation
    if found is None or not solver.problem.is_signed:
        return found
    return replace(found, accuracy=max(found.accuracy, request.accuracy))


def verdict(solved: Solved, options: Options, off: Tensor, value: Tensor) -> tuple[bool, str]:
    """Whether a problem has converged, and why not."""
    error = solved.solver.marginal_error
    if not error <= options.tol:
        found = "sums over fewer pairs are off by more than tol" if solved.status == "converged" else solved.status
        return False, found
    if options.iterations is None:
        return solved.status == "converged", solved.status
    if bool((off <= share_of(options.tol) * value.abs() + rounding(solved.solver)).all()):
        return True, "converged"
    return False, solved.status


def _scaled(request: Request, interval: Interval) -> Interval:
    """That of the caller's mass, without the constant that cancels in a divergence."""
    mass = request.mass if request.options.balanced else torch.ones_like(request.mass)
    return Interval(mass * interval.lower, mass * interval.upper, mass * interval.uncertain)


def _bounds(request: Request, interval: Interval, constant: Tensor) -> tuple[Any, Any]:
    container, size = request.container, interval.lower.abs() + interval.upper.abs()
    if bool((constant != 0.0).any()):  # which cancels for masses close to 1
        size = size + free_constant(request.mass, request.epsilon)[1]
    slack = 8.0 * UNIT[torch.float64] * size
    return container.bound(interval.lower + constant - slack, -1), container.bound(interval.upper + constant + slack, 1)


def _clouds(request: Request, problem: Problem) -> Clouds:
    """The points of a problem, as the caller gave them, and how others become features."""
    first, second = (request.inputs.points[side] for side in request.sides(problem.alpha, problem.beta))
    return Clouds(first, second, partial(request.inputs.features, request.cost))
