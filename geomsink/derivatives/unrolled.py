"""Autograd through Sinkhorn iterations: the loss of Genevay, Peyré, Cuturi 2018 (arXiv:1706.00292), section 3.

    f ← softmin over columns of (C − g),    g ← softmin over rows of (C − f),    L times at ε, from zero potentials.

Each iteration keeps its potentials and no matrix: memory is linear in points times iterations, or in points times their
square root where runs of iterations are computed again.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..progress import Progress
from ..solver import Iterate, Potentials, Problem, Solved, accuracy, share_of
from .terms import Terms, softmin


@dataclass(frozen=True)
class Unrolled:
    """A chosen number of iterations at the target temperature, which autograd follows.

    Attributes
    ----------
    tol : float
        Marginal error that the report compares with.
    iterations : int
    recompute : bool
        Keep potentials once every √iterations only, and compute those between again for the gradient.
    terms : Terms
        What the history is of.
    """

    tol: float
    iterations: int
    recompute: bool
    terms: Terms

    name: ClassVar[str] = "unrolled"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; the report is of these iterations alone, whatever came ``before``."""
        began = time.perf_counter()
        f, g = unrolled_potentials(problem, self.terms, self.iterations, self.recompute, start)
        solver = Iterate(problem, self.tol, progress)
        solver.load(f.detach(), g.detach(), self.iterations)
        solver.accuracy = accuracy(solver, share_of(self.tol) * solver.value().abs())
        status = f"{self.iterations} iterations are done"
        return Solved(solver, status, time.perf_counter() - began, self.name, (f, g))


def unrolled_potentials(
    problem: Problem, terms: Terms, iterations: int, recompute: bool, start: Potentials | None
) -> Potentials:
    """Potentials after so many iterations, with history; of a self problem f = g, by averaged updates.

    Parameters
    ----------
    problem : Problem
    terms : Terms
        What the history is of.
    iterations : int
    recompute : bool
        Keep potentials once every √iterations only, and compute those between again for the gradient.
    start : pair of Tensor, optional
        Potentials to start from, as constants. Default: zeros.
    """

    def cycles(f: Tensor, g: Tensor, count: int) -> Potentials:
        for _ in range(count):
            if problem.is_self:
                f = 0.5 * (f + _update(problem, terms, f, f))
                g = f
            else:
                f = _update(problem, terms, f, g)
                g = _update(problem.T, terms.T, g, f)
        return f, g

    f, g = start or (0.0 * terms.a.detach(), 0.0 * terms.b.detach())
    if not recompute:
        return cycles(f, g, iterations)
    done, run = 0, math.isqrt(iterations)
    while done < iterations:
        count = min(run, iterations - done)
        f, g = checkpoint(cycles, f, g, count, use_reentrant=False)
        done += count
    return f, g


def _update(problem: Problem, terms: Terms, guess: Tensor, g: Tensor) -> Tensor:
    """The update of f."""
    return problem.penalties[0].update(softmin(terms, problem.pair, guess, g), terms.epsilon)
