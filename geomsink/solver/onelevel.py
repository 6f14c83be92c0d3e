"""All pairs at once: annealing, over-relaxed updates, and Newton's steps where they have not been enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from ..progress import Progress
from .problem import Problem
from .sinkhorn import Correction, Solver
from .strategy import Potentials, Solved


@dataclass(frozen=True)
class OneLevel:
    """Solves between the points alone.

    Attributes
    ----------
    tol : float
        Marginal error at which to stop, relative to the mass.
    max_iter : int
        Cycles, at most.
    newton : Correction, optional
        Tried where over-relaxed updates are slow.
    """

    tol: float
    max_iter: int
    newton: Correction | None = None

    name: ClassVar[str] = "one-level"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; without a start, annealed from zero."""
        began = time.perf_counter()
        earlier = before.solver if before else None
        solver = Solver(problem, self.tol, self.max_iter, progress, earlier, newton=self.newton)
        status = solver.run(start)
        return Solved(solver, status, time.perf_counter() - began, self.name).after(before)
