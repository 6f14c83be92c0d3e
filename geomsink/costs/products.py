"""Squared distances of all pairs in many coordinates, by matrix products: values as right as by differences.

‖x‖² + ‖y‖² − 2⟨x, y⟩ is rounded like its terms, which says nothing of points that are close together: their distances,
whose roots would be wrong, are found again from differences. In many coordinates these are few pairs. Derivatives are
as right as rounding each point once leaves them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FROM_DIFFERENCES = 1.0 / 16.0
"""Squared distances below this share of ‖x‖² + ‖y‖² are found from differences; the others lose 5 bits at most."""
AT_ONCE = 2**20
"""Numbers of the differences that are in memory at a time."""


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖², shape (..., N, M), of points (..., N, D) and (..., M, D); differentiable to any order.

    Memory is that of the points and of the result.

    Examples
    --------
    >>> squared_distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[25.,  0.]])
    """
    items = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    squares: Tensor = _SquaredDistances.apply(x.expand(*items, *x.shape[-2:]), y.expand(*items, *y.shape[-2:]))
    return squares


class _SquaredDistances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        sizes = (x * x).sum(-1)[..., :, None] + (y * y).sum(-1)[..., None, :]
        found = (x @ y.mT).mul_(-2.0).add_(sizes)
        near = (found < FROM_DIFFERENCES * sizes).nonzero()
        for some in near.split(max(1, AT_ONCE // x.shape[-1])):
            *item, i, j = some.unbind(-1)
            rows, columns, pairs = (*item, i), (*item, j), (*item, i, j)
            found[pairs] = (x[rows] - y[columns]).square().sum(-1)
        return found

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        of_x = of_y = None
        if ctx.needs_input_grad[0]:
            of_x = 2.0 * (cotangent.sum(-1)[..., None] * x - cotangent @ y)
        if ctx.needs_input_grad[1]:
            of_y = 2.0 * (cotangent.sum(-2)[..., None] * y - cotangent.mT @ x)
        return of_x, of_y
