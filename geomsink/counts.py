"""Whole numbers that callers give: how many, and seeds."""

from __future__ import annotations

import numbers
from typing import Any


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least ``least``, or one sentence that says what ``name`` was.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> whole("steps", 3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        found = f"{value!r}" if isinstance(value, (bool, float, str)) else f"a {type(value).__name__}"
        raise TypeError(f"{name}: {found} was given, expected a whole number.")
    if int(value) < least:
        raise ValueError(f"{name}: {value} given, expected a whole number of at least {least}.")
    return int(value)
