"""Fewer pairs: trees of cells, truncation, stand-ins, and Newton's step on cells or on a sparse plan.

Imports `solver` and what is below it. Hands on the strategy `CoarseToFine`, `Newton`, clouds with their trees, and
patterns of pairs.
"""

from .cellsums import Cloud
from .coarsetofine import CoarseToFine
from .levels import Levels
from .newton import Newton, pairs_of
from .tree import Tree
from .truncation import Boxes, Pattern, nearby, pattern

__all__ = [
    "Boxes",
    "Cloud",
    "CoarseToFine",
    "Levels",
    "Newton",
    "Pattern",
    "Tree",
    "nearby",
    "pairs_of",
    "pattern",
]
