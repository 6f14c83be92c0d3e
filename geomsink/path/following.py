"""Path following: the solution at a high temperature, and from there down to the target by Newton's steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ..multiscale import Cloud
from ..progress import Progress
from ..solver import LIMIT, Goal, Potentials, Problem, Solved, of_exponents
from .dealtstages import stages_across
from .descent import Descent
from .pairs import TooManyPairs
from .stages import Stage, stages_of
from .supports import Gathered, between_supports, of_support, supports

LAST = 40
"""Of Newton's steps at the target, at most."""


@dataclass(frozen=True)
class PathFollowing:
    """Follows the solution down the temperatures, between cells while they are high.

    Attributes
    ----------
    goal : Goal
        When to stop.
    max_iter : int
        Cycles, at most.
    clouds : pair of Cloud, optional
        The problem's measures, with their trees; not of points that are dealt out to processes.
    """

    goal: Goal
    max_iter: int
    clouds: tuple[Cloud, Cloud] | None = None

    name: ClassVar[str] = "path-following"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; from a start at the target itself, if that is near."""
        if not all(bool(here.all()) for here in supports(problem)):
            return self._between_supports(problem, progress, start, before)
        began, target = time.perf_counter(), problem.epsilon
        earlier = before.solver if before else None
        last = self.max_iter + (earlier.cycles if earlier else 0)
        stages = stages_across(problem) if self.clouds is None else stages_of(problem, self.clouds)
        reached, path = False, Descent(stages[-1], self.goal, progress, earlier, last - 1)
        try:
            reached = start is not None and path.begin(target, start)
            # Outliers among cells can lose the way that there is between the points.
            for chosen in (stages, stages[-1:])[: len(stages)]:
                if not reached and chosen[0].is_whole:
                    path = Descent(chosen[0], self.goal, progress, path.before, last - 1)
                    reached = self._from_above(path, chosen, target)
        except TooManyPairs:  # other ways need less memory
            reached = False
        except torch.cuda.OutOfMemoryError:
            if stages[-1].parts is not None:  # other processes do not know
                raise
            reached = False
        if not reached:
            path.jump(stages[-1], target)
        final = path.here
        final.allowance = of_exponents(final)
        status = "converged"
        if not (reached and final.finished(LAST)):
            limited = final.cycles >= last - 1
            status = f"{LIMIT}{self.max_iter} is reached" if limited else "the path down the temperatures was lost"
        return Solved(final, status, time.perf_counter() - began, self.name).after(before)

    def _between_supports(
        self, problem: Problem, progress: Progress, start: Potentials | None, before: Solved | None
    ) -> Solved:
        """The same without points that have no weight, which get their potentials at the end."""
        began, (few, goal) = time.perf_counter(), between_supports(problem, self.goal)
        if start is not None:
            (f,), (g,) = (of_support(here, h) for here, h in zip(supports(problem), start, strict=True))
            start = f, g
        clouds = None if self.clouds is None else clouds_of(few)
        solved = replace(self, goal=goal, clouds=clouds).solve(few, progress, start, before)
        final, status = Gathered(problem, self.goal, progress, solved.solver), solved.status
        final.take_solved(solved)
        final.finish(is_batch=False)
        final.allowance = of_exponents(final)
        if solved.converged and not final.marginal_error <= self.goal.tol:
            status = "sums over all pairs do not agree with those of the pairs that carry mass"
        return Solved(final, status, time.perf_counter() - began, self.name).after(before)

    def _from_above(self, path: Descent, stages: list[Stage], target: float) -> bool:
        """From cells at a high temperature to the points at the target; whether the way was found."""
        reached = path.begin(max(target, stages[0].problem.cost_scale))
        for stage in stages[1:]:
            reached = reached and path.down(max(stage.begins, target))
            reached = path.agreed(stage, reached) and path.refine(stage)
        return reached and path.down(target)


def clouds_of(problem: Problem) -> tuple[Cloud, Cloud]:
    """Trees of a problem's measures, made when they are asked for."""
    cost, epsilon = problem.pair.cost, problem.epsilon
    return Cloud(problem.alpha, cost, epsilon), Cloud(problem.beta, cost, epsilon)
