"""Fewer pairs: trees of cells, truncation, stand-ins, and Newton's step on cells or on a sparse plan.

Imports `solver` and what is below it. Hands on clouds with their trees, patterns of pairs, and solving on levels.
"""

from .cellsums import Cloud
from .levels import PAYS, Levels, solve_multiscale
from .newton import Newton
from .tree import Tree
from .truncation import CHUNK, Boxes, Pattern, pattern

__all__ = [
    "CHUNK",
    "PAYS",
    "Boxes",
    "Cloud",
    "Levels",
    "Newton",
    "Pattern",
    "Tree",
    "pattern",
    "solve_multiscale",
]
