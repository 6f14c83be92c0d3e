"""Pairs of clouds that are too many to be kept: found where they may carry mass, by bounds on cells."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from ..costs import Cost
from ..engine import pair
from ..memory import chunk
from ..multiscale import Boxes, Cloud, by_rows, nearby, pairs_of
from ..solver import Potentials
from .pairs import MOST, FewPairs, KeptPairs, TooManyPairs

TEMPORARIES = 4
"""Numbers of each pair that is looked at, about: on a CPU, in a cache."""


class TreePairs:
    """All pairs of two clouds. Implements `Source`.

    Parameters
    ----------
    rows, columns : Cloud
    cost : Cost
        From rows to columns.
    """

    def __init__(self, rows: Cloud, columns: Cloud, cost: Cost, engine: str):
        self._rows, self._columns, self._cost, self._engine = rows, columns, cost, engine

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """See `Source`: over all pairs."""
        x, y = (cloud.measure.points.double() for cloud in (self._rows, self._columns))
        return pair(x, y, self._cost, self._engine).row_max(g / epsilon, epsilon)

    def near(self, f: Tensor, g: Tensor, slack: float) -> KeptPairs:
        """See `Source`.

        Raises
        ------
        TooManyPairs
        """
        trees, boxes = (self._rows.tree, self._columns.tree), (self._rows.small_boxes, self._columns.small_boxes)
        f, g = f[trees[0].order], g[trees[1].order]
        nothing = torch.zeros(0, dtype=torch.int64, device=f.device)
        kept, total = [(nothing, nothing, f[:0].double())], 0
        for found in pairs_below(boxes, self._points, (f, g), self._cost, slack):
            kept.append(found)
            total += len(found[0])
            if total > MOST:
                raise TooManyPairs
        i, j, costs = (torch.cat(parts) for parts in zip(*kept, strict=True))
        i, j = trees[0].order[i], trees[1].order[j]  # in the callers' order
        return FewPairs(*by_rows(i, j, costs, (len(f), len(g))))

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor]:
        """In the trees' order, coordinate by coordinate in memory, shapes (D, N) and (D, M)."""
        x, y = (cloud.tree.measure.points.double().T.contiguous() for cloud in (self._rows, self._columns))
        return x, y


def pairs_below(
    boxes: tuple[Boxes, Boxes], points: tuple[Tensor, Tensor], potentials: Potentials, cost: Cost, slack: float
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows, columns and costs of pairs with C_ij − f_i − g_j below a slack, some at a time.

    Parameters
    ----------
    boxes : pair of Boxes
    points : pair of Tensor, shapes (D, N) and (D, M)
        In the order of the boxes, coordinate by coordinate in memory, float64.
    potentials : pair of Tensor, shapes (N,) and (M,)
    cost : Cost
    slack : float
    """
    f, g = potentials
    blocks = nearby(*boxes, f, g, (boxes[0].slopes(f), boxes[1].slopes(g)), cost, 1.0, -slack)
    if not blocks.pairs:
        return
    for part in blocks.parts(chunk(f.device) // TEMPORARIES):
        i, j = pairs_of(part, f.device)
        x, y = (p[:, k].T[:, None, None, :] for p, k in zip(points, (i, j), strict=True))
        costs = cost.between(x, y)[:, 0, 0]  # that is how it goes coordinate by coordinate
        keep = (costs - f[i] - g[j] < slack).nonzero()[:, 0]
        yield i[keep], j[keep], costs[keep]
