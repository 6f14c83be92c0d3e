"""Costs that are looked up: a matrix, or a function of positions, in place of points."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..counts import flag
from ..measures import tensor, working
from .cost import Cost

MOST_POSITIONS = 2**24
"""Whole numbers that float32 holds."""


@dataclass(frozen=True, kw_only=True)
class PositionalCost(Cost):
    """A cost between positions, which stand for points: rows and columns of a matrix. See `MatrixCost`.

    Attributes
    ----------
    shape : tuple of int
        (N, M), or (B, N, M) of a batch.
    is_numpy : bool
    like : Tensor
        Of the precision and on the device of the positions.
    """

    shape: tuple[int, ...]
    is_numpy: bool
    like: Tensor

    @property
    def rows(self) -> Any:
        """What stands for the first points, shape (N, 1) or (B, N, 1): array or tensor, as the matrix is."""
        return self._positions(self.shape[:-1])

    @property
    def columns(self) -> Any:
        """What stands for the second points, shape (M, 1) or (B, M, 1)."""
        return self._positions((*self.shape[:-2], self.shape[-1]))

    def _positions(self, shape: tuple[int, ...]) -> Any:
        counted = torch.arange(math.prod(shape), dtype=self.like.dtype, device=self.like.device)
        positions = counted.reshape(*shape, 1)
        return positions.numpy() if self.is_numpy else positions

    def transpose(self) -> Cost:
        """The cost with its two arguments exchanged."""
        expression = super().transpose().expression
        return replace(self, expression=expression, shape=(*self.shape[:-2], self.shape[-1], self.shape[-2]))


def MatrixCost(
    matrix: Any,
    *,
    degree: float | None = None,
    shape: tuple[int, ...] | None = None,
    symmetric: bool | None = None,
    parameters: tuple[Tensor, ...] = (),
) -> PositionalCost:
    """Costs C_ij that are given, as a matrix or as a function of i and j, where points have no coordinates.

    Positions stand for the points: ``solve(cost.rows, cost.columns, a, b, cost=cost, epsilon=...)``. Any rows and
    columns of these may be taken. With a symmetric matrix, all positions belong to one space, and two measures on it
    have a divergence: ``sinkhorn_divergence(cost.rows, cost.rows, a, b, cost=cost, epsilon=...)``.

    Parameters
    ----------
    matrix : array_like, shape (N, M) or (B, N, M), or callable
        C, in units of the cost; a tensor of float32 or float64 is read anew at every use, and losses are
        differentiated in it. Or a function from integer tensors i and j, which broadcast, to C_ij, for matrices that do
        not fit into memory; it is called on some rows at a time, as ``matrix(i, j, *parameters)``.
    degree : float, optional
        p, if costs are p-th powers of a length, so that ``blur`` has a meaning. Default: ``epsilon`` alone is taken.
    shape : (int, int), optional
        N and M of a function.
    symmetric : bool, optional
        Whether C_ij = C_ji. Default: what the matrix is, up to rounding; False of a function.
    parameters : tuple of Tensor, default ()
        Of a function: see `Cost`.

    Returns
    -------
    Cost
        With ``rows``, shape (N, 1) or (B, N, 1), and ``columns``, shape (M, 1) or (B, M, 1), arrays as the matrix is.
        It is for the dense engine and for solves over all pairs: positions have no neighbours, and no cells.

    Raises
    ------
    TypeError, ValueError
        For anything but finite numbers in two or three dimensions, more than 2^24 positions, a matrix that is not
        symmetric though said to be, and a function without its shape.

    Examples
    --------
    >>> import geomsink, numpy as np
    >>> cost = MatrixCost(np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]]))
    >>> s = geomsink.solve(cost.rows, cost.columns, cost=cost, epsilon=0.01)
    >>> s.plan.to_dense().round(3)
    array([[0.333, 0.167, 0.   ],
           [0.   , 0.167, 0.333]])
    """
    if symmetric is not None:
        flag("symmetric", symmetric)
    if callable(matrix) and not isinstance(matrix, Tensor):
        sizes = _shape_of_function(shape)
        expression = functools.partial(_entries, matrix, sizes)
        like, is_numpy, same = torch.zeros((), dtype=torch.float64, device="cpu"), False, bool(symmetric)
    else:
        if shape is not None or parameters:
            raise ValueError("shape, parameters: given with a matrix, which has its own; expected a function of i, j.")
        table = _table(matrix)
        sizes, is_numpy, like = tuple(table.shape), not isinstance(matrix, Tensor), table.detach().new_zeros(())
        same = _is_symmetric(table.detach()) if symmetric is not False else False
        if symmetric and not same:
            raise ValueError("matrix: C_ij differs from C_ji, expected a symmetric matrix, or symmetric=False.")
        expression, parameters = functools.partial(_looked_up, sizes), (table.reshape(-1),)
    most = max(math.prod(sizes[:-1]), math.prod((*sizes[:-2], sizes[-1])))
    if most > MOST_POSITIONS:
        raise ValueError(f"matrix: it has {most} positions, expected {MOST_POSITIONS} at most.")
    if same and sizes[-1] != sizes[-2]:
        raise ValueError(f"shape: {sizes} given, expected as many rows as columns of a symmetric matrix.")
    return PositionalCost(
        name="matrix",
        expression=expression,
        degree=degree,
        features=_Positions(most),
        symmetric=same,
        looked_up=True,
        parameters=parameters,
        shape=sizes,
        is_numpy=is_numpy,
        like=like,
    )


def _table(matrix: Any) -> Tensor:
    """The matrix as a tensor of floating-point numbers."""
    table = tensor("matrix", matrix)  # arrays, which can be changed, are copied
    if table.ndim not in (2, 3) or 0 in table.shape:
        raise ValueError(f"matrix: shape is {tuple(table.shape)}, expected (N, M), or (B, N, M) of a batch.")
    table = table.to(working(table.dtype))
    wrong = int((~table.detach().isfinite()).sum())
    if wrong:
        raise ValueError(
            f"matrix: {wrong} of {table.numel()} costs are NaN or infinite, expected finite ones; a large cost keeps "
            "mass from a pair."
        )
    return table


def _is_symmetric(table: Tensor) -> bool:
    if table.shape[-1] != table.shape[-2]:
        return False
    rounding = 8.0 * torch.finfo(table.dtype).eps * float(table.abs().max())
    return bool(((table - table.mT).abs() <= rounding).all())


def _shape_of_function(shape: Any) -> tuple[int, ...]:
    if not (isinstance(shape, (tuple, list)) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise ValueError(f"shape: {shape} given, expected (N, M), the rows and columns that the function is of.")
    return tuple(shape)


def _indices(shape: tuple[int, ...], x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Rows and columns from positions; items of a batch are one below the other."""
    if not isinstance(x, Tensor):
        raise ValueError("a matrix is looked up in plain torch; expected engine='auto' or 'dense'.")
    rows, columns = x[..., 0].long(), y[..., 0].long()
    for name, found, most in (("rows", rows, shape[:-1]), ("columns", columns, (*shape[:-2], shape[-1]))):
        if found.numel() and int(found.max()) >= math.prod(most):
            raise ValueError(
                f"x, y: position {int(found.max())} given, but the cost's matrix has {math.prod(most)} {name}."
            )
    return rows, columns % shape[-1]


def _looked_up(shape: tuple[int, ...], x: Any, y: Any, table: Tensor) -> Tensor:
    """C_ij of a matrix, row by row in one vector."""
    rows, columns = _indices(shape, x, y)
    return table[rows * shape[-1] + columns]


def _entries(function: Callable[..., Any], shape: tuple[int, ...], x: Any, y: Any, *parameters: Any) -> Tensor:
    """C_ij of a function."""
    rows, columns = _indices(shape, x, y)
    found, expected = function(rows, columns, *parameters), torch.broadcast_shapes(rows.shape, columns.shape)
    if not isinstance(found, Tensor) or found.shape != expected:
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(f"matrix: the function gave {what}, expected costs of shape {tuple(expected)}.")
    return found.to(x)


@dataclass(frozen=True)
class _Positions:
    """Points that are positions, as they are; anything else is refused."""

    most: int

    def __call__(self, points: Tensor) -> Tensor:
        advice = "of a matrix cost, expected its rows and columns: cost.rows, cost.columns"
        if points.shape[-1] != 1:
            raise ValueError(f"x, y: points have {points.shape[-1]} coordinates, but positions one; {advice}.")
        if points.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"x, y: positions require gradients, but costs that are looked up have none; {advice}.")
        if not bool(((points == points.floor()) & (points >= 0) & (points < self.most)).all()):
            raise ValueError(f"x, y: points are no whole numbers from 0 to {self.most - 1}; {advice}.")
        return points
