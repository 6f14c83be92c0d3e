"""The loop: one entropic transport problem in, one converged (or honestly unconverged) solution out.

The updates need no maximum: with the potentials in the exponent, the row sums of the Gibbs operator are
1 at convergence, and f ← f − ω ε log(row sums) is the log-domain Sinkhorn update extrapolated by ω.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..progress import Progress
from .acceleration import Acceleration
from .goal import Goal
from .iterate import Iterate
from .judged import Correction, Judged
from .problem import Problem
from .relaxation import Relaxations
from .strategy import FLOOR, LIMIT, Potentials
from .sums import Sums
from .updates import change, relaxed, within

STALL = 80
"""Evaluations without progress, near the floor of the precision, after which a solve gives up."""
NEAR = 100.0
"""Times ``tol`` from which plain cycles are tried: over-relaxed ones leave a residual of fast modes, which a
plain one takes away."""
HELD, HOLD = 20, 0.1
"""Cycles at a temperature of the annealing, at most, and the marginal error down to which it is held: over-relaxed
updates diverge from a start that is much worse."""
USELESS = 1.0
"""Marginal error (of 2 at most) from which on given potentials are not worth starting from."""
SMALL = 0.3
"""Marginal error from which on self problems are extrapolated."""
RELAXED = 20
"""Cycles of over-relaxed updates that are tried before Newton's steps, and twice as many before the next ones."""
CAUTION = 0.03
"""Share of the marginal error that Newton's matrix is shifted by: far from the solution it promises too much."""
GROWTH = 1.5
"""Growth of the marginal error that a step may have which raises the dual value."""
FAILURES = 4
"""Corrections undone in a row after which there are no more."""
JUDGED, PATIENT = 10, 150
"""Times that a value is found not to be right, at ever smaller marginal errors, after which a solve gives up; or after
as many cycles as it took to the first time, and so many more."""
STEPS, SLOW = 8, 0.5
"""Corrections in which the error falls by this factor at least; otherwise there are no more."""


class Solver(Judged):
    """Solves one problem; an object because a solve can be taken up again, finer or in higher precision.

    Parameters
    ----------
    problem : Problem
    goal : Goal
        When to stop.
    max_iter : int
        Cycles, at most.
    progress : Progress
        Told of every evaluation.
    before : Iterate, optional
        An earlier solve of the same problem, whose evaluations and history this one continues.
    sums : Sums, optional
        How row and column sums are found. Default: over all pairs.
    correction : Correction, optional
        Added to column updates for as long as it helps.
    newton : Correction, optional
        The same, where some over-relaxed updates have not been enough.
    patience : int, optional
        Evaluations without progress after which to give up. Default: 80, and only near the precision's floor.
    """

    def __init__(
        self,
        problem: Problem,
        goal: Goal,
        max_iter: int,
        progress: Progress,
        before: Iterate | None = None,
        sums: Sums | None = None,
        correction: Correction | None = None,
        newton: Correction | None = None,
        patience: int | None = None,
    ):
        super().__init__(problem, goal, progress, before, sums)
        self._smoother = correction
        self._best: tuple[float, tuple[Tensor, ...]] | None = None
        self.max_iter, self.correction, self.newton, self.patience = max_iter, correction, newton, patience
        self.cycles_before: int = before.cycles if before else 0

    def run(self, start: Potentials | None = None, otherwise: Potentials | None = None) -> str:
        """Solve, and return the status.

        From ``start``, unless that is useless: then from ``otherwise``, or by annealing.
        """
        status = self._run(start, otherwise)
        if status != "converged" and self._best is not None and not self.marginal_error <= self._best[0]:
            state = self.state
            state.f, state.g, state.log_rows, state.log_columns = self._best[1]
            self._note(self.problem.epsilon)
        return status

    def _run(self, start: Potentials | None, otherwise: Potentials | None) -> str:
        cycles = self._self_cycles if self.problem.is_self else self._cycles
        best, since, last = math.inf, 0, self.max_iter - (not self.problem.is_self)  # a plain cycle is to follow
        for error in cycles(start, otherwise):
            self._keep(error)
            if error <= self._target and self._is_right(error):
                return "converged"
            if self._needs_precision:
                return f"{FLOOR} {self.dtype} is reached"
            late = self._first is not None and self.cycles - self._first > PATIENT + self._first - self.cycles_before
            if self._judged >= JUDGED or late:
                return "the errors of value and potentials do not fall"
            if math.isnan(error):
                return "the marginal error is not a number"
            best, since = (error, 0) if error < 0.9 * best else (best, since + 1)
            if self.patience is not None and since >= self.patience:
                return "no progress is made"
            if since >= STALL and best < 10 * self.problem.floor():
                return f"{FLOOR} {self.dtype} is reached"
            if self._cycles_made >= last:
                return "converged" if self._at_last() else f"{LIMIT}{self.max_iter} is reached"
        raise AssertionError("the updates end only when told to")

    @property
    def _cycles_made(self) -> int:
        """By this solve."""
        return self.cycles - self.cycles_before

    def _keep(self, error: float) -> None:
        """The best state so far, for solves that do not converge."""
        state = self.state
        if error < (self._best[0] if self._best else math.inf):
            self._best = error, (state.f, state.g, state.log_rows, state.log_columns)

    def _at_last(self) -> bool:
        """Whether a plain cycle, which over-relaxed ones may be in need of, is all that was missing."""
        if self.problem.is_self or self._cycles_made >= self.max_iter:
            return False
        self._plain_cycle()
        error = self.marginal_error
        self._keep(error)
        return error <= self._target and self._is_right(error)

    # ------------------------------------------------------------------ updates

    def _cycles(self, start: Potentials | None, otherwise: Potentials | None) -> Iterator[float]:
        """Alternating updates: annealing, then corrected or over-relaxed ones; yields marginal errors.

        Between cycles the rows are exact and the columns' marginals are known.
        """
        error = math.inf if start is None else self._row_update(start)
        if not error <= USELESS:
            start, error = otherwise, self._row_update(otherwise or self._annealed())
        yield error
        if self.correction is not None:
            yield from self._corrected(self.correction, accelerated=True)
        limit = RELAXED if start is None else 0
        relaxations = Relaxations(self.state.f)
        while self.newton is not None:
            if limit:
                yield from self._relaxed(relaxations, limit)
                yield self._exact_rows()
            yield from self._corrected(self.newton, accelerated=False)
            limit = max(2 * limit, RELAXED)
        yield from self._relaxed(relaxations)

    def _annealed(self) -> Potentials:
        """Potentials after some cycles at each higher temperature, from zero."""
        state, problem = self.state, self.problem
        state.f, state.g = torch.zeros_like(problem.alpha.weights), torch.zeros_like(problem.beta.weights)
        for epsilon in problem.temperatures[:-1]:
            for _ in range(HELD):
                state.f, state.g = self._translated(state.f, state.g)
                error = self._update_rows(epsilon)
                state.g, _ = relaxed(problem.penalties[1], state.g, state.log_columns, 1.0, epsilon)
                if error <= HOLD or self._cycles_made >= self.max_iter:
                    break
        return state.f, state.g

    def _relaxed(self, relaxations: Relaxations, limit: float = math.inf) -> Iterator[float]:
        """Over-relaxed updates, for ``limit`` cycles."""
        state, epsilon, (rows, columns) = self.state, self.problem.epsilon, self.problem.penalties
        near, plain_cycles, last = NEAR * self.tol, 0, self.cycles + limit
        while True:
            omega = 1.0 if plain_cycles else relaxations.omega
            # The update multiplies column sums by known factors: that marginal needs no new sums.
            state.g, state.log_columns = relaxed(columns, state.g, state.log_columns, omega, epsilon)
            state.f, state.g = self._translated(state.f, state.g)
            yield self._find(0, epsilon)
            state.f, state.log_rows = relaxed(rows, state.f, state.log_rows, omega, epsilon)
            error = self._find(1, epsilon)
            yield error
            if self.cycles >= last:
                return
            if plain_cycles:
                plain_cycles -= 1
            elif error < near:
                plain_cycles, near = 2, 0.5 * error
            else:
                relaxations.observe(self.errors(epsilon))

    def _corrected(self, correction: Correction, accelerated: bool) -> Iterator[float]:
        """Column updates with a correction; ends where they do not help.

        A step that reduces neither the error nor the distance to the dual optimum is undone, and the next one is nearer
        to the plain update. Where the correction stays the same, steps are extrapolated from the last few.
        """
        state, epsilon, failures, caution = self.state, self.problem.epsilon, 0, CAUTION
        columns = self.problem.penalties[1]
        scale, acceleration = self.problem.beta.sizes.sqrt(), Acceleration()
        errors = [self.marginal_error]
        self._smoother, self._contraction = correction if accelerated else None, 0.5
        while failures < FAILURES and not (len(errors) > STEPS and errors[-1] > SLOW * errors[-1 - STEPS]):
            error, value = errors[-1], self.value()
            if error == 0.0:  # by chance, or as all mass is given up
                break
            before = state.f, state.g, state.log_rows, state.log_columns
            rho = self.missing(1, state.log_columns.clamp(max=50.0))
            smooth = correction.step(state.f, state.g, rho, caution * error)
            if smooth is None or not bool(smooth.isfinite().all()):
                break
            step = smooth + change(columns, state.g, state.log_columns, epsilon)
            g = acceleration.next(state.g, step, scale) if accelerated else state.g + step
            new = self._row_update((state.f, within(columns, g)))
            self._contraction = new / error
            yield new
            slack = epsilon * max(error**2, self.problem.floor())
            if new < GROWTH * error and self.value() > value - (slack if new < error else 0.0):
                failures, caution = 0, max(0.5 * caution, CAUTION)
                errors.append(new)
            else:
                failures, caution, acceleration = failures + 1, 8.0 * caution, Acceleration()
                state.f, state.g, state.log_rows, state.log_columns = before
        self._smoother = None

    def _exact_rows(self) -> float:
        """The plain update of f after over-relaxed ones, which have left known row sums."""
        state, epsilon, rows = self.state, self.problem.epsilon, self.problem.penalties[0]
        state.f, state.log_rows = relaxed(rows, state.f, state.log_rows, 1.0, epsilon)
        return self._find(1, epsilon)

    def _self_cycles(self, start: Potentials | None, otherwise: Potentials | None) -> Iterator[float]:
        """The symmetric fixed point, half the way of an update of f, extrapolated from the last few once it contracts.

        It contracts by two or more and needs no annealing: where the cost vanishes on the diagonal, no row sum
        underflows. That is so for costs whose kernel exp(−C/ε) is positive definite; with others it is seen whether
        it converges.
        """
        state, epsilon, best = self.state, self.problem.epsilon, math.inf
        penalty = self.problem.penalties[0]
        first = otherwise or (torch.zeros_like(state.f), torch.zeros_like(state.f))
        state.f = state.g = (start or first)[0]
        scale, acceleration = self.problem.alpha.sizes.sqrt(), Acceleration()
        while True:
            error = self._find(0, epsilon)
            if start is not None and not error <= USELESS:
                start, state.f = None, first[0]
                state.g = state.f
                continue
            start = None
            yield error
            if not error < min(best, SMALL):
                acceleration = Acceleration()
            best = error
            step = 0.5 * change(penalty, state.f, state.log_rows, epsilon)
            state.f = state.g = within(penalty, acceleration.next(state.f, step, scale))
