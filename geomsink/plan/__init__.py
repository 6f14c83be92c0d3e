"""A solved plan: a linear operator that is never stored, and some of its entries.

Imports `derivatives`, `multiscale` and what is below them. Hands on `Plan`, `Clouds` and `Entries`.
"""

from .clouds import Clouds
from .entries import Entries
from .plan import Plan

__all__ = [
    "Clouds",
    "Entries",
    "Plan",
]
