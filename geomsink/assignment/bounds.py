"""Lower bounds of reduced costs C_ij − f_i − g_j between blocks of points."""

from __future__ import annotations

import torch
from torch import Tensor

from ..costs import Cost
from ..multiscale import Boxes

CHUNK = 2**20
"""Numbers in memory at a time, of the (blocks, blocks, D) that bounds are made of."""
SLACK = 1e-12
"""Of the largest terms of a bound, for its rounding."""


def below(rows: Boxes, columns: Boxes, f: Tensor, g: Tensor, cost: Cost) -> Tensor:
    """At most the least reduced cost between blocks of rows and of columns, shape (I, J), float64.

    Parameters
    ----------
    rows, columns : Boxes
        Around N and M points.
    f, g : Tensor, shapes (N,) and (M,), float64
    cost : Cost
        With a lower bound. Where it is κ‖x − y‖², potentials are linear functions on each block, at most, and the bound
        is the least of a convex quadratic over the two boxes.
    """
    assert cost.lower_bound is not None
    flat_f, flat_g = _above(rows, f, None), _above(columns, g, None)
    slopes = (rows.slopes(f), columns.slopes(g)) if cost.quadratic is not None else None
    tilted = None if slopes is None else (_above(rows, f, slopes[0]), _above(columns, g, slopes[1]))
    found = []
    for part in torch.arange(len(rows.centre), device="cpu").split(max(1, CHUNK // columns.centre.numel())):
        d = rows.centre[part, None] - columns.centre
        gap = (d.abs() - rows.half[part, None] - columns.half).clamp(min=0.0).norm(dim=-1)
        costs = cost.lower_bound(gap)
        bound = costs - flat_f[part, None] - flat_g
        size = costs.abs() + flat_f[part, None].abs() + flat_g.abs()
        if slopes is not None and tilted is not None and cost.quadratic is not None:
            p, q = slopes
            h, k = rows.half[part, None].expand_as(d), columns.half.expand_as(d)
            least = _least(d, h, k, p[part, None], q, cost.quadratic).sum(-1)
            bound = torch.maximum(bound, least - tilted[0][part, None] - tilted[1])
            size = size + cost.quadratic * (d * d).sum(-1) + tilted[0][part, None].abs() + tilted[1].abs()
        found.append(bound - SLACK * size)
    return torch.cat(found)


def between_centres(rows: Boxes, columns: Boxes, f: Tensor, g: Tensor, cost: Cost) -> Tensor:
    """About the reduced costs between blocks of rows and of columns, shape (I, J): for any cost, and no bound."""
    means = []
    for boxes, h in ((rows, f), (columns, g)):
        sizes = boxes.bounds.diff()
        means.append(torch.segment_reduce(h, "mean", lengths=sizes))
    return cost.between(rows.centre[:, None], columns.centre[None]) - means[0][:, None] - means[1]


def _above(boxes: Boxes, h: Tensor, slopes: Tensor | None) -> Tensor:
    return boxes.above(h, torch.zeros_like(boxes.centre) if slopes is None else slopes, total=False)


def _least(d: Tensor, h: Tensor, k: Tensor, p: Tensor, q: Tensor, kappa: float) -> Tensor:
    """min κ(d + s − t)² − p s − q t over |s| ≤ h, |t| ≤ k: on an edge, since it is linear where s − t is constant."""
    least = torch.full_like(d, torch.inf)
    for sign in (-1.0, 1.0):
        s = sign * h
        t = torch.minimum(torch.maximum(d + s + q / (2.0 * kappa), -k), k)
        least = torch.minimum(least, kappa * (d + s - t) ** 2 - p * s - q * t)
        t = sign * k
        s = torch.minimum(torch.maximum(t - d + p / (2.0 * kappa), -h), h)
        least = torch.minimum(least, kappa * (d + s - t) ** 2 - p * s - q * t)
    return least
