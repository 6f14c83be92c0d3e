"""Points of small clouds that stand for the others in a Gaussian kernel: Cholesky factorisations with pivots."""

from __future__ import annotations

import torch
from torch import Tensor

from . import triton_at_hand

PER_WARP = 64
"""Points that a warp has on a GPU."""


def gaussian(x: Tensor, y: Tensor) -> Tensor:
    """exp(−½‖x − y‖²) for batches of points in units of σ, (..., N, D) and (..., M, D)."""
    if not x.is_cuda:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5).exp_()
    square = x.new_zeros(())
    for k in range(x.shape[-1]):  # torch's distances take ten times as long there
        difference = x[..., :, None, k] - y[..., None, :, k]
        square = torch.addcmul(square, difference, difference)
    return square.mul_(-0.5).exp_()


def chosen_points(points: Tensor, accuracy: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points of batches of clouds whose kernel columns are nearly all of the kernel's.

    Parameters
    ----------
    points : Tensor, shape (B, N, D)
        float64, in units of σ.
    accuracy : float
        Of the kernel at a point, the largest share that others may leave.
    most : int
        How many points of a cloud are chosen, at most.

    Returns
    -------
    Indices (B, r), how many each (B,), and whether they suffice (B,).

    Notes
    -----
    The largest remaining diagonal is the pivot (Harbrecht, Peters, Schneider 2012, Appl. Numer. Math. 62).

    Examples
    --------
    >>> line = torch.tensor([[[0.0], [0.001], [9.0]]], dtype=torch.float64)
    >>> [t.tolist() for t in chosen_points(line, 0.01, 3)]
    [[[0, 2]], [2], [True]]
    """
    most = min(most, points.shape[1])
    found = triton_at_hand.run(points.device, _in_one_launch, points, accuracy, most) if points.is_cuda else None
    pivots, rank, left = found or _step_by_step(points, accuracy, most)
    return pivots[:, : max(int(rank.max()), 1)], rank, left <= accuracy**2


def _step_by_step(points: Tensor, accuracy: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pivots (B, most), their number, and the largest diagonal that they leave."""
    clouds, n, _ = points.shape
    batch = torch.arange(clouds, device=points.device)
    left = torch.ones(clouds, n, dtype=points.dtype, device=points.device)
    factor = torch.zeros(clouds, most, n, dtype=points.dtype, device=points.device)
    pivots = torch.zeros(clouds, most, dtype=torch.int64, device=points.device)
    rank = torch.full((clouds,), most, device=points.device)
    for k in range(most):
        largest, at = left.max(1)
        done = largest <= accuracy**2
        rank = rank.minimum(torch.where(done, k, most))
        if bool(done.all()):
            break
        column = gaussian(points[batch, at][:, None], points)[:, 0]
        if k:
            column -= (factor[batch, :k, at][:, None] @ factor[:, :k])[:, 0]
        column *= torch.where(done, 0.0, largest.clamp(min=1e-300).rsqrt())[:, None]
        factor[:, k], pivots[:, k] = column, at
        left = (left - column**2).clamp(min=0.0)
    return pivots, rank, left.amax(1)


def _in_one_launch(points: Tensor, accuracy: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same on a GPU, where each step would be two dozen launches."""
    from .tiles import pivoted_cholesky

    clouds, n, d = points.shape
    padded = 1 << max(n - 1, 1).bit_length()
    coordinates = points.transpose(1, 2).contiguous()
    factor = points.new_empty(clouds, most, padded)
    pivots = torch.zeros(clouds, most, dtype=torch.int64, device=points.device)
    rank, left = torch.empty_like(pivots[:, 0]), points.new_empty(clouds)
    warps = max(1, min(8, padded // PER_WARP))
    pivoted_cholesky[(clouds,)](
        coordinates, factor, pivots, rank, left, n, most, accuracy**2, D=d, N=padded, num_warps=warps
    )
    return pivots, rank, left
