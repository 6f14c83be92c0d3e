"""Coarse to fine: solve between cells to convergence at the target ε, extend, and finish between the points.

Potentials are extended by softmins against the other cloud's cells; what extension and plain updates leave behind is
smooth, and the two-grid step takes it away. (Schmitzer 2019, arXiv:1610.06519, for the levels and truncation.)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import engine
from ..costs import Cost
from ..engine import Gibbs
from ..measures import Measure
from ..progress import Progress
from ..solver import Approximation, FullSums, Iterate, Problem, Solver, log_sums, temperatures
from .cellsums import CellSums, Cloud, Side
from .newton import Newton, NewtonSystem, SparsePlan, curvatures
from .twogrid import TwoGrid, averages

Potentials = tuple[Tensor, Tensor]

PAYS = 2**22
"""Pairs from which on several levels pay."""
WIDEST = 4
"""Coordinates up to which they do: cells of more are wide, and nearly all pairs are summed."""
FULL = 2
"""Levels of a tree that are too fine for cells: cells hold four points at least."""
FINE = 0.125
"""Mean cost within a cell, in ε, that the coarse cells should have: a radius of σ/2."""
COARSE = 4.0
"""Mean cost within a cell, in ε, from which on cells say nothing about the points: a radius of 2.8 σ."""
LOWEST, HIGHEST = 8, 12
"""Levels that the coarse problem may have: 256 to 4096 cells."""
SAMPLE = 20_000
"""Points that are looked at for it."""
FIRST = 10
"""Level up to which a coarse problem is solved by itself."""
STEP = 2
"""Levels between two coarse problems."""
COARSE_TOL = 0.1, 1e-5
"""Tolerance of coarse problems, as a share of the fine one's, and at least."""
SKIPPED = 0.03
"""Share of ``tol`` that truncation may cost in the rows, and in the columns."""
NEARBY = 0.02
"""Marginal error up to which given potentials are better than extended ones."""
PATIENCE = 12
"""Evaluations without progress after which finer stand-ins are taken."""
ACCURACIES = (1.0, 0.03, 0.0)
"""Accuracies of stand-ins, in ``tol``, that are tried until the audit is content; without any, at last."""


@dataclass(frozen=True)
class Levels:
    """The levels of the two clouds' trees that are solved on, coarse to fine; the points themselves come after.

    ``None`` is a cloud too small for cells.
    """

    alpha: tuple[int | None, ...]
    beta: tuple[int | None, ...]

    @classmethod
    def of(cls, alpha: Cloud, beta: Cloud, force: bool = False) -> Levels | None:
        """The levels that suit ε and the data, or None where one level is best."""
        pairs = len(alpha.measure.points) * len(beta.measure.points)
        if (pairs < PAYS or alpha.measure.points.shape[1] > WIDEST) and not force:
            return None
        finest = [_level(cloud, force) for cloud in (alpha, beta)]
        if finest == [None, None] or -1 in finest:
            return None
        top = max(level for level in finest if level is not None)
        steps = range(-(-max(top - FIRST, 0) // STEP), -1, -1)
        chosen = [tuple(None if end is None else max(end - STEP * k, 1) for k in steps) for end in finest]
        return cls(*chosen)


def _level(cloud: Cloud, force: bool) -> int | None:
    """The level of a cloud whose cells are fine enough; None if it has too few points, −1 if no cells are."""
    n = len(cloud.measure.points)
    if n <= 2**LOWEST:
        return None
    width, step = float("inf"), -(-n // SAMPLE)
    points = cloud.tree.measure.points[::step]
    finest = min(HIGHEST, cloud.tree.depth if force else cloud.tree.depth - FULL)
    for level in range(LOWEST, finest + 1):
        cells = cloud.tree.coarse(level).points[cloud.tree.cell_of(level)[::step]]
        costs = cloud.cost.between(cells, points)
        least = cloud.cost.between(points, points)
        width = float((costs - least).abs().mean())
        if width <= FINE * cloud.epsilon:
            break
    return level if force or width <= COARSE * cloud.epsilon else -1


class _Level:
    """A solved coarse problem, and what it gives to the next finer one."""

    def __init__(self, solver: Solver, engine_name: str):
        self.solver, self.engine = solver, engine_name
        problem, state = solver.problem, solver.state
        self.u = state.f / problem.epsilon + problem.alpha.log_weights
        self.v = state.g / problem.epsilon + problem.beta.log_weights

    def extend(self, alpha: Measure, beta: Measure, cells: tuple[Tensor, Tensor], dtype: torch.dtype) -> Potentials:
        """Potentials of finer measures, whose points lie in the given cells: softmins against the coarse ones."""
        problem, state = self.solver.problem, self.solver.state
        epsilon, cost = problem.epsilon, problem.pair.cost

        def update(side: int, fine: Measure, coarse: Measure, ground: Cost, guess: Tensor, exponents: Tensor) -> Tensor:
            pair = engine.pair(fine.points.to(dtype), coarse.points.to(dtype), ground, self.engine)
            softmin = guess - epsilon * log_sums(pair, guess / epsilon, exponents, epsilon)
            return problem.penalties[side].update(softmin, epsilon)

        f = update(0, alpha, problem.beta, cost, state.f[cells[0]], self.v)
        if problem.is_self:
            return f, f
        return f, update(1, beta, problem.alpha, cost.transpose(), state.g[cells[1]], self.u)

    def correction(self, beta: Measure, cell: Tensor, dtype: torch.dtype) -> TwoGrid | None:
        """Of the columns of a finer problem, whose points lie in the given cells; a self problem needs none."""
        problem = self.solver.problem
        if problem.is_self:
            return None
        coarse, cost, epsilon = (problem.alpha, problem.beta), problem.pair.cost, problem.epsilon
        plan = SparsePlan(*coarse, cost, self.u, self.v, epsilon).matrix(self.u, self.v)
        system = NewtonSystem(plan, curvatures(problem.penalties, self.solver.state.f, self.solver.state.g, epsilon))
        pair = engine.pair(beta.points.to(dtype), coarse[0].points.to(dtype), cost.transpose(), self.engine)
        return TwoGrid(system, pair, self.u, problem.penalties[1], cell, len(coarse[1].points), epsilon)

    def slopes(self, of_rows: bool, points: Tensor) -> Tensor:
        """Gradients of f/ε (or g/ε) at points: 2κ(x − T(x))/ε, T the mean of the plan's conditional."""
        problem = self.solver.problem
        cost, epsilon = problem.pair.cost, problem.epsilon
        assert cost.quadratic is not None
        other, exponents = (problem.beta, self.v) if of_rows else (problem.alpha, self.u)
        pair = engine.pair(points, other.points, cost, "dense")
        top = Gibbs(pair, points.new_zeros(len(points)), exponents, epsilon).row_max()
        image = averages(pair, -top, exponents, epsilon, other.points)
        return (2.0 * cost.quadratic / epsilon) * (points - image)


def solve_multiscale(
    problem: Problem,
    clouds: tuple[Cloud, Cloud],
    levels: Levels,
    tol: float,
    max_iter: int,
    progress: Progress,
    engine_name: str,
    scaling: float,
    start: Potentials | None = None,
    before: Iterate | None = None,
) -> tuple[Solver, str, float]:
    """Solve on all levels; returns the solver of the points with its final state, the status and the seconds.

    Parameters
    ----------
    problem : Problem
        Between the points.
    clouds : pair of Cloud
        The same measures.
    levels : Levels
    tol, max_iter, progress, start, before
        As `geomsink.solver.sinkhorn.solve_problem` takes them.
    engine_name : str
    scaling : float
        Of the annealing on the coarsest level.
    """
    began = time.perf_counter()
    dtype = problem.pair.x.dtype
    level, cells, sizes = _coarse_levels(problem, clouds, levels, tol, max_iter, progress, engine_name, scaling, start)
    correction = level.correction(problem.beta, cells[1], dtype)
    extended = level.extend(problem.alpha, problem.beta, cells, dtype)
    newton = None if problem.is_self else Newton(*clouds, problem.pair.cost, problem.epsilon, problem.penalties)
    progress.level(f", {sizes[-1][0]:,} against {sizes[-1][1]:,} points")
    for share in ACCURACIES:
        sums = _cell_sums(problem, clouds, level, tol, share, extended, engine_name)
        patience = PATIENCE if share else None
        wanted = (1.0 - 2.0 * SKIPPED) * tol  # truncation may have the rest
        solver = Solver(problem, wanted, max_iter, progress, before, sums, correction, newton, patience)
        if start is None or not sums.row_error(*start, problem.epsilon, problem.penalties[0]) <= NEARBY:
            start = extended
        status, state = solver.run(start, otherwise=extended), solver.state
        audit, solver.missing_mass = sums.audit(state.f, state.g, state.log_rows, state.log_columns, problem.epsilon)
        solver.allowance = audit + sums.skipped
        if solver.marginal_error <= tol or (status != "converged" and not share):
            break
        start, before = (state.f, state.g), solver
    sources = len(sums.rows.sources), len(sums.columns.sources)
    computed = 0.5 * (sums.rows.share + sums.columns.share)
    solver.approximation = Approximation(tuple(sizes), computed, sums.skipped, sources, audit)
    return solver, status, time.perf_counter() - began


def _coarse_levels(
    problem: Problem, clouds: tuple[Cloud, Cloud], levels: Levels, tol: float, max_iter: int, progress: Progress,
    engine_name: str, scaling: float, start: Potentials | None,
) -> tuple[_Level, tuple[Tensor, Tensor], list[tuple[int, int]]]:  # fmt: skip
    """The last coarse problem, solved; the cell of each point in it; and the sizes of all problems, the points' too."""
    level: _Level | None = None
    parents = problem.alpha.weights, problem.beta.weights  # of no meaning before the first level
    pair, sizes = problem.pair, []
    steps = temperatures(problem.cost_scale, problem.epsilon, scaling, pair.cost.degree)
    for depths in zip(levels.alpha, levels.beta, strict=True):
        cells = _cell_of(clouds[0], depths[0]), _cell_of(clouds[1], depths[1])
        alpha = _coarse(clouds[0], depths[0])
        beta = alpha if problem.is_self else _coarse(clouds[1], depths[1])
        x, y = alpha.points.to(pair.x.dtype), beta.points.to(pair.x.dtype)
        coarse = replace(
            problem, alpha=alpha, beta=beta, pair=engine.pair(x, y, pair.cost, pair.name), temperatures=steps
        )
        first, correction = None, None
        if level is not None:
            up = _parents(cells[0], parents[0], len(x)), _parents(cells[1], parents[1], len(y))
            first, correction = level.extend(alpha, beta, up, x.dtype), level.correction(beta, up[1], x.dtype)
        if start is not None:
            first = _means(start[0], cells[0], len(x)), _means(start[1], cells[1], len(y))
        progress.level(f", {len(x):,} against {len(y):,} cells")
        wanted = max(COARSE_TOL[0] * tol, COARSE_TOL[1], 3.0 * coarse.floor())
        solver = Solver(coarse, wanted, max_iter, progress, correction=correction)
        solver.run(first)
        level, parents = _Level(solver, engine_name), cells
        sizes.append((len(x), len(y)))
    assert level is not None
    return level, parents, [*sizes, (len(problem.alpha.points), len(problem.beta.points))]


def _cell_sums(
    problem: Problem,
    clouds: tuple[Cloud, Cloud],
    level: _Level,
    tol: float,
    share: float,
    potentials: Potentials,
    engine_name: str,
) -> CellSums:
    cost = problem.pair.cost
    slopes = backwards = None
    if cost.quadratic is not None:
        slopes = (lambda p: level.slopes(True, p)), (lambda p: level.slopes(False, p))
        backwards = slopes[1], slopes[0]
    dtype = problem.pair.x.dtype
    u = potentials[0] / problem.epsilon + problem.alpha.log_weights
    v = potentials[1] / problem.epsilon + problem.beta.log_weights
    shares, how = (SKIPPED * tol, share * tol), (engine_name, dtype)
    rows = Side(clouds[0], clouds[1], cost, slopes, *shares, v, *how)
    columns = rows if problem.is_self else Side(clouds[1], clouds[0], cost.transpose(), backwards, *shares, u, *how)
    return CellSums(FullSums(problem.pair, problem.alpha, problem.beta), rows, columns)


def _coarse(cloud: Cloud, level: int | None) -> Measure:
    return cloud.measure if level is None else cloud.tree.coarse(level)


def _cell_of(cloud: Cloud, level: int | None) -> Tensor:
    """The cell of each point, in the caller's order."""
    if level is None:
        return torch.arange(len(cloud.measure.points))
    return cloud.tree.cell_of(level)[cloud.tree.rank]


def _parents(fine: Tensor, coarse: Tensor, n: int) -> Tensor:
    """The coarse cell of each of n fine cells, from those of the points."""
    parent = torch.zeros(n, dtype=torch.int64)
    parent[fine] = coarse
    return parent


def _means(potential: Tensor, cell: Tensor, n: int) -> Tensor:
    return potential.new_zeros(n).index_add_(0, cell, potential) / torch.bincount(cell, minlength=n)
