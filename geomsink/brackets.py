"""Row sums that are certain to within what truncation and rounding can have done to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import engine
from .cellsums import Cloud
from .costs import Cost
from .engine import UNIT, Gibbs, Pair
from .sums import SAFE
from .truncation import Pattern, pattern

FAR = 60.0
"""Terms below e⁻⁶⁰ are not looked at one by one: together they are at most their number times that."""
OPERATIONS = {True: 8, False: 64}
"""Roundings in a cost and in its exponent, with one more for each coordinate: of a squared distance, and of a cost that
nothing is known of."""
SLACK = 1e-9
"""Relative, for the rounding of bounds, which are float64."""


class RowSums:
    """log Σ_j exp(u_i + v_j − C_ij/ε) over all columns, between a lower and an upper bound.

    Parameters
    ----------
    pair : Pair
        The points on an engine. In float32 the cost must be a squared distance.
    points : pair of Tensor, shapes (..., N, D) and (..., M, D)
        Features in float64, of which the pair's may be roundings.
    epsilon : float

    Notes
    -----
    v counts as what it is rounded to; u is not rounded. With unit roundoff η a term exp(z) is off by the factor e^Δ,
    Δ ≤ η [(D + 8) C/ε + 2 |u| + |z|] + |C − Ĉ|/ε, where Ĉ = c(x̂, ŷ) for the rounded points: κ(2‖x − y‖δ + δ²) off
    for points off by δ in total. Only terms above e⁻⁶⁰ are counted one by one, and their costs are below
    ε(u + max v + 60).
    """

    def __init__(self, pair: Pair, points: tuple[Tensor, Tensor], epsilon: float):
        self.pair, self.epsilon = pair, epsilon
        x, y = points
        self._moved = (x - pair.x.double()).norm(dim=-1) + (y - pair.y.double()).norm(dim=-1).amax(-1, keepdim=True)

    def __call__(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds, shape (..., N), for float64 exponents (..., N) and (..., M)."""
        return self._bounds(u, v, None, torch.zeros_like(u))

    def _bounds(self, u: Tensor, v: Tensor, pattern: Pattern | None, lost: Tensor) -> tuple[Tensor, Tensor]:
        dtype, blocks = self.pair.x.dtype, pattern.blocks if pattern else None
        shift, columns = u.to(dtype), v.to(dtype)
        sums = Gibbs(self.pair, shift, columns, self.epsilon, blocks).row_sums().double()
        if not bool(((sums > 1 / SAFE[dtype]) & (sums < SAFE[dtype])).all()):
            blocks, lost = None, torch.zeros_like(lost)  # the pattern may be what left rows without sums
            shift = -Gibbs(self.pair, shift, columns, self.epsilon, blocks).row_max()
            sums = Gibbs(self.pair, shift, columns, self.epsilon, blocks).row_sums().double()
        shift = shift.double()
        relative = (self._exponents(shift, v, sums).expm1() + engine.rounding(self.pair)) * (1.0 + SLACK)
        few, back = v.shape[-1] * math.exp(-FAR + 1.0), u - shift
        low = sums.log() + torch.log1p(-(relative + few / sums).clamp(max=1.0)) + back
        high = sums.log() + torch.log1p(relative + (few + lost * (-back).exp()) / sums) + back
        return low, high

    def _exponents(self, u: Tensor, v: Tensor, sums: Tensor) -> Tensor:
        """Δ for each row."""
        cost, unit = self.pair.cost, UNIT[self.pair.x.dtype]
        largest = sums.log().clamp(min=FAR) + 1.0
        costs = (u + v.amax(-1, keepdim=True) + FAR).clamp(min=0.0)
        if cost.lower_bound is None:  # it may be negative
            least = torch.where(v > -1e29, v, math.inf).amin(-1, keepdim=True)
            costs = costs.maximum(largest - u - least)
        operations = OPERATIONS[cost.quadratic is not None] + self.pair.x.shape[-1]
        off = unit * (operations * costs + 2.0 * u.abs() + 2.0 * largest)
        # Exponents are what potentials are over ε, in float64.
        off = off + 4.0 * UNIT[torch.float64] * (u.abs() + torch.where(v > -1e29, v.abs(), 0.0).amax(-1, keepdim=True))
        if cost.quadratic is not None:
            scale = cost.quadratic / self.epsilon
            off = off + scale * self._moved * (2.0 * (costs / scale).sqrt() + self._moved)
        return off


class TruncatedSums(RowSums):
    """The same, with blocks of pairs left out that are certain to count for little.

    Parameters
    ----------
    rows, columns : Cloud
    cost : Cost
        From rows to columns.
    epsilon : float
    skipped : float
        Of a row sum of 1, about, that may be left out: it is in the bounds.
    engine_name : str
    dtype : torch.dtype
    """

    def __init__(
        self, rows: Cloud, columns: Cloud, cost: Cost, epsilon: float, skipped: float, engine_name: str,
        dtype: torch.dtype,
    ):  # fmt: skip
        x, y = rows.tree.measure.points, columns.tree.measure.points
        super().__init__(engine.pair(x.to(dtype), y.to(dtype), cost, engine_name), (x, y), epsilon)
        self._rows, self._columns, self._skipped = rows, columns, skipped
        self._pattern: Pattern | None = None
        self._built_for: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))

    def __call__(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        u, v = u[self._rows.tree.order], v[self._columns.tree.order]
        if self._pattern is None:
            rows, columns = self._rows.boxes, self._columns.boxes
            slopes = rows.slopes(u), columns.slopes(v)
            self._pattern = pattern(rows, columns, u, v, slopes, self.pair.cost, self.epsilon, self._skipped)
            self._built_for = u, v
        drift = (u - self._built_for[0]) + (v - self._built_for[1]).max()
        lost = self._pattern.bound * drift.exp() * (1.0 + SLACK)
        low, high = self._bounds(u, v, self._pattern, lost)
        return low[self._rows.tree.rank], high[self._rows.tree.rank]
