"""Points and weights, validated once: everything above works on measures that are known to be sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

MASS_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Relative difference of the two masses that rounding of the weights explains."""


@dataclass(frozen=True)
class Measure:
    """A discrete measure Σ a_i δ(x_i).

    Attributes
    ----------
    points : Tensor, shape (N, D)
        float32 or float64.
    weights : Tensor, shape (N,)
        float64 whatever the points are, on their device; zeros are allowed.
    """

    points: Tensor
    weights: Tensor

    @property
    def mass(self) -> float:
        return float(self.weights.sum())

    @property
    def log_weights(self) -> Tensor:
        """log a_i, with a finite number far below any exponent in place of log 0."""
        return self.weights.log().clamp(min=-1e30)


@dataclass(frozen=True)
class Container:
    """What the caller's arrays were, so that answers come back as the same."""

    is_numpy: bool
    dtype: torch.dtype
    device: torch.device

    def array(self, t: Tensor) -> Any:
        """A vector or matrix, as the caller's kind of array and precision."""
        t = t.to(self.dtype)
        return t.cpu().numpy() if self.is_numpy else t.to(self.device)

    def number(self, value: float) -> Any:
        """A Python float for NumPy callers, a scalar tensor for torch callers."""
        return value if self.is_numpy else torch.tensor(value, dtype=self.dtype, device=self.device)


def pair_of_measures(x: Any, y: Any, a: Any = None, b: Any = None) -> tuple[Measure, Measure, Container]:
    """Two measures of equal mass from what the caller gave.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        NumPy arrays, torch tensors or anything that NumPy reads; float32 or float64.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights; None is 1/N each.

    Raises
    ------
    TypeError
        For a mixture of array kinds, integer or complex numbers, or different precisions.
    ValueError
        For wrong shapes, empty clouds, NaN, infinities, negative weights, unequal masses, different devices.

    Examples
    --------
    >>> alpha, beta, container = pair_of_measures([[0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    >>> beta.weights
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    for name, points in (("x", x), ("y", y)):
        if points is None:
            raise TypeError(f"{name}: None was given, expected points (points, coordinates).")
    given = {"x": x, "y": y, "a": a, "b": b}
    tensors = {name: isinstance(value, Tensor) for name, value in given.items() if value is not None}
    if len(set(tensors.values())) > 1:
        kinds = ", ".join(f"{name} is a {type(given[name]).__name__}" for name in tensors)
        raise TypeError(f"x, y, a, b: torch tensors and other arrays are mixed ({kinds}); expected one kind.")
    arrays = {name: _tensor(name, given[name]) for name in tensors}
    for name, array in arrays.items():
        for attribute in ("dtype", "device"):
            found, expected = getattr(array, attribute), getattr(arrays["x"], attribute)
            if found != expected:
                error = TypeError if attribute == "dtype" else ValueError
                raise error(
                    f"{name}: {attribute} is {_text(found)}, but that of x is {_text(expected)}; expected the same."
                )
    for name in ("x", "y"):
        _check_points(name, arrays[name])
    if arrays["x"].shape[1] != arrays["y"].shape[1]:
        found = f"{arrays['y'].shape[1]} coordinates a point, but x has {arrays['x'].shape[1]}"
        raise ValueError(f"y: {found}; expected the same number.")
    alpha = Measure(arrays["x"], _weights("a", arrays.get("a"), "x", arrays["x"]))
    beta = Measure(arrays["y"], _weights("b", arrays.get("b"), "y", arrays["y"]))
    dtype = arrays["x"].dtype
    if abs(alpha.mass - beta.mass) > MASS_TOLERANCE[dtype] * max(alpha.mass, beta.mass):
        raise ValueError(f"a, b: they sum to {alpha.mass:.9g} and {beta.mass:.9g}; expected the same mass.")
    return alpha, beta, Container(not tensors["x"], dtype, arrays["x"].device)


def potentials(name: str, given: Any, sizes: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Two potentials, in float64, from what the caller gave under this name.

    Parameters
    ----------
    name : str
    given : pair of array_like, shapes (N,) and (M,)
    sizes : (int, int)
        N and M.
    device : torch.device
        Of the points.

    Raises
    ------
    TypeError, ValueError
        For anything but two vectors of those lengths, of finite numbers in float32 or float64.

    Examples
    --------
    >>> potentials("init", ([0.0, 1.0], [2.0]), (2, 1), torch.device("cpu"))[1]
    tensor([2.], dtype=torch.float64)
    """
    if not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise TypeError(f"{name}: a {type(given).__name__} was given, expected an earlier solution or a pair (f, g).")
    vectors = []
    for which, vector, n in zip("fg", given, sizes, strict=True):
        array = _tensor(f"{name}, {which}", vector)
        if array.shape != (n,):
            raise ValueError(f"{name}, {which}: shape is {tuple(array.shape)}, expected ({n},), one number a point.")
        _check_finite(f"{name}, {which}", array)
        vectors.append(array.to(device, torch.float64))
    return vectors[0], vectors[1]


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name}: a tensor of layout {value.layout} was given, expected a dense one.")
        array = value.detach()
    else:
        try:
            numbers = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name}: NumPy cannot read it as an array ({error}).") from error
        if numbers.dtype.newbyteorder("=") not in (np.float32, np.float64):
            raise TypeError(f"{name}: dtype is {numbers.dtype}, expected float32 or float64.")
        # torch wants memory of its own: native byte order, contiguous and writable.
        array = torch.from_numpy(np.array(numbers, dtype=numbers.dtype.newbyteorder("="), order="C"))
    if array.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: dtype is {_text(array.dtype)}, expected float32 or float64.")
    return array


def _text(attribute: object) -> str:
    return str(attribute).removeprefix("torch.")


def _check_points(name: str, points: Tensor) -> None:
    if points.ndim != 2:
        raise ValueError(f"{name}: shape is {tuple(points.shape)}, expected (points, coordinates).")
    if 0 in points.shape:
        raise ValueError(f"{name}: shape is {tuple(points.shape)}, expected at least one point and one coordinate.")
    _check_finite(name, points)


def _check_finite(name: str, array: Tensor) -> None:
    wrong = int((~array.isfinite()).sum())
    if wrong:
        raise ValueError(f"{name}: {wrong} of {array.numel()} numbers are NaN or infinite; expected finite numbers.")


def _weights(name: str, weights: Tensor | None, of: str, points: Tensor) -> Tensor:
    n = len(points)
    if weights is None:
        return torch.full((n,), 1.0 / n, dtype=torch.float64, device=points.device)
    if weights.shape != (n,):
        raise ValueError(f"{name}: shape is {tuple(weights.shape)}, expected ({n},), one weight a point of {of}.")
    _check_finite(name, weights)
    if bool((weights < 0).any()):
        raise ValueError(f"{name}: the smallest weight is {float(weights.min()):.3g}, expected none below zero.")
    if not bool((weights > 0).any()):
        raise ValueError(f"{name}: all weights are zero, expected a positive mass.")
    return weights.double()
