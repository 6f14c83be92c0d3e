"""Down the temperatures, to where few pairs carry mass: the solution at one temperature leads to that at the next.

Imports `solver` and what is below it. Hands on the strategy `PathFollowing`, sets of pairs in memory, and how far apart
neighbours are.
"""

from .following import PathFollowing
from .pairs import AllPairs, FewPairs, PairCosts
from .spacing import nearest_cost

__all__ = ["AllPairs", "FewPairs", "PairCosts", "PathFollowing", "nearest_cost"]
