"""What a figure is given, as NumPy arrays, or one sentence that says what is wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_ROUNDING = 1e-4  # an average of colours, in float32, may leave [0, 1] by a little


def on_host(array: Any) -> Array:
    """A NumPy array of an array or a tensor, wherever it is."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array, dtype=np.float64)


def solved(result: Any, name: str) -> Any:
    """The solve whose history is drawn: of a divergence, that between the two clouds.

    Raises
    ------
    TypeError
        For what has no history.
    """
    solution = getattr(result, "xy", result)
    if not hasattr(solution, "history"):
        raise TypeError(f"{name}: a {type(result).__name__} was given, expected a Solution or a Divergence.")
    return solution


def as_cloud(points: ArrayLike, name: str) -> Array:
    """Points (N, D)."""
    cloud = on_host(points)
    if cloud.ndim != 2 or 0 in cloud.shape:
        raise ValueError(f"{name}: found shape {cloud.shape}, expected (N, D) with at least one point.")
    return cloud


def as_values(values: ArrayLike, n: int, name: str) -> Array:
    """One number a point, (N,)."""
    column = on_host(values)
    if column.shape != (n,):
        raise ValueError(f"{name}: found shape {column.shape}, expected ({n},), one value a point.")
    return column


def as_colors(colors: ArrayLike, n: int, name: str) -> Array:
    """Red, green and blue of each point, (N, 3) in [0, 1]."""
    rows = on_host(colors)
    if rows.shape != (n, 3):
        raise ValueError(f"{name}: found shape {rows.shape}, expected ({n}, 3), red, green and blue of each point.")
    low, high = float(rows.min()), float(rows.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"{name}: found values from {low:.4g} to {high:.4g}, expected them in [0, 1].")
    return np.clip(rows, 0.0, 1.0)
