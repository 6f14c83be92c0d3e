"""Fewer pairs: trees of cells, truncation, sketches, and Newton's step on cells or on a sparse plan.

Imports `solver` and what is below it. Hands on the strategies `CoarseToFine` and `Sketched`, the latter's sums and what
audits them, `Newton`, clouds with their trees and nodes, patterns of pairs, and sparse matrices.
"""

from .audit import Audited
from .choosing import FINEST, width
from .clouds import Cloud
from .coarsetofine import CoarseToFine
from .levels import Levels
from .newton import Newton, pairs_of
from .sketch import Nodes
from .sketched import Sketched, SketchedSums, stepped
from .sparse import Places, Sparse, by_rows
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
    "Places",
    "Sketched",
    "SketchedSums",
    "Sparse",
    "Tree",
    "by_rows",
    "nearby",
    "pairs_of",
    "pattern",
    "stepped",
    "width",
]
