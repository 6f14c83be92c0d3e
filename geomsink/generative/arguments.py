"""Checks of arguments that several files share: one sentence each."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..counts import number, positive
from ..measures import check_finite, tensor, working


def finite(value: Any) -> bool:
    """Whether it is a finite number, of a size that floats have."""
    try:
        return math.isfinite(number("number", value))
    except TypeError:
        return False


def real(name: str, value: Any) -> float:
    """A finite number."""
    found = number(name, value)
    if not math.isfinite(found):
        raise ValueError(f"{name}: {value} given, expected a finite number.")
    return found


def share(name: str, value: Any) -> float:
    """A number strictly between 0 and 1."""
    found = positive(name, value)
    if not found < 1:
        raise ValueError(f"{name}: {value} given, expected a number between 0 and 1.")
    return found


def points(name: str, value: Any) -> Tensor:
    """A tensor of finite points (N, ...) in single or double precision; half precision is widened, integers are."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: a {type(value).__name__} was found, expected a tensor of points (points, ...).")
    found = tensor(name, value)
    if found.ndim < 2 or 0 in found.shape:
        raise ValueError(f"{name}: shape is {tuple(found.shape)}, expected (points, coordinates) or (points, ...).")
    check_finite(name, found)
    return found.to(working(found.dtype))
