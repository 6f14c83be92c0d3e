"""Fewer pairs: trees of cells, truncation, sketches, and Newton's step on cells or on a sparse plan.

Imports `solver` and what is below it. Hands on the strategies `CoarseToFine` and `Sketched`, the latter's sums and what
audits them, `Shared` and `Dealt` for clouds on several processes, `Newton`, clouds with their trees, `merged` sketches,
patterns of pairs, and sparse matrices.
"""

from .audit import Audited
from .choosing import FINEST, width
from .clouds import Cloud
from .coarsetofine import CoarseToFine
from .dealt import Dealt, OwnRows
from .levels import Levels
from .newton import Newton, pairs_of
from .shared import Part, Shared, SharedIterate, TooFine
from .sketch import merged
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
    "Dealt",
    "Levels",
    "Newton",
    "OwnRows",
    "Part",
    "Pattern",
    "Places",
    "Shared",
    "SharedIterate",
    "Sketched",
    "SketchedSums",
    "Sparse",
    "TooFine",
    "Tree",
    "by_rows",
    "merged",
    "nearby",
    "pairs_of",
    "pattern",
    "stepped",
    "width",
]
