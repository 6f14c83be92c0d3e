"""Checks of what callers of other libraries' interfaces give: one sentence each, by the names that these have."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..counts import number

LEAST = 1e-290
"""Numbers up to it are too close to the end of float64's range to be computed with."""


def positive(name: str, value: Any, zero: bool = False) -> float:
    """A finite number above 0, or from it on; tensors of one number are read."""
    value = float(value.detach()) if isinstance(value, Tensor) and value.numel() == 1 else value
    found = number(name, value)
    if not (0 < found < math.inf or (zero and found == 0.0)):
        raise ValueError(f"{name}: {value} given, expected a positive number{' or 0' if zero else ''}.")
    if 0 < found <= LEAST:
        raise ValueError(f"{name}: {value} given, expected more than {LEAST}; scale the points up.")
    return found


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
