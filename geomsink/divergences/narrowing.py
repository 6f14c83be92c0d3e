"""Certified intervals of solved problems, and solving on until they are as narrow as the caller wants."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..certificates import Interval, Sides, certify
from ..costs import MANY
from ..multiscale import PAYS
from ..progress import Progress
from ..solver import ROUNDING
from .problems import Setup, Solved

CHEAP = 2**28
"""Pairs up to which sums are in float64 at once: rounding is most of the width of intervals that float32 gives."""
SKIPPED = 1e-3
"""Of the marginal error that a solve left, what truncation may leave out of a row sum, about."""
ROUNDS = 8
"""Times that problems are solved further."""
MARGIN, LEAP = 0.3, 1e-2
"""Widths are of first order in the marginal error: a problem is solved on until its own should be this share of what it
may have; in steps of a factor of at most so much."""
FINEST = 1e-13
"""Marginal error below which float64 has nothing to give."""

Problems = dict[str, Solved]


def sides_of(setup: Setup, solved: Solved, dtype: torch.dtype | None = None) -> Sides:
    """What certificates ask of a solved problem, in a precision or else in the solver's.

    In float64 where it is not known how far the rounding of points puts the cost off, and where that costs little.
    """
    problem, cost = solved.solver.problem, setup.cost
    endless = problem.epsilon == math.inf
    products = cost.quadratic is not None and problem.pair.x.shape[-1] >= MANY  # round in ways of their own
    known = cost.modulus is not None and not products and not endless
    pairs = problem.alpha.weights.numel() * problem.beta.weights.shape[-1]
    if dtype is None:
        dtype = problem.pair.x.dtype if pairs > CHEAP and known else torch.float64
    pair = setup.pair_of(problem.alpha, problem.beta, dtype)
    if not setup.on_cpu or pairs < PAYS or cost.lower_bound is None or endless:
        return Sides.full(problem, pair)
    clouds = setup.cloud(problem.alpha), setup.cloud(problem.beta)
    skipped = SKIPPED * max(solved.solver.marginal_error, ROUNDING[torch.float64])
    return Sides.truncated(problem, pair, clouds, skipped, setup.options.engine)


def certified(setup: Setup, solved: Solved, dtype: torch.dtype | None = None) -> Solved:
    """A solved problem with an interval of its value."""
    sides = sides_of(setup, solved, dtype)
    interval = certify(sides, *solved.potentials)
    if sides.problem.epsilon == math.inf and setup.epsilon < math.inf:
        # OT_ε is below the limit by at most range(C)²/8ε, of Hoeffding's lemma.
        interval = replace(interval, lower=interval.lower - sides.cost_range() ** 2 / (8.0 * setup.epsilon))
    return replace(solved, interval=interval)


def narrowed(
    setup: Setup, problems: Problems, shares: dict[str, float], offset: Tensor, bar: Progress
) -> tuple[Problems, str]:
    """All problems with intervals; solved on, if ``tol_gap`` is given, until the interval of their sum is narrow.

    Parameters
    ----------
    setup : Setup
    problems : dict of Solved
    shares : dict of float
        The sum that is wanted has these factors.
    offset : Tensor, shape () or (B,)
        And this is added to it, for problems as they are solved.
    bar : Progress

    Returns
    -------
    The problems, and why the interval is wider than asked for; or nothing.
    """
    problems = {name: certified(setup, solved) for name, solved in problems.items()}
    wanted = setup.options.tol_gap
    if wanted is None:
        return problems, ""
    precisions: dict[str, torch.dtype | None] = dict.fromkeys(problems)
    for k in range(ROUNDS + 1):
        total = combined({name: solved.interval for name, solved in problems.items()}, shares, offset)
        allowed = wanted * (0.5 * (total.lower + total.upper)).abs()
        if bool((total.gap <= allowed).all()):
            return problems, ""
        if k == ROUNDS:
            break
        changed = False
        for name, solved in problems.items():
            may = MARGIN * 2.0 * allowed / len(problems) / abs(shares[name])
            better, precisions[name] = _narrower(setup, name, solved, may, precisions[name], bar)
            changed |= better is not solved
            problems[name] = better
        if not changed:
            break
    if bool(((total.lower <= 0.0) & (total.upper >= 0.0)).any()):
        width = float(total.gap.max())
        return (
            problems,
            f"the certified interval is {width:.2e} wide and contains 0, and tol_gap is relative to the value",
        )
    relative = float((total.gap / (0.5 * (total.lower + total.upper)).abs()).max())
    return problems, f"the certified interval is {relative:.2e} wide, relative, and tol_gap is {wanted:.2e}"


def combined(intervals: dict[str, Interval | None], shares: dict[str, float], offset: Tensor) -> Interval:
    """Of a sum of numbers, with factors, and of an offset."""
    total = Interval(offset, offset, torch.zeros_like(offset))
    for name, share in shares.items():
        interval = intervals[name]
        assert interval is not None
        total = total.plus(interval, share)
    return total


def _narrower(
    setup: Setup, name: str, solved: Solved, may: Tensor, precision: torch.dtype | None, bar: Progress
) -> tuple[Solved, torch.dtype | None]:
    """A problem with an interval that is narrower, if it may only be so wide; and the precision of its sums."""
    interval, error = solved.interval, solved.solver.marginal_error
    assert interval is not None
    excess = float((interval.gap / may).max())
    if excess <= 1.0:
        return solved, precision
    if precision is None and bool((interval.uncertain > 0.5 * may).any()):
        return certified(setup, solved, torch.float64), torch.float64
    target = max(error * max(1.0 / excess, LEAP), FINEST)
    if error <= FINEST or target >= error:
        return solved, precision
    problem = solved.solver.problem
    finer = replace(setup, tol=target)
    again = finer.solve(f"{name}, narrowed", problem.alpha, problem.beta, bar, solved.potentials, solved)
    again = certified(finer, again, precision)
    assert again.interval is not None
    if float(again.interval.gap.max()) < float(interval.gap.max()):
        return again, precision
    return solved, precision
