"""Entries of a plan that is never stored: its largest ones, those above a level, and random ones.

Rows are computed some at a time, and blocks of pairs that cannot hold an entry in question are skipped:
`geomsink.multiscale.nearby` bounds the largest entry that each may have.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import scipy.sparse
import torch
from torch import Tensor

from ..engine import Blocks, Gibbs, can_skip, row_by_row, rows_at_once
from ..measures import Measure
from ..multiscale import Boxes, Tree, nearby, pattern
from ..shown import Facts, Shown, Words, sizes

MOST_BLOCKS, FEWEST = 2048, 8
"""Of blocks and of points of a block: smaller ones bound entries better, but bounds take time, too."""
SAMPLED = 128
"""One column in so many is looked at for a first bound of the largest entries of each row."""
LEFT = 1e-3
"""Share of a row's mass outside of the blocks in which a column is looked for first."""
NOTHING = -1e29
"""Exponents below are those of points without weight."""
ROUNDED = 16.0
"""Rounding error of an exponent, at most, in units of the precision times its largest terms."""


@dataclass(frozen=True, repr=False)
class Entries(Shown):
    """Some entries of a plan.

    Attributes
    ----------
    matrix : scipy.sparse.csr_array, or Tensor of layout torch.sparse_csr, shape (N, M)
        For NumPy and for torch callers, in their precision; the columns of a row are in order.
    kept : float
        Share of the plan's mass that these entries have.
    """

    matrix: Any
    kept: float

    def _facts(self) -> Facts:
        stored = len(self.matrix.values()) if isinstance(self.matrix, Tensor) else self.matrix.nnz
        return {"stored": Words(f"{stored:,} of {sizes(self.matrix.shape, 'entries')}"), "kept": self.kept}

    def __deepcopy__(self, memo: dict[int, Any]) -> Entries:
        """torch copies no sparse tensors of that layout."""
        matrix = self.matrix.clone() if isinstance(self.matrix, Tensor) else copy.deepcopy(self.matrix, memo)
        return Entries(matrix, self.kept)


def _exponents(operator: Gibbs, x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """u_i + v_j − C_ij/ε between some points of an operator, with the rounding of the dense engine."""
    C = operator.pair.cost.between(x[..., :, None, :], y[..., None, :, :])
    return torch.add(v[..., None, :], C, alpha=-1.0 / operator.epsilon).add_(u[..., :, None])


def _some(points: Tensor, which: Tensor) -> Tensor:
    """Some of the points, coordinate by coordinate in memory: sums over few coordinates are then twice as fast."""
    return points.T[:, which].T


class Reader:
    """Finds entries of a plan between two single clouds; P_ij are what products multiply by, in the same rounding.

    Parameters
    ----------
    operator : Gibbs
        The plan.
    slopes_of : pair of Tensor, shapes (N,) and (M,), float64
        f/ε and g/ε: bounds follow their slopes.
    """

    def __init__(self, operator: Gibbs, slopes_of: tuple[Tensor, Tensor]):
        self.operator, self.shape = operator, (len(operator.u), len(operator.v))
        self._slopes_of = slopes_of

    @cached_property
    def sums(self) -> Tensor:
        """Row sums, shape (N,), float64; 0 where all that was summed may have underflowed, as at points without weight.

        Raises
        ------
        ValueError
            If their total is not positive.
        """
        least = 2.0 * self.shape[1] * torch.finfo(self.operator.u.dtype).tiny
        sums = self.operator.row_sums().double()
        sums = sums.where(sums > least, 0.0)
        if not 0.0 < float(sums.sum()) < math.inf:
            raise ValueError(
                f"plan: its mass is {float(sums.sum()):.3g}, expected a positive one to choose entries from."
            )
        return sums

    @cached_property
    def _bounded(self) -> bool:
        """Whether blocks of pairs can be skipped."""
        return can_skip(self.operator.pair)

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """The caller's indices of rows and columns in the order here: neighbours in space follow each other."""
        K, device = self.operator, self.operator.pair.x.device
        if not self._bounded:
            return torch.arange(self.shape[0], device=device), torch.arange(self.shape[1], device=device)
        measures = (Measure(p, p.new_ones(len(p)).double()) for p in (K.pair.x, K.pair.y))
        rows, columns = (Tree.of(measure).order for measure in measures)
        return rows, columns

    @property
    def _narrow_order(self) -> tuple[Tensor, Tensor]:
        """The same in int32, of which there may be one for each entry."""
        return self._order[0].int(), self._order[1].int()

    @cached_property
    def _ordered(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Points x and y, and exponents u and v."""
        K, (rows, columns) = self.operator, self._order
        return _some(K.pair.x, rows), _some(K.pair.y, columns), K.u[rows], K.v[columns]

    @cached_property
    def _boxes(self) -> tuple[Boxes, Boxes]:
        x, y, _, _ = self._ordered
        rows, columns = (Boxes.of(p, max(FEWEST, len(p) // MOST_BLOCKS)) for p in (x, y))
        return rows, columns

    @cached_property
    def _slopes(self) -> tuple[Tensor, Tensor]:
        sides = zip(self._boxes, self._slopes_of, self._order, strict=True)
        rows, columns = (boxes.slopes(h[order]) for boxes, h, order in sides)
        return rows, columns

    @property
    def _all(self) -> Blocks:
        return Blocks.whole(*self.shape)

    def _blocks(self, level: Tensor) -> Blocks:
        """The pairs to look at for entries above exp(level), shape (N,): all others have none."""
        if not self._bounded:
            return self._all
        _, _, u, v = self._ordered
        above = torch.where(u > NOTHING, u.double() - level + self._rounding(level), NOTHING)
        cost, epsilon = self.operator.pair.cost, self.operator.epsilon
        return nearby(*self._boxes, above, v.double(), self._slopes, cost, epsilon, 0.0)

    def _rounding(self, level: Tensor) -> float:
        """How far the computed exponent of an entry near its row's level may be from the exact one."""
        x, y, u, v = self._ordered
        cost, size = self.operator.pair.cost, 0.0
        for exponents, of in ((u, u), (v, v), (level, u)):
            size += float(exponents.abs().double().where(of > NOTHING, 0.0).max())
        if cost.quadratic is not None:  # perhaps by inner products, which are as large as squared coordinates
            squares = float(x.double().square().sum(1).max() + y.double().square().sum(1).max())
            size += cost.quadratic * squares / self.operator.epsilon
        return ROUNDED * torch.finfo(u.dtype).eps * size

    def _chunks(self, blocks: Blocks, only: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows (all, or some, in order), the columns that they see, and their exponents: a bounded number at a time."""
        x, y, u, v = self._ordered
        wanted = torch.arange(self.shape[0], device=x.device) if only is None else only
        for rows, columns in row_by_row(self.operator.pair, blocks, wanted):
            some = _some(x, rows), _some(y, columns), u[rows], v[columns]
            yield rows, columns, _exponents(self.operator, *some)

    def top(self, k: int) -> Any:
        """The k largest entries of each row, without those that are zero: a csr_array in the working precision."""
        bound = self._first_bound(k) if self._bounded else None
        (to_rows, to_columns), found = self._narrow_order, []
        for rows, columns, exponents in self._chunks(self._all if bound is None else self._blocks(bound)):
            largest, place = exponents.topk(min(k, len(columns)), dim=1)
            entries = largest.exp()
            some, _ = some_of = (entries > 0).nonzero(as_tuple=True)
            found.append((to_rows[rows[some]], to_columns[columns[place[some_of]]], entries[some_of]))
        return self._matrix(found)

    def _first_bound(self, k: int) -> Tensor | None:
        """Exponents that at least k entries of each row reach, shape (N,), from some columns; None if they are few."""
        x, y, u, v = self._ordered
        some = (v > NOTHING).nonzero()[:, 0]
        some = some[:: max(1, min(SAMPLED, len(some) // (4 * k)))]
        if len(some) < k:
            return None
        y, v = _some(y, some), v[some]
        at_once = rows_at_once(self.operator.pair, len(some))
        parts = zip(x.split(at_once), u.split(at_once), strict=True)
        bounds = [_exponents(self.operator, p, y, w, v).topk(k, dim=1).values[:, -1] for p, w in parts]
        return torch.cat(bounds).double()

    def above(self, least: Tensor, most: int) -> Any:
        """The entries that are positive and at least ``least``, shape (N,), float64, of their row: a csr_array.

        Raises
        ------
        ValueError
            If there are more than ``most``.
        """
        least = least[self._order[0]]
        level = least.log().where(least > 0, 0.0)  # a row without mass has no positive entry at all
        (to_rows, to_columns), found, n = self._narrow_order, [], 0
        for rows, columns, exponents in self._chunks(self._blocks(level)):
            entries = exponents.exp_()
            some, _ = some_of = ((entries.double() >= least[rows, None]) & (entries > 0)).nonzero(as_tuple=True)
            found.append((to_rows[rows[some]], to_columns[columns[some_of[1]]], entries[some_of]))
            n += len(some)
            if n > most:
                share = int(rows[-1] + 1) / self.shape[0]
                raise ValueError(
                    f"threshold: {n:,} entries reach it in {share:.0%} of the rows, expected at most {most:,} in all; "
                    "give a larger one, or see top_k()."
                )
        return self._matrix(found)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs, drawn with the entries' probability: rows and columns, shape (n,), int64.

        Both steps invert a distribution function in float64. The columns of a row are in an order of its own: blocks
        with nearly all of its mass come first, and the others are computed only where a number lies beyond those.
        """
        cumulative = self.sums.cumsum(0)
        uniform = torch.rand(2, n, generator=generator, dtype=torch.float64, device="cpu").to(cumulative.device)
        i = torch.searchsorted(cumulative, uniform[0] * cumulative[-1], right=True).clamp(max=self.shape[0] - 1)
        to_rows, to_columns = self._order
        rank = torch.empty_like(to_rows)
        rank[to_rows] = torch.arange(len(rank), device=rank.device)
        order = rank[i].argsort(stable=True)
        columns = self._columns(rank[i][order], uniform[1][order])
        return i, torch.empty_like(i).scatter_(0, order, to_columns[columns])

    def _columns(self, rows: Tensor, shares: Tensor) -> Tensor:
        """Where cumulative sums of rows, which are in order, pass shares of the rows' sums."""
        x, y, u, v = self._ordered
        sums, blocks = self.sums[self._order[0]], self._all
        if self._bounded:
            level = torch.where(sums > 0, u.double() - sums.log(), NOTHING)
            cost, epsilon = self.operator.pair.cost, self.operator.epsilon
            blocks = pattern(*self._boxes, level, v.double(), self._slopes, cost, epsilon, LEFT).blocks
        distinct, counts = rows.unique_consecutive(return_counts=True)
        ends, drawn = torch.cat((counts.new_zeros(1), counts.cumsum(0))), torch.empty_like(rows)
        for some, near, exponents in self._chunks(blocks, distinct):
            first = int(torch.searchsorted(distinct, some[0]))
            draws, many = slice(int(ends[first]), int(ends[first + len(some)])), counts[first : first + len(some)]
            place = _inverse(exponents, sums[some], shares[draws], many)
            drawn[draws] = near[place.clamp(max=len(near) - 1)]
            beyond = draws.start + (place == len(near)).nonzero()[:, 0]
            if len(beyond):
                far = torch.ones(self.shape[1], dtype=torch.bool, device=near.device).index_fill_(0, near, False)
                every = torch.cat((near, far.nonzero()[:, 0]))
                for part in beyond.split(rows_at_once(self.operator.pair, len(every))):
                    pairs = _some(x, rows[part]), _some(y, every), u[rows[part]], v[every]
                    place = _inverse(_exponents(self.operator, *pairs), None, shares[part], torch.ones_like(part))
                    drawn[part] = every[place.clamp(max=len(every) - 1)]
        return drawn

    def _matrix(self, found: list[tuple[Tensor, Tensor, Tensor]]) -> Any:
        """Of rows and columns, int32, and entries."""
        nothing = self._order[0][:0].int(), self._order[1][:0].int(), self.operator.u[:0]
        i, j, values = (torch.cat(parts).cpu().numpy() for parts in zip(nothing, *found, strict=True))
        matrix = scipy.sparse.csr_array((values, (i, j)), shape=self.shape)
        matrix.sort_indices()
        return matrix


def _inverse(exponents: Tensor, sums: Tensor | None, shares: Tensor, many: Tensor) -> Tensor:
    """Columns at which cumulative sums of rows pass shares of ``sums``; their number, where none does.

    So ``many`` shares are of each row; without sums they are of the rows' own.
    """
    cumulative = exponents.exp_().double().cumsum(1)
    sums = cumulative[:, -1] if sums is None else sums
    targets = (shares * sums.repeat_interleave(many)).split(many.tolist())
    return torch.cat([torch.searchsorted(c, t, right=True) for c, t in zip(cumulative, targets, strict=True)])
