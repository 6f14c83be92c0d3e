"""The three problems of a Sinkhorn divergence, solved together, and what the next comparison can use of them."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..counts import flag
from ..measures import Measure
from ..multiscale import TooFine
from ..path import nearest_cost
from ..processes import Group, Sharded, Traffic
from ..progress import Progress
from ..solver import Potentials, Solved, free_constant, rounding, share_of
from .narrowing import Intervals, combined, narrowed
from .options import Options
from .parts import CALL, asked, sketches_serve, tried_once
from .problems import Problems
from .refining import is_right, nearest, refined, stated_error
from .reports import solution_of
from .requests import Request
from .scales import SPACINGS
from .sharded import sharded_request
from .solution import ConvergenceWarning, Divergence, Scattered, Solution

FAR_BELOW = 0.01
"""Blurs, in spacings of the points, below which the spacing is named where a solve does not converge."""
SELF = 0.5
"""What a self problem takes of the time of the problem between the clouds, about."""
SHARES = {"xy": 1.0, "xx": -0.5, "yy": -0.5}
"""S_ε = OT_ε(α, β) − ½ OT_ε(α, α) − ½ OT_ε(β, β)."""


@tried_once
def transport(
    x: Any,
    y: Any,
    a: Any,
    b: Any,
    options: Options,
    index: tuple[Any, Any] = (None, None),
    init: Solution | tuple[Any, Any] | None = None,
    progress: bool = False,
    start: Potentials | None = None,
    group: Group | None = None,
) -> tuple[Solution, Potentials]:
    """`solve` with its options in one object, and without warnings; and potentials to give to the next call.

    These ``start`` it where they fit its points.
    """
    if group is None:
        request = Request.of(x, y, a, b, options, *index, sketches=True)
    else:
        request = sharded_request(x, y, a, b, options, index, group, "solve")
    problems, (alpha, beta) = Problems(request), (request.alpha, request.beta)
    start = _fitting(start, alpha, beta)
    if init is not None:
        given = init.potentials if isinstance(init, Solution) else init
        start = request.start("init", given, alpha, beta)
    offset = _constant_of_mass_1(request)
    with _progress(progress, group) as bar:
        if options.certified:
            bar.unforeseen()
        solved = problems.solve("xy", alpha, beta, bar, start, goal=problems.goal(-offset))
        interval, shortfall = None, ""
        if options.form == "sharp" and options.iterations is None:
            solved = refined(problems, {"xy": solved}, {"xy": 1.0}, 0.0 * offset, bar)["xy"]
        if options.certified:
            found, intervals, shortfall = narrowed(problems, {"xy": solved}, {"xy": 1.0}, offset, bar)
            solved, interval = found["xy"], intervals["xy"]
    solution = solution_of(problems, solved, interval)
    if shortfall:
        status = shortfall if solution.converged else f"{solution.status}; {shortfall}"
        solution = replace(solution, converged=False, status=status)
    return solution, solved.potentials


@dataclass(frozen=True)
class Memory:
    """What the next solve of the same loss can use of the last one: clouds that are the same need no new self problem.

    Attributes
    ----------
    problems : Problems
    xy, xx, yy : Solved
    """

    problems: Problems
    xy: Solved
    xx: Solved
    yy: Solved


@tried_once
def compare(
    x: Any,
    y: Any,
    a: Any,
    b: Any,
    options: Options,
    index: tuple[Any, Any] = (None, None),
    init: Divergence | None = None,
    progress: bool = False,
    memory: Memory | None = None,
    warm: bool = True,
    reuse: bool = True,
    group: Group | None = None,
) -> tuple[Divergence, Memory]:
    """`sinkhorn_divergence` with its options in one object, and without warnings.

    ``memory`` is of an earlier comparison with the same options, not unrolled: with ``reuse``, self problems of clouds
    that have not changed are taken from it, and with ``warm`` the others start from its potentials. The processes of a
    ``group`` all call it, each with its part of the clouds.
    """
    began, sent = time.perf_counter(), _sent_since(group)
    with asked(group):
        check_symmetric(options)
    kept = memory.problems.request.inputs.centre if memory is not None and reuse else None
    how = (began, sent, init, progress, memory, warm, reuse, group)
    if group is None:
        return _compared(Request.of(x, y, a, b, options, *index, centre=kept, sketches=True), *how)
    dealt = memory is not None and memory.problems.request.sharded
    if not dealt and sketches_serve(x, y, options):
        try:
            return _compared(Request.over(group, x, y, a, b, options, index, init, kept), *how)
        except TooFine:  # on all processes
            if options.multiscale:
                raise
    return _compared(sharded_request(x, y, a, b, options, index, group, CALL, kept), *how)


def _compared(
    request: Request,
    began: float,
    sent: Traffic | None,
    init: Divergence | None,
    progress: bool,
    memory: Memory | None,
    warm: bool,
    reuse: bool,
    group: Group | None,
) -> tuple[Divergence, Memory]:
    """The three problems of a request, solved and reported."""
    options = request.options
    problems, same = Problems(request), (False, False)
    if memory is not None and reuse:
        problems, unchanged = problems.adopting(memory.problems)
        good = [s.solver.marginal_error <= options.tol for s in (memory.xx, memory.yy)]
        same = unchanged[0] and good[0], unchanged[1] and good[1]
    request = problems.request
    alpha, beta, container = request.alpha, request.beta, request.container
    starts = _starts(request, init)
    if memory is not None and warm:
        starts = {**_warm_starts(request, memory), **{name: start for name, start in starts.items() if start}}
    with _progress(progress, group) as bar:
        if options.certified:
            bar.unforeseen()
        bar.parts([SELF * (not same[0]), SELF * (not same[1]), 1.0])
        xx = memory.xx if memory and same[0] else problems.solve("xx, 1 of 3", alpha, alpha, bar, starts["xx"])
        equal = _are_equal(request)
        if equal and starts["yy"] is None:  # the three problems are one, and S = 0
            starts["yy"] = xx.potentials
        bar.part(1)
        yy = memory.yy if memory and same[1] else problems.solve("yy, 2 of 3", beta, beta, bar, starts["yy"])
        if equal:  # yy has gone on from there, and gradients are differences as well
            xx = problems.solve("xx, 1 of 3", alpha, alpha, bar, yy.potentials, xx)
            starts["xy"] = xx.potentials if starts["xy"] is None else starts["xy"]
        offset = torch.zeros_like(request.mass)
        if options.form == "entropic":
            offset = difference_of_masses(request).detach()
        others = 0.5 * (xx.solver.value() + yy.solver.value()) - offset
        goal = replace(problems.goal(others, nearest(request)), further=not equal)
        bar.part(2)
        xy = problems.solve("xy, 3 of 3", alpha, beta, bar, starts["xy"], goal=goal)
        solved, shortfall = {"xy": xy, "xx": xx, "yy": yy}, ""
        if options.iterations is None and not equal:
            solved = refined(problems, solved, SHARES, offset, bar)
        intervals: Intervals = {}
        if options.certified:
            solved, intervals, shortfall = narrowed(problems, solved, SHARES, offset, bar)
    solutions = {name: solution_of(problems, one, intervals.get(name)) for name, one in solved.items()}
    # In float64, whatever the caller's precision: the three nearly cancel.
    parts = [s.plan.sharp() if options.form == "sharp" else s.in_difference for s in solutions.values()]
    value = parts[0] - 0.5 * parts[1] - 0.5 * parts[2]
    if options.form == "entropic":
        value = value + difference_of_masses(request)
    lower, upper = None, None
    if options.certified:
        scaled = {name: s.interval for name, s in solutions.items() if s.interval is not None}
        interval = combined(scaled, SHARES, offset)
        lower, upper = container.bound(interval.lower, -1), container.bound(interval.upper, 1)
    off, rounded = torch.zeros_like(request.mass), torch.zeros_like(request.mass)
    mass, sharp = request.mass if options.balanced else torch.ones_like(request.mass), options.form == "sharp"
    for name, one in solved.items():
        off = off + abs(SHARES[name]) * mass * stated_error(problems, one, sharp, intervals.get(name))
        rounded = rounded + abs(SHARES[name]) * mass * rounding(one.solver, sharp)
    if equal:
        value, off = value - value.detach(), torch.zeros_like(off)
    if not sharp:  # what rounding has put below 0 is 0
        found = value.detach()
        value = value - torch.where((found < 0.0) & (found >= -rounded), found, 0.0)
    if not shortfall and request.epsilon < math.inf and all(s.converged for s in solutions.values()):
        shortfall = inexact(off, rounded, value.detach(), options.tol)
    divergence = Divergence(
        container.number(value),
        options.form,
        **solutions,
        epsilon=request.epsilon,
        engine=solutions["xy"].engine,
        dtype=solutions["xy"].dtype,
        seconds=time.perf_counter() - began,
        lower=lower,
        upper=upper,
        value_error=container.error(off, value.detach()),
        shortfall=shortfall,
        traffic=_sent_since(group, sent),
    )
    return divergence, Memory(problems.constant(), **solved)


def _progress(wanted: bool, group: Group | None) -> Progress:
    """Shown by one process."""
    return Progress(flag("progress", wanted) and (group is None or group.rank == 0))


def _sent_since(group: Group | None, before: Traffic | None = None) -> Traffic | None:
    """What a process of a group has sent, after what it had sent before."""
    if group is None:
        return None
    return group.traffic.since(before or Traffic())


def inexact(off: Tensor, rounded: Tensor, value: Tensor, tol: float) -> str:
    """Why a value is less right than ``tol`` asks for, or nothing."""
    if bool(is_right(off, rounded, value, tol).all()):
        return ""
    worst = float((off / value.abs().clamp(min=1e-300)).max())
    return f"the value may be off by {worst:.1e} of itself, and tol asks for {share_of(tol):.1e}"


def _are_equal(request: Request) -> bool:
    """Whether the two measures are, and their penalties, in a problem that is solved."""
    alpha, beta, options = request.alpha, request.beta, request.options
    first, second = options.penalties
    if options.iterations is not None or first != second:
        return False
    equal = torch.equal(alpha.points, beta.points) and torch.equal(alpha.weights, beta.weights)
    return equal if request.whole is None else request.whole.agrees(equal)


def _constant_of_mass_1(request: Request) -> Tensor:
    """`free_constant` of fixed marginals for each unit of mass."""
    if not request.options.balanced or request.epsilon == math.inf:
        return torch.zeros_like(request.mass)
    return free_constant(request.mass, request.epsilon)[0] / request.mass


def difference_of_masses(request: Request) -> Tensor:
    """½ ε (m_a − m_b)², which the three problems leave out of a divergence with penalties; otherwise 0."""
    inputs = request.inputs
    if request.options.balanced:
        return torch.zeros_like(request.mass)
    return 0.5 * inputs.epsilon * (inputs.masses[0] - inputs.masses[1]) ** 2


def check_symmetric(options: Options) -> None:
    """Refuse a cost that cannot be debiased."""
    if not options.ground.symmetric:
        name = options.ground.name
        raise ValueError(f"cost: {name!r} is not symmetric, and a divergence compares a cloud with itself.")


def _warm_starts(request: Request, memory: Memory) -> dict[str, Potentials | None]:
    """The last potentials, where there are as many points."""
    alpha, beta = request.alpha, request.beta
    starts = {
        "xy": _fitting(memory.xy.potentials, alpha, beta),
        "xx": _fitting(memory.xx.potentials, alpha, alpha),
        "yy": _fitting(memory.yy.potentials, beta, beta),
    }
    if request.whole is None:
        return starts
    return {name: start if request.whole.agrees(start is not None) else None for name, start in starts.items()}


def _fitting(start: Potentials | None, alpha: Measure, beta: Measure) -> Potentials | None:
    """Potentials, if they are of so many points and on the same device."""
    if start is None:
        return None
    pairs = zip(start, (alpha.weights, beta.weights), strict=True)
    return start if all(_alike(h, w) for h, w in pairs) else None


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are of so many numbers, on the same device, and dealt out alike."""
    places = [t.parts if isinstance(t, Sharded) else None for t in (one, other)]
    return one.shape == other.shape and one.device == other.device and places[0] == places[1]


def _starts(request: Request, init: Divergence | None) -> dict[str, Potentials | None]:
    """Potentials to start the three problems from."""
    alpha, beta = request.alpha, request.beta
    if init is None:
        return {"xy": None, "xx": None, "yy": None}
    if not isinstance(init, Divergence):
        raise TypeError(f"init: a {type(init).__name__} was given, expected an earlier Divergence.")
    return {
        "xy": request.start("init.xy", init.xy.potentials, alpha, beta),
        "xx": request.start("init.xx", init.xx.potentials, alpha, alpha),
        "yy": request.start("init.yy", init.yy.potentials, beta, beta),
    }


def warn_of(solutions: dict[str, Solution], options: Options, stacklevel: int = 5, shortfall: str = "") -> None:
    """Say which problems did not converge; a chosen number of iterations is nobody's failure."""
    if shortfall:
        warnings.warn(f"not converged, {shortfall}.", ConvergenceWarning, stacklevel=stacklevel)
    for name, s in solutions.items():
        if not s.converged and options.iterations is None:
            warnings.warn(
                f"{name}not converged, {s.status}: the marginal error is {s.marginal_error:.2e}, tol is {s.tol:.2e}, "
                f"and the value may be off by {_largest(s.value_error):.1e}.{_too_cold(s)}",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )


def warn_of_pairs(wrong: int, of: int, options: Options, stacklevel: int = 5) -> None:
    """Say how many values of a matrix did not converge."""
    if wrong:
        warnings.warn(
            f"{wrong:,} of {of:,} values are not converged: see solved, marginal_errors and value_errors; tol is "
            f"{options.tol:.2e}.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def _too_cold(solution: Solution) -> str:
    """Where the blur is far below the spacing of the points, of a batch in its first item, a sentence that says so."""
    if isinstance(solution.plan, Scattered):
        return ""
    terms, degree = solution.plan.terms, solution.plan.terms.cost.degree
    if degree is None or not solution.epsilon < math.inf or isinstance(terms.x, Sharded):
        return ""
    sides, unit = ((terms.x, terms.a), (terms.y, terms.b)), terms.cost.unit
    nearest = min(nearest_cost(x.detach(), w.detach(), terms.cost) for x, w in sides)
    spacing = (nearest / unit) ** (1.0 / degree)
    blur = (solution.epsilon / (unit * degree)) ** (1.0 / degree)
    if not blur < FAR_BELOW * spacing:
        return ""
    better = SPACINGS * spacing
    return f" The blur, {blur:.2g}, is far below the spacing of the points, about {spacing:.2g}: try blur={better:.2g}."


def _largest(numbers: Any) -> float:
    """Of a number or of those of a batch."""
    return float(numbers.max()) if hasattr(numbers, "max") else float(numbers)
