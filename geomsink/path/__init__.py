"""Down the temperatures, to where few pairs carry mass: the solution at one temperature leads to that at the next.

Imports `multiscale` and what is below it. Hands on the strategy `PathFollowing`, and how far apart neighbours are.
"""

from .following import PathFollowing
from .spacing import nearest_cost

__all__ = ["PathFollowing", "nearest_cost"]
