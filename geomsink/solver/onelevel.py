"""All pairs at once: annealing, over-relaxed updates, and Newton's steps where they have not been enough."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..choose import kernel_is_kept
from ..progress import Progress
from .approach import Approach
from .audit import audited, of_exponents
from .goal import Goal
from .iterate import Iterate
from .judged import Correction, Judged
from .kept import KeptSums
from .problem import Problem
from .sinkhorn import Solver
from .strategy import FLOOR, Potentials, Solved

ROOM = 1.5
"""Times what rounding was found to do to marginals that is left for it, where it is too much beside the rest."""

LEAST = 10
"""Cycles that are asked for, at least, where Newton's method on scalings goes first: updates need some after it."""


@dataclass(frozen=True)
class OneLevel:
    """Solves between the points alone.

    Attributes
    ----------
    goal : Goal
        When to stop.
    max_iter : int
        Cycles, at most.
    newton : Correction, optional
        Tried where over-relaxed updates are slow.
    """

    goal: Goal
    max_iter: int
    newton: Correction | None = None

    name: ClassVar[str] = "one-level"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; without a start, annealed from zero."""
        began = time.perf_counter()
        earlier, wanted = before.solver if before else None, self.goal
        kept = None
        pair = problem.pair
        if kernel_is_kept(problem.pairs, pair.name, pair.x.dtype, pair.x.device):
            kept = KeptSums(pair, problem.alpha, problem.beta)
        for _ in range(2):
            solver, status = self._run(problem, wanted, progress, start, earlier, kept)
            is_right, allowance = self._judged_again(solver)
            room = self.goal.tol - ROOM * float(allowance.max())
            if status != "converged" or solver.marginal_error <= self.goal.tol or room <= 0.5 * self.goal.tol:
                break
            start, earlier, wanted = (solver.state.f, solver.state.g), solver, replace(self.goal, tol=room)
        if status == "converged" and not (is_right and solver.marginal_error <= self.goal.tol):
            status = f"{FLOOR} {solver.dtype} is reached"
        return Solved(solver, status, time.perf_counter() - began, self.name).after(before)

    def _judged_again(self, solver: Judged) -> tuple[bool, Tensor]:
        """Put what rounding does to the sums into the errors; whether that is no more than the value may have, or finer
        sums cannot be had, and what it is of marginals."""
        problem, goal = solver.problem, self.goal
        if problem.pair.x.dtype != torch.float32:
            solver.allowance = allowance = of_exponents(solver)
            return True, allowance
        found = audited(solver)
        solver.allowance = found.off
        if solver.accuracy is None:
            return True, found.off
        off = problem.epsilon * problem.masses[1] * found.mass
        solver.accuracy = replace(solver.accuracy, rounded=solver.accuracy.rounded + off)
        return goal.final or bool((off <= goal.allowed(solver.value(), torch.zeros_like(off))).all()), found.off

    def _run(
        self,
        problem: Problem,
        goal: Goal,
        progress: Progress,
        start: Potentials | None,
        earlier: Iterate | None,
        kept: KeptSums | None,
    ) -> tuple[Judged, str]:
        """In memory where that does, and by updates where it does not, or has not been enough."""
        cycles = earlier.cycles if earlier else 0
        if kept is not None and self.max_iter >= LEAST and Approach.takes(problem):
            approach = Approach(problem, goal, self.max_iter, progress, earlier, kept)
            if approach.run(start):
                return approach, "converged"
            start, earlier = (approach.state.f, approach.state.g), approach
        solver = Solver(problem, goal, self.max_iter, progress, earlier, kept, newton=self.newton)
        solver.cycles_before = cycles
        return solver, solver.run(start)
