"""Block-sparse patterns: which ranges of columns each range of rows is reduced over."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

ROWS_PER_BLOCK = 64


@dataclass(frozen=True)
class Blocks:
    """Rows ``row_begin[k] : row_end[k]`` see the columns ``begin[r] : end[r]``, r in ``first[k] : first[k+1]``.

    All are int64 tensors on one device. Rows of all blocks together are each row once, in order.
    """

    row_begin: Tensor
    row_end: Tensor
    first: Tensor
    begin: Tensor
    end: Tensor
    _on_devices: dict[tuple[torch.device, str], tuple[Tensor, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    @functools.lru_cache(maxsize=64)  # small problems are reduced many times, and this would take as long
    def whole(cls, n_rows: int, n_columns: int) -> Blocks:
        """Every row sees every column."""
        row_begin = torch.arange(0, n_rows, ROWS_PER_BLOCK, device="cpu")
        n = len(row_begin)
        return cls(
            row_begin,
            (row_begin + ROWS_PER_BLOCK).clamp(max=n_rows),
            torch.arange(n + 1, device="cpu"),
            torch.zeros(n, dtype=torch.int64, device="cpu"),
            torch.full((n,), n_columns, device="cpu"),
        )

    @classmethod
    def from_mask(cls, row_ranges: Tensor, column_ranges: Tensor, keep: Tensor) -> Blocks:
        """Row range I sees column range J where ``keep[I, J]``; touching column ranges are joined.

        Parameters
        ----------
        row_ranges : Tensor, shape (I, 2), int64
            Begin and end of each range; together they cover the rows in order.
        column_ranges : Tensor, shape (J, 2), int64
            The same for the columns, in increasing order.
        keep : Tensor, shape (I, J), bool
        """
        row, column = keep.nonzero(as_tuple=True)
        begin, end = column_ranges[column, 0], column_ranges[column, 1]
        joins = torch.zeros_like(row, dtype=torch.bool)
        joins[1:] = (row[1:] == row[:-1]) & (begin[1:] == end[:-1])
        last = torch.ones_like(joins)
        last[:-1] = ~joins[1:]
        counts = torch.bincount(row[~joins], minlength=len(row_ranges))
        first = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return cls(
            row_ranges[:, 0].contiguous(),
            row_ranges[:, 1].contiguous(),
            first,
            begin[~joins].contiguous(),
            end[last].contiguous(),
        )

    def parts(self, pairs: int) -> Iterator[Blocks]:
        """The same pattern in pieces of about ``pairs`` pairs each."""
        if self.pairs <= pairs:
            yield self
            return
        piece = self._pairs_of_each().cumsum(0) // pairs
        cuts = [0, *((piece[1:] != piece[:-1]).nonzero()[:, 0] + 1).tolist(), len(piece)]
        for low, high in itertools.pairwise(cuts):
            yield Blocks(
                self.row_begin[low:high], self.row_end[low:high], self.first[low : high + 1], self.begin, self.end
            )

    @functools.cached_property
    def pairs(self) -> int:
        """Number of pairs (i, j) that are computed."""
        return int(self._pairs_of_each().sum())

    def _pairs_of_each(self) -> Tensor:
        """Of the blocks of rows, shape (K,)."""
        total = torch.nn.functional.pad((self.end - self.begin).cumsum(0), (1, 0))
        return (self.row_end - self.row_begin) * (total[self.first[1:]] - total[self.first[:-1]])

    @functools.cached_property
    def rows_at_most(self) -> int:
        """Rows of the largest block."""
        return int((self.row_end - self.row_begin).max()) if len(self.row_begin) else 0

    def compact(self, device: torch.device) -> tuple[Tensor, ...]:
        """The five tensors as int32 on a device; kept."""
        key = device, "compact"
        if key not in self._on_devices:
            tensors = self.row_begin, self.row_end, self.first, self.begin, self.end
            self._on_devices[key] = tuple(t.to(device, torch.int32) for t in tensors)
        return self._on_devices[key]

    def keops_ranges(self, device: torch.device) -> tuple[Tensor, ...]:
        """The six tensors of KeOps' ``ranges`` argument, for a reduction over columns; kept.

        The last three would be those of its derivatives, which are reductions of their own here: empty ones.
        """
        key = device, "ranges"
        if key not in self._on_devices:
            rows = torch.stack((self.row_begin, self.row_end), dim=1)
            columns = torch.stack((self.begin, self.end), dim=1)
            ranges = (rows, self.first[1:], columns, columns[:0], self.first[:0], rows[:0])
            self._on_devices[key] = tuple(t.to(device) for t in ranges)
        return self._on_devices[key]
