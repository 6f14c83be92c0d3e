"""How far apart neighbours are, as a cost."""

from __future__ import annotations

import torch
from torch import Tensor

from ..costs import Cost

DRAWN = 128
"""Points whose neighbours are looked for."""
CHUNK = 2**22
"""Numbers in memory at a time."""


def nearest_cost(points: Tensor, weights: Tensor, cost: Cost) -> float:
    """Median cost between a point and its nearest neighbour, less that between a point and itself; 0 where none are
    known, as of a matrix from rows to columns.

    Parameters
    ----------
    points : Tensor, shape (N, D) or (B, N, D)
        Features; some of them are looked at, of a batch some of the first item.
    weights : Tensor, shape (N,) or (B, N)
        Points without weight do not count: they may be padding.
    cost : Cost

    Examples
    --------
    >>> from geomsink import costs
    >>> nearest_cost(torch.tensor([[0.0], [2.0], [4.0]]), torch.ones(3), costs.get("sqeuclidean"))
    4.0
    """
    if cost.looked_up and not cost.symmetric:
        return 0.0
    if points.ndim > 2:
        points, weights = points[0], weights[0]
    points = points[weights > 0.0].double()
    own = torch.arange(0, len(points), max(1, len(points) // DRAWN), device=points.device)
    found = []
    for some in own.split(max(1, CHUNK // max(1, points.numel()))):
        here = points[some]
        away = cost.between(here[:, None], points[None]) - cost.between(here, here)[:, None]
        found.append(away.scatter_(1, some[:, None], torch.inf).amin(1))
    return float(torch.cat(found).clamp(min=0.0).median()) if len(points) > 1 else 0.0
