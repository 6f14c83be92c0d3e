"""All pairs at once: annealing, over-relaxed updates, and Newton's steps where they have not been enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..progress import Progress
from .audit import audited, of_exponents
from .goal import Goal
from .problem import Problem
from .sinkhorn import Correction, Solver
from .strategy import FLOOR, Potentials, Solved


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
        earlier = before.solver if before else None
        solver = Solver(problem, self.goal, self.max_iter, progress, earlier, newton=self.newton)
        status = solver.run(start)
        solver.allowance = audited(solver) if problem.pair.x.dtype == torch.float32 else of_exponents(solver)
        if status == "converged" and solver.marginal_error > self.goal.tol:
            status = f"{FLOOR} {solver.dtype} is reached"
        return Solved(solver, status, time.perf_counter() - began, self.name).after(before)
