"""Newton's equation with a plan in memory, solved by the method that its graph asks for.

    [ diag(κ₁ P1)      P       ] [ λ ]   [ r ]
    [     Pᵀ      diag(κ₂ Pᵀ1) ] [ μ ] = [ s ]

The larger side is eliminated; what is left is (for fixed marginals) a graph's Laplacian. Small ones, and those of plans
that have nearly fallen to pieces, which no iteration finds its way through, are factorised; others are left to
conjugate gradients.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from ..solver import Enough
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
HARDER = 100.0
"""Times the shift with which a factorisation is tried again that rounding has broken off."""
ITERATIONS = 500, 3000
"""Of conjugate gradients, at most: of few unknowns, and of more, where a factorisation is dear."""
AS_DEAR = 16
"""Unknowns for each iteration with a full matrix, after which a factorisation takes no longer."""
GROUPED = 10.0
"""Entries a point from which on conjugate gradients are corrected by groups of points: 45 iterations take the place of
250 on surfaces of 20,000 points. With fewer, what is slow are the pieces that a plan falls to."""
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
        self._swapped = len(rows) > len(columns)
        self._plan = plan.T if self._swapped else plan
        sides = self.rows, self.columns
        self._here, self._there = sides[::-1] if self._swapped else sides
        self._groups = groups and groups[self._swapped]

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
        n, a_point = len(right), self._plan.entries / (len(right) + len(self._there))
        if n <= FEW:
            return self._cholesky(right, shift)
        if a_point <= TREES:
            return self._sparse_factor(right, shift)
        factorised = n <= MOST or a_point <= SPARSE
        if not (factorised and self._is_hard):
            found, done = self._conjugate_gradients(right, shift)
            if done or not factorised:
                return found
            self._is_hard = True
        return self._sparse_factor(right, shift) if a_point <= SPARSE else self._cholesky(right, shift)

    @cached_property
    def _schur(self) -> Any:
        """The matrix of the unknowns, scaled to a diagonal of about 1: full, or sparse."""
        scaled = self._plan.scaled(self._here.rsqrt(), self._there.rsqrt())
        if isinstance(scaled, Tensor):
            return (-(scaled @ scaled.T)).diagonal_scatter(1.0 - scaled.square().sum(1))
        return scipy.sparse.identity(scaled.shape[0]) - scaled @ scaled.T

    def _cholesky(self, right: Tensor, shift: float) -> Tensor:
        matrix, root = self._schur, self._here.sqrt()
        matrix = matrix if isinstance(matrix, Tensor) else torch.from_numpy(matrix.toarray())
        failed = True
        while failed:
            shifted = matrix.clone()
            shifted.diagonal().add_(shift)
            factor, info = torch.linalg.cholesky_ex(shifted)
            failed, shift = bool(info), HARDER * shift
        return torch.cholesky_solve((right / root)[:, None], factor)[:, 0] / root

    def _sparse_factor(self, right: Tensor, shift: float) -> Tensor:
        root = self._here.sqrt()
        while True:
            shifted = (self._schur + shift * scipy.sparse.identity(len(root))).tocsc()
            try:
                factor = scipy.sparse.linalg.splu(
                    shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
                )
                if (factor.U.diagonal() > 0.0).all():
                    return torch.from_numpy(factor.solve((right / root).numpy())) / root
            except RuntimeError:  # exactly singular
                pass
            shift *= HARDER

    def _conjugate_gradients(self, right: Tensor, shift: float) -> tuple[Tensor, bool]:
        """Of the system scaled by its diagonal; and whether that came to its end."""
        root, plan, back = self._here.sqrt(), self._plan, self._plan.T
        correct = None
        if isinstance(plan.kernel, Tensor):
            most = min(ITERATIONS[len(right) > MOST], len(right) // AS_DEAR)
        else:
            back, most = replace(back, kernel=back.kernel.tocsr()), ITERATIONS[len(right) > MOST]
            if self._groups is not None and plan.entries >= GROUPED * sum(plan.kernel.shape):
                correct = by_groups(self._groups, plan, self._here, self._there, shift)
        z, residual = torch.zeros_like(right), right / root
        least = self._residual**2 * float(residual @ residual)
        direction = corrected = residual if correct is None else residual + correct(residual)
        size = float(residual @ corrected)
        for _ in range(most):
            if float(residual @ residual) <= least:
                return z / root, True
            image = (1.0 + shift) * direction - (plan @ ((back @ (direction / root)) / self._there)) / root
            curvature = float(direction @ image)
            if not curvature > 0.0:
                break
            z, residual = z + (size / curvature) * direction, residual - (size / curvature) * image
            corrected = residual if correct is None else residual + correct(residual)
            new = float(residual @ corrected)
            direction, size = corrected + (new / size) * direction, new
        return z / root, float(residual @ residual) <= least
