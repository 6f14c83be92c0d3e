"""Temperatures: where annealing starts, and the steps down to the target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..costs import Cost
from ..counts import number

MAX_RATIO = 4.0
"""Largest step between temperatures. Row sums that are 1 grow by less than (max 1/b)^(ratio - 1) in a step
(Jensen's inequality), which stays inside float32 for up to a million points."""
EXTREMES = 512
"""Points of each cloud among which the largest cost is looked for."""
LOOKED_UP = 2048
"""The same of costs that are looked up: any may be the largest."""


def largest_cost(x: Tensor, y: Tensor, cost: Cost) -> float:
    """About the largest size of a cost between two clouds: that between their extreme points in each coordinate, or, of
    a cost that is looked up, between up to 2,048 of each.

    Parameters
    ----------
    x : Tensor, shape (N, D)
    y : Tensor, shape (M, D)
        Features of the points, as `Cost.map` gives them.
    cost : Cost

    Examples
    --------
    >>> from geomsink import costs
    >>> largest_cost(torch.tensor([[0.0], [0.5]]), torch.tensor([[2.0]]), costs.get("sqeuclidean"))
    4.0
    """

    def extremes(points: Tensor) -> Tensor:
        if cost.looked_up:
            return points[:: -(-len(points) // LOOKED_UP)].double()
        indices = torch.cat((points.argmin(0), points.argmax(0)))[:EXTREMES]
        return points[indices].double()

    return float(cost.between(extremes(x)[:, None, :], extremes(y)[None, :, :]).abs().max())


def temperatures(start: float, target: float, scaling: float, degree: float | None) -> tuple[float, ...]:
    """Temperatures from ``start`` down to ``target``, each a constant factor below the last.

    Parameters
    ----------
    start, target : float
        In units of the cost. A start below the target gives the target alone.
    scaling : float
        Factor of the blur from one temperature to the next, in ]0, 1[; that of ε is its ``degree``-th
        power, but at least 1/4.
    degree : float or None
        Degree of the cost; None counts as 1.

    Returns
    -------
    tuple of float
        Ends in ``target``.

    Raises
    ------
    TypeError, ValueError
        For a scaling that is no number within ]0, 1[.

    Notes
    -----
    ε-scaling as in Schmitzer 2019 (arXiv:1610.06519).

    Examples
    --------
    >>> [round(epsilon, 3) for epsilon in temperatures(1.0, 0.1, 0.5, 1.0)]
    [1.0, 0.562, 0.316, 0.178, 0.1]
    """
    if not 0 < number("scaling", scaling) < 1:
        raise ValueError(f"scaling: {scaling} given, expected a factor between 0 and 1.")
    if not 0 < target < start:
        return (target,)
    step = max(scaling ** (degree or 1.0), 1.0 / MAX_RATIO)
    n = math.ceil(round(math.log(target / start) / math.log(step), 9))
    return tuple(start * (target / start) ** (k / n) for k in range(n)) + (target,)
