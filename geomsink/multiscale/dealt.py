"""Truncation across processes: of the pairs between own rows and a block that passes by, far ones are left out.

Each process has a tree over its own points, whatever they are of the whole. Boxes around blocks of points that pass by
are found where they arrive; the bound is that of `geomsink.multiscale.truncation`, without slopes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import engine
from ..costs import Cost
from ..engine import Gibbs, passed
from ..measures import Measure
from ..processes import Parts, Sharded, deal, own, told_largest, told_sum
from ..progress import Progress
from ..solver import SAFE, Approximation, FullSums, Goal, Iterate, OneLevel, Potentials, Problem, Solved, Solver
from .cellsums import CellSums
from .tree import Tree
from .truncation import Boxes, Pattern, pattern

SKIPPED = 1e-9, 1e-4
"""Share of a row's mass that may be left out, and the same in units of ``tol``: so little that no value feels it."""


class OwnRows:
    """The points of this process in the order of a tree of their own."""

    def __init__(self, measure: Measure):
        points = measure.points
        assert isinstance(points, Sharded)
        self.parts: Parts = points.parts
        local, weights = own(points), own(measure.weights)
        self.tree = Tree.of(Measure(local, weights)) if len(local) > 1 else None
        self.order = torch.arange(len(local), device=local.device) if self.tree is None else self.tree.order
        self.rank = torch.empty_like(self.order)
        self.rank[self.order] = torch.arange(len(local), device=local.device)
        self.points, self.weights = local[self.order], weights[self.order]

    @cached_property
    def boxes(self) -> Boxes:
        return Boxes.of(self.points)

    def cells(self, most: int) -> Measure:
        """One point for each of so many cells, at most; single points are their own."""
        if self.tree is None:
            return Measure(self.points, self.weights)
        return self.tree.coarse(min(max(most, 1).bit_length() - 1, self.tree.depth))

    def of(self, t: Tensor) -> Tensor:
        """Numbers of the own points in this order."""
        return own(t)[self.order]

    def back(self, t: Tensor) -> Tensor:
        """From this order, dealt out."""
        return deal(t[self.rank], self.parts)


class DealtSide:
    """log Σ_j exp(u_i + v_j − C_ij/ε) over columns that are dealt out, but for far ones; as `geomsink.multiscale.Side`.

    Parameters
    ----------
    rows, columns : OwnRows
    cost : Cost
        With a lower bound.
    engine_name : str
    dtype : torch.dtype
    skipped : float
        Share of a row's mass that may be left out.
    """

    def __init__(
        self, rows: OwnRows, columns: OwnRows, cost: Cost, engine_name: str, dtype: torch.dtype, skipped: float
    ):
        self.rows, self.columns, self.cost, self.skipped = rows, columns, cost, skipped
        self._engine, self._x, self._y = engine_name, rows.points.to(dtype), columns.points.to(dtype)
        self._patterns: list[Pattern | None] = []
        self.lost, self._share = 0.0, 1.0

    @property
    def share(self) -> float:
        """Pairs of the last evaluation, of all pairs of points."""
        return self._share

    def log_sums(self, u: Tensor, v: Tensor, epsilon: float) -> Tensor | None:
        """The sums, or None where too much would be left out."""
        dtype = self._x.dtype
        u, v = self.rows.of(u), self.columns.of(v).to(dtype)
        rounded, most = u.to(dtype), SAFE[dtype]
        near = u
        for _ in range(2):
            sums, bound = torch.zeros_like(u), torch.zeros_like(u)
            self._patterns, computed = [], 0
            for _, (y, there) in passed(self.columns.parts, (self._y, v)):
                found = self._pattern(near, y, there.double(), epsilon)
                self._patterns.append(found)
                if found is not None:
                    bound += found.bound
                    computed += found.blocks.pairs
                    if found.blocks.pairs:
                        sums += self._between(y, rounded, there, epsilon, found).row_sums().double()
            lost = (bound / sums.clamp(min=1.0 / most)) * (u - near).exp()
            safe = ((sums > 1.0 / most) & (sums < most)).all()
            worst = torch.stack((lost.max() if len(lost) else u.new_zeros(()), (~safe).double()))
            self.lost, unsafe = told_largest(worst, self.rows.parts).tolist()
            if unsafe:
                break
            log_sums = sums.log() + (u - rounded.double())
            if self.lost <= self.skipped:
                pairs = told_sum(torch.tensor(float(computed), dtype=torch.float64, device=u.device), self.rows.parts)
                self._share = float(pairs) / (self.rows.parts.total * self.columns.parts.total)
                return self.rows.back(log_sums)
            near = u - log_sums
        self._patterns, self._share, self.lost = [], 1.0, 0.0  # all pairs are summed
        return None

    def products(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor) -> Tensor | None:
        """Σ_j exp(u_i + v_j − C_ij/ε) w_j for w (M, E), over the pairs of the last sums; None if there were none."""
        if not self._patterns:
            return None
        dtype = self._x.dtype
        u, v, w = self.rows.of(u).to(dtype), self.columns.of(v).to(dtype), self.columns.of(w).to(dtype)
        total = u.new_zeros((len(u), w.shape[1]), dtype=torch.float64)
        blocks = passed(self.columns.parts, (self._y, v, w))
        for found, (_, (y, there, values)) in zip(self._patterns, blocks, strict=True):
            if found is not None and found.blocks.pairs:
                total += self._between(y, u, there, epsilon, found).apply(values).double()
        return self.rows.back(total)

    def _pattern(self, u: Tensor, y: Tensor, v: Tensor, epsilon: float) -> Pattern | None:
        """Of the own rows and a block of columns; None where there are none."""
        if not (len(u) and len(y)):
            return None
        skipped = self.skipped / len(self.columns.parts.counts)
        return pattern(self.rows.boxes, Boxes.of(y), u, v, None, self.cost, epsilon, skipped)

    def _between(self, y: Tensor, u: Tensor, v: Tensor, epsilon: float, found: Pattern) -> Gibbs:
        return Gibbs(engine.pair(self._x, y, self.cost, self._engine), u, v, epsilon, found.blocks)


@dataclass(frozen=True)
class Dealt(OneLevel):
    """Solves between points that are dealt out to processes, with sums that leave out pairs of far cells.

    Attributes
    ----------
    engine : str
        Of the sums between blocks.
    """

    engine: str = "auto"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`."""
        solved = super().solve(problem, progress, start, before)
        sums = solved.solver.sums
        assert isinstance(sums, CellSums)
        sizes = len(problem.alpha.points), len(problem.beta.points)
        solved.solver.allowance = solved.solver.allowance + sums.skipped
        share = 0.5 * (sums.rows.share + sums.columns.share)
        solved.solver.approximation = Approximation((sizes,), share, sums.skipped, sizes)
        return solved

    def _run(
        self,
        problem: Problem,
        goal: Goal,
        progress: Progress,
        start: Potentials | None,
        earlier: Iterate | None,
        kept: object,
    ) -> tuple[Solver, str]:
        how = self.engine, problem.pair.x.dtype, min(SKIPPED[0], SKIPPED[1] * goal.tol)
        x, y, cost = OwnRows(problem.alpha), OwnRows(problem.beta), problem.pair.cost
        rows = DealtSide(x, y, cost, *how)
        columns = rows if problem.is_self else DealtSide(y, x, cost.transpose(), *how)
        sums = CellSums(FullSums(problem.pair, problem.alpha, problem.beta), rows, columns)
        solver = Solver(problem, goal, self.max_iter, progress, earlier, sums)
        return solver, solver.run(start)
