"""Sparse matrices where their entries are: on a CPU with SciPy's products, in the tensors' own memory, on a GPU with
torch's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from ..guards import own_filters


@dataclass(frozen=True)
class Places:
    """Where a sparse matrix has entries, row by row.

    Attributes
    ----------
    rows, columns : Tensor, shape (K,), int32
        Rows ascend.
    shape : (int, int)
        N, M.
    """

    rows: Tensor
    columns: Tensor
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def starts(self) -> Tensor:
        """Where each row's begin, and the last one's end, shape (N + 1,), int32."""
        rows = torch.arange(self.shape[0] + 1, dtype=torch.int32, device=self.rows.device)
        return torch.searchsorted(self.rows, rows, out_int32=True)

    @cached_property
    def transposed(self) -> tuple[Places, Tensor]:
        """Those of the transpose, and which of these each of them is, shape (K,)."""
        order = self.columns.argsort(stable=True)
        return Places(self.columns[order], self.rows[order], self.shape[::-1]), order

    def some(self, which: Tensor) -> Places:
        """Those with indices ``which``, which ascend."""
        return Places(self.rows.index_select(0, which), self.columns.index_select(0, which), self.shape)


def by_rows(i: Tensor, j: Tensor, values: Tensor, shape: tuple[int, int]) -> tuple[Places, Tensor]:
    """Places that come in any order, each of them once, and the values there.

    Parameters
    ----------
    i, j : Tensor, shape (K,), int64
        Rows and columns.
    values : Tensor, shape (K,)
    shape : (int, int)

    Examples
    --------
    >>> places, values = by_rows(torch.tensor([1, 0]), torch.tensor([0, 2]), torch.tensor([3.0, 4.0]), (2, 3))
    >>> places.rows.tolist(), places.columns.tolist(), places.starts.tolist(), values.tolist()
    ([0, 1], [2, 0], [0, 1, 2], [4.0, 3.0])
    """
    if values.device.type == "cpu":  # in buckets, in a fraction of the time of a sort
        matrix = scipy.sparse.csr_matrix((values.numpy(), (i.numpy(), j.numpy())), shape=shape)
        rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(matrix.indptr))
        columns = matrix.indices.astype(np.int32, copy=False)
        return Places(torch.from_numpy(rows), torch.from_numpy(columns), shape), torch.from_numpy(matrix.data)
    order = (i * shape[1] + j).argsort()
    return Places(i[order].int(), j[order].int(), shape), values[order]


@dataclass(frozen=True, eq=False)
class Sparse:
    """A sparse matrix, shape (N, M); see `Sparse.of`.

    Examples
    --------
    >>> places = Places(torch.tensor([0, 1]).int(), torch.tensor([2, 0]).int(), (2, 3))
    >>> matrix = Sparse.of(places, torch.tensor([4.0, 3.0]))
    >>> matrix @ torch.tensor([1.0, 0.0, 2.0]), matrix.T @ torch.ones(2)
    (tensor([8., 3.]), tensor([3., 0., 4.]))
    >>> matrix.scaled(torch.tensor([1.0, 2.0]), torch.ones(3)).gram()
    tensor([[16.,  0.],
            [ 0., 36.]])
    """

    _stored: _Stored
    _side: int = 0

    @classmethod
    def of(cls, places: Places, entries: Tensor) -> Sparse:
        """With entries, shape (K,), in such places."""
        return cls(_Stored(places, entries))

    @property
    def T(self) -> Sparse:
        """The transpose, of the same memory."""
        return Sparse(self._stored, 1 - self._side)

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self._stored.places.shape
        return (m, n) if self._side else (n, m)

    @property
    def device(self) -> torch.device:
        return self.entries.device

    @property
    def dtype(self) -> torch.dtype:
        return self.entries.dtype

    @property
    def rows(self) -> Tensor:
        """Of each entry, shape (K,), int32."""
        return self._stored.places.columns if self._side else self._stored.places.rows

    @property
    def columns(self) -> Tensor:
        """Of each entry, shape (K,), int32."""
        return self.T.rows

    @property
    def entries(self) -> Tensor:
        """Shape (K,)."""
        return self._stored.entries

    @property
    def count(self) -> int:
        """Entries."""
        return len(self.entries)

    def sum(self) -> Tensor:
        """Of all entries."""
        return self.entries.sum()

    def full(self) -> Tensor:
        """The matrix with its zeros."""
        matrix = self._stored.matrix(self._side)
        return matrix.to_dense() if isinstance(matrix, Tensor) else torch.from_numpy(matrix.toarray())

    def with_entries(self, entries: Tensor) -> Sparse:
        """Others in the same places and in the same order."""
        return Sparse(_Stored(self._stored.places, entries), self._side)

    def scaled(self, left: Tensor, right: Tensor) -> Sparse:
        """diag(left) A diag(right)."""
        entries = left.index_select(0, self.rows).mul_(self.entries)
        return self.with_entries(entries.mul_(right.index_select(0, self.columns)))

    def __matmul__(self, w: Tensor) -> Tensor:
        """A w, shape (N,) or (N, E)."""
        matrix = self._stored.matrix(self._side)
        if isinstance(matrix, Tensor):
            return matrix @ w
        product: Tensor = torch.from_numpy(np.ascontiguousarray(matrix @ w.numpy()))
        return product

    def gram(self, groups: Tensor | None = None, count: int = 0) -> Tensor:
        """A Aᵀ, a full matrix; with rows added up in groups, Zᵀ A Aᵀ Z with Z the groups' indicators.

        Parameters
        ----------
        groups : Tensor, shape (N,), int64, optional
            The group of each row.
        count : int
            How many groups there are.
        """
        n, m = self.shape
        if self.device.type == "cpu":
            matrix = self._stored.matrix(self._side)
            if groups is not None:
                members = scipy.sparse.csr_matrix((np.ones(n), groups.numpy(), np.arange(n + 1)), shape=(n, count))
                matrix = members.T.tocsr() @ matrix.tocsr()
            product: Tensor = torch.from_numpy((matrix @ matrix.T).toarray())
            return product
        rows = (self.rows if groups is None else groups.index_select(0, self.rows)).long()
        indices, size = torch.stack((rows, self.columns.long())), (n if groups is None else count, m)
        added = torch.sparse_coo_tensor(indices, self.entries, size, check_invariants=False, device=self.device)
        added = added.coalesce()
        full: Tensor = torch.sparse.mm(added, added.transpose(0, 1)).to_dense()
        return full


class _Stored:
    """What a matrix and its transpose share."""

    def __init__(self, places: Places, entries: Tensor):
        self.places, self.entries = places, entries
        self._made: dict[int, Any] = {}

    def matrix(self, side: int) -> Any:
        """SciPy's or torch's, of the matrix (side 0) or its transpose."""
        if side not in self._made:
            self._made[side] = self._matrix(side)
        return self._made[side]

    def _matrix(self, side: int) -> Any:
        places, entries = self.places, self.entries
        if entries.device.type == "cpu":
            if side:
                return self.matrix(0).T
            places_of = places.columns.numpy(), places.starts.numpy()
            return scipy.sparse.csr_matrix((entries.numpy(), *places_of), shape=places.shape)
        if side:  # torch would sort again for each product
            places, order = places.transposed
            entries = entries[order]
        with own_filters():  # torch says once that this is in beta, and does not check
            return torch.sparse_csr_tensor(
                places.starts, places.columns, entries, places.shape, check_invariants=False, device=entries.device
            )
