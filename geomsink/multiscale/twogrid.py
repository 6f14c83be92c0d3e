"""The two-grid step: the smooth part of Newton's step from a plan between coarse cells.

The residual of the columns is summed over cells, Newton's equation is solved there, and its solution ξ is brought to
the points through the kernel itself, as the average of ξ under the coarse plan: prolongation by pieces that are
constant on cells diverges where cells are as large as σ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Gibbs, Pair
from ..solver import Penalty
from .newton import NewtonSystem


class TwoGrid:
    """The correction of column updates that a solved coarse problem gives.

    Parameters
    ----------
    system : NewtonSystem
        Of the coarse problem.
    pair : Pair
        The fine columns, and the coarse rows.
    exponents : Tensor, shape (m,)
        u of the coarse rows.
    penalty : Penalty
        Of the columns' marginal.
    cell : Tensor, shape (M,), int64
        The coarse column that each fine one belongs to.
    cells : int
        Coarse columns.
    epsilon : float
    """

    def __init__(
        self, system: NewtonSystem, pair: Pair, exponents: Tensor, penalty: Penalty, cell: Tensor, cells: int,
        epsilon: float,
    ):  # fmt: skip
        self._system, self._pair, self._exponents = system, pair, exponents
        self._penalty, self._cell, self._cells, self._epsilon = penalty, cell, cells, epsilon
        self.left = 0.0

    def step(self, f: Tensor, g: Tensor, rho: Tensor, shift: float) -> Tensor:
        """See `geomsink.solver.Correction`."""
        xi = self._system.solve(rho.new_zeros(self._cells).index_add_(0, self._cell, rho), shift)
        self.left = self._system.left
        averaged = averages(self._pair, g / self._epsilon, self._exponents, self._epsilon, xi[:, None])[:, 0]
        averaged = averaged / self._penalty.curvature(g, self._epsilon)
        return self._epsilon * torch.where(averaged.isfinite(), averaged, 0.0)


def averages(pair: Pair, u: Tensor, v: Tensor, epsilon: float, values: Tensor) -> Tensor:
    """Σ_I K_iI values_I / Σ_I K_iI for K_iI = exp(u_i + v_I − C_iI/ε), shape (N, E)."""
    dtype = pair.x.dtype
    columns = torch.cat((torch.ones_like(values[:, :1]), values), 1).to(dtype)
    sums = Gibbs(pair, u.to(dtype), v.to(dtype), epsilon).apply(columns).double()
    return sums[:, 1:] / sums[:, :1]
