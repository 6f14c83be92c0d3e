"""Several processes: who they are, what they tell each other, and what becomes of all where one does not answer.

On top of `torch.distributed`, and of nothing of this house.
"""

from .failures import ProcessesError
from .group import TIMEOUT, Group, Traffic, check_timeout, group_of

__all__ = ["TIMEOUT", "Group", "ProcessesError", "Traffic", "check_timeout", "group_of"]
