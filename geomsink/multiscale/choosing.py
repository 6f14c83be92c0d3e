"""Which points of a cloud stand for all of it: cells a few σ wide, cut until some of their points are enough."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..costs import Cost
from ..engine import chosen_points
from ..memory import chunk
from .tree import Tree

WIDTH = 3.0
"""Width of the cells that are tried first, in σ."""
WIDEST = 6.0
"""Width, in σ, above which a cell is cut."""
BATCH = 256
"""Cells that are worked on at a time on a CPU."""
TEMPORARIES = 8
"""Pieces of memory that they may take elsewhere: each step of their factorisations is a launch."""
SAMPLE = 512
"""Points of a cell among which its nodes are looked for."""
LOOKED_AT = 2**14
"""Points of a cell, about, that these are drawn from."""
BOX = 0.5
"""Width, in σ, of the boxes that these are spread over."""
MOST = 128
"""Nodes of a cell, at most."""
WORTH = 0.6
"""A cell whose nodes would be more than this share of its points is cut, or left as it is."""
FINEST = 3e-7
"""Accuracy, at best: its square is what float64 can still tell from zero in a factorisation."""
TRIED = 16
"""Cells that tell whether a sketch is worth it."""
FEWEST = 32
"""Cells of fewer points are left as they are."""


def width(cost: Cost, epsilon: float) -> float:
    """σ of the Gaussian kernel."""
    assert cost.quadratic is not None
    return math.sqrt(0.5 * epsilon / cost.quadratic)


def first_level(tree: Tree, sigma: float) -> int | None:
    """The coarsest level whose cells are mostly narrow enough; None where those of no level with enough points are."""
    n = len(tree)
    for level in range(tree.depth + 1):
        if n >> level < FEWEST:
            break
        step = max(1, (n >> level) // FEWEST)
        inside = tree.measure.points[
            tree.bounds(level)[:-1, None] + step * torch.arange(FEWEST, device=tree.order.device)
        ]
        if float((inside.amax(1) - inside.amin(1)).amax(1).median()) <= WIDTH * sigma:
            return level
    return None


def expected(tree: Tree, cost: Cost, epsilon: float, accuracy: float) -> tuple[int, int]:
    """The nodes that stand for some of the points, and how many of these there are."""
    sigma, n = width(cost, epsilon), len(tree)
    level = first_level(tree, sigma)
    if level is None:
        return n, n
    tried = torch.arange(2**level, device=tree.order.device)[:: max(1, 2**level // TRIED)]
    chosen, cells, _ = chosen_in(tree, level, tried, sigma, accuracy, WORTH)
    return int(chosen.sum()), int(cells.diff().sum())


def chosen_in(
    tree: Tree, level: int, cells: Tensor, sigma: float, accuracy: float, most_worth: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes of cells of a level, as a mask over all points; the cells that these are cut into, shape (C, 2); and which
    of them have no nodes but their points."""
    n, device = len(tree), tree.order.device
    chosen, found = torch.zeros(n, dtype=torch.bool, device=device), []
    while len(cells) and n >> level >= FEWEST and level <= tree.depth:
        done = _choose(tree, level, cells, sigma, max(accuracy, FINEST), chosen, most_worth)
        found.append(ranges_of(tree, level, cells[done]))
        cells = torch.stack((2 * cells[~done], 2 * cells[~done] + 1), 1).flatten()
        level += 1
    rest = ranges_of(tree, level, cells)
    for begin, end in rest.tolist():
        chosen[begin:end] = True
    alone = torch.zeros(sum(map(len, found)), dtype=torch.bool, device=device)
    return chosen, torch.cat((*found, rest)), torch.cat((alone, torch.ones_like(rest[:, 0], dtype=torch.bool)))


def _choose(
    tree: Tree, level: int, cells: Tensor, sigma: float, accuracy: float, chosen: Tensor, most_worth: float
) -> Tensor:
    """Mark the nodes of cells of a level; which of the cells have some that are worth it, shape (B,), bool."""
    points, size = tree.measure.points, len(tree) >> level
    at_once = BATCH
    if points.device.type != "cpu":
        at_once = max(1, TEMPORARIES * chunk(points.device) // (MOST * size))
    done = []
    members = tree.members(level)[0]
    for some in cells.split(at_once):
        inside_of = members[some][:, :: max(1, size // LOOKED_AT)]
        inside = points[inside_of].double()
        low, high = inside.amin(1, keepdim=True), inside.amax(1, keepdim=True)
        places, looked_at = (inside - 0.5 * (low + high)) / sigma, None
        if inside.shape[1] > SAMPLE:
            looked_at = _spread((inside - low) / sigma)
            places = places.gather(1, looked_at[..., None].expand(-1, -1, places.shape[2]))
        most = min(MOST, max(1, math.ceil(most_worth * size)))
        pivots, rank, reached = chosen_points(places.contiguous(), accuracy, most)
        narrow = (high - low).amax((1, 2)) <= WIDEST * sigma
        worth = reached & narrow & (rank <= most_worth * size)
        used = worth[:, None] & (torch.arange(pivots.shape[1], device=rank.device) < rank[:, None])
        pivots = pivots if looked_at is None else looked_at.gather(1, pivots)
        chosen[inside_of.gather(1, pivots)[used]] = True
        done.append(worth)
    return torch.cat(done)


def _spread(points: Tensor) -> Tensor:
    """Some points of each cell, (B, SAMPLE) of (B, N, D), from all of its boxes of a width: one of each, then a second
    one, and so on, so that no part is missing, however few points it has."""
    box = (points / BOX).long() % 2**12
    key = box[..., 0]
    for k in range(1, min(points.shape[-1], 5)):
        key = 2**12 * key + box[..., k]
    # Neighbours in the caller's order may be neighbours in space: those of a box are taken in any order.
    n, generator = key.shape[1], torch.Generator().manual_seed(0)
    mixed = torch.randperm(n, generator=generator, device="cpu").to(key.device)
    key, order = key[:, mixed].sort(dim=1, stable=True)
    order = mixed[order]
    place = torch.arange(key.shape[1], device=key.device)
    begins = torch.nn.functional.pad(key[:, 1:] != key[:, :-1], (1, 0), value=True)
    turn = place - torch.where(begins, place, 0).cummax(1).values
    return order.gather(1, turn.sort(dim=1, stable=True).indices[:, :SAMPLE])


def ranges_of(tree: Tree, level: int, cells: Tensor) -> Tensor:
    bounds = tree.bounds(level)
    return torch.stack((bounds[cells], bounds[cells + 1]), 1)
