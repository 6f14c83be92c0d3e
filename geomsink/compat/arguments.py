"""Checks of what callers of other libraries' interfaces give: one sentence each, by the names that these have."""

from __future__ import annotations

import math
import numbers
from typing import Any

from torch import Tensor

LEAST = 1e-290
"""Numbers up to it are too close to the end of float64's range to be computed with."""


def positive(name: str, value: Any, zero: bool = False) -> float:
    """A finite number above 0, or from it on; tensors of one number are read."""
    number = float(value.detach()) if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(number, numbers.Real):
        raise TypeError(f"{name}: a {type(value).__name__} was given, expected a number.")
    if not (0 < float(number) < math.inf or (zero and float(number) == 0.0)):
        raise ValueError(f"{name}: {number} given, expected a positive number{' or 0' if zero else ''}.")
    if 0 < float(number) <= LEAST:
        raise ValueError(f"{name}: {number} given, expected more than {LEAST}; scale the points up.")
    return float(number)


def penalties(name: str, value: Any) -> tuple[float | None, float | None] | None:
    """ρ of the two marginals, from a number or up to two of them; None, as an infinite one, is a fixed marginal.

    Examples
    --------
    >>> penalties("unbalanced", 0.5), penalties("unbalanced", (math.inf, 2)), penalties("unbalanced", math.inf)
    ((0.5, 0.5), (None, 2.0), None)
    """
    several = isinstance(value, (tuple, list)) or getattr(value, "ndim", 0) > 0
    values = list(value) if several else [value]
    if len(values) not in (1, 2):
        raise ValueError(f"{name}: {len(values)} numbers given, expected one or two.")
    found = [None if rho is None or rho == math.inf else positive(name, rho) for rho in values]
    return None if found[0] is found[-1] is None else (found[0], found[-1])
