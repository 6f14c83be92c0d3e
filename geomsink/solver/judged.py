"""Whether a value is as right as it should be, and Newton's steps where it is not."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..choose import plan_is_stored
from ..progress import Progress
from .accuracy import Accuracy
from .decrement import accuracy, by_contraction, of_self, rounding, spread_of_potentials, unknown, value_error
from .goal import LOOSE, Goal
from .iterate import Iterate
from .problem import Problem
from .sums import FullSums, Sums
from .updates import relaxed, translated, within

POLISHED = 10
"""A plain cycle and Newton's steps in a row, at most, where the marginal error is small and the value is not right."""
ROUNDED = 100.0
"""Marginal error, in units of the floor, up to which potentials are as right as they can be."""
LENGTHS = 5.0, 1.0
"""Falls of entries of the plan to which Newton's steps are cut, one after the other until one is of use."""
FURTHER = 0.1
"""Error of potentials, in units of ``tol`` and of their spread, from which on one more step follows a value that is
right: gradients are of first order in what the value is of second order in. It is 0.3 to 3 between clusters that
exchange little mass, and where marginal errors end near ``tol``, which a step makes a thousand times smaller; elsewhere
it is less than 0.08. However large the spread, entries of the plan are off by no more than `LOOSE` is, relatively."""
TIGHTER = 0.3
"""Share of a marginal error, at which the value was not right, to go on to."""


class Correction(Protocol):
    """What a column update leaves out and can be found elsewhere: the smooth part of Newton's step."""

    def step(self, f: Tensor, g: Tensor, rho: Tensor, shift: float) -> Tensor | None:
        """To be added to g, beside the plain update, after an update of the rows has left the columns' marginal
        short of ρ, shape (M,); less of it the larger ``shift`` is."""
        ...

    @property
    def left(self) -> float:
        """Mass that the last step leaves uncorrected, as far as it knows."""
        ...


class Judged(Iterate):
    """An iterate that knows what it is to reach, and makes plain updates and Newton's steps.

    Parameters
    ----------
    problem, progress, before, sums
        See `Iterate`.
    goal : Goal
        When to stop.
    """

    def __init__(self, problem: Problem, goal: Goal, progress: Progress, before: Iterate | None, sums: Sums | None):
        super().__init__(problem, goal.tol, progress, before, sums)
        self.goal, self._target = goal, goal.tol
        self._smoother: Correction | None = None
        self._contraction, self._needs_precision, self._judged = 0.5, False, 0
        self._first: int | None = None

    def _is_right(self, error: float) -> bool:
        """Whether the value is as right as it should be: after some of Newton's steps, if it is not at once.

        Otherwise the marginal error to go on to is lower.
        """
        if not self.goal.asks_for_values:
            return True
        for k in range(POLISHED):
            right, found = self._judge()
            if right:
                self._go_further(found)
                return True
            if found is None:
                return False
            if k == 0 and not self.problem.is_self:  # over-relaxed updates leave what a plain one takes away
                self._plain_cycle()
            elif not self._newton_step(found):
                break
        self._first = self.cycles if self._first is None else self._first
        self._target, self._judged = TIGHTER * min(self._target, error), self._judged + 1
        return False

    def _go_further(self, found: Accuracy | None) -> None:
        """One more step from potentials that are looser than most, in the mean or at a point that weighs little, if
        marginals stay as right as they should be."""
        if found is None or self.problem.is_self or not self.goal.further:  # updates of self problems have no slow ways
            return
        spread = spread_of_potentials(self)
        largest = torch.stack([h.abs().amax(-1) for h in found.step]).amax(0)
        loose = (found.potentials > self.tol * (FURTHER * spread).clamp(max=LOOSE)) | (largest > self.tol * spread)
        if not bool(loose.any()):
            return
        state = self.state
        before = state.f, state.g, state.log_rows, state.log_columns
        self._newton_step(found)
        if self.marginal_error > self.tol:
            state.f, state.g, state.log_rows, state.log_columns = before

    def _judge(self) -> tuple[bool, Accuracy | None]:
        """Whether marginals and value are as right as they should be, and what was found; nothing, where a finer
        precision is needed to tell."""
        goal, rounded = self.goal, rounding(self, self.goal.sharp)
        allowed = goal.allowed(self.value(), rounded)
        if not goal.final and bool((allowed <= rounded).any()):
            self._needs_precision = True
            return False, None
        found = self._accuracy(allowed)
        right = value_error(self, found, goal.sharp) <= allowed
        known = found.potentials <= LOOSE * goal.tol * spread_of_potentials(self)
        if self.marginal_error <= ROUNDED * self.problem.floor():
            known = known | found.potentials.isfinite()
        right = right & known
        if self.marginal_error <= self.tol and bool(right.all()):
            self.accuracy = found
            return True, found
        return False, found

    def _accuracy(self, allowed: Tensor) -> Accuracy:
        problem, state = self.problem, self.state
        pair, full = problem.pair, isinstance(self.sums, FullSums)
        stored = full and plan_is_stored(problem.pairs, pair.name, pair.x.device)
        if problem.is_self and pair.cost.quadratic is not None and not stored:
            return of_self(self)
        if self._smoother is not None and not stored:
            surplus = self.surplus(1, state.log_columns.clamp(max=50.0))
            smooth = self._smoother.step(state.f, state.g, -problem.beta.weights * surplus, 0.0)
            if smooth is not None and bool(smooth.isfinite().all()):
                found = by_contraction(self, surplus, smooth, self._contraction, self._smoother.left)
                if problem.is_signed or bool((found.value <= allowed).all()):
                    return found
        if problem.is_signed:  # and Newton's matrix may not be positive
            return unknown(self)
        return accuracy(self, allowed, None if full else self.sums, self.goal.sharp)

    def _plain_cycle(self) -> None:
        state, epsilon, columns = self.state, self.problem.epsilon, self.problem.penalties[1]
        state.g, _ = relaxed(columns, state.g, state.log_columns, 1.0, epsilon)
        self._row_update((state.f, state.g))

    def _newton_step(self, found: Accuracy) -> bool:
        """Newton's step, shorter where entries of the plan would fall too far; whether it was of use.

        It raises the value; or, where that is nothing beside rounding, it lowers the marginal error.
        """
        state, problem, penalties = self.state, self.problem, self.problem.penalties
        before, value = (state.f, state.g, state.log_rows, state.log_columns), self.value()
        errors, rounded = self.marginal_errors(problem.epsilon), rounding(self)
        if not bool((found.value > 0.0).any()):
            return False
        for most in LENGTHS:
            length = (problem.epsilon * (most / found.fall.clamp(min=1e-300)).clamp(max=1.0))[..., None]
            f, g = (within(p, h + length * step) for p, h, step in zip(penalties, before[:2], found.step, strict=True))
            if problem.is_self:
                state.f = state.g = f
                self._find(0, problem.epsilon)
            else:
                self._row_update((f, g))
            gain = self.value() - value
            better = (gain > rounded) | ((gain >= -rounded) & (self.marginal_errors(problem.epsilon) < errors))
            after = state.f, state.g, state.log_rows, state.log_columns
            chosen = [torch.where(better[..., None], new, old) for new, old in zip(after, before, strict=True)]
            state.f, state.g, state.log_rows, state.log_columns = chosen
            if bool(better.any()) or bool((found.fall <= LENGTHS[-1]).all()):
                return bool(better.any())
        return False

    def _row_update(self, potentials: tuple[Tensor, Tensor]) -> float:
        """The plain update of f, and the error that it leaves."""
        self.state.f, self.state.g = self._translated(*potentials)
        return self._update_rows(self.problem.epsilon)

    def _update_rows(self, epsilon: float) -> float:
        """The same at a temperature, of potentials as they are."""
        state, rows = self.state, self.problem.penalties[0]
        state.f, state.log_rows = relaxed(rows, state.f, self._log_rows(epsilon), 1.0, epsilon)
        return self._find(1, epsilon)

    def _complete(self) -> None:
        """Potentials of points without weight, which nothing else depends on, by sums over all pairs."""
        state, epsilon, (rows, columns) = self.state, self.problem.epsilon, self.problem.penalties
        weightless = [m.sizes <= 0.0 for m in (self.problem.alpha, self.problem.beta)]
        if bool(weightless[1].any()):
            found = relaxed(columns, state.g, self.full_sums.log_columns(state.f, state.g, epsilon), 1.0, epsilon)
            state.g = torch.where(weightless[1], found[0], state.g)
            state.log_columns = torch.where(weightless[1], found[1], state.log_columns)
        if bool(weightless[0].any()):
            found = relaxed(rows, state.f, self.full_sums.log_rows(state.f, state.g, epsilon), 1.0, epsilon)
            state.f = torch.where(weightless[0], found[0], state.f)
            state.log_rows = torch.where(weightless[0], found[1], state.log_rows)

    def _translated(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        problem = self.problem
        return translated(problem.penalties, (problem.alpha, problem.beta), f, g)
