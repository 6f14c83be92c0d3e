"""Costs of pairs of points in memory: of all, or of those that may carry mass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from ..solver import Potentials

ROOM, WIDER, WIDEST = 1.5, 1.5, 8.0
"""Times the slack that is asked for in which pairs are kept at hand: at first, how much wider the next time where they
are few, and at most."""
FEW = 100.0
"""Pairs a point up to which they are: parts of a plan that has nearly fallen to pieces move by many ε."""
MOST = 2**26
"""Pairs that are kept, at most: 1.6 GB."""
LOOKED_AT = 64
"""Rows by which it is told whether most pairs are near."""
SPARSE = 0.15
"""Share of pairs kept from which on a matrix is full."""


class TooManyPairs(Exception):
    """More pairs may carry mass than memory is to hold."""


class Source(Protocol):
    """Pairs of points, some or all."""

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """max_j (g_j − C_ij)/ε, shape (N,)."""
        ...

    def near(self, f: Tensor, g: Tensor, slack: float) -> KeptPairs:
        """Those with C_ij − f_i − g_j below a slack; itself, where that is most of them."""
        ...


class KeptPairs(Source, Protocol):
    """Costs of pairs of points in memory."""

    @property
    def costs(self) -> Any: ...
    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Any:
        """exp((f_i + g_j − C_ij)/ε), shape (N, M): a float64 matrix, or a scipy.sparse one."""
        ...


@dataclass(frozen=True)
class AllPairs:
    """Of every two points.

    Attributes
    ----------
    costs : Tensor, shape (N, M)
    """

    costs: Tensor

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        exponents = torch.add((g / epsilon)[None, :], self.costs, alpha=-1.0 / epsilon)
        return exponents.add_((f / epsilon)[:, None]).exp_()

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        return torch.add((g / epsilon)[None, :], self.costs, alpha=-1.0 / epsilon).amax(1)

    def near(self, f: Tensor, g: Tensor, slack: float) -> KeptPairs:
        """See `Source`."""
        some = slice(None, None, max(1, len(f) // LOOKED_AT))
        if float((self.costs[some] - f[some, None] - g < slack).double().mean()) > SPARSE:
            return self
        near = torch.sub(self.costs, g[None, :]).sub_(f[:, None]) < slack
        i, j = near.nonzero(as_tuple=True)
        return FewPairs.of(i.numpy(), j.numpy(), self.costs[i, j].numpy(), (len(f), len(g)))


@dataclass(frozen=True)
class FewPairs:
    """Of some pairs, row by row.

    Attributes
    ----------
    rows, columns : array, shape (K,)
        Rows ascend.
    costs : array, shape (K,)
    starts : array, shape (N + 1,)
        Where each row's begin.
    shape : (int, int)
        N, M.
    """

    rows: Any
    columns: Any
    costs: Any
    starts: Any
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: Any, columns: Any, costs: Any, shape: tuple[int, int]) -> FewPairs:
        starts = np.concatenate(([0], np.bincount(rows, minlength=shape[0]).cumsum()))
        return cls(rows, columns, costs, starts, shape)

    def _exponents(self, f: Tensor | None, g: Tensor, epsilon: float) -> Any:
        exponents = g.numpy()[self.columns] - self.costs
        if f is not None:
            exponents += f.numpy()[self.rows]
        exponents /= epsilon
        return exponents

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Any:
        entries = torch.from_numpy(self._exponents(f, g, epsilon)).exp_().numpy()
        return scipy.sparse.csr_matrix((entries, self.columns, self.starts), shape=self.shape)

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        out = np.full(self.shape[0], -np.inf)
        some = np.diff(self.starts) > 0
        out[some] = np.maximum.reduceat(self._exponents(None, g, epsilon), self.starts[:-1][some])
        return torch.from_numpy(out)

    def near(self, f: Tensor, g: Tensor, slack: float) -> FewPairs:
        """See `Source`."""
        keep = self.costs - f.numpy()[self.rows] - g.numpy()[self.columns] < slack
        return FewPairs.of(self.rows[keep], self.columns[keep], self.costs[keep], self.shape)


class Around:
    """Those of many pairs that may carry mass at potentials not far from the last ones, and some that may later.

    Implements `Source`.

    Parameters
    ----------
    everything : Source
    """

    def __init__(self, everything: Source):
        self._everything, self._known = everything, everything
        self._room = ROOM
        self._slack = -math.inf
        self._at: Potentials | None = None

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """See `Source`."""
        return self._known.highest(g, epsilon)

    def near(self, f: Tensor, g: Tensor, slack: float) -> KeptPairs:
        """See `Source`; all are looked at again where potentials have risen by too much."""
        if self._at is None or self._risen(f, g) + slack > self._slack:
            self._look(self._everything, f, g, slack)
        elif self._room**2 * slack < self._slack - self._risen(f, g):
            self._look(self._known, f, g, slack)
        return self._known.near(f, g, slack)

    def _look(self, where: Source, f: Tensor, g: Tensor, slack: float) -> None:
        wide = self._room * slack
        known = where.near(f, g, wide)
        self._known, self._at, self._slack = known, (f, g), wide
        if isinstance(known, FewPairs) and len(known.costs) < FEW * (len(f) + len(g)):
            self._room = min(WIDEST, WIDER * self._room)

    def _risen(self, f: Tensor, g: Tensor) -> float:
        """What C − f − g may be below what it was."""
        assert self._at is not None
        return float((f - self._at[0]).amax() + (g - self._at[1]).amax())
