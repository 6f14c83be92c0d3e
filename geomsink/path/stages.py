"""Cells for points while the temperature is high: the stages of a descent between large clouds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import engine
from ..choose import IN_MEMORY, WIDEST
from ..multiscale import Cloud
from ..processes import Parts, Sharded
from ..solver import Potentials, Problem, log_sums
from .dealtpairs import DealtPairs
from .groups import groups_of
from .pairs import AllPairs, Source
from .spacing import nearest_cost
from .trees import TreePairs

CELLS = 9, 11, 14
"""Levels of the trees that descents begin on: 512, 2,048 and 16,384 cells."""
FINER = 3
"""Points a cell, at least: with fewer, cells are no help."""
WIDE = 5e5
"""Largest cost over that to the nearest neighbour, from which on there are no cells where there is a way without them:
among outliers it is lost at the step from cells to points."""
REACHED = 0.5
"""Cost to the nearest neighbour of the next stage, in ε, at which it begins: at σ of one spacing."""


@dataclass(frozen=True)
class Stage:
    """A problem between cells, or between the points.

    Attributes
    ----------
    problem : Problem
    pairs : Source
        All of them.
    nearest : float
        Cost to the nearest neighbour.
    groups : pair of Tensor, optional
        Parts of the clouds, where they have trees: see `geomsink.path.groups`.
    """

    problem: Problem
    pairs: Source
    nearest: float
    groups: tuple[Tensor, Tensor] | None = None

    @property
    def begins(self) -> float:
        """Temperature from which this stage is solved, and not one of larger cells."""
        return self.nearest / REACHED

    @property
    def is_whole(self) -> bool:
        """Whether all pairs are in memory, so that a way may begin here, however high."""
        return isinstance(self.pairs, (AllPairs, DealtPairs))

    @property
    def parts(self) -> Parts | None:
        """How points are dealt out to processes."""
        points = self.problem.alpha.points
        return points.parts if isinstance(points, Sharded) else None

    def extended(self, finer: Stage, epsilon: float, potentials: Potentials) -> Potentials:
        """Potentials of a finer stage: softmins against these points."""
        mine, other, cost = self.problem, finer.problem, self.problem.pair.cost
        sides = (other.alpha, mine.beta, cost, potentials[1]), (other.beta, mine.alpha, cost.transpose(), potentials[0])
        found, name = [], mine.pair.name.removesuffix(engine.SUFFIX)
        for penalty, (fine, coarse, ground, potential) in zip(mine.penalties, sides, strict=True):
            pair = engine.pair(fine.points.double(), coarse.points.double(), ground, name)
            sums = log_sums(pair, torch.zeros_like(fine.weights), potential / epsilon + coarse.log_weights, epsilon)
            found.append(penalty.update(-epsilon * sums, epsilon))
        return found[0], found[1]


def stages_of(problem: Problem, clouds: tuple[Cloud, Cloud]) -> list[Stage]:
    """Coarse to fine; the last one is between the points."""
    stages: list[Stage] = []
    points = _stage(problem, clouds)
    fewest = min(len(measure.weights) for measure in (problem.alpha, problem.beta))
    wide = isinstance(points.pairs, AllPairs) and problem.cost_scale > WIDE * points.nearest
    if problem.pair.x.shape[-1] <= WIDEST and not problem.pair.cost.looked_up and not wide:
        for level in CELLS:
            if fewest >= FINER * 2**level:
                alpha, beta = (cloud.tree.coarse(level) for cloud in clouds)
                pair = engine.pair(alpha.points.double(), beta.points.double(), problem.pair.cost, problem.pair.name)
                stages.append(_stage(replace(problem, alpha=alpha, beta=beta, pair=pair), None))
    return [*stages, points]


def _stage(problem: Problem, clouds: tuple[Cloud, Cloud] | None) -> Stage:
    alpha, beta, cost = problem.alpha, problem.beta, problem.pair.cost
    nearest = 0.5 * sum(nearest_cost(measure.points, measure.weights, cost) for measure in (alpha, beta))
    if problem.pairs <= IN_MEMORY[problem.alpha.weights.device.type]:
        return Stage(problem, AllPairs(engine.costs(problem.pair)), nearest)
    rows, columns = clouds or (Cloud(alpha, cost, problem.epsilon), Cloud(beta, cost, problem.epsilon))
    groups = groups_of(rows.tree.order), groups_of(columns.tree.order)
    return Stage(problem, TreePairs(rows, columns, cost, problem.pair.name), nearest, groups)
