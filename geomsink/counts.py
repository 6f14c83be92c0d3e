"""What callers give beside numbers: how many, seeds, one of some names, yes or no."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``, or one sentence that says what ``name`` was.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> whole("steps", 3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected a whole number.")
    if int(value) < least or (most is not None and int(value) > most):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: {value} given, expected a whole number {expected}.")
    return int(value)


def known(name: str, value: Any, names: Iterable[str]) -> None:
    """One of some names, or one sentence that lists them.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> known("form", "sharp", ("entropic", "sharp"))
    """
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}: unknown name {value!r}; expected one of {', '.join(names)}.")


def flag(name: str, value: Any) -> bool:
    """True or False, or one sentence that says what ``name`` was.

    Raises
    ------
    TypeError

    Examples
    --------
    >>> flag("exact", True)
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected True or False.")
    return value
