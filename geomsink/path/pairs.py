"""Costs of pairs of points in memory: of all, or of those that may carry mass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..multiscale import Places, Sparse
from ..solver import Potentials

ROOM, WIDER, WIDEST = 1.5, 1.5, 8.0
"""Times the slack that is asked for in which pairs are kept at hand: at first, how much wider the next time where they
are few, and at most."""
FEW = 100.0
"""Pairs a point up to which they are: parts of a plan that has nearly fallen to pieces move by many ε."""
MOST = 2**26
"""Pairs that are kept, at most: 1.1 GB."""
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
    def costs(self) -> Tensor: ...
    @property
    def are_few(self) -> bool:
        """Whether there are so few that more cost little."""
        ...

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Any:
        """exp((f_i + g_j − C_ij)/ε), shape (N, M), float64: a full matrix, or a sparse one, or one across processes."""
        ...


@dataclass(frozen=True)
class AllPairs:
    """Of every two points.

    Attributes
    ----------
    costs : Tensor, shape (N, M)
    """

    costs: Tensor
    are_few = False

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
        return FewPairs(Places(i.int(), j.int(), (len(f), len(g))), self.costs[i, j])


@dataclass(frozen=True)
class FewPairs:
    """Of some pairs, row by row.

    Attributes
    ----------
    places : Places
    costs : Tensor, shape (K,)
    """

    places: Places
    costs: Tensor

    @property
    def are_few(self) -> bool:
        return len(self.costs) < FEW * sum(self.places.shape)

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Sparse:
        exponents = self._of_columns(g).add_(f.index_select(0, self.places.rows))
        return Sparse.of(self.places, exponents.div_(epsilon).exp_())

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        exponents = self._of_columns(g).div_(epsilon)
        return torch.segment_reduce(exponents, "max", offsets=self.places.starts.long(), initial=-math.inf)

    def near(self, f: Tensor, g: Tensor, slack: float) -> FewPairs:
        """See `Source`."""
        slacks = self.costs - f.index_select(0, self.places.rows)
        keep = (slacks.sub_(g.index_select(0, self.places.columns)) < slack).nonzero()[:, 0]
        return FewPairs(self.places.some(keep), self.costs.index_select(0, keep))

    def _of_columns(self, g: Tensor) -> Tensor:
        """g − C of each pair."""
        return g.index_select(0, self.places.columns).sub_(self.costs)


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
        risen = math.inf if self._at is None else self._risen(*self._at, f, g)
        if risen + slack > self._slack:
            self._look(self._everything, f, g, slack)
        elif self._room**2 * slack < self._slack - risen:
            self._look(self._known, f, g, slack)
        return self._known.near(f, g, slack)

    def _look(self, where: Source, f: Tensor, g: Tensor, slack: float) -> None:
        wide = self._room * slack
        known = where.near(f, g, wide)
        self._known, self._at, self._slack = known, (f, g), wide
        if known.are_few:
            self._room = min(WIDEST, WIDER * self._room)

    @staticmethod
    def _risen(f: Tensor, g: Tensor, later_f: Tensor, later_g: Tensor) -> float:
        """What C − f − g may be below what it was."""
        return float((later_f - f).amax() + (later_g - g).amax())
