"""Pairs of clouds that are too many to be kept: found where they may carry mass, by bounds on cells."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
from torch import Tensor

from ..costs import Cost
from ..engine import Blocks, pair
from ..multiscale import Cloud, nearby, pairs_of
from .pairs import MOST, FewPairs, KeptPairs, TooManyPairs

CHUNK = 2**18
"""Pairs that are looked at at a time, in a cache."""


class TreePairs:
    """All pairs of two clouds. Implements `Source`.

    Parameters
    ----------
    rows, columns : Cloud
    cost : Cost
        From rows to columns.
    """

    def __init__(self, rows: Cloud, columns: Cloud, cost: Cost):
        self._rows, self._columns, self._cost = rows, columns, cost

    def highest(self, g: Tensor, epsilon: float) -> Tensor:
        """See `Source`: over all pairs."""
        x, y = (cloud.measure.points.double() for cloud in (self._rows, self._columns))
        return pair(x, y, self._cost).row_max(g / epsilon, epsilon)

    def near(self, f: Tensor, g: Tensor, slack: float) -> KeptPairs:
        """See `Source`.

        Raises
        ------
        TooManyPairs
        """
        trees, boxes = (self._rows.tree, self._columns.tree), (self._rows.small_boxes, self._columns.small_boxes)
        f, g = f[trees[0].order], g[trees[1].order]
        found = nearby(*boxes, f, g, (boxes[0].slopes(f), boxes[1].slopes(g)), self._cost, 1.0, -slack)
        kept, total = [], 0
        for part in found.parts(CHUNK):
            kept.append(self._of_blocks(part, f, g, slack))
            total += len(kept[-1][0])
            if total > MOST:
                raise TooManyPairs
        i, j, costs = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        # In the callers' order, row by row.
        shape = len(f), len(g)
        i, j = trees[0].order.numpy()[i], trees[1].order.numpy()[j]
        matrix = scipy.sparse.csr_matrix((costs, (i, j)), shape=shape)
        rows = np.repeat(np.arange(shape[0]), np.diff(matrix.indptr))
        return FewPairs(rows, matrix.indices, matrix.data, matrix.indptr, shape)

    def _of_blocks(self, part: Blocks, f: Tensor, g: Tensor, slack: float) -> tuple[Any, Any, Any]:
        i, j = pairs_of(part, f.device)
        x, y = (points[:, k].T[:, None, None, :] for points, k in zip(self._points, (i, j), strict=True))
        costs = self._cost.between(x, y)[:, 0, 0]  # that is how it goes coordinate by coordinate
        keep = costs - f[i] - g[j] < slack
        return i[keep].numpy(), j[keep].numpy(), costs[keep].numpy()

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor]:
        """In the trees' order, coordinate by coordinate in memory, shapes (D, N) and (D, M)."""
        x, y = (cloud.tree.measure.points.double().T.contiguous() for cloud in (self._rows, self._columns))
        return x, y
