"""A balanced tree of cells over a cloud: each level cuts the points, in one common order, into equal ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..measures import Measure

DEEPEST = 14
"""Levels, at most: 16,384 cells are more than anything here asks for."""


@dataclass(frozen=True)
class Tree:
    """A kd-tree: every cell is cut at the median of its widest coordinate.

    Attributes
    ----------
    measure : Measure
        The points and weights in the tree's order.
    order : Tensor, shape (N,), int64
        ``order[k]`` is the caller's index of the tree's k-th point.

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
    _cells: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, measure: Measure) -> Tree:
        """The tree of a measure's points, in any dimension."""
        points, n = measure.points, len(measure.points)
        order = torch.arange(n, device=points.device)
        for level in range(_depth(n)):
            members, padding = _members(n, level, points.device)
            x = points[order[members]]
            width = x.amax(1) - x.amin(1)  # the padding repeats a point of the cell
            key = x.gather(2, width.argmax(1)[:, None, None].expand(-1, x.shape[1], 1))[..., 0]
            key[padding] = math.inf
            within = key.argsort(dim=1, stable=True)
            kept = members.gather(1, within)
            order = order[kept[~padding] if n % 2**level else kept.flatten()]
        return cls(Measure(points[order], measure.weights[order]), order)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def depth(self) -> int:
        """The finest level, whose cells hold one or two points, or of which there are 2^DEEPEST."""
        return _depth(len(self))

    @cached_property
    def rank(self) -> Tensor:
        """The inverse of ``order``: ``rank[i]`` is the tree's index of the caller's i-th point."""
        rank = torch.empty_like(self.order)
        rank[self.order] = torch.arange(len(self), device=self.order.device)
        return rank

    def bounds(self, level: int) -> Tensor:
        """Where the 2^level cells begin and end, shape (2^level + 1,), int64."""
        return torch.arange(2**level + 1, device=self.order.device) * len(self) >> level

    def members(self, level: int) -> tuple[Tensor, Tensor]:
        """Indices of each cell's points, shape (2^level, w), and which of them only pad a smaller cell."""
        return _members(len(self), level, self.order.device)

    def cell_of(self, level: int) -> Tensor:
        """Each point's cell, shape (N,)."""
        if level not in self._cells:
            cells = torch.arange(2**level, device=self.order.device)
            self._cells[level] = cells.repeat_interleave(self.bounds(level).diff(), output_size=len(self))
        return self._cells[level]

    def sums(self, level: int, values: Tensor) -> Tensor:
        """Sums over each cell of values in the tree's order, shape (N, ...)."""
        out = values.new_zeros(2**level, *values.shape[1:])
        return out.index_add_(0, self.cell_of(level), values)

    def coarse(self, level: int) -> Measure:
        """One point a cell: its weights' sum at its weighted centroid, or at its centroid if it has no weight."""
        weights, points = self.measure.weights, self.measure.points
        mass = self.sums(level, weights)
        # A trace of uniform weight changes no centroid but those of cells without weight.
        share = weights + 1e-200
        centroid = self.sums(level, share[:, None] * points.double()) / self.sums(level, share)[:, None]
        return Measure(centroid.to(points.dtype), mass)


def _depth(n: int) -> int:
    return min(n.bit_length() - 1, DEEPEST)


def _members(n: int, level: int, device: torch.device) -> tuple[Tensor, Tensor]:
    bounds = torch.arange(2**level + 1, device=device) * n >> level
    members = bounds[:-1, None] + torch.arange(-(-n >> level), device=device)
    padding = members >= bounds[1:, None]
    return members.clamp(max=n - 1).where(~padding, bounds[:-1, None]), padding
