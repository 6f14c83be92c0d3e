"""Rigorous intervals: what a value is certain to be between, truncation and rounding included.

Imports `multiscale`, `solver` and what is below them. Hands on `certify`, `Sides` and `Interval`, and what bounds of
unregularised costs are made of.
"""

from .couplings import Scaled, Total, balanced, rest_cost
from .intervals import certify
from .sides import Interval, Sides

__all__ = [
    "Interval",
    "Scaled",
    "Sides",
    "Total",
    "balanced",
    "certify",
    "rest_cost",
]
