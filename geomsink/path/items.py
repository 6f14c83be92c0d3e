"""A batch, item by item down the temperatures, where updates of all of them together are not enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from ..progress import Progress
from ..solver import Goal, Potentials, Problem, Solved, of_exponents
from .following import PathFollowing, clouds_of
from .supports import Gathered, between_supports


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
        slowest = 0
        for k in range(len(problem.alpha.weights)):
            item, goal = between_supports(problem, self.goal, k)  # most points without weight are padding
            solved = PathFollowing(goal, self.max_iter, clouds_of(item)).solve(item, progress)
            gathered.take_solved(solved, k)
            slowest = max(slowest, solved.solver.evaluations)
            if status == "converged" and not solved.converged:
                status = f"item {k}: {solved.status}"
        gathered.evaluations += slowest
        gathered.finish(is_batch=True)
        gathered.allowance = of_exponents(gathered)
        if status == "converged" and not gathered.marginal_error <= self.goal.tol:
            status = "the sums of the batch do not agree with those of its items"
        return Solved(gathered, status, time.perf_counter() - began, self.name).after(before)
