"""A balanced tree of cells over a cloud: each level cuts the points, in one common order, into equal ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..measures import Measure
from ..memory import chunk

DEEPEST = 14
"""Levels, at most: 16,384 cells are more than anything here asks for."""


@dataclass(frozen=True)
class Tree:
    """A kd-tree: every cell is cut at the median of its widest coordinate, equal ones in the caller's order.

    Attributes
    ----------
    measure : Measure
        The points and weights in the tree's order.
    order : Tensor, shape (N,), int64
        ``order[k]`` is the caller's index of the tree's k-th point.
    depth : int
        The finest level.

    Examples
    --------
    >>> points = torch.tensor([[3.0], [0.0], [2.0], [1.0]])
    >>> tree = Tree.of(Measure(points, torch.full((4,), 0.25, dtype=torch.float64)))
    >>> tree.order.tolist(), tree.bounds(1).tolist()
    ([1, 3, 2, 0], [0, 2, 4])
    >>> tree.coarse(1).points.tolist()
    [[0.5], [2.5]]
    """

    measure: Measure
    order: Tensor
    depth: int

    @classmethod
    def of(cls, measure: Measure, depth: int = DEEPEST) -> Tree:
        """The tree of a measure's points, in any dimension, with cells down to a level, or to one or two points."""
        points = measure.points
        depth = min(len(points).bit_length() - 1, depth)
        order = _order(points.detach(), depth)
        return cls(Measure(points[order], measure.weights[order]), order, depth)

    def __len__(self) -> int:
        return len(self.order)

    @cached_property
    def rank(self) -> Tensor:
        """The inverse of ``order``: ``rank[i]`` is the tree's index of the caller's i-th point."""
        rank = torch.empty_like(self.order)
        rank[self.order] = torch.arange(len(self), device=self.order.device)
        return rank

    def bounds(self, level: int) -> Tensor:
        """Where the 2^level cells begin and end, shape (2^level + 1,), int64."""
        return _bounds(len(self), level, self.order.device)

    def members(self, level: int) -> tuple[Tensor, Tensor]:
        """Indices of each cell's points, shape (2^level, w), and which of them only pad a smaller cell."""
        return _members(len(self), level, self.order.device)

    def cell_of(self, level: int) -> Tensor:
        """Each point's cell, shape (N,)."""
        cells = torch.arange(2**level, device=self.order.device)
        return cells.repeat_interleave(self.bounds(level).diff(), output_size=len(self))

    def sums(self, level: int, values: Tensor) -> Tensor:
        """Sums over each cell of values in the tree's order, shape (N, ...)."""
        return torch.segment_reduce(values, "sum", offsets=self.bounds(level), axis=0)

    def coarse(self, level: int) -> Measure:
        """One point a cell: its weights' sum at its weighted centroid, or at its centroid if it has no weight."""
        weights, points = self.measure.weights, self.measure.points
        mass = self.sums(level, weights)
        # A trace of uniform weight changes no centroid but those of cells without weight.
        share = weights + 1e-200
        moments = torch.stack([self.sums(level, share * x) for x in points.unbind(1)], dim=1)
        return Measure((moments / self.sums(level, share)[:, None]).to(points.dtype), mass)


def _bounds(n: int, level: int, device: torch.device) -> Tensor:
    return torch.arange(2**level + 1, device=device) * n >> level


def _order(points: Tensor, depth: int) -> Tensor:
    """The caller's indices, cell by cell of the finest level, and in ascending order in each of them.

    Cells of a level are rows of equal length, whatever N: there is room for finest cells of the larger of their two
    sizes, and what a cell has no points for is at the end of its row.
    """
    (n, dimension), device = points.shape, points.device
    room = -(-n >> depth) << depth
    order = torch.arange(room, device=device)
    places = points.new_zeros(dimension, room)
    places[:, :n] = points.T
    for level in range(depth):
        halves = _bounds(n, level + 1, device).diff().view(-1, 2)
        cells, x = order.view(2**level, -1), places.view(dimension, 2**level, -1)
        at_once = max(1, chunk(device) // ((dimension + 1) * cells.shape[1]))
        for some in zip(cells.split(at_once), x.split(at_once, dim=1), halves.split(at_once), strict=True):
            _cut(*some, fewest=n >> level)
    return order[order < n]


def _cut(order: Tensor, places: Tensor, halves: Tensor, fewest: int) -> None:
    """Sort cells, of at least so many points each, into halves of these sizes: (B, w), (D, B, w), (B, 2); in place."""
    device, half, sizes = order.device, order.shape[1] // 2, halves.sum(1, keepdim=True)
    column = torch.arange(fewest, 2 * half, device=device)
    empty, end = column >= sizes, places[..., fewest:]
    end.copy_(torch.where(empty, places[..., :1], end))  # a point of the cell, which makes it no wider
    widest = (places.amax(2) - places.amin(2)).argmax(0)
    key = places[widest, torch.arange(len(widest), device=device)]
    # Of what is empty, the smaller half gets as much as it has no points for.
    key[:, fewest:].masked_fill_(empty, -math.inf).masked_fill_(column >= sizes + half - halves[:, :1], math.inf)
    within = _halves(key)
    order.copy_(order.gather(1, within))
    places.copy_(places.gather(2, within.expand(len(places), -1, -1)))


def _halves(key: Tensor) -> Tensor:
    """Where the smaller half of each row is, and then the larger one, both as they are ordered; shape (B, w).

    Of equal keys the first are the smaller ones.
    """
    rows, half = len(key), key.shape[1] // 2
    if key.device.type != "cpu":
        return key.argsort(dim=1, stable=True).view(rows, 2, half).sort().values.view(rows, -1)
    keys = key.numpy()  # its partition takes much less time than a sort
    last = np.partition(keys, half - 1, axis=1)[:, half - 1 : half]
    left = keys <= last
    tied = np.flatnonzero(np.count_nonzero(left, axis=1) > half)
    if len(tied):
        less, equal = keys[tied] < last[tied], keys[tied] == last[tied]
        left[tied] = less | (equal & (equal.cumsum(1) <= half - np.count_nonzero(less, axis=1)[:, None]))
    within = np.hstack([np.flatnonzero(side).reshape(rows, half) for side in (left, ~left)])
    within -= 2 * half * np.arange(rows)[:, None]
    return torch.from_numpy(within)


def _members(n: int, level: int, device: torch.device) -> tuple[Tensor, Tensor]:
    bounds = _bounds(n, level, device)
    members = bounds[:-1, None] + torch.arange(-(-n >> level), device=device)
    padding = members >= bounds[1:, None]
    return members.clamp(max=n - 1).where(~padding, bounds[:-1, None]), padding
