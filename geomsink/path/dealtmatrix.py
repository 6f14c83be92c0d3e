"""Matrices of pairs across processes: each has the entries of its own rows, with the columns of all.

For a product the vector over columns is told to all, 8 bytes a point; of the transpose's each process has its part of
the sum. Newton's equation keeps vectors over columns whole on all, so that a product there and back is one sum over
processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..multiscale import Sparse, by_rows
from ..processes import Parts, deal, local_of, told_sum, told_whole

Local = Tensor | Sparse
"""Entries of own rows: in full, or few of them."""
Matrix = TypeVar("Matrix", bound="OfOwnRows")


@dataclass(frozen=True, eq=False)
class OfOwnRows:
    """A matrix of which each process stores its own rows.

    Attributes
    ----------
    local : Tensor or Sparse, shape (own rows, M)
    rows, columns : Parts
        Of the matrix that is stored.
    count : int
        Entries of all processes.
    turned : bool
        Whether this is the transpose of what it is otherwise.
    """

    local: Local
    rows: Parts
    columns: Parts
    count: int
    turned: bool = False

    @property
    def T(self: Matrix) -> Matrix:
        return replace(self, turned=not self.turned)


@dataclass(frozen=True, eq=False)
class DealtMatrix(OfOwnRows):
    """Products with vectors that are dealt out."""

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self.rows.total, self.columns.total
        return (m, n) if self.turned else (n, m)

    @property
    def entries(self) -> Tensor:
        """Of the own rows."""
        return self.local if isinstance(self.local, Tensor) else self.local.entries

    def with_entries(self, entries: Tensor) -> DealtMatrix:
        """Others in the same places and in the same order."""
        return replace(self, local=entries if isinstance(self.local, Tensor) else self.local.with_entries(entries))

    def __matmul__(self, w: Tensor) -> Tensor:
        """A w, shape (N,) or (N, E)."""
        if not self.turned:
            return deal(self.local @ told_whole(w), self.rows)
        total = told_sum(self.local.T @ local_of(w, self.rows, -w.ndim), self.rows)
        return deal(total.narrow(0, self.columns.start, self.columns.mine), self.columns)

    @property
    def half(self) -> Half:
        """From own rows to all columns."""
        return Half(self.local, self.rows, self.columns, self.count)


@dataclass(frozen=True, eq=False)
class Half(OfOwnRows):
    """The transpose of a stored matrix, of vectors over its own rows and all of its columns; turned, the matrix."""

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self.rows.total, self.columns.total
        return (n, m) if self.turned else (m, n)

    def __matmul__(self, w: Tensor) -> Tensor:
        """Over all columns, from numbers of the own rows, the same bits on all; turned, the other way, by itself."""
        return self.local @ w if self.turned else told_sum(self.local.T @ w, self.rows)

    def scaled(self, left: Tensor, right: Tensor) -> Half:
        """diag(left) A diag(right)."""
        left, right = (left, right) if self.turned else (right, left)
        if isinstance(self.local, Sparse):
            return replace(self, local=self.local.scaled(left, right))
        return replace(self, local=(left[:, None] * self.local).mul_(right))

    def gram(self, groups: Tensor | None = None, count: int = 0) -> Tensor:
        """See `geomsink.multiscale.Sparse`; not of the turned one. Each process has a part of the sum."""
        part = self.local.T
        if isinstance(part, Sparse):
            return told_sum(part.gram(groups, count), self.rows)
        if groups is not None:
            part = part.new_zeros(count, part.shape[1]).index_add_(0, groups, part)
        return told_sum(part @ part.T, self.rows)

    def gathered(self) -> Local:
        """All entries, on all processes; not of the turned one."""
        local, group = self.local, self.rows.group
        if self.count == self.rows.total * self.columns.total:
            return torch.cat(group.gather(self._full, WHAT)).T
        if isinstance(local, Tensor):
            i, j = local.nonzero(as_tuple=True)
            values = local[i, j]
        else:
            i, j, values = local.rows.long(), local.columns.long(), local.entries
        places = torch.cat(group.gather(torch.stack((i + self.rows.start, j), 1).int(), WHAT)).long()
        values = torch.cat(group.gather(values, WHAT))
        return Sparse.of(*by_rows(places[:, 1], places[:, 0], values, self.shape))

    @property
    def _full(self) -> Tensor:
        return self.local if isinstance(self.local, Tensor) else self.local.full()


WHAT = "Newton's equation"
"""What processes were at, in sentences about those that do not answer."""
