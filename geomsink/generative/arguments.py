"""Checks of arguments that several files share: one sentence each."""

from __future__ import annotations

import math
import numbers
from typing import Any

from torch import Tensor

from ..measures import tensor, working


def finite(value: Any) -> bool:
    """Whether it is a finite number, of a size that floats have."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def positive(name: str, value: Any) -> float:
    """A positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected a number.")
    if not (finite(value) and float(value) > 0):
        raise ValueError(f"{name}: {value} given, expected a positive number.")
    return float(value)


def real(name: str, value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected a number.")
    if not finite(value):
        raise ValueError(f"{name}: {value} given, expected a finite number.")
    return float(value)


def share(name: str, value: Any) -> float:
    """A number strictly between 0 and 1."""
    number = positive(name, value)
    if not number < 1:
        raise ValueError(f"{name}: {value} given, expected a number between 0 and 1.")
    return number


def points(name: str, value: Any) -> Tensor:
    """A tensor of finite points (N, ...) in single or double precision; half precision is widened, integers are."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: a {type(value).__name__} was found, expected a tensor of points (points, ...).")
    found = tensor(name, value)
    if found.ndim < 2 or 0 in found.shape:
        raise ValueError(f"{name}: shape is {tuple(found.shape)}, expected (points, coordinates) or (points, ...).")
    wrong = int((~found.isfinite()).sum())
    if wrong:
        raise ValueError(f"{name}: {wrong} of {found.numel()} numbers are NaN or infinite; expected finite numbers.")
    return found.to(working(found.dtype))
