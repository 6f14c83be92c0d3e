"""What callers give: how many, how much, seeds, one of some names, yes or no."""

from __future__ import annotations

import math
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


def number(name: str, value: Any, expected: str = "a number") -> float:
    """A real number, or a sentence that says what ``name`` was; infinite beyond the range of floats.

    Raises
    ------
    TypeError

    Examples
    --------
    >>> number("tol", 1)
    1.0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected {expected}.")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def positive(name: str, value: Any, kind: str = "number", other: str = "") -> float:
    """A finite number above 0, or a sentence that says what ``name`` was; ``other`` is what else would have done.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> positive("width", 2, "length", " or None")
    2.0
    """
    found = number(name, value, f"a {kind}{other}")
    if not 0 < found < math.inf:
        raise ValueError(f"{name}: {value} given, expected a positive {kind}{other}.")
    return found


def one_of(name: str, value: Any, names: Iterable[str]) -> None:
    """Refuse what is none of the ``names``, in a sentence that lists them.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected one of {', '.join(names)}.")
    if value not in names:
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
