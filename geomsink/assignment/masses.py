"""Weights as whole numbers of some unit, so that no sum of them is rounded."""

from __future__ import annotations

import math

import numpy as np

from .graph import Numbers

UNITS = 2.0**50
"""Of a mass of 1 in weights that differ."""


def whole(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers, float]:
    """Weights (N,) and (M,), each of mass 1, in whole numbers of the same sum, which is the third.

    Equal weights are the smallest numbers that they can be, 1 for clouds of one size; others are off by less than
    2⁻⁵⁰ of the mass.

    Examples
    --------
    >>> whole(np.full(4, 0.25), np.full(6, 1 / 6))
    (array([3., 3., 3., 3.]), array([2., 2., 2., 2., 2., 2.]), 12.0)
    """
    if np.ptp(a) == 0.0 and np.ptp(b) == 0.0:
        n, m = len(a), len(b)
        common = math.gcd(n, m)
        return np.full(n, float(m // common)), np.full(m, float(n // common)), float(n * m // common)
    return _rounded(a), _rounded(b), UNITS


def _rounded(weights: Numbers) -> Numbers:
    """Of a sum of `UNITS`: what rounding has changed it by is spread over the largest."""
    units: Numbers = np.floor(weights / weights.sum() * UNITS)
    missing = int(UNITS) - int(units.astype(np.int64).sum())
    largest = np.argsort(-weights, kind="stable")[: max(1, np.count_nonzero(weights))]
    each, more = divmod(missing, len(largest))
    units[largest] += each
    units[largest[:more]] += 1
    return units
