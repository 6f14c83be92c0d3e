"""Several processes: who they are, what they tell each other, and what becomes of all where one does not answer.

On top of `torch.distributed`, and of nothing of this house. Hands on `Group`, and `Sharded`, a tensor whose rows are
dealt out to the processes of a group, on which code for one process runs as it is.
"""

from . import operations as operations
from .failures import ProcessesError
from .group import TIMEOUT, Group, group_of
from .sharded import (
    Parts,
    Sharded,
    deal,
    local_of,
    own,
    own_part,
    parts_of,
    told_first,
    told_largest,
    told_sum,
    told_whole,
    told_wholes,
)
from .words import Traffic, check_timeout

__all__ = [
    "TIMEOUT",
    "Group",
    "Parts",
    "ProcessesError",
    "Sharded",
    "Traffic",
    "check_timeout",
    "deal",
    "group_of",
    "local_of",
    "own",
    "own_part",
    "parts_of",
    "told_first",
    "told_largest",
    "told_sum",
    "told_whole",
    "told_wholes",
]
