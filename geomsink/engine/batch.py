"""The Gibbs operator of a batch on KeOps: all items' points one after another, and the pairs of each item alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..costs import Cost
from .blocks import Blocks
from .gibbs import Pair
from .tiled import compiled

ROWS = 192
"""Rows of a block: threads share the blocks, and KeOps has as many threads for one on a GPU."""


class BatchPair:
    """Batches of clouds and a cost, reduced item by item in one call.

    Parameters
    ----------
    x : Tensor, shape (B, N, D)
    y : Tensor, shape (B, M, D)
        Padded to one number of points.
    cost : Cost
    lengths : pair of Tensor, shape (B,), int64
        How many points of each item are no padding.
    """

    name = "keops"

    def __init__(self, x: Tensor, y: Tensor, cost: Cost, lengths: tuple[Tensor, Tensor]):
        self.x, self.y, self.cost, self.lengths = x, y, cost, lengths
        self._flat: Pair = compiled(x.flatten(0, 1), y.flatten(0, 1), cost)
        self._blocks = diagonal(x.shape[1], y.shape[1], lengths[1])
        self._transpose: BatchPair | None = None

    @property
    def T(self) -> BatchPair:
        if self._transpose is None:
            self._transpose = BatchPair(self.y, self.x, self.cost.transpose(), self.lengths[::-1])
            self._transpose._transpose = self
        return self._transpose

    def certain(self, of: Callable[[Pair], Pair]) -> BatchPair:
        """The same on the engines that ``of`` gives for those of all items' points."""
        found = BatchPair(self.x, self.y, self.cost, self.lengths)
        for one in (found, found.T):
            one._flat = of(one._flat)
        return found

    @property
    def blocks(self) -> tuple[Blocks, Blocks]:
        """The pattern of the pairs, and that of the transpose."""
        return self._blocks, self.T._blocks

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._shaped(self._flat.row_sums(u.flatten(), v.flatten(), epsilon, self._blocks))

    def row_costs(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._shaped(self._flat.row_costs(u.flatten(), v.flatten(), epsilon, self._blocks))

    def row_max(self, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._shaped(self._flat.row_max(v.flatten(), epsilon, self._blocks))

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        return self._shaped(self._flat.apply(u.flatten(), v.flatten(), epsilon, w.flatten(0, 1), self._blocks))

    def _shaped(self, flat: Tensor) -> Tensor:
        shaped: Tensor = flat.unflatten(0, self.x.shape[:2])
        return shaped


def diagonal(n: int, m: int, columns: Tensor) -> Blocks:
    """Rows of item k, n each, against its first ``columns[k]`` columns, of m.

    Examples
    --------
    >>> diagonal(2, 3, torch.tensor([3, 1])).pairs
    8
    """
    items, per_item = len(columns), -(-n // ROWS)
    within = torch.arange(0, n, ROWS, device="cpu")
    row_begin = (torch.arange(items, device="cpu")[:, None] * n + within).flatten()
    row_end = (torch.arange(items, device="cpu")[:, None] * n + (within + ROWS).clamp(max=n)).flatten()
    begin = (torch.arange(items, device="cpu") * m).repeat_interleave(per_item)
    end = begin + columns.cpu().repeat_interleave(per_item)
    return Blocks(row_begin, row_end, torch.arange(len(begin) + 1, device="cpu"), begin, end)
