"""Certified truncation: which blocks of pairs can be left out of row sums, and at most how much that loses.

A row sum Σ_j exp(u_i + v_j − C_ij/ε) of a converged problem is 1. With a box around each block of points, all that
the rows of block I miss by skipping block J is at most

    exp(max_I (u − p·s) + log Σ_J exp(v − q·t) + max over the boxes of (p·s + q·t − C/ε)),

s and t being positions in the boxes, for any slopes p and q: those of the potentials make the bound fall with the
distance to the transport map, and not with the displacement. Schmitzer 2019 (arXiv:1610.06519) has it without
slopes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..costs import Cost
from ..engine import Blocks
from ..memory import chunk

BLOCK = 64
"""Points of a block, about: smaller ones are summed more slowly (measured: half as fast at 50 as at 128)."""
RIDGE = 1e-3
"""Of the fit of slopes, so that flat blocks have none across."""
MOST_BLOCKS = 4096
TEMPORARIES = 4
"""Of the (blocks, blocks) that bounds are made of, in memory at a time."""


@dataclass(frozen=True)
class Boxes:
    """Blocks of consecutive points and the boxes around them.

    Attributes
    ----------
    bounds : Tensor, shape (K + 1,), int64
        Where they begin and end.
    centre, half : Tensor, shape (K, D)
        Centres and half widths.
    """

    points: Tensor
    bounds: Tensor
    centre: Tensor
    half: Tensor

    @classmethod
    def of(cls, points: Tensor, block: int = BLOCK) -> Boxes:
        """Blocks of points whose neighbours in memory are neighbours in space."""
        n = len(points)
        blocks = max(1, min(n // block, MOST_BLOCKS))
        bounds = torch.arange(blocks + 1, device=points.device) * n // blocks
        inside = points.double()[_members(bounds, n)]
        low, high = inside.amin(1), inside.amax(1)
        return cls(points.double(), bounds, 0.5 * (low + high), 0.5 * (high - low))

    @property
    def members(self) -> Tensor:
        """Indices of each block's points, shape (K, w), the last one repeated in smaller blocks."""
        return _members(self.bounds, len(self.points))

    @property
    def ranges(self) -> Tensor:
        return torch.stack((self.bounds[:-1], self.bounds[1:]), dim=1)

    def slopes(self, exponents: Tensor) -> Tensor:
        """Slopes (K, D) of linear functions close to the exponents, (N,), on each block."""
        members = self.members
        inside = self.points[members]
        inside = inside - inside.mean(1, keepdim=True)
        rest = exponents[members]
        rest = (rest - rest.mean(1, keepdim=True))[..., None]
        gram = inside.mT @ inside
        gram.diagonal(dim1=1, dim2=2).add_(RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1, keepdim=True) + 1e-300)
        factor, failed = torch.linalg.cholesky_ex(gram)
        slopes = torch.cholesky_solve(inside.mT @ rest, factor)[..., 0]
        return slopes.masked_fill((failed > 0)[:, None], 0.0)

    def above(self, exponents: Tensor, slopes: Tensor, total: bool) -> Tensor:
        """Per block, the largest of exponents − slopes · (x − centre), or the logarithm of their exponentials' sum."""
        sizes, members, n = self.bounds.diff(), self.members, len(self.points)
        block = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes, output_size=n)
        rest = exponents - ((self.points - self.centre[block]) * slopes[block]).sum(1)
        rest = rest[members]
        if not total:
            return rest.amax(1)
        repeated = torch.arange(members.shape[1], device=sizes.device) >= sizes[:, None]
        return rest.masked_fill(repeated, -math.inf).logsumexp(1)


def _members(bounds: Tensor, n: int) -> Tensor:
    members = bounds[:-1, None] + torch.arange(-(-n // (len(bounds) - 1)), device=bounds.device)
    return torch.minimum(members, bounds[1:, None] - 1)


@dataclass(frozen=True)
class Pattern:
    """The pairs to be summed, and a bound of what the others would add to a row sum of 1.

    Attributes
    ----------
    blocks : Blocks
    bound : Tensor, shape (N,)
        For each row; 0 where nothing is skipped.
    share : float
        Pairs summed, of all.
    """

    blocks: Blocks
    bound: Tensor
    share: float


class _Tilts:
    """The bound of quadratic costs with slopes, for boxes with centres d apart: p·s + q·t − κ(‖d‖² + 2d·(s − t))/ε."""

    def __init__(
        self, rows: Boxes, columns: Boxes, u: Tensor, v: Tensor, p: Tensor, q: Tensor, kappa: float, total: bool
    ):
        self.rows, self.columns, self.p, self.q, self.kappa = rows, columns, p, q, kappa
        self.u, self.v = rows.above(u, p, total=False), columns.above(v, q, total)

    def log_bound(self, part: slice) -> Tensor:
        """For some blocks of rows against all of columns."""
        over = self.u[part, None] + self.v
        for k in range(self.p.shape[1]):  # a sum over a short axis is slow
            pull = (2.0 * self.kappa) * (d := self.rows.centre[part, k, None] - self.columns.centre[:, k])
            over += (self.p[part, k, None] - pull).abs_().mul_(self.rows.half[part, k, None])
            over += (self.q[:, k] + pull).abs_().mul_(self.columns.half[:, k])
            over -= pull.mul_(d).mul_(0.5)
        return over


def pattern(
    rows: Boxes,
    columns: Boxes,
    u: Tensor,
    v: Tensor,
    slopes: tuple[Tensor, Tensor] | None,
    cost: Cost,
    epsilon: float,
    skipped: float,
) -> Pattern:
    """The fewest blocks that keep what every row skips below ``skipped``.

    Parameters
    ----------
    rows, columns : Boxes
        Around N and M points.
    u : Tensor, shape (N,)
    v : Tensor, shape (M,)
        Exponents.
    slopes : pair of Tensors, shapes (I, D) and (J, D), or None
        About the gradients of u and v on each block; they make the bound of quadratic costs tighter.
    cost : Cost
        With a lower bound; without one nothing is skipped.
    epsilon : float
    skipped : float
        Row sum that may be lost.
    """
    n_rows, n_columns = len(rows.points), len(columns.points)
    if cost.lower_bound is None:
        return Pattern(Blocks.whole(n_rows, n_columns), u.new_zeros(n_rows), 1.0)
    kept, bounds = [], []
    for log_bound in _log_bounds(rows, columns, u, v, slopes, cost, epsilon, total=True):
        ascending, place = log_bound.sort(dim=1)
        total = ascending.logcumsumexp(1)
        skip = total <= math.log(skipped)
        kept.append(torch.empty_like(skip).scatter_(1, place, ~skip))
        bounds.append(total.masked_fill(~skip, -math.inf).amax(1))
    blocks = Blocks.from_mask(rows.ranges, columns.ranges, torch.cat(kept))
    bound = torch.cat(bounds).exp().repeat_interleave(rows.bounds.diff(), output_size=n_rows)
    return Pattern(blocks, bound, blocks.pairs / (n_rows * n_columns))


def nearby(
    rows: Boxes,
    columns: Boxes,
    u: Tensor,
    v: Tensor,
    slopes: tuple[Tensor, Tensor] | None,
    cost: Cost,
    epsilon: float,
    least: float,
) -> Blocks:
    """The blocks that may have a pair with u_i + v_j − C_ij/ε above a level; see `pattern`."""
    if cost.lower_bound is None:
        return Blocks.whole(len(rows.points), len(columns.points))
    kept = [bound > least for bound in _log_bounds(rows, columns, u, v, slopes, cost, epsilon, total=False)]
    return Blocks.from_mask(rows.ranges, columns.ranges, torch.cat(kept))


def _log_bounds(
    rows: Boxes,
    columns: Boxes,
    u: Tensor,
    v: Tensor,
    slopes: tuple[Tensor, Tensor] | None,
    cost: Cost,
    epsilon: float,
    total: bool,
) -> Iterator[Tensor]:
    """For some blocks of rows at a time, against all of columns: what a row may have of a block, the logarithm of its
    entries' sum or the largest exponent."""
    assert cost.lower_bound is not None
    u_flat = rows.above(u, torch.zeros_like(rows.centre), total=False)
    v_flat = columns.above(v, torch.zeros_like(columns.centre), total)
    tilts = None
    if slopes is not None and cost.quadratic is not None:
        tilts = _Tilts(rows, columns, u, v, *slopes, cost.quadratic / epsilon, total)
    step = max(1, chunk(u.device) // (TEMPORARIES * len(columns.centre)))
    for start in range(0, len(rows.centre), step):
        part = slice(start, start + step)
        square = rows.centre.new_zeros(1)
        for k in range(rows.centre.shape[1]):
            d = (rows.centre[part, k, None] - columns.centre[:, k]).abs_()
            square = square + d.sub_(rows.half[part, k, None]).sub_(columns.half[:, k]).clamp_(min=0.0).square_()
        gap = square.sqrt_()
        log_bound = u_flat[part, None] + v_flat - cost.lower_bound(gap) / epsilon
        yield log_bound if tilts is None else torch.minimum(log_bound, tilts.log_bound(part))
