"""Newton's equation with a plan whose rows lie on several processes.

Columns, the smaller side, are solved for, by vectors that are whole on all processes: a product with the matrix of the
unknowns is one sum over processes. What is factorised, the first process factorises, and tells the solution. Plans of
few entries are told as they are, and the first process does it all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ..processes import Group, deal, own, told_whole, told_wholes
from ..solver import Enough
from .dealtmatrix import WHAT, DealtMatrix
from .equation import SHIFT, NewtonEquation
from .factor import SparseFactor
from .sums import Plan

FEW = 2**20
"""Entries of a plan that are told to all, at most: 17 MB, in the place of some hundred sums over processes."""
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
        left, here = told_wholes(plan.left, sides[0])
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
        return SparseFactor(self._scaled.gathered())

    def _cholesky(self, right: Tensor, shift: float) -> Tensor:
        _ = self._schur  # a call of all
        return self._by_first(super()._cholesky, right, shift)

    def _by_sparse_factor(self, right: Tensor, shift: float) -> Tensor:
        _ = self._sparse_factor
        return self._by_first(super()._by_sparse_factor, right, shift)

    def _by_first(self, solve: Callable[[Tensor, float], Tensor], right: Tensor, shift: float) -> Tensor:
        return _by_first(self._group, right, lambda: solve(right, shift))


class ToldEquation:
    """The same with a plan of few entries.

    Parameters
    ----------
    plan, rows, columns, residual, groups
        See `DealtEquation`.
    """

    is_stored = True
    shift = SHIFT

    def __init__(
        self, plan: Plan, rows: Tensor, columns: Tensor, residual: float, groups: tuple[Tensor, Tensor] | None
    ):
        kernel = plan.kernel
        assert isinstance(kernel, DealtMatrix)
        stored, self._group = kernel.half.gathered().T, kernel.rows.group
        self._parts = (kernel.columns, kernel.rows) if kernel.turned else (kernel.rows, kernel.columns)
        left, right, of_rows, of_columns = told_wholes(plan.left, plan.right, rows, columns)
        inside = Plan(stored.T if kernel.turned else stored, left, right)
        self._inside = NewtonEquation(inside, of_rows, of_columns, residual, groups)
        self.rows, self.columns = (
            deal(t.narrow(0, p.start, p.mine), p)
            for t, p in zip((self._inside.rows, self._inside.columns), self._parts, strict=True)
        )
        self.left = torch.zeros_like(self.rows)

    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]:
        """λ, shape (N,), and μ, shape (M,), dealt out."""
        self._inside.shift = self.shift
        r, s = told_wholes(r, s)
        nothing = torch.cat((r, s, r))
        found = _by_first(self._group, nothing, lambda: torch.cat((*self._inside.solve(r, s), self._inside.left)))
        sides = zip(found.split((len(r), len(s), len(r))), (*self._parts, self._parts[0]), strict=True)
        first, second, self.left = (deal(t.narrow(0, parts.start, parts.mine), parts) for t, parts in sides)
        return first, second


def _by_first(group: Group, like: Tensor, solve: Callable[[], Tensor]) -> Tensor:
    """What the first process finds, on all."""
    found = torch.zeros_like(like)
    try:
        found = solve() if group.rank == 0 else found
    except Exception as error:  # others are waiting
        group.tell(error, WHAT)
        raise
    return group.first(found, WHAT)


def equation_of(
    plan: Plan, rows: Tensor, columns: Tensor, residual: float, groups: tuple[Tensor, Tensor] | None
) -> NewtonEquation | ToldEquation:
    """Newton's equation, of one process or across several."""
    if not isinstance(plan.kernel, DealtMatrix):
        return NewtonEquation(plan, rows, columns, residual, groups)
    how = ToldEquation if plan.entries <= FEW else DealtEquation
    return how(plan, rows, columns, residual, groups)
