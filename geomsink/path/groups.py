"""A correction of conjugate gradients by groups of points: what is slow are differences between parts of the clouds.

For groups c of rows, matrices A = diag(d) − P diag(1/e) Pᵀ have few eigenvectors near 0, which are about constant on
each group; the additive two-level preconditioner diag(1/d) + Z (Zᵀ A Z)⁻¹ Zᵀ, with Z the groups' indicators, takes them
away (Nicolaides 1987, SIAM J. Numer. Anal. 24; Toselli, Widlund 2005, Domain Decomposition Methods).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .sums import Plan

SIZE, MOST = 24, 2048
"""Points of a group, about, and groups at most: their matrix is full."""
LEAST = 1e-10
"""Of its diagonal, relative, that is added: constants have no equation where marginals are fixed."""


def groups_of(order: Tensor) -> Tensor:
    """Group of each point, shape (N,), from an order in which neighbours in space follow each other."""
    n, groups = len(order), torch.empty_like(order)
    groups[order] = torch.arange(n, device=order.device) * _count(n) // n
    return groups


def _count(n: int) -> int:
    """Groups of so many points."""
    return max(1, min(MOST, n // SIZE))


def by_groups(
    groups: Tensor, plan: Plan, here: Tensor, there: Tensor, shift: float
) -> Callable[[Tensor], Tensor] | None:
    """r ↦ diag(here)^½ Z (Zᵀ A Z)⁻¹ Zᵀ diag(here)^½ r, of the system scaled by its diagonal.

    None, if rounding has broken the factorisation of the groups' matrix off.

    Parameters
    ----------
    groups : Tensor, shape (N,), int64
    plan : Plan, shape (N, M)
        Sparse.
    here, there : Tensor, shapes (N,) and (M,)
        The diagonal of Newton's matrix.
    shift : float
        That of the matrix, relative to its diagonal.
    """
    count = _count(len(groups))
    between = plan.scaled(torch.ones_like(here), there.rsqrt())
    diagonal = torch.zeros(count, dtype=here.dtype, device=here.device).index_add_(0, groups, here)
    matrix: Tensor = between.gram(groups, count).neg_()
    matrix.diagonal().add_((1.0 + max(shift, LEAST)) * diagonal)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed):
        return None
    root = here.sqrt()

    def correct(r: Tensor) -> Tensor:
        total = torch.zeros_like(diagonal).index_add_(0, groups, root * r)
        return root * torch.cholesky_solve(total[:, None], factor)[:, 0][groups]

    return correct
