"""Where a solve stands: potentials, what is known of their marginals, and all that follows from these."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..engine import Gibbs
from ..progress import Progress
from .accuracy import Accuracy
from .hot import is_hot, value_when_hot
from .penalties import Balanced
from .problem import Problem, Step
from .sums import Approximation, FullSums, Sums, read
from .updates import relaxed, residual

Made = TypeVar("Made")

LEAST = 1e-290
"""Transported mass below which marginal errors are relative to this."""
TOLD = 7.0
"""log of a density over the faintest one that a potential tells, from which on that is no rounding."""


@dataclass
class State:
    """Potentials (float64) and what is known of their marginals, log(P1 / a) and log(Pᵀ1 / b): at the optimum of
    fixed marginals zero."""

    f: Tensor
    g: Tensor
    log_rows: Tensor
    log_columns: Tensor


class Iterate:
    """The present state of a solve, its marginal errors, its dual value and its plan.

    Parameters
    ----------
    problem : Problem
    tol : float
        Marginal error that is wanted, relative to the mass.
    progress : Progress
        Told of every evaluation.
    before : Iterate, optional
        An earlier solve of the same problem, whose evaluations and history this one continues.
    sums : Sums, optional
        How row and column sums are found. Default: over all pairs.

    Attributes
    ----------
    allowance : float, or Tensor, shape () or (B,)
        What the sums may be off by, as a marginal error.
    missing_mass : float
        What they are found to leave out of the plan's mass.
    accuracy : Accuracy, or None
        How wrong the value is, where that is known.
    """

    def __init__(
        self, problem: Problem, tol: float, progress: Progress, before: Iterate | None = None, sums: Sums | None = None
    ):
        self.problem, self.tol, self.progress = problem, tol, progress
        self.sums = sums or FullSums(problem.pair, problem.alpha, problem.beta)
        self.history: list[Step] = list(before.history) if before else []
        self.evaluations: int = before.evaluations if before else 0
        zeros = torch.zeros_like
        a, b = problem.alpha.weights, problem.beta.weights
        self.state = State(zeros(a), zeros(b), zeros(a), zeros(b))
        self.allowance: Tensor | float = 0.0
        self._of: tuple[Any, ...] = (None,) * 5
        self._made = dict[Hashable, Any]()
        self.missing_mass = 0.0
        self.approximation: Approximation | None = None
        self.accuracy: Accuracy | None = None

    def load(self, f: Tensor, g: Tensor, cycles: int) -> None:
        """Take potentials that were found elsewhere, in so many cycles, and find their marginals."""
        epsilon, per_cycle = self.problem.epsilon, 1 if self.problem.is_self else 2
        self.state.f, self.state.g = f, g
        if not self.problem.is_self:
            self.state.log_rows = self._log_rows(epsilon)
        self.evaluations = cycles * per_cycle - 1
        self._find(1, epsilon)

    def take(self, f: Tensor, g: Tensor, evaluations: int) -> None:
        """Take potentials whose marginals are known to be right, found by so many evaluations."""
        self.state.f, self.state.g = f, g
        self.evaluations += evaluations
        self._note(self.problem.epsilon)

    @property
    def cycles(self) -> int:
        """Updates of both potentials so far; a self problem's single update is one."""
        return self.evaluations if self.problem.is_self else (self.evaluations + 1) // 2

    @property
    def dtype(self) -> str:
        return str(self.problem.pair.x.dtype).removeprefix("torch.")

    @property
    def marginal_error(self) -> float:
        """That of the present state, relative to the transported mass; of a batch, the largest."""
        return _largest(self.errors(self.problem.epsilon))

    def errors(self, epsilon: float) -> list[float]:
        """`marginal_errors`, as numbers."""
        return self.once(("errors", epsilon), lambda: read(self.marginal_errors(epsilon)))

    def marginal_errors(self, epsilon: float) -> Tensor:
        """Of each item of a batch, shape () or (B,)."""
        return self.once(("marginal errors", epsilon), lambda: self._marginal_errors(epsilon)) + self.allowance

    def _marginal_errors(self, epsilon: float) -> Tensor:
        problem, state = self.problem, self.state
        rows = (problem.alpha.sizes * self._surplus(0, state.f, state.log_rows, epsilon).abs()).sum(-1)
        columns = (problem.beta.sizes * self._surplus(1, state.g, state.log_columns, epsilon).abs()).sum(-1)
        return self.completed(rows + columns) / self.mass

    def completed(self, sums: Tensor) -> Tensor:
        """Sums over the points at hand as those over all, which are the same here."""
        return sums

    def once(self, name: Hashable, make: Callable[[], Made]) -> Made:
        """What the present state says, made when it is first asked for: tensors are replaced, and not changed."""
        state = self.state
        present = state.f, state.g, state.log_rows, state.log_columns, self.allowance
        if any(one is not other for one, other in zip(present, self._of, strict=True)):
            self._of, self._made = present, {}
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made

    @property
    def mass(self) -> Tensor:
        """What marginal errors are relative to, shape () or (B,)."""
        return self.problem.mass if self.balanced else self.transported.clamp(min=LEAST)

    @property
    def balanced(self) -> bool:
        """Whether both marginals are fixed."""
        return all(isinstance(penalty, Balanced) for penalty in self.problem.penalties)

    @property
    def transported(self) -> Tensor:
        """The plan's mass, shape () or (B,): what the potentials ask for or what it has, whichever is less."""
        state, problem = self.state, self.problem
        sides = ((state.f, state.log_rows, problem.alpha), (state.g, state.log_columns, problem.beta))
        wanted = [
            (measure.weights * self._wanted(side, h, log_sums, problem.epsilon).exp()).sum(-1)
            for side, (h, log_sums, measure) in enumerate(sides)
        ]
        found = (problem.beta.weights * state.log_columns.clamp(max=700.0).exp()).sum(-1)
        return self.completed(found).minimum(self.completed(0.5 * (wanted[0] + wanted[1])))

    @property
    def full_sums(self) -> Sums:
        """Over all pairs."""
        if isinstance(self.sums, FullSums):
            return self.sums
        return FullSums(self.problem.pair, self.problem.alpha, self.problem.beta)

    def value(self) -> Tensor:
        """The dual value of the present state, shape () or (B,)."""
        return self.once(("value", self.missing_mass), self._value)

    def _value(self) -> Tensor:
        problem, state = self.problem, self.state
        if is_hot(problem, self.sums):
            return value_when_hot(problem, self.sums, state.f, state.g, self.completed)
        alpha, beta, (first, second) = problem.alpha, problem.beta, problem.penalties
        value = self.completed(first.dual(alpha.weights, state.f) + second.dual(beta.weights, state.g))
        if problem.epsilon == math.inf:
            return value
        mass = (
            self.completed((beta.weights * _excess(state.log_columns)).sum(-1)) + self.missing_mass + problem.masses[1]
        )
        return value - problem.epsilon * (mass - problem.masses[0] * problem.masses[1])

    def exact(self, side: int) -> tuple[Tensor, Tensor]:
        """f (side 0) or g (side 1) after one more update by itself, and log row or column sums with it."""
        state = self.state
        potential, log_sums = ((state.f, state.log_rows), (state.g, state.log_columns))[side]
        if self.problem.epsilon == math.inf:
            return potential, log_sums
        return relaxed(self.problem.penalties[side], potential, log_sums, 1.0, self.problem.epsilon)

    def plan(self) -> Gibbs:
        """The plan of the present state, in the working precision."""
        problem, state = self.problem, self.state
        u = state.f / problem.epsilon + problem.alpha.log_weights
        v = state.g / problem.epsilon + problem.beta.log_weights
        return Gibbs(problem.pair, u.to(problem.pair.x.dtype), v.to(problem.pair.x.dtype), problem.epsilon)

    def missing(self, side: int, log_sums: Tensor) -> Tensor:
        """What the marginal of such sums has too little of, shape (N,) or (M,): a − P1 where it is fixed."""
        return -(self.problem.alpha, self.problem.beta)[side].weights * self.surplus(side, log_sums)

    def surplus(self, side: int, log_sums: Tensor) -> Tensor:
        """What it has too much of, in units of the weights."""
        potential = (self.state.f, self.state.g)[side]
        return self._surplus(side, potential, log_sums, self.problem.epsilon)

    def _surplus(self, side: int, potential: Tensor, log_sums: Tensor, epsilon: float) -> Tensor:
        excess = _excess(log_sums)
        if not isinstance(self.problem.penalties[side], Balanced):
            excess = excess - _excess(self._wanted(side, potential, log_sums, epsilon))
        return excess

    def _wanted(self, side: int, potential: Tensor, log_sums: Tensor, epsilon: float) -> Tensor:
        """log of the marginal that the potentials ask for, over the weight: 0 where it is fixed."""

        def wanted() -> Tensor:
            penalty = self.problem.penalties[side]
            if penalty.faintest > -math.inf:  # potentials do not tell fainter densities: what is there is asked for
                told = penalty.log_density(potential)
                faint = told + (log_sums - penalty.faintest).clamp(max=0.0)
                return torch.where(told > penalty.faintest + TOLD, told, faint).clamp(max=700.0)
            left = residual(penalty, potential, log_sums, epsilon)
            return (log_sums.clamp(max=700.0) - left.clamp(max=700.0)).clamp(max=700.0)

        present = ((self.state.f, self.state.log_rows), (self.state.g, self.state.log_columns))[side]
        if potential is present[0] and log_sums is present[1]:
            return self.once(("wanted", side, epsilon), wanted)
        return wanted()

    def _log_rows(self, epsilon: float) -> Tensor:
        self.evaluations += 1
        return self.sums.log_rows(self.state.f, self.state.g, epsilon)

    def _find(self, side: int, epsilon: float) -> float:
        """Row (side 0) or column sums (1) at the present potentials, and the marginal error with them, which is noted.

        On a GPU the host waits for what it reads: the error and what says whether the sums are right are read at once.
        """
        self.evaluations += 1
        state, sums = self.state, self.sums
        if not isinstance(sums, FullSums):
            self._take_sums(side, (sums.log_columns if side else sums.log_rows)(state.f, state.g, epsilon))
            return self._note(epsilon)
        found = sums.attempt(side, state.f, state.g, epsilon)
        self._take_sums(side, found.log_sums)
        errors = self.marginal_errors(epsilon)
        numbers = read(errors, *found.extremes)
        if found.is_right(numbers[errors.numel() :]):
            self.once(("errors", epsilon), lambda: numbers[: errors.numel()])
        else:
            self._take_sums(side, sums.carefully(side, state.f, state.g, epsilon))
        return self._note(epsilon)

    def _take_sums(self, side: int, log_sums: Tensor) -> None:
        if side == 0 or self.problem.is_self:
            self.state.log_rows = log_sums
        if side == 1 or self.problem.is_self:
            self.state.log_columns = log_sums

    def _note(self, epsilon: float) -> float:
        step = Step(self.evaluations, epsilon, _largest(self.errors(epsilon)))
        self.history.append(step)
        self.progress.update(step.epsilon, step.marginal_error, self.tol)
        return step.marginal_error


def _largest(numbers: list[float]) -> float:
    """Not a number, if one is none."""
    return math.nan if any(math.isnan(number) for number in numbers) else max(numbers)


def _excess(log_ratio: Tensor) -> Tensor:
    """Marginal over weight, less one; bounded, so that a point without weight never makes 0 · ∞."""
    return log_ratio.clamp(max=700.0).expm1()
