"""Reduced costs C_ij − f_i − g_j over all pairs: the least of each row, and the pairs that have the least ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import engine
from ..costs import Cost
from ..engine import Blocks, Pair, can_skip, row_by_row, rows_at_once
from ..multiscale import Boxes
from .bounds import below, between_centres

NEAR = 768
"""Columns that each row's candidates are looked for among, about: those of the blocks that look best."""

TIED = 1e-13
"""Reduced costs are equal that differ by less, of the largest."""

Edges = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Pricing:
    """Two clouds in an order in which neighbours follow each other, float64, on the CPU.

    Attributes
    ----------
    pair : Pair
    rows, columns : Boxes
    """

    pair: Pair
    rows: Boxes
    columns: Boxes

    @classmethod
    def of(cls, x: Tensor, y: Tensor, cost: Cost, engine_name: str = "auto") -> Pricing:
        return cls(engine.pair(x, y, cost, engine_name), Boxes.of(x), Boxes.of(y))

    @property
    def T(self) -> Pricing:
        return replace(self, pair=self.pair.T, rows=self.columns, columns=self.rows)

    @property
    def cost(self) -> Cost:
        return self.pair.cost

    def costs(self, i: Tensor, j: Tensor) -> Tensor:
        """Of some pairs."""
        at_once = rows_at_once(self.pair, 1)
        parts = zip(i.split(at_once), j.split(at_once), strict=True)
        return torch.cat([self.cost.between(self.pair.x[rows], self.pair.y[columns]) for rows, columns in parts])

    def blocks(self, f: Tensor, g: Tensor) -> Blocks | None:
        """The pairs that may have a reduced cost below 0: all others are certain to have none; None is all pairs."""
        if not can_skip(self.pair):
            return None
        keep = below(self.rows, self.columns, f, g, self.cost) < 0.0
        keep[:, 0] |= ~keep.any(1)
        return Blocks.from_mask(self.rows.ranges, self.columns.ranges, keep)

    def least(self, f: Tensor, g: Tensor, blocks: Blocks | None) -> Tensor:
        """min_j C_ij − f_i − g_j, shape (N,), over blocks that have all that are below 0."""
        return -self.pair.row_max(g, 1.0, blocks) - f

    def negative(self, rows: Tensor, f: Tensor, g: Tensor, k: int, blocks: Blocks | None) -> Edges:
        """Of some rows, in order, the k pairs of the least reduced costs, as far as they are negative: i, j and C."""
        whole = blocks or Blocks.whole(len(f), len(g))
        anywhere = torch.randint(len(g), (len(f),), generator=torch.Generator().manual_seed(0), device="cpu")
        return self._lowest(whole, rows, f, g, k, 0.0, anywhere)

    def near(self, f: Tensor, g: Tensor, k: int) -> Edges:
        """Of each row, k pairs of low reduced costs: the lowest among the blocks that look best."""
        guess = below if self.cost.lower_bound is not None else between_centres
        looks = guess(self.rows, self.columns, f, g, self.cost)
        sizes = int(self.columns.bounds.diff().min())
        count = min(len(self.columns.centre), -(-max(NEAR, 2 * k) // max(1, sizes)))
        keep = torch.zeros_like(looks, dtype=torch.bool).scatter_(1, looks.topk(count, largest=False).indices, True)
        blocks = Blocks.from_mask(self.rows.ranges, self.columns.ranges, keep)
        every = torch.arange(len(f), device="cpu")
        return self._lowest(blocks, every, f, g, k, torch.inf, every * len(g) // len(f))

    def _lowest(
        self, blocks: Blocks, wanted: Tensor, f: Tensor, g: Tensor, k: int, under: float, first: Tensor
    ) -> Edges:  # fmt: skip
        """Some rows' k pairs of the least reduced costs, if below a number; of equal ones those after ``first``."""
        nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
        found = [(nothing, nothing)]
        for rows, columns in row_by_row(self.pair, blocks, wanted):
            reduced = self.cost.between(self.pair.x[rows, None], self.pair.y[None, columns]) - g[columns]
            # Among equals each row takes others: in one place, all columns are to be candidates.
            turn = columns.to(reduced.dtype) / len(g) - first[rows, None].to(reduced.dtype) / len(g)
            turn.sub_(turn.floor())
            reduced.add_(turn, alpha=TIED * max(abs(float(end)) for end in reduced.aminmax()))
            low, place = reduced.topk(min(k, len(columns)), dim=1, largest=False, sorted=False)
            some, _ = some_of = (low - f[rows, None] < under).nonzero(as_tuple=True)
            found.append((rows[some], columns[place[some_of]]))
        i, j = (torch.cat(parts) for parts in zip(*found, strict=True))
        return i, j, self.costs(i, j)  # those above may be made of inner products, which are rounded otherwise
