"""ε = ∞, where the plan is a ⊗ b and the potentials have a closed form: nothing to iterate."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import ClassVar

from ..progress import Progress
from .iterate import Iterate
from .problem import Problem
from .strategy import Potentials, Solved


@dataclass(frozen=True)
class Limit:
    """f = Cb − ½⟨a, Cb⟩ and g = Ca − ½⟨a, Cb⟩.

    Attributes
    ----------
    tol : float
        What the report compares with.
    """

    tol: float

    name: ClassVar[str] = "limit"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; a start is of no use."""
        began, pair = time.perf_counter(), problem.pair
        solver = Iterate(problem, self.tol, progress, before.solver if before else None)
        zeros = pair.x.new_zeros(pair.x.shape[:-1]), pair.y.new_zeros(pair.y.shape[:-1])
        log_a, log_b = (m.log_weights.to(pair.x.dtype) for m in (problem.alpha, problem.beta))
        f = pair.row_costs(zeros[0], log_b, math.inf).double()
        g = pair.T.row_costs(zeros[1], log_a, math.inf).double()
        mean = (problem.alpha.weights * f).sum(-1, keepdim=True)
        solver.take(f - 0.5 * mean, g - 0.5 * mean, evaluations=2)
        return Solved(solver, "converged", time.perf_counter() - began, self.name).after(before)
