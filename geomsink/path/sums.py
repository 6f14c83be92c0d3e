"""The kernel exp((f_i + g_j − C_ij)/ε) in memory, and its sums.

It is made once for potentials and a temperature; at others close by its sums are products of the same entries with
scaled weights (Schmitzer 2019, arXiv:1610.06519, absorbs potentials so).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..measures import Measure
from ..solver import Kernel, read
from .pairs import KeptPairs, Source

RANGE = 4.0
"""What exponents may be off by from those of the kernel in memory, each of the two."""
KEPT = 32.0
"""Slack C − f − g in ε, beside that of a pair with all of its points' mass, up to which entries are kept: e^−24 is left
out, when both have moved by their range."""
HEIGHT = 30.0
"""Logarithm that a row's sum may have, beside 0."""
NOTHING = -700.0
"""Logarithm of sums without any pair: the next update brings the potential of a point without weight back to others."""


@dataclass(frozen=True)
class Plan:
    """P_ij = l_i K_ij r_j, with the kernel in memory.

    Attributes
    ----------
    kernel : Tensor, Sparse, or what does the same across processes, shape (N, M)
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
        return self.kernel.numel() if isinstance(self.kernel, Tensor) else int(self.kernel.count)

    @property
    def a_point(self) -> float:
        """The same of each point, of both sides."""
        return float(self.entries / sum(self.kernel.shape))

    @property
    def is_full(self) -> bool:
        """Whether every entry is."""
        return bool(self.entries == math.prod(self.kernel.shape))

    def __matmul__(self, w: Tensor) -> Tensor:
        product: Tensor = self.left * (self.kernel @ (self.right * w))
        return product

    def scaled(self, left: Tensor, right: Tensor) -> Any:
        """diag(left) P diag(right)."""
        left, right = left * self.left, right * self.right
        if isinstance(self.kernel, Tensor):
            return (left[:, None] * self.kernel).mul_(right)
        return self.kernel.scaled(left, right)


class StoredSums:
    """Row and column sums from pairs in memory. Implements `geomsink.solver.Sums`.

    Parameters
    ----------
    alpha, beta : Measure
    pairs : Source
    """

    def __init__(self, alpha: Measure, beta: Measure, pairs: Source):
        self.alpha, self.beta, self.pairs = alpha, beta, pairs
        self._light = math.log(max(read(alpha.weights.max(), beta.weights.max())))
        self._made: tuple[KeptPairs, Kernel] | None = None
        self._last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        kernel, du, dv = self._scaled(f, g, epsilon)
        sums: Tensor = kernel @ (self.beta.weights * dv.exp())
        return sums.log().clamp(min=NOTHING) + du

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        kernel, du, dv = self._scaled(f, g, epsilon)
        sums: Tensor = kernel.T @ (self.alpha.weights * du.exp())
        return sums.log().clamp(min=NOTHING) + dv

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        kernel, du, dv = self._scaled(f, g, epsilon)
        products: Tensor = kernel @ ((self.beta.weights * dv.exp())[:, None] * w)
        return du.exp()[:, None] * products

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        kernel, du, dv = self._scaled(f, g, epsilon)
        products: Tensor = kernel.T @ ((self.alpha.weights * du.exp())[:, None] * w)
        return dv.exp()[:, None] * products

    def plan(self, f: Tensor, g: Tensor, epsilon: float) -> Plan:
        """P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε)."""
        kernel, du, dv = self._scaled(f, g, epsilon)
        return Plan(kernel, self.alpha.weights * du.exp(), self.beta.weights * dv.exp())

    def slacks(self, f: Tensor, g: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Row and column sums of P_ij (C_ij − f_i − g_j)/ε: what the marginals change by where log ε does, and f and g
        do not."""
        plan = self.plan(f, g, epsilon)
        assert self._made is not None
        costs = self._made[0].costs
        kernel = plan.kernel
        weighted = kernel * costs if isinstance(kernel, Tensor) else kernel.with_entries(kernel.entries * costs)
        of_costs = replace(plan, kernel=weighted)
        ones = torch.ones_like(g), torch.ones_like(f)
        rows = of_costs @ ones[0] - f * (plan @ ones[0]) - plan @ g
        columns = of_costs.T @ ones[1] - g * (plan.T @ ones[1]) - plan.T @ f
        return rows / epsilon, columns / epsilon

    def _scaled(self, f: Tensor, g: Tensor, epsilon: float) -> tuple[Any, Tensor, Tensor]:
        """The kernel in memory, and what exponents of f and g have beyond it; made again if that is much."""
        if self._made is not None and self._made[1].epsilon == epsilon:
            last = self._last or (None, None)
            if self._last is not None and last[0] is f and last[1] is g:
                return self._made[1].entries, *self._last[2:]
            du, dv = self._made[1].scalings(f, g)
            moved = [d.abs().amax() for d, h, one in zip((du, dv), (f, g), last, strict=False) if h is not one]
            if all(number < RANGE for number in read(*moved)):
                self._last = f, g, du, dv
                return self._made[1].entries, du, dv
        kernel = self._make(f, g, epsilon)
        heights = (kernel.entries @ self.beta.weights).log().abs()
        if not bool((torch.where(self.alpha.weights > 0.0, heights, 0.0) < HEIGHT).all()):
            # Far from any solution: the largest entry of each row is made 1.
            top = -epsilon * self.pairs.highest(g, epsilon)
            kernel = self._make(torch.where(top.isfinite(), top, f), g, epsilon)
        du, dv = kernel.scalings(f, g)
        self._last = f, g, du, dv
        return kernel.entries, du, dv

    def _make(self, f: Tensor, g: Tensor, epsilon: float) -> Kernel:
        near = self.pairs.near(f, g, epsilon * (KEPT + self._light))
        kernel = Kernel(near.kernel(f, g, epsilon), f, g, epsilon)
        self._made = near, kernel
        return kernel
