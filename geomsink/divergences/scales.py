"""A blur for two clouds, from how far apart their points are."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..costs import get
from ..measures import pair_of_measures
from ..path import nearest_cost

SPACINGS = 3.0
"""Of the points, that a suggested blur has. S between a torus and a sphere is so many times that between two draws of
the torus: 14, 23 and 52 times for 500 points and 1, 3 and 10 spacings, 44, 64 and 141 times for 2,000; the solve at one
spacing takes four and 1.6 times as long as at three (by hand)."""
WIDEST = 0.25
"""Of the root mean squared distance between the clouds, at most: ε is then an eighth of the mean cost. In many
coordinates even neighbours are far apart."""


def suggest_blur(x: Any, y: Any, a: Any = None, b: Any = None) -> float:
    """A length σ to start from: three spacings of the points, and no more than a quarter of the clouds' distance.

    A blur below the spacing sees single points: plans are matchings, solves take long, and divergences between draws of
    one distribution are large. One near the diameter sees little but the means of the clouds. In between, σ is the
    size of the details that a divergence does not see: smaller for finer ones, larger for values that depend less on
    the draw, and take less time.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        Points, of single clouds.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights; points without weight do not count.

    Returns
    -------
    float
        In units of the points. The spacing is the larger of the two clouds' median distances from a point to its
        nearest neighbour; their distance is the root mean squared distance between points of the two.

    Raises
    ------
    TypeError, ValueError
        For bad points: one sentence; and where all points are the same, which have no scale.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0.0, 1.0, 101)[:, None]
    >>> round(suggest_blur(x, x + 0.5), 6)
    0.03
    """
    points, weights, container = pair_of_measures(x, y, a, b, equal_masses=False)
    container.check_single()
    alive, means, squares = [], [], 0.0
    origin = points[0].detach()[weights[0] > 0.0][0].double()  # where all points are the same, nothing is rounded
    for given, w in zip(points, weights, strict=True):
        p, share = given.detach().double() - origin, w.detach() / w.detach().sum()
        alive.append(p[w > 0.0])
        means.append(share @ p)
        squares += float(share @ (p - means[-1]).square().sum(-1))
    extent = math.sqrt(squares + float((means[0] - means[1]).square().sum()))
    if not extent > 0.0:
        raise ValueError("x, y: all points are the same, expected some that differ: they have no scale.")
    return suggested(max(_spacing(p) for p in alive), extent)


def suggested(spacing: float, extent: float) -> float:
    """A blur, of a distance between neighbours, which may be 0, and how far the clouds are apart."""
    return min(SPACINGS * spacing, WIDEST * extent) or WIDEST * extent


def _spacing(points: Tensor) -> float:
    distinct = torch.unique(points, dim=0)
    return float(nearest_cost(distinct, torch.ones_like(distinct[:, 0]), get("euclidean")))
