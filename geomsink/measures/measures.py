"""Points and weights, validated once: everything above works on measures that are known to be sound."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .arrays import MASS_TOLERANCE, Arrays, check_masses, tensor, working
from .batches import Layout
from .given import Side
from .missing import mended


@dataclass(frozen=True)
class Measure:
    """A discrete measure Σ a_i δ(x_i), or a batch of them.

    Attributes
    ----------
    points : Tensor, shape (N, D) or (B, N, D)
        float32 or float64.
    weights : Tensor, shape (N,) or (B, N)
        float64 whatever the points are, on their device; zeros are allowed, and negative numbers in a sketch.
    nearby : Tensor, shape (N,), optional
        Of a sketch, the mass of the points that each one is nearest to, about.
    """

    points: Tensor
    weights: Tensor
    nearby: Tensor | None = None

    @cached_property
    def mass(self) -> float:
        """Of one measure."""
        return float(self.weights.sum())

    @property
    def sizes(self) -> Tensor:
        """Weights for means over the points, none negative, shape (N,) or (B, N)."""
        return self.weights if self.nearby is None else self.nearby

    @cached_property
    def signs(self) -> Tensor | None:
        """Of the weights, shape (N,), where some may be negative."""
        return None if self.nearby is None else self.weights.sign()

    @cached_property
    def log_weights(self) -> Tensor:
        """log |a_i|, with a finite number far below any exponent in place of log 0."""
        weights = self.weights if self.nearby is None else self.weights.abs()
        return weights.log().clamp(min=-1e30)


class OutOfRange(ValueError):
    """A result that the caller's precision does not hold."""


@dataclass(frozen=True)
class Container:
    """What the caller's arrays were, so that answers come back as the same.

    Attributes
    ----------
    is_numpy : bool
    dtype : torch.dtype
        What points and weights promote to.
    device : torch.device
    layouts : pair of Layout, optional
        Of the two batches of clouds; None is two clouds.
    mass_tolerance : float
        Relative difference of two masses that rounding of the weights explains.
    lost : Tensor, shape (B,), bool, optional
        Items whose answers are NaN.
    """

    is_numpy: bool
    dtype: torch.dtype
    device: torch.device
    layouts: tuple[Layout, Layout] | None = None
    mass_tolerance: float = MASS_TOLERANCE[torch.float64]
    lost: Tensor | None = field(default=None, compare=False)

    @property
    def working(self) -> torch.dtype:
        """The precision of the points in computations: the caller's, and float32 for half precision."""
        return working(self.dtype)

    @property
    def T(self) -> Container:
        """The same with the sides exchanged."""
        return self.of_sides(1, 0)

    def of_sides(self, first: int, second: int) -> Container:
        """For numbers over the points of two of the sides, which may be one."""
        layouts = self.layouts
        return self if layouts is None else replace(self, layouts=(layouts[first], layouts[second]))

    def check_single(self) -> None:
        """Refuse batches.

        Raises
        ------
        ValueError
        """
        if self.layouts is not None:
            raise ValueError("x, y: batches were given, expected two clouds (points, coordinates).")

    def array(self, t: Tensor, side: int) -> Any:
        """Numbers over the points of a side, (..., N) or (..., N, E), as the caller's kind of arrays and precision."""
        t = self._narrowed(t)
        t = t.detach().cpu() if self.is_numpy else t.to(self.device)
        whole = self.layouts[side].unpad(t) if self.layouts else t
        if not self.is_numpy:
            return whole
        return [item.numpy() for item in whole] if isinstance(whole, list) else whole.numpy()

    def number(self, value: Tensor) -> Any:
        """A Python float for NumPy callers, a scalar tensor for torch callers; of a batch, an array (B,)."""
        if not self.is_numpy:
            return self._narrowed(value).to(self.device)
        number = value.detach()
        return self._narrowed(number).cpu().numpy() if number.ndim else float(number)

    def _narrowed(self, t: Tensor) -> Tensor:
        """In the caller's precision; NaN for items that are lost.

        Raises
        ------
        OutOfRange
            For finite numbers that it does not hold.
        """
        if self.lost is not None and t.ndim and len(t) == len(self.lost):
            t = torch.where(self.lost.reshape(-1, *[1] * (t.ndim - 1)), torch.nan, t)
        narrow = t.to(self.dtype)
        if self.dtype != torch.float64 and bool((narrow.detach().isinf() & t.detach().isfinite()).any()):
            most, name = float(t.detach().nan_to_num(0.0, 0.0, 0.0).abs().max()), _text(self.dtype)
            wider = "float32" if most < torch.finfo(torch.float32).max else "float64"
            raise OutOfRange(f"x, y: results reach {most:.3g}, which {name} does not hold; give points in {wider}.")
        return narrow

    def scalar(self, value: Any) -> Any:
        """A number as a scalar of the caller's kind and precision: NumPy's own for NumPy callers."""
        if not self.is_numpy:
            return self._narrowed(value).to(self.device)
        return self._narrowed(torch.as_tensor(float(value), dtype=torch.float64, device="cpu")).numpy()[()]

    def error(self, size: Tensor, value: Tensor) -> Any:
        """What a value is off by as a `number`: rounded up, with what rounding the value to the caller's precision
        does."""
        if not self.is_numpy or value.ndim:
            size = size + (value.to(self.dtype).double() - value).abs()
        return self.bound(size, 1)

    def bound(self, value: Tensor, direction: int) -> Any:
        """A `number` that is rounded down (direction −1) or up (1)."""
        rounded = value.detach().to(torch.float64 if self.is_numpy and value.ndim == 0 else self.dtype)
        inside = (rounded.double() - value.detach()) * direction < 0.0
        outer = torch.nextafter(rounded, torch.full_like(rounded, direction * torch.inf))
        return self.number(torch.where(inside, outer, rounded))  # infinite where float32 ends

    def padded(self, name: str, given: Any, side: int) -> Any:
        """The inverse of `array` for a batch of clouds of different sizes; anything else as it is.

        Raises
        ------
        ValueError
            If items do not have as many numbers as their clouds have points.
        """
        if self.layouts is None or self.layouts[side].kind == "tensor":
            return given
        layout = self.layouts[side]
        if isinstance(given, (list, tuple)):
            items = [tensor(f"{name}[{k}]", item) for k, item in enumerate(given)]
        else:
            whole = tensor(name, given)
            if not whole.ndim:
                raise ValueError(f"{name}: a single number was given, expected one a point.")
            items = list(whole.split(list(layout.lengths))) if len(whole) == sum(layout.lengths) else [whole]
        found = tuple(len(item) for item in items)
        if found != layout.lengths:
            raise ValueError(f"{name}: items of {found} rows were given, expected {layout.lengths}, as in the clouds.")
        return layout.pad(items, fill=True)


def pair_of_measures(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    equal_masses: bool = True,
    x_batch: Any = None,
    y_batch: Any = None,
    names: tuple[str, str] = ("x", "y"),
    propagate: bool = False,
    remedy: str = "",
    parts: bool = False,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Container]:
    """Points and weights of two measures from what the caller gave; tensors keep their autograd history.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        NumPy arrays, torch tensors or anything that NumPy reads: floating-point numbers or integers, of any precisions,
        which are promoted as NumPy does; half precision is computed in float32. Batches are (B, N, D), or lists of B
        arrays, or all points with ``x_batch``.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights in the form of the points; None is 1/N each.
    equal_masses : bool, default True
        Whether the two masses must be the same.
    x_batch, y_batch : array_like, shape (N,) and (M,), int64, optional
        The item of the batch that each point belongs to.
    names : pair of str
        What sentences call the points.
    propagate : bool, default False
        Whether items of a batch that are NaN or infinite have NaN for answers, and are not refused.
    remedy : str
        What the caller can be told to give for other masses, such as "reach= for others".
    parts : bool, default False
        Whether they are parts of larger clouds, which may have no points, or no mass.

    Returns
    -------
    pair of points, pair of weights (float64), Container

    Raises
    ------
    TypeError
        For a mixture of array kinds, and for what is no real numbers.
    ValueError
        For wrong shapes, empty clouds, NaN, infinities, integers beyond 2^53, negative weights, unequal masses,
        different devices.

    Examples
    --------
    >>> points, weights, container = pair_of_measures([[0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    >>> weights[1]
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    given: dict[str, Any] = {}
    sides = [Side.of(names[0], "a", x, a, x_batch, given), Side.of(names[1], "b", y, b, y_batch, given)]
    arrays, lost = Arrays.read(given, ", ".join((*names, "a", "b"))), None
    tensors = arrays.tensors
    if propagate:
        tensors, lost = mended(tensors, [(side.kind, side.names) for side in sides])
    (xs, a_, x_layout), (ys, b_, y_layout) = (side.assembled(tensors, parts) for side in sides)
    if xs.shape[-1] != ys.shape[-1]:
        found = f"{names[1]}: {ys.shape[-1]} coordinates a point, but {names[0]} has {xs.shape[-1]}"
        raise ValueError(f"{found}; expected the same number.")
    if (x_layout is None) != (y_layout is None) or xs.shape[:-2] != ys.shape[:-2]:
        sizes = [str(xs.shape[0]) if layout else "none" for xs, layout in ((xs, x_layout), (ys, y_layout))]
        raise ValueError(f"{', '.join(names)}: batches of {sizes[0]} and {sizes[1]} clouds, expected as many of each.")
    layouts = (x_layout, y_layout) if x_layout and y_layout else None
    container = _container(arrays, sides, xs.device, layouts)
    if equal_masses:
        check_masses((a_.detach().sum(-1), b_.detach().sum(-1)), container.mass_tolerance, remedy, lost)
    return (xs, ys), (a_, b_), replace(container, lost=lost)


def measure(
    points: Any, weights: Any = None, names: tuple[str, str] = ("points", "weights")
) -> tuple[Tensor, Tensor, Container]:
    """Points and weights of one measure, or of a batch, as `pair_of_measures` takes those of two.

    Parameters
    ----------
    points : array_like, shape (N, D)
    weights : array_like, shape (N,), optional
    names : pair of str
        What sentences call the two.

    Returns
    -------
    points, weights (float64), Container

    Raises
    ------
    TypeError, ValueError
        As `pair_of_measures`.

    Examples
    --------
    >>> points, weights, container = measure([[0.0, 0.0], [1.0, 0.0]])
    >>> points.shape, weights.tolist()
    (torch.Size([2, 2]), [0.5, 0.5])
    """
    given: dict[str, Any] = {}
    side = Side.of(*names, points, weights, None, given)
    arrays = Arrays.read(given, ", ".join(names))
    xs, a, layout = side.assembled(arrays.tensors)
    return xs, a, _container(arrays, [side], xs.device, (layout, layout) if layout else None)


def _container(
    arrays: Arrays, sides: list[Side], device: torch.device, layouts: tuple[Layout, Layout] | None
) -> Container:
    weights = [arrays.dtypes[name] for side in sides for _, name in side.names if name in arrays.dtypes]
    tolerance = max(MASS_TOLERANCE[dtype] for dtype in (*weights, torch.float64))
    return Container(arrays.is_numpy, arrays.dtype, device, layouts, tolerance)


def _text(attribute: object) -> str:
    return str(attribute).removeprefix("torch.")
