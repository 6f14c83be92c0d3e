"""Coarse to fine: solve between cells to convergence at the target ε, extend, and finish between the points.

(Schmitzer 2019, arXiv:1610.06519, for the levels and truncation.)
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from .. import engine
from ..choose import coarse_in_memory
from ..measures import Measure
from ..progress import Progress
from ..solver import (
    Approximation,
    FullSums,
    Goal,
    OneLevel,
    Potentials,
    Problem,
    Solved,
    Solver,
    temperatures,
)
from .audit import right_with
from .cellsums import CellSums, Side
from .clouds import Cloud
from .levels import Levels, SolvedLevel
from .newton import Newton

COARSE_TOL = 0.1, 1e-5
"""Tolerance of coarse problems, as a share of the fine one's, and at least."""
COARSE_SHARE = 1e-4
"""Relative error of the value that coarse problems may have: the two-grid step, and the estimate by it, must know how
little of the mass connects far clusters."""
SKIPPED = 0.03
"""Share of ``tol`` that truncation may cost in the rows, and in the columns."""
NEARBY = 0.02
"""Marginal error up to which given potentials are better than extended ones."""
PATIENCE = 12
"""Evaluations without progress after which a problem between sketches is given up: finer ones may do better."""


@dataclass(frozen=True)
class CoarseToFine:
    """Solves on the levels of two trees, and then between the points with few of the pairs.

    Attributes
    ----------
    goal : Goal
        When to stop.
    max_iter : int
        Cycles, at most, on each level.
    scaling : float
        Of the annealing on the coarsest level.
    engine : str
        Of the sums on each level.
    clouds : pair of Cloud
        The problem's measures.
    levels : Levels
    """

    goal: Goal
    max_iter: int
    scaling: float
    engine: str
    clouds: tuple[Cloud, Cloud]
    levels: Levels

    name: ClassVar[str] = "coarse-to-fine"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; the state and the status are those of the points."""
        began, cost = time.perf_counter(), problem.pair.cost
        earlier = before.solver if before else None
        level, cells, sizes = self._coarse(problem, progress, start)
        correction = level.correction(problem.beta, cells[1], problem.pair.x.dtype)
        extended = level.extend(problem.alpha, problem.beta, cells, problem.pair.x.dtype)
        plain = problem.is_self or problem.is_signed
        newton = None if plain else Newton(*self.clouds, cost, problem.epsilon, problem.penalties)
        progress.level(f", {sizes[-1][0]:,} × {sizes[-1][1]:,} points", len(sizes) - 1, len(sizes))
        sums = self._sums(problem, level)
        wanted = replace(self.goal, tol=(1.0 - 2.0 * SKIPPED) * self.goal.tol)  # truncation may have the rest
        patience = PATIENCE if problem.is_signed else None
        solver = Solver(problem, wanted, self.max_iter, progress, earlier, sums, correction, newton, patience)
        if start is None or not sums.row_error(*start, problem.epsilon, problem.penalties[0]) <= NEARBY:
            start = extended
        status, state = solver.run(start, otherwise=extended), solver.state
        audit = sums.audit(state.f, state.g, state.log_rows, state.log_columns, problem.epsilon)
        solver.missing_mass, solver.allowance = audit.missing, sums.skipped
        right_with(solver, audit, self.goal)
        computed = 0.5 * (sums.rows.share + sums.columns.share)
        solver.approximation = Approximation(tuple(sizes), computed, sums.skipped, sizes[-1])
        return Solved(solver, status, time.perf_counter() - began, self.name).after(before)

    def _coarse(
        self, problem: Problem, progress: Progress, start: Potentials | None
    ) -> tuple[SolvedLevel, tuple[Tensor, Tensor], list[tuple[int, int]]]:
        """The last coarse problem, solved; the cell of each point in it; the sizes of all problems, the points' too."""
        level: SolvedLevel | None = None
        parents = problem.alpha.weights, problem.beta.weights  # of no meaning before the first level
        pair, sizes = problem.pair, []
        steps = temperatures(problem.cost_scale, problem.epsilon, self.scaling, pair.cost.degree)
        for k, depths in enumerate(zip(self.levels.alpha, self.levels.beta, strict=True)):
            cells = _cell_of(self.clouds[0], depths[0]), _cell_of(self.clouds[1], depths[1])
            alpha = _measure(self.clouds[0], depths[0])
            beta = alpha if problem.is_self else _measure(self.clouds[1], depths[1])
            x, y = alpha.points.to(pair.x.dtype), beta.points.to(pair.x.dtype)
            in_memory = coarse_in_memory(len(x) * len(y), x.device)
            if in_memory:
                x, y = x.double(), y.double()
            between = engine.pair(x, y, pair.cost, "dense" if in_memory else pair.name)
            coarse = replace(problem, alpha=alpha, beta=beta, pair=between, temperatures=steps)
            first, correction = None, None
            if level is not None:
                up = _parents(cells[0], parents[0], len(x)), _parents(cells[1], parents[1], len(y))
                first, correction = level.extend(alpha, beta, up, x.dtype), level.correction(beta, up[1], x.dtype)
            if start is not None:
                first = _means(start[0], cells[0], len(x)), _means(start[1], cells[1], len(y))
            progress.level(f", {len(x):,} × {len(y):,} cells", k, 1 + len(self.levels.alpha))
            wanted = max(COARSE_TOL[0] * self.goal.of_sums, COARSE_TOL[1], 3.0 * coarse.floor())
            aim = Goal(wanted, COARSE_SHARE if self.goal.asks_for_values else math.inf)
            if in_memory:
                solver = OneLevel(aim, self.max_iter).solve(coarse, progress, first).solver
            else:
                solver = Solver(coarse, aim, self.max_iter, progress, correction=correction)
                solver.run(first)
            level, parents = SolvedLevel(solver, self.engine), cells
            sizes.append((len(x), len(y)))
        assert level is not None
        return level, parents, [*sizes, (len(problem.alpha.points), len(problem.beta.points))]

    def _sums(self, problem: Problem, level: SolvedLevel) -> CellSums:
        """Of the points, over blocks of cells."""
        cost, (alpha, beta) = problem.pair.cost, self.clouds
        slopes = backwards = None
        if cost.quadratic is not None:
            slopes = (lambda p: level.slopes(True, p)), (lambda p: level.slopes(False, p))
            backwards = slopes[1], slopes[0]
        how = SKIPPED * self.goal.of_sums, self.engine, problem.pair.x.dtype
        rows = Side(alpha, beta, cost, slopes, *how)
        columns = rows if problem.is_self else Side(beta, alpha, cost.transpose(), backwards, *how)
        return CellSums(FullSums(problem.pair, problem.alpha, problem.beta), rows, columns)


def _measure(cloud: Cloud, level: int | None) -> Measure:
    """Of a level; that of single points counts each one of a sketch with the points near it."""
    if level is not None:
        return cloud.tree.coarse(level)
    return Measure(cloud.measure.points, cloud.measure.sizes)


def _cell_of(cloud: Cloud, level: int | None) -> Tensor:
    """The cell of each point, in the caller's order."""
    if level is None:
        return torch.arange(len(cloud.measure.points), device=cloud.measure.points.device)
    return cloud.tree.cell_of(level)[cloud.tree.rank]


def _parents(fine: Tensor, coarse: Tensor, n: int) -> Tensor:
    """The coarse cell of each of n fine cells, from those of the points."""
    parent = fine.new_zeros(n)
    parent[fine] = coarse
    return parent


def _means(potential: Tensor, cell: Tensor, n: int) -> Tensor:
    return potential.new_zeros(n).index_add_(0, cell, potential) / torch.bincount(cell, minlength=n)
