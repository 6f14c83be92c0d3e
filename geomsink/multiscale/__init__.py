"""Fewer pairs: trees of cells, truncation, sketches, and Newton's step on cells or on a sparse plan.

Imports `solver` and what is below it. Hands on the strategies `CoarseToFine` and `Sketched`, the latter's sums and what
audits them, `Newton`, clouds with their trees and nodes, and patterns of pairs.
"""

from .audit import Audited
from .choosing import FINEST, width
from .clouds import Cloud
from .coarsetofine import CoarseToFine
from .levels import Levels
from .newton import Newton, pairs_of
from .sketch import Nodes
from .sketched import Sketched, SketchedSums, stepped
from .tree import Tree
from .truncation import Boxes, Pattern, nearby, pattern

__all__ = [
    "FINEST",
    "Audited",
    "Boxes",
    "Cloud",
    "CoarseToFine",
    "Levels",
    "Newton",
    "Nodes",
    "Pattern",
    "Sketched",
    "SketchedSums",
    "Tree",
    "nearby",
    "pairs_of",
    "pattern",
    "stepped",
    "width",
]
