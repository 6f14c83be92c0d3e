"""Newton's equation with a plan in memory, solved by the method that its graph asks for.

    [ diag(κ₁ P1)      P       ] [ λ ]   [ r ]
    [     Pᵀ      diag(κ₂ Pᵀ1) ] [ μ ] = [ s ]

The larger side is eliminated; what is left is (for fixed marginals) a graph's Laplacian. Small ones, and those of plans
that have nearly fallen to pieces, which no iteration finds its way through, are factorised; others are left to
conjugate gradients.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..solver import Enough
from .factor import HARDER, SparseFactor
from .groups import by_groups
from .sums import Plan

FEW = 700
"""Unknowns up to which the matrix is full and factorised."""
TREES, SPARSE = 2.0, 5.0
"""Entries of the plan a point, at most, for a sparse factorisation: at once, as the graph is nearly a forest, and where
conjugate gradients do not come to an end. With more, it fills up."""
MOST = 4096
"""Unknowns up to which a full factorisation is made where conjugate gradients do not come to an end."""
SHIFT = 1e-14
"""Of the diagonal, relative, at least: rounding of the matrix."""
ITERATIONS = 500, 3000
"""Of conjugate gradients, at most: of few unknowns, and of more, where a factorisation is dear."""
AS_DEAR = 16
"""Unknowns for each iteration with a full matrix, after which a factorisation takes no longer."""
GROUPED = 10.0
"""Entries a point from which on conjugate gradients are corrected by groups of points: 45 iterations take the place of
250 on surfaces of 20,000 points. With fewer, what is slow are the pieces that a plan falls to."""
LOOKED_AT = {"cpu": 1, "cuda": 10}
"""Iterations after which it is looked at whether they have come to their end: a GPU is waited for."""
LITTLE = 1e-290
"""Mass of a point without any."""


class NewtonEquation:
    """Newton's equation at some potentials.

    Parameters
    ----------
    plan : Plan, shape (N, M)
    rows : Tensor, shape (N,)
    columns : Tensor, shape (M,)
        The diagonal: marginals of the plan, times the penalties' curvatures.
    residual : float
        Relative residual that conjugate gradients stop at.
    groups : pair of Tensor, shapes (N,) and (M,), optional
        See `geomsink.path.groups`.

    Attributes
    ----------
    shift : float
        Share of the diagonal that is added to the matrix of the smaller side: it holds still what is connected by less.
    left : Tensor, shape (N,)
        Mass by which the last solution misses the right-hand side of the rows; that of the columns it meets.
    """

    is_stored = True
    shift = SHIFT

    def __init__(
        self, plan: Plan, rows: Tensor, columns: Tensor, residual: float, groups: tuple[Tensor, Tensor] | None = None
    ):
        self.rows, self.columns = rows.clamp(min=LITTLE), columns.clamp(min=LITTLE)
        self.left = torch.zeros_like(rows)
        self._residual, self._is_hard = residual, False
        self._swapped, self._plan, self._here, self._there = self._begin(plan)
        self._groups = groups and groups[self._swapped]

    def _begin(self, plan: Plan) -> tuple[bool, Plan, Tensor, Tensor]:
        """Whether columns are solved for; and the plan from the other side to that which is, and the two diagonals."""
        if len(self.rows) > len(self.columns):
            return True, plan.T, self.columns, self.rows
        return False, plan, self.rows, self.columns

    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]:
        """λ, shape (N,), and μ, shape (M,), as exactly as the method can, whatever is ``enough``."""
        r, s = (s, r) if self._swapped else (r, s)
        right = r - self._plan @ (s / self._there)
        found = self._solve(right, self.shift)
        left = right - self._image(found)
        other = (s - self._plan.T @ found) / self._there
        if self._swapped:
            found = found + left / self._here  # now the columns are met, and the rows are not
            left = -(self._plan.T @ (left / self._here))
            found, other = other, found
        self.left = left
        return found, other

    def _image(self, z: Tensor) -> Tensor:
        return self._here * z - self._plan @ ((self._plan.T @ z) / self._there)

    def _solve(self, right: Tensor, shift: float) -> Tensor:
        n, a_point = len(right), self._plan.a_point
        if n <= FEW:
            return self._cholesky(right, shift)
        if a_point <= TREES:
            return self._by_sparse_factor(right, shift)
        factorised = n <= MOST or a_point <= SPARSE
        if not (factorised and self._is_hard):
            found, done = self._conjugate_gradients(right, shift)
            if done or not factorised:
                return found
            self._is_hard = True
        return self._by_sparse_factor(right, shift) if a_point <= SPARSE else self._cholesky(right, shift)

    @cached_property
    def _scaled(self) -> Any:
        """The plan, such that the matrix of the unknowns has a diagonal of about 1: it is I − S Sᵀ for this S."""
        return self._plan.scaled(self._here.rsqrt(), self._there.rsqrt())

    @cached_property
    def _schur(self) -> Tensor:
        """The matrix of the unknowns, in full."""
        scaled = self._scaled
        if isinstance(scaled, Tensor):
            return (-(scaled @ scaled.T)).diagonal_scatter(1.0 - scaled.square().sum(1))
        matrix: Tensor = scaled.gram().neg_()
        matrix.diagonal().add_(1.0)
        return matrix

    @cached_property
    def _sparse_factor(self) -> SparseFactor:
        return SparseFactor(self._scaled)

    def _cholesky(self, right: Tensor, shift: float) -> Tensor:
        root, failed = self._here.sqrt(), True
        while failed:
            if not shift < 1.0:  # which makes a matrix of numbers positive
                return torch.full_like(right, math.nan)
            shifted = self._schur.clone()
            shifted.diagonal().add_(shift)
            factor, info = torch.linalg.cholesky_ex(shifted)
            failed, shift = bool(info), HARDER * shift
        return torch.cholesky_solve((right / root)[:, None], factor)[:, 0] / root

    def _by_sparse_factor(self, right: Tensor, shift: float) -> Tensor:
        root = self._here.sqrt()
        return self._sparse_factor.solve(right / root, shift) / root

    def _conjugate_gradients(self, right: Tensor, shift: float) -> tuple[Tensor, bool]:
        """Of the system scaled by its diagonal; and whether that came to its end."""
        root, plan, most = self._here.sqrt(), self._plan, ITERATIONS[len(right) > MOST]
        back, correct = plan.T, None
        if plan.is_full:
            most = min(most, len(right) // AS_DEAR)
        elif self._groups is not None and plan.a_point >= GROUPED:
            correct = by_groups(self._groups, plan, self._here, self._there, shift)
        number, every = float if right.device.type == "cpu" else _there, self._looked_at(right.device)
        z, residual = torch.zeros_like(right), right / root
        norm, curvature = number(residual @ residual), 1.0
        least = self._residual**2 * norm
        direction = corrected = residual if correct is None else residual + correct(residual)
        size = number(residual @ corrected)
        for k in range(most):
            if k % every == 0 and not self._agreed(bool((norm > least) & (curvature > 0.0))):
                break
            image = (1.0 + shift) * direction - (plan @ ((back @ (direction / root)) / self._there)) / root
            curvature = number(direction @ image)
            step = _ratio(size, curvature, curvature)
            z, residual = z + step * direction, residual - step * image
            corrected = residual if correct is None else residual + correct(residual)
            norm, new = number(residual @ residual), number(residual @ corrected)
            direction, size = corrected + _ratio(new, size, curvature) * direction, new
        return z / root, self._agreed(bool(norm <= least))

    def _agreed(self, flag: bool) -> bool:
        """What several processes would have to agree on."""
        return flag

    def _looked_at(self, device: torch.device) -> int:
        """Iterations after which it is looked at whether they have come to their end."""
        return LOOKED_AT[device.type]


def _there(t: Tensor) -> Any:
    """A number where it is: on a GPU, which would be waited for."""
    return t


def _ratio(above: Any, below: Any, curvature: Any) -> Any:
    """Of two numbers; 0 where there is no curvature, after which directions start afresh."""
    if isinstance(curvature, Tensor):
        return torch.where(curvature > 0.0, above / below, 0.0)
    return above / below if curvature > 0.0 else 0.0
