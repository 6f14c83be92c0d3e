"""Pairs of points that lie on several processes: each has those of its own rows, with columns of all.

The larger cloud has the rows. Columns go around a ring where pairs are looked for; after that the costs of those that
may carry mass are in memory, and a potential of the columns is told to all, 8 bytes a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .. import engine
from ..choose import IN_MEMORY
from ..costs import Cost
from ..multiscale import Boxes, OwnRows, by_rows
from ..processes import Parts, local_of, told_largest, told_sum, told_whole
from ..solver import Problem
from .dealtmatrix import DealtMatrix
from .pairs import FEW as FEW_A_POINT
from .pairs import MOST, AllPairs, FewPairs, TooManyPairs
from .trees import pairs_below

WHAT = "pairs that carry mass"
"""What processes were at, in sentences about those that do not answer."""
FEW = 8
"""Points of a box, at least."""


class Highest(Protocol):
    """max_j (g_j − C_ij)/ε over all pairs of a problem."""

    def __call__(self, g: Tensor, epsilon: float) -> Tensor: ...


@dataclass(frozen=True)
class DealtPairs:
    """Pairs in memory. Implements `KeptPairs`.

    Attributes
    ----------
    local : AllPairs or FewPairs
        Of own rows and all columns.
    rows, columns : Parts
        Of the larger cloud and of the other one.
    count : int
        Pairs of all processes.
    turned : bool
        Whether the larger cloud has the columns of the problem.
    high : callable
    """

    local: AllPairs | FewPairs
    rows: Parts
    columns: Parts
    count: int
    turned: bool
    high: Highest

    @classmethod
    def of(cls, local: AllPairs | FewPairs, rows: Parts, columns: Parts, turned: bool, high: Highest) -> DealtPairs:
        """A call of all processes."""
        own = torch.tensor([local.costs.numel()], dtype=torch.int64, device=local.costs.device)
        return cls(local, rows, columns, int(told_sum(own, rows)), turned, high)

    @property
    def costs(self) -> Tensor:
        """Of the own rows."""
        return self.local.costs

    @property
    def are_few(self) -> bool:
        return self.count < FEW_A_POINT * (self.rows.total + self.columns.total)

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """See `Source`: over all pairs."""
        return self.high(g, epsilon)

    def near(self, f: Tensor, g: Tensor, slack: float) -> DealtPairs:
        """See `Source`."""
        local = self.local.near(*self._sides(f, g), slack)
        assert isinstance(local, (AllPairs, FewPairs))
        return DealtPairs.of(local, self.rows, self.columns, self.turned, self.high)

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> DealtMatrix:
        """See `KeptPairs`."""
        matrix = DealtMatrix(self.local.kernel(*self._sides(f, g), epsilon), self.rows, self.columns, self.count)
        return matrix.T if self.turned else matrix

    def _sides(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Of own rows and of all columns."""
        f, g = (g, f) if self.turned else (f, g)
        return local_of(f, self.rows, -1), told_whole(g)


class RingPairs:
    """All pairs of a problem between points that are dealt out, found where they may carry mass. Implements `Source`.

    Parameters
    ----------
    problem : Problem
    rows, columns : OwnRows
        Its clouds.
    """

    def __init__(self, problem: Problem, rows: OwnRows, columns: OwnRows):
        self._problem, self._turned = problem, columns.parts.total > rows.parts.total
        self._rows, self._columns = (columns, rows) if self._turned else (rows, columns)
        cost = problem.pair.cost
        self._cost: Cost = cost.transpose() if self._turned else cost

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """See `Source`: over all pairs."""
        return self._problem.pair.row_max(g / epsilon, epsilon)

    def everything(self) -> DealtPairs | None:
        """All of them in memory, where each process has room for those of its own rows; a call of all."""
        rows, columns, x = self._rows.parts, self._columns.parts, self._rows.points
        most = max(rows.counts) * columns.total
        if most > IN_MEMORY[x.device.type]:
            return None
        costs = x.new_empty((len(x), columns.total), dtype=torch.float64)
        x, y = (cloud.points[cloud.rank].double() for cloud in (self._rows, self._columns))
        starts = _starts(columns)
        for owner, (block,) in columns.group.ring((y,), WHAT):
            if costs[:, : len(block)].numel():
                between = engine.pair(x, block, self._cost, "dense")
                costs[:, starts[owner] : starts[owner] + len(block)] = engine.costs(between)
        return DealtPairs.of(AllPairs(costs), rows, columns, self._turned, self.highest)

    def near(self, f: Tensor, g: Tensor, slack: float) -> DealtPairs:
        """See `Source`.

        Raises
        ------
        TooManyPairs
            On all processes.
        """
        f, g = (g, f) if self._turned else (f, g)
        f, g = self._rows.of(f), self._columns.of(g)
        parts, starts, found, total = self._columns.parts, _starts(self._columns.parts), [], 0
        for owner, (y, there, order) in parts.group.ring((self._columns.points.double(), g, self._columns.order), WHAT):
            if not (len(y) and len(f)) or total > MOST:
                continue
            boxes, points = (self._own[0], Boxes.of(y, FEW)), (self._own[1], y.T.contiguous())
            for i, j, costs in pairs_below(boxes, points, (f, there), self._cost, slack):
                found.append((self._rows.order[i], order[j] + starts[owner], costs))
                total += len(costs)
                if total > MOST:
                    break
        if bool(told_largest(torch.tensor(float(total > MOST), device=f.device), parts)):
            raise TooManyPairs
        shape = len(f), parts.total
        nothing = torch.zeros(0, dtype=torch.int64, device=f.device)
        i, j = (torch.cat([nothing, *(part[k] for part in found)]) for k in range(2))
        places, costs = by_rows(i, j, torch.cat([f[:0], *(part[2] for part in found)]), shape)
        return DealtPairs.of(FewPairs(places, costs), self._rows.parts, parts, self._turned, self.highest)

    @cached_property
    def _own(self) -> tuple[Boxes, Tensor]:
        """Boxes around own rows, and these coordinate by coordinate in memory."""
        return Boxes.of(self._rows.points, FEW), self._rows.points.double().T.contiguous()


def _starts(parts: Parts) -> list[int]:
    """Where each process's rows begin in the whole."""
    return [sum(parts.counts[:k]) for k in range(len(parts.counts))]
