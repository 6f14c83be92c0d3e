"""How far apart neighbours are, as a cost."""

from __future__ import annotations

import torch
from torch import Tensor

from ..costs import Cost

DRAWN = 128
"""Points whose neighbours are looked for."""


def nearest_cost(points: Tensor, cost: Cost) -> float:
    """Median cost between a point and its nearest neighbour, less that between a point and itself; 0 where none are
    known, as of a matrix from rows to columns.

    Parameters
    ----------
    points : Tensor, shape (N, D)
        Features; some of them are looked at.
    cost : Cost

    Examples
    --------
    >>> from geomsink import costs
    >>> nearest_cost(torch.tensor([[0.0], [2.0], [4.0]]), costs.get("sqeuclidean"))
    4.0
    """
    if cost.looked_up and not cost.symmetric:
        return 0.0
    step = max(1, len(points) // DRAWN)
    some, own = points[::step].double(), torch.arange(0, len(points), step, device=points.device)
    found = some.new_full((len(some),), torch.inf)
    for k in range(len(some)):
        away = cost.between(some[k, None], points.double()) - cost.between(some[k], some[k])
        away[own[k]] = torch.inf
        found[k] = away.amin()
    return float(found.clamp(min=0.0).median()) if len(points) > 1 else 0.0
