"""How far apart neighbours are, as a cost."""

from __future__ import annotations

import torch
from torch import Tensor

from ..costs import Cost
from ..processes import Sharded, own, told_largest, told_sum

DRAWN = 128
"""Points whose neighbours are looked for."""
WHAT = "the distance between neighbours"
"""What processes were at, in sentences about those that do not answer."""
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
    if isinstance(points, Sharded):
        return _of_dealt(points, weights, cost)
    if points.ndim > 2:
        points, weights = points[0], weights[0]
    points = points[weights > 0.0].double()
    drawn = torch.arange(0, len(points), max(1, len(points) // DRAWN), device=points.device)
    found = _least(points[drawn], points, drawn, cost)
    return float(found.clamp(min=0.0).median()) if len(points) > 1 else 0.0


def _least(drawn: Tensor, points: Tensor, places: Tensor, cost: Cost) -> Tensor:
    """The least cost from points to others, but for themselves: they are at these places, or at none, below 0."""
    found = [points.new_zeros(0)]
    step = max(1, CHUNK // max(1, points.numel()))
    for here, place in zip(drawn.split(step), places.split(step), strict=True):
        away = cost.between(here[:, None], points[None]) - cost.between(here, here)[:, None]
        away[torch.arange(len(points), device=points.device) == place[:, None]] = torch.inf
        found.append(torch.cat((away, away.new_full((len(away), 1), torch.inf)), 1).amin(1))
    return torch.cat(found)


def _of_dealt(points: Sharded, weights: Tensor, cost: Cost) -> float:
    """The same of points that are dealt out to processes, which each draw some of their own."""
    parts, mine = points.parts, points.local[own(weights) > 0.0].double()
    many = int(told_sum(torch.tensor([len(mine)], device=mine.device), parts))
    drawn = torch.arange(0, len(mine), max(1, many // DRAWN), device=mine.device)
    told = parts.group.gather(mine[drawn], WHAT)
    places = [torch.full((len(some),), -1, device=mine.device) for some in told]
    places[parts.group.rank] = drawn
    nearest = -told_largest(-_least(torch.cat(told), mine, torch.cat(places), cost), parts)
    return float(nearest.clamp(min=0.0).median()) if many > 1 else 0.0
