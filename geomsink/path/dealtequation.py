"""Newton's equation with a plan whose rows lie on several processes.

Columns, the smaller side, are solved for, by vectors that are whole on all processes: a product with the matrix of the
unknowns is one sum over processes. What is factorised, the first process factorises, and tells the solution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ..processes import deal, own, told_whole
from ..solver import Enough
from .dealtmatrix import WHAT, DealtMatrix
from .equation import NewtonEquation
from .factor import SparseFactor
from .sums import Plan

LOOKED_AT = 5
"""Iterations after which the first process says whether they have come to their end."""


class DealtEquation(NewtonEquation):
    """See `NewtonEquation`; right-hand sides and solutions are dealt out.

    Parameters
    ----------
    plan : Plan, shape (N, M)
        Of a `DealtMatrix`.
    rows : Sharded, shape (N,)
    columns : Sharded, shape (M,)
    residual : float
    groups : pair of Tensor, shapes (N,) and (M,), optional
        Of all points.
    """

    def _begin(self, plan: Plan) -> tuple[bool, Plan, Tensor, Tensor]:
        kernel = plan.kernel
        assert isinstance(kernel, DealtMatrix)
        self._parts, self._group = (kernel.rows, kernel.columns), kernel.rows.group
        swapped = not kernel.turned
        plan, sides = (plan.T, (self.columns, self.rows)) if swapped else (plan, (self.rows, self.columns))
        left, here = told_whole(torch.stack((plan.left, sides[0]), -1)).T.contiguous()
        return swapped, Plan(kernel.half, left, own(plan.right)), here, own(sides[1])

    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]:
        """λ, shape (N,), and μ, shape (M,), dealt out."""
        inside = (own(r), told_whole(s)) if self._swapped else (told_whole(r), own(s))
        found = super().solve(*inside)
        self.left = self._dealt(self.left, not self._swapped)
        return self._dealt(found[0], not self._swapped), self._dealt(found[1], self._swapped)

    def _dealt(self, t: Tensor, is_whole: bool) -> Tensor:
        rows, columns = self._parts
        return deal(t.narrow(0, columns.start, columns.mine), columns) if is_whole else deal(t, rows)

    def _agreed(self, flag: bool) -> bool:
        """What the first process finds, on all."""
        told = torch.tensor([float(flag)], device=self._here.device)
        return bool(self._group.first(told, WHAT) > 0.0)

    def _looked_at(self, device: torch.device) -> int:
        return max(LOOKED_AT, super()._looked_at(device))

    @cached_property
    def _sparse_factor(self) -> SparseFactor:
        return SparseFactor(self._scaled.gathered())  # type: ignore[union-attr]

    def _cholesky(self, right: Tensor, shift: float) -> Tensor:
        _ = self._schur  # a call of all
        return self._by_first(super()._cholesky, right, shift)

    def _by_sparse_factor(self, right: Tensor, shift: float) -> Tensor:
        _ = self._sparse_factor
        return self._by_first(super()._by_sparse_factor, right, shift)

    def _by_first(self, solve: Callable[[Tensor, float], Tensor], right: Tensor, shift: float) -> Tensor:
        """What the first process finds, on all."""
        found = torch.zeros_like(right)
        try:
            found = solve(right, shift) if self._group.rank == 0 else found
        except Exception as error:  # others are waiting
            self._group.tell(error, WHAT)
            raise
        return self._group.first(found, WHAT)


def equation_of(
    plan: Plan, rows: Tensor, columns: Tensor, residual: float, groups: tuple[Tensor, Tensor] | None
) -> NewtonEquation:
    """Newton's equation, of one process or across several."""
    how = DealtEquation if isinstance(plan.kernel, DealtMatrix) else NewtonEquation
    return how(plan, rows, columns, residual, groups)
