"""Down the temperatures, to where few pairs carry mass: the solution at one temperature leads to that at the next.

Also where points lie on several processes. Imports `multiscale` and what is below it. Hands on the strategies
`PathFollowing` and, for batches, `ItemByItem`; and how far apart neighbours are.
"""

from .following import PathFollowing
from .items import ItemByItem
from .spacing import nearest_cost

__all__ = ["ItemByItem", "PathFollowing", "nearest_cost"]
