"""The levels of two trees that a problem is solved on, and what a solved level gives to the next finer one.

Potentials are extended by softmins against the other cloud's cells; what extension and plain updates leave behind is
smooth, and the two-grid step takes it away. (Schmitzer 2019, arXiv:1610.06519, for the levels.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import engine
from ..costs import Cost
from ..engine import Gibbs
from ..measures import Measure
from ..solver import Iterate, Potentials, log_sums
from .clouds import Cloud
from .newton import NewtonSystem, SparsePlan, curvatures
from .twogrid import TwoGrid, averages

FULL = 2
"""Levels of a tree that are too fine for cells: cells hold four points at least."""
FINE = 0.125
"""Mean cost within a cell, in ε, that the coarse cells should have: a radius of σ/2."""
LOWEST, HIGHEST = 8, 12
"""Levels that the coarse problem may have: 256 to 4096 cells."""
SAMPLE = 20_000
"""Points that are looked at for it."""
FIRST = 10
"""Level up to which a coarse problem is solved by itself."""
STEP = 2
"""Levels between two coarse problems."""


@dataclass(frozen=True)
class Levels:
    """The levels of the two clouds' trees that are solved on, coarse to fine; the points themselves come after.

    Attributes
    ----------
    alpha, beta : tuple of int or None
        ``None`` is a cloud too small for cells.
    width : float
        Mean cost within a cell of the last level, in ε; of the two clouds, the larger.
    """

    alpha: tuple[int | None, ...]
    beta: tuple[int | None, ...]
    width: float

    @classmethod
    def of(cls, alpha: Cloud, beta: Cloud, deep: bool = False) -> Levels | None:
        """The levels that suit ε and the data, or None where both clouds are too small and have no negative weights.

        Cells may hold single points if they are to go ``deep``.
        """
        finest = [cloud.once(("finest level", deep), partial(_finest, cloud, deep)) for cloud in (alpha, beta)]
        found = [level for level in finest if level is not None]
        if not found:
            signed = any(cloud.measure.signs is not None for cloud in (alpha, beta))
            return cls.none() if signed else None
        top = max(level for level, _ in found)
        steps = range(-(-max(top - FIRST, 0) // STEP), -1, -1)
        alphas, betas = (tuple(None if end is None else max(end[0] - STEP * k, 1) for k in steps) for end in finest)
        return cls(alphas, betas, max(width for _, width in found))

    @classmethod
    def none(cls) -> Levels:
        """The points alone."""
        return cls((None,), (None,), 0.0)


def _finest(cloud: Cloud, deep: bool) -> tuple[int, float] | None:
    """The level of a cloud whose cells are fine enough, or its last one, and their width; None for too few points."""
    n = len(cloud.measure.points)
    if n <= 2**LOWEST:
        return None
    finest = min(HIGHEST, cloud.tree.depth if deep else cloud.tree.depth - FULL)
    if finest < LOWEST:
        return None
    level, width, step = LOWEST, float("inf"), -(-n // SAMPLE)
    points = cloud.tree.measure.points[::step]
    for level in range(LOWEST, finest + 1):
        cells = cloud.tree.coarse(level).points[cloud.tree.cell_of(level)[::step]]
        costs = cloud.cost.between(cells, points)
        least = cloud.cost.between(points, points)
        width = float((costs - least).abs().mean()) / cloud.epsilon
        if width <= FINE:
            break
    return level, width


class SolvedLevel:
    """A solved coarse problem, and what it gives to the next finer one."""

    def __init__(self, solver: Iterate, engine_name: str):
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
        plan = self._plan()
        system = NewtonSystem(plan, curvatures(problem.penalties, self.solver.state.f, self.solver.state.g, epsilon))
        pair = engine.pair(beta.points.to(dtype), coarse[0].points.to(dtype), cost.transpose(), self.engine)
        return TwoGrid(system, pair, self.u, problem.penalties[1], cell, len(coarse[1].points), epsilon)

    def _plan(self) -> Any:
        """The coarse plan in memory: on a GPU all of it, where products with it are quick."""
        problem = self.solver.problem
        if self.u.device.type == "cpu":
            plan = SparsePlan(problem.alpha, problem.beta, problem.pair.cost, self.u, self.v, problem.epsilon)
            return plan.matrix(self.u, self.v)
        return engine.matrix(self.solver.plan()).float()

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
