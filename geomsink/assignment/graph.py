"""Candidate pairs of an exact problem: a sparse bipartite graph with a cost on each edge, by rows and by columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Graph:
    """Edges (i, j), each once, in the order of rows, then of columns.

    Attributes
    ----------
    shape : (int, int)
    i, j : array, shape (E,), int64
    costs : array, shape (E,), float64
    """

    shape: tuple[int, int]
    i: Indices
    j: Indices
    costs: Numbers

    @classmethod
    def of(cls, shape: tuple[int, int], i: Indices, j: Indices, costs: Numbers) -> Graph:
        """In any order, and some perhaps more than once.

        Examples
        --------
        >>> Graph.of((2, 2), np.array([1, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 4.0, 3.0])).costs
        array([4., 3.])
        """
        _, first = np.unique(i * shape[1] + j, return_index=True)
        return cls(shape, i[first], j[first], costs[first])

    def __len__(self) -> int:
        return len(self.i)

    def plus(self, i: Indices, j: Indices, costs: Numbers) -> Graph:
        """With further edges; those that are there already stay as they are."""
        join = np.concatenate
        return Graph.of(self.shape, join((self.i, i)), join((self.j, j)), join((self.costs, costs)))

    def find(self, i: Indices, j: Indices) -> Indices:
        """Where edges are that are there."""
        place: Indices = np.searchsorted(self._keys, i * self.shape[1] + j)
        return place

    @cached_property
    def _keys(self) -> Indices:
        return self.i * self.shape[1] + self.j

    @cached_property
    def by_rows(self) -> Indices:
        """Where the edges of each row begin, shape (N + 1,)."""
        begin: Indices = np.searchsorted(self.i, np.arange(self.shape[0] + 1))
        return begin
