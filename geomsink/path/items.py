"""A batch, item by item down the temperatures, where updates of all of them together are not enough."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import engine
from ..measures import Measure
from ..multiscale import Cloud
from ..progress import Progress
from ..solver import Accuracy, Goal, Judged, Potentials, Problem, Solved, of_exponents
from .following import PathFollowing


@dataclass(frozen=True)
class ItemByItem:
    """Follows the path of each item of a batch, by itself.

    Attributes
    ----------
    goal : Goal
        When to stop.
    max_iter : int
        Cycles of an item, at most.
    """

    goal: Goal
    max_iter: int

    name: ClassVar[str] = "item-by-item"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; from no start."""
        began = time.perf_counter()
        gathered, status = Gathered(problem, self.goal, progress, before.solver if before else None), "converged"
        for k in range(len(problem.alpha.weights)):
            solved = self._solve_item(problem, k, progress)
            gathered.take_item(k, solved)
            if status == "converged" and not solved.converged:
                status = f"item {k}: {solved.status}"
        gathered.finish()
        gathered.allowance = of_exponents(gathered)
        if status == "converged" and gathered.marginal_error > self.goal.tol:
            status = "the sums of the batch do not agree with those of its items"
        return Solved(gathered, status, time.perf_counter() - began, self.name).after(before)

    def _solve_item(self, batch: Problem, k: int, progress: Progress) -> Solved:
        """One item, without its points that have no weight: most of them are padding."""
        cost, goal = batch.pair.cost, self.goal
        alpha, beta = (_item(measure, k) for measure in (batch.alpha, batch.beta))
        pair = engine.pair(alpha.points, beta.points, cost, batch.pair.name)
        problem = replace(batch, alpha=alpha, beta=beta, pair=pair)
        goal = replace(goal, offset=_of_item(goal.offset, k), least=_of_item(goal.least, k))
        clouds = Cloud(alpha, cost, problem.epsilon), Cloud(beta, cost, problem.epsilon)
        return PathFollowing(goal, self.max_iter, clouds).solve(problem, progress)


class Gathered(Judged):
    """A batch in the state of its items.

    Parameters
    ----------
    problem, goal, progress, before
        See `geomsink.solver.Judged`.
    """

    def __init__(self, problem: Problem, goal: Goal, progress: Progress, before: Any):
        super().__init__(problem, goal, progress, before, None)
        self._potentials = torch.zeros_like(problem.alpha.weights), torch.zeros_like(problem.beta.weights)
        self._found: list[Accuracy | None] = []
        self._slowest = 0

    def take_item(self, k: int, solved: Solved) -> None:
        """The next one."""
        sides, found = self._supports(k), solved.solver.accuracy
        for all_of_them, here, h in zip(self._potentials, sides, solved.potentials, strict=True):
            all_of_them[k, here] = h
        self._slowest = max(self._slowest, solved.solver.evaluations)
        if found is not None:
            steps = (torch.zeros_like(here, dtype=h.dtype) for here, h in zip(sides, found.step, strict=True))
            f, g = (step.masked_scatter(here, h) for step, here, h in zip(steps, sides, found.step, strict=True))
            found = replace(found, step=(f, g))
        self._found.append(found)

    def finish(self) -> None:
        """After the last one: the marginals of all, and potentials of points without weight."""
        self.evaluations += self._slowest
        self._row_update(self._potentials)
        self._complete()
        known = [found for found in self._found if found is not None]
        if len(known) == len(self._found):
            self.accuracy = Accuracy(*(_stacked([getattr(a, f.name) for a in known]) for f in fields(Accuracy)))

    def _supports(self, k: int) -> tuple[Tensor, Tensor]:
        return self.problem.alpha.weights[k] > 0.0, self.problem.beta.weights[k] > 0.0


def _item(measure: Measure, k: int) -> Measure:
    here = measure.weights[k] > 0.0
    return Measure(measure.points[k][here].double(), measure.weights[k][here])


def _of_item(number: Tensor | float, k: int) -> Any:
    return number[k] if isinstance(number, Tensor) and number.ndim else number


def _stacked(parts: list[Any]) -> Any:
    return tuple(map(torch.stack, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else torch.stack(parts)
