"""Certified intervals of solved problems, and solving on until they are as narrow as the caller wants."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..certificates import Interval, Sides, certify
from ..choose import ROUNDING, by_products, certified_precision, skips_pairs
from ..progress import Progress
from ..solver import Solved
from .problems import Problems

SKIPPED = 1e-3
"""Of the marginal error that a solve left, what truncation may leave out of a row sum, about."""
ROUNDS = 8
"""Times that problems are solved further."""
MARGIN, LEAP = 0.3, 1e-2
"""Widths are of first order in the marginal error: a problem is solved on until its own should be this share of what it
may have; in steps of a factor of at most so much."""
FINEST = 1e-13
"""Marginal error below which float64 has nothing to give."""

Solutions = dict[str, Solved]
Intervals = dict[str, Interval]


def sides_of(problems: Problems, solved: Solved, dtype: torch.dtype | None = None) -> Sides:
    """What certificates ask of a solved problem, in a precision or else in the solver's.

    In float64 where it is not known how far the rounding of points, or of costs, puts them off, and where that costs
    little.
    """
    problem, cost, request = solved.solver.problem, problems.request.cost, problems.request
    endless = problem.epsilon == math.inf
    products = by_products(problem.pair.x.shape[-1], cost.quadratic is not None)  # round in ways of their own
    # Roots and quotients of CUDA's fast math have no bound here; squares are as exact as on a CPU.
    bounded = cost.quadratic is not None or problem.pair.x.device.type == "cpu"
    known = cost.modulus is not None and not products and not endless and bounded
    dtype = dtype or certified_precision(problem.pairs, problem.pair.x.dtype, known)
    pair = problems.pair(problem.alpha, problem.beta, dtype)
    far = cost.lower_bound is not None and not endless
    if not skips_pairs(problem.pairs, request.container.device, far, request.batched or request.sharded):
        return Sides.full(problem, pair)
    clouds = problems.cloud(problem.alpha), problems.cloud(problem.beta)
    skipped = SKIPPED * max(solved.solver.marginal_error, ROUNDING[torch.float64])
    return Sides.truncated(problem, pair, clouds, skipped, request.options.engine)


def certified(problems: Problems, solved: Solved, dtype: torch.dtype | None = None) -> Interval:
    """Of the value of a solved problem."""
    sides, epsilon = sides_of(problems, solved, dtype), problems.request.epsilon
    interval = certify(sides, *solved.potentials)
    if sides.problem.epsilon == math.inf and epsilon < math.inf:
        # OT_ε is below the limit by at most range(C)²/8ε, of Hoeffding's lemma.
        interval = replace(interval, lower=interval.lower - sides.cost_range() ** 2 / (8.0 * epsilon))
    return interval


def narrowed(
    problems: Problems, solved: Solutions, shares: dict[str, float], offset: Tensor, bar: Progress
) -> tuple[Solutions, Intervals, str]:
    """Intervals of all; and solved on, if ``tol_gap`` is given, until the interval of their sum is narrow.

    Parameters
    ----------
    problems : Problems
    solved : dict of Solved
    shares : dict of float
        The sum that is wanted has these factors.
    offset : Tensor, shape () or (B,)
        And this is added to it, for problems as they are solved.
    bar : Progress

    Returns
    -------
    The solved problems, their intervals, and why that of the sum is wider than asked for; or nothing.
    """
    solved, intervals = dict(solved), {name: certified(problems, one) for name, one in solved.items()}
    wanted = problems.request.options.tol_gap
    if wanted is None:
        return solved, intervals, ""
    precisions: dict[str, torch.dtype | None] = dict.fromkeys(solved)
    for k in range(ROUNDS + 1):
        total = combined(intervals, shares, offset)
        allowed = wanted * (0.5 * (total.lower + total.upper)).abs()
        if bool((total.gap <= allowed).all()):
            return solved, intervals, ""
        if k == ROUNDS:
            break
        changed = False
        for name, one in solved.items():
            may = MARGIN * 2.0 * allowed / len(solved) / abs(shares[name])
            better = _narrower(problems, name, one, intervals[name], may, precisions[name], bar)
            solved[name], interval, precisions[name] = better
            changed |= interval is not intervals[name]
            intervals[name] = interval
        if not changed:
            break
    if bool(((total.lower <= 0.0) & (total.upper >= 0.0)).any()):
        width = float(total.gap.max())
        why = f"the certified interval is {width:.2e} wide and contains 0, and tol_gap is relative to the value"
        return solved, intervals, why
    relative = float((total.gap / (0.5 * (total.lower + total.upper)).abs()).max())
    return solved, intervals, f"the certified interval is {relative:.2e} wide, relative, and tol_gap is {wanted:.2e}"


def combined(intervals: Intervals, shares: dict[str, float], offset: Tensor) -> Interval:
    """Of a sum of numbers, with factors, and of an offset."""
    total = Interval(offset, offset, torch.zeros_like(offset))
    for name, share in shares.items():
        total = total.plus(intervals[name], share)
    return total


def _narrower(
    problems: Problems,
    name: str,
    solved: Solved,
    interval: Interval,
    may: Tensor,
    precision: torch.dtype | None,
    bar: Progress,
) -> tuple[Solved, Interval, torch.dtype | None]:
    """A solved problem with an interval that is narrower, if it may only be so wide; and the precision of its sums."""
    error, excess = solved.solver.marginal_error, float((interval.gap / may).max())
    unchanged = solved, interval, precision
    if excess <= 1.0:
        return unchanged
    if precision is None and bool((interval.uncertain > 0.5 * may).any()):
        return solved, certified(problems, solved, torch.float64), torch.float64
    target = max(error * max(1.0 / excess, LEAP), FINEST)
    if error <= FINEST or target >= error:
        return unchanged
    problem, goal = solved.solver.problem, replace(problems.goal(), tol=target)
    again = problems.solve(f"{name}, narrowed", problem.alpha, problem.beta, bar, solved.potentials, solved, goal)
    closer = certified(problems, again, precision)
    return (again, closer, precision) if float(closer.gap.max()) < float(interval.gap.max()) else unchanged
