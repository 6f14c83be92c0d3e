"""Solving on until the value that was asked for is right: a divergence may be a small difference of three numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..certificates import Interval
from ..progress import Progress
from ..solver import Accuracy, Goal, Solved, rounding, share_of, value_error
from .narrowing import certified
from .problems import Problems
from .requests import Request

CLOSE = 0.1
"""A divergence below this many ε is solved on from the self problems' potentials."""
REFINEMENTS = 4
PART = 0.25
"""Of the error that a value may have, what one of its problems may have."""
PROGRESS = 0.5
"""What a refinement leaves of the error, at most, for another one to be tried."""
SMALLEST = 1e-12
"""Marginal error: sums have no more digits."""

Solutions = dict[str, Solved]


def nearest(request: Request) -> float:
    """What values count as so far from 0 at least: closer ones are refined."""
    return CLOSE * request.epsilon if request.epsilon < math.inf else 0.0


def is_right(off: Tensor, rounded: Tensor, value: Tensor, tol: float) -> Tensor:
    """Whether values are as right as ``tol`` asks for; rounding is nobody's failure."""
    return off <= share_of(tol) * value.abs() + 4.0 * rounded


def value_of(problems: Problems, solved: Solved) -> Tensor:
    """Of a problem as it is solved, at mass 1 if the marginals are fixed, in the form of the options."""
    if problems.request.options.form == "sharp":
        return problems.terms(solved.solver.problem).detached().sharp_value(*solved.potentials)
    return solved.solver.value()


def error_of(solved: Solved, sharp: bool) -> Tensor:
    """What a value is off by, with rounding; infinite where Newton's equation does not tell."""
    solver = solved.solver
    if solver.accuracy is None:
        return torch.full_like(solver.value(), math.inf)
    return value_error(solver, solver.accuracy, sharp) + rounding(solver, sharp)


def stated_error(problems: Problems, solved: Solved, sharp: bool, interval: Interval | None = None) -> Tensor:
    """What a value is off by, with rounding: by no more than the distance to the ends of a certified interval, which is
    found, and kept as the solver's accuracy, where Newton's equation does not tell."""
    solver = solved.solver
    if solver.problem.is_signed or solver.problem.whole:  # certificates are of all points, none of negative weight
        return error_of(solved, sharp)
    if solver.accuracy is None or not bool(solver.accuracy.value.isfinite().all()):
        interval = interval or certified(problems, solved)
        nothing = torch.zeros_like(solver.value())
        distance = _distance(solver.value(), interval)
        solver.accuracy = Accuracy(distance, nothing, nothing, nothing, solved.potentials, nothing)
    error = value_error(solver, solver.accuracy, sharp) + rounding(solver, sharp)
    return error if interval is None or sharp else error.minimum(_distance(solver.value(), interval))


def _distance(value: Tensor, interval: Interval) -> Tensor:
    """To the farther end."""
    return (interval.upper - value).abs().maximum((value - interval.lower).abs())


def refined(
    problems: Problems, solved: Solutions, shares: dict[str, float], offset: Tensor, bar: Progress
) -> Solutions:
    """Solved further, until Σ share · value + offset is right to `geomsink.solver.share_of` of ``tol``.

    Where a divergence is much below ε, the problem xy starts again from the self problems' potentials p and q, because
    D_xy(p, q) − ½ D_xx(p) − ½ D_yy(q) = ½ ε ‖α e^{p/ε} − β e^{q/ε}‖² in the norm of the kernel exp(−C/ε)
    cannot be negative, and updates raise D_xy from there (Feydy et al. 2019).
    """
    solved, options = dict(solved), problems.request.options
    sharp = options.form == "sharp"
    epsilon, share = problems.request.temperature, share_of(options.tol)
    if epsilon == math.inf:
        return solved
    before = torch.full_like(offset, math.inf)
    for _ in range(REFINEMENTS):
        parts = {name: (value_of(problems, one), error_of(one, sharp)) for name, one in solved.items()}
        value = sum((shares[name] * part[0] for name, part in parts.items()), offset)
        error = sum((abs(shares[name]) * part[1] for name, part in parts.items()), torch.zeros_like(value))
        rounded = torch.zeros_like(value)
        for name, one in solved.items():
            if problems.is_final(one):  # otherwise it is solved in a finer precision
                rounded = rounded + abs(shares[name]) * rounding(one.solver, sharp)
        allowed = (share * value.abs()).maximum(rounded)
        if not bool(error.isfinite().all()) or bool((error <= share * value.abs() + rounded).all()):
            break
        if not bool((error < PROGRESS * before).any()):
            break
        before = error
        close = len(solved) > 1 and bool((value < CLOSE * epsilon).any())
        for name in sorted(solved):  # self problems first
            one = solved[name]
            may = PART * allowed / abs(shares[name])
            start = one.potentials
            if close and name == "xy":
                start = solved["xx"].potentials[0], solved["yy"].potentials[0]
            elif bool((parts[name][1] <= may).all()):
                continue
            goal = Goal(options.tol, 0.0, least=may, sharp=sharp, sums=_needed(may, epsilon, sharp))
            problem = one.solver.problem
            solved[name] = problems.solve(f"{name}, refined", problem.alpha, problem.beta, bar, start, one, goal)
    return solved


def _needed(error: Tensor, epsilon: float, sharp: bool) -> float:
    """Marginal error at which a value is about right to ``error``: the dual value feels it in second order, and the
    transport cost in first."""
    relative = float(error.min()) / epsilon
    return max(relative if sharp else math.sqrt(relative), SMALLEST)
