"""The kernel exp((f_i + g_j − C_ij)/ε) in memory: of all pairs, or of those that carry mass.

It is made once for potentials and a temperature; at others close by its sums are products of the same entries with
scaled weights (Schmitzer 2019, arXiv:1610.06519, absorbs potentials so).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from ..costs import Cost
from ..measures import Measure
from ..solver import Potentials

CHUNK = 2**20
"""Pairs in memory at a time, while costs are made."""


class Pairs(Protocol):
    """Costs of pairs of points in memory."""

    @property
    def costs(self) -> Any: ...
    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Any:
        """exp((f_i + g_j − C_ij)/ε), shape (N, M): a float64 matrix, or a scipy.sparse one."""
        ...

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """max_j (g_j − C_ij)/ε, shape (N,)."""
        ...

    def near(self, f: Tensor, g: Tensor, slack: float) -> Pairs:
        """Those with C_ij − f_i − g_j below a slack; itself, where that is most of them."""
        ...


@dataclass(frozen=True)
class AllPairs:
    """Of every two points.

    Attributes
    ----------
    costs : Tensor, shape (N, M)
    """

    costs: Tensor

    @classmethod
    def of(cls, alpha: Measure, beta: Measure, cost: Cost) -> AllPairs:
        x, y = alpha.points.double(), beta.points.double()
        costs = x.new_empty(len(x), len(y))
        for rows in torch.arange(len(x), device="cpu").split(max(1, CHUNK // len(y))):
            costs[rows[0] : rows[-1] + 1] = cost.between(x[rows, None], y[None])
        return cls(costs)

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        exponents = torch.add((g / epsilon)[None, :], self.costs, alpha=-1.0 / epsilon)
        return exponents.add_((f / epsilon)[:, None]).exp_()

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        return torch.add((g / epsilon)[None, :], self.costs, alpha=-1.0 / epsilon).amax(1)

    def near(self, f: Tensor, g: Tensor, slack: float) -> Pairs:
        """See `Pairs`."""
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
        """See `Pairs`."""
        keep = self.costs - f.numpy()[self.rows] - g.numpy()[self.columns] < slack
        return FewPairs.of(self.rows[keep], self.columns[keep], self.costs[keep], self.shape)


class Around:
    """Those of many pairs that may carry mass at potentials not far from the last ones, and some that may later.

    Parameters
    ----------
    everything : Pairs
    """

    def __init__(self, everything: Pairs):
        self._everything, self._known = everything, everything
        self._slack = -math.inf
        self._at: Potentials | None = None

    @property
    def costs(self) -> Any:
        return self._known.costs

    def kernel(self, f: Tensor, g: Tensor, epsilon: float) -> Any:
        return self._known.kernel(f, g, epsilon)

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        return self._known.highest(g, epsilon)

    def near(self, f: Tensor, g: Tensor, slack: float) -> Pairs:
        """See `Pairs`; all that are known are looked for again where potentials have risen by too much."""
        if self._at is None or self._risen(f, g) + slack > self._slack:
            self._known = self._everything.near(f, g, ROOM * slack)
            self._at, self._slack = (f, g), ROOM * slack
        elif ROOM * ROOM * slack < self._slack - self._risen(f, g):
            self._known = self._known.near(f, g, ROOM * slack)
            self._at, self._slack = (f, g), ROOM * slack
        return self._known.near(f, g, slack)

    def _risen(self, f: Tensor, g: Tensor) -> float:
        """What C − f − g may be below what it was."""
        assert self._at is not None
        return float((f - self._at[0]).amax() + (g - self._at[1]).amax())


RANGE = 4.0
"""What exponents may be off by from those of the kernel in memory, each of the two."""
KEPT = 32.0
"""Slack C − f − g in ε, beside that of a pair with all of its points' mass, up to which entries are kept: e^−24 is left
out, when both have moved by their range."""
HEIGHT = 30.0
"""Logarithm that a row's sum may have, beside 0."""
NOTHING = -700.0
"""Logarithm of sums without any pair: the next update brings the potential of a point without weight back to others."""
ROOM = 2.5
"""Times that slack in which pairs are kept at hand."""
LOOKED_AT = 64
"""Rows by which it is told whether most pairs are near."""
SPARSE = 0.15
"""Share of pairs kept from which on a matrix is full."""


@dataclass(frozen=True)
class Plan:
    """P_ij = l_i K_ij r_j, with the kernel in memory.

    Attributes
    ----------
    kernel : Tensor or scipy.sparse matrix, shape (N, M)
    left : Tensor, shape (N,)
    right : Tensor, shape (M,)
    """

    kernel: Any
    left: Tensor
    right: Tensor

    @property
    def T(self) -> Plan:
        return Plan(self.kernel.T, self.right, self.left)

    @property
    def entries(self) -> int:
        """In memory."""
        return int(self.kernel.numel() if isinstance(self.kernel, Tensor) else self.kernel.nnz)

    def __matmul__(self, w: Tensor) -> Tensor:
        return self.left * _times(self.kernel, self.right * w)

    def scaled(self, left: Tensor, right: Tensor) -> Any:
        """diag(left) P diag(right), a matrix, full or sparse."""
        left, right = left * self.left, right * self.right
        if isinstance(self.kernel, Tensor):
            return (left[:, None] * self.kernel).mul_(right)
        diagonals = scipy.sparse.diags(left.numpy()), scipy.sparse.diags(right.numpy())
        return diagonals[0] @ self.kernel @ diagonals[1]


class StoredSums:
    """Row and column sums from pairs in memory. Implements `geomsink.solver.Sums`.

    Parameters
    ----------
    alpha, beta : Measure
    pairs : Pairs
    """

    def __init__(self, alpha: Measure, beta: Measure, pairs: Pairs):
        self.alpha, self.beta, self.pairs = alpha, beta, pairs
        self._kept = pairs
        self._light = math.log(max(float(alpha.weights.max()), float(beta.weights.max())))
        self._made_for: tuple[Tensor, Tensor, float] | None = None
        self._kernel: Any = None

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        du, dv = self._scales(f, g, epsilon)
        return _times(self._kernel, self.beta.weights * dv.exp()).log().clamp(min=NOTHING) + du

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        du, dv = self._scales(f, g, epsilon)
        return _times(self._kernel.T, self.alpha.weights * du.exp()).log().clamp(min=NOTHING) + dv

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        du, dv = self._scales(f, g, epsilon)
        return du.exp()[:, None] * _times(self._kernel, (self.beta.weights * dv.exp())[:, None] * w)

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        du, dv = self._scales(f, g, epsilon)
        return dv.exp()[:, None] * _times(self._kernel.T, (self.alpha.weights * du.exp())[:, None] * w)

    def plan(self, f: Tensor, g: Tensor, epsilon: float) -> Plan:
        """P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε)."""
        du, dv = self._scales(f, g, epsilon)
        return Plan(self._kernel, self.alpha.weights * du.exp(), self.beta.weights * dv.exp())

    def slacks(self, f: Tensor, g: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Row and column sums of P_ij (C_ij − f_i − g_j)/ε: what the marginals change by where log ε does, and f and g
        do not."""
        plan, costs = self.plan(f, g, epsilon), self._kept.costs
        kernel = self._kernel * costs if isinstance(self._kernel, Tensor) else self._kernel.copy()
        if not isinstance(self._kernel, Tensor):
            kernel.data *= costs
        of_costs, ones = replace(plan, kernel=kernel), (torch.ones_like(g), torch.ones_like(f))
        rows = of_costs @ ones[0] - f * (plan @ ones[0]) - plan @ g
        columns = of_costs.T @ ones[1] - g * (plan.T @ ones[1]) - plan.T @ f
        return rows / epsilon, columns / epsilon

    def _scales(self, f: Tensor, g: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """What exponents of f and g have beyond those of the kernel in memory, which is made again if that is much."""
        if self._made_for is not None and self._made_for[2] == epsilon:
            du, dv = (f - self._made_for[0]) / epsilon, (g - self._made_for[1]) / epsilon
            if float(du.abs().amax()) < RANGE and float(dv.abs().amax()) < RANGE:
                return du, dv
        self._make(f, g, epsilon)
        heights = _times(self._kernel, self.beta.weights).log().abs()
        if not bool((torch.where(self.alpha.weights > 0.0, heights, 0.0) < HEIGHT).all()):
            # Far from any solution: the largest entry of each row is made 1.
            top = -epsilon * self.pairs.highest(g, epsilon)
            self._make(torch.where(top.isfinite(), top, f), g, epsilon)
        assert self._made_for is not None
        return (f - self._made_for[0]) / epsilon, torch.zeros_like(g)

    def _make(self, f: Tensor, g: Tensor, epsilon: float) -> None:
        self._kept = self.pairs.near(f, g, epsilon * (KEPT + self._light))
        self._kernel, self._made_for = self._kept.kernel(f, g, epsilon), (f, g, epsilon)


def _times(matrix: Any, w: Tensor) -> Tensor:
    if isinstance(matrix, Tensor):
        return matrix @ w
    product: Tensor = torch.from_numpy(np.ascontiguousarray(matrix @ w.numpy()))
    return product
