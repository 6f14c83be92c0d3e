"""Stages of a descent between clouds whose points lie on several processes: few cells that all have, and the points.

Each process makes cells of its own points. These are told to all, and followed down by each, as far as cells serve;
from there on the points go on, where they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .. import engine
from ..choose import WIDEST
from ..measures import Measure
from ..multiscale import Cloud, OwnRows
from ..processes import deal, told_whole
from ..solver import Problem
from .dealtpairs import WHAT, RingPairs
from .groups import groups_of
from .spacing import nearest_cost
from .stages import CELLS, FINER, WIDE, Stage, stages_of

TOLD = 2 ** CELLS[-1]
"""Cells of a cloud that are told to all, at most."""


def stages_across(problem: Problem) -> list[Stage]:
    """Coarse to fine; the last one is between the points. A call of all processes."""
    alpha, beta, cost = problem.alpha, problem.beta, problem.pair.cost
    clouds = OwnRows(alpha), OwnRows(beta)
    nearest = 0.5 * sum(nearest_cost(measure.points, measure.weights, cost) for measure in (alpha, beta))
    pairs, groups = RingPairs(problem, *clouds), None
    everything = pairs.everything()
    if everything is None:
        groups = _groups(clouds[0]), _groups(clouds[1])
    points = Stage(problem, everything or pairs, nearest, groups)
    fewest = min(len(alpha.weights), len(beta.weights))
    wide = everything is not None and problem.cost_scale > WIDE * nearest
    if problem.pair.x.shape[-1] > WIDEST or cost.looked_up or wide or fewest < FINER * 2 ** CELLS[0]:
        return [points]
    first, second = (cells_of(cloud) for cloud in clouds)
    pair = engine.pair(first.points, second.points, cost, problem.pair.name.removesuffix(engine.SUFFIX))
    coarse = replace(problem, alpha=first, beta=second, pair=pair)
    return [*stages_of(coarse, (Cloud(first, cost, problem.epsilon), Cloud(second, cost, problem.epsilon))), points]


def cells_of(cloud: OwnRows) -> Measure:
    """Cells of all processes, on all: of each as many as it has of the points, about, and half as many at least."""
    parts = cloud.parts
    most = min(parts.mine // FINER, TOLD * parts.mine // parts.total)
    own = cloud.cells(most)
    numbers = torch.cat((own.points.double(), own.weights[:, None]), 1)
    told = torch.cat(parts.group.gather(numbers, WHAT))
    return Measure(told[:, :-1].contiguous(), told[:, -1].contiguous())


def _groups(cloud: OwnRows) -> Tensor:
    """Groups of all points, of each process in the order of its tree."""
    return groups_of(told_whole(deal(cloud.order + cloud.parts.start, cloud.parts)))
