"""Row sums that are certain to within what truncation and rounding can have done to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import engine
from ..choose import by_products
from ..costs import FROM_DIFFERENCES, Cost
from ..engine import UNIT, Gibbs, Pair
from ..multiscale import Cloud, Pattern, pattern
from ..solver import SAFE

FAR = 60.0
"""Terms below e⁻⁶⁰ are not looked at one by one: together they are at most their number times that."""
SQUARES, POWERS, OTHERS = 8, 24, 64
"""Roundings in a cost and in its exponent, with one more for each coordinate: of a squared distance, of a power of a
distance, and of a cost that nothing is known of."""
SLACK = 1e-9
"""Relative, for the rounding of bounds, which are float64."""


class RowSums:
    """log Σ_j exp(u_i + v_j − C_ij/ε) over all columns, between a lower and an upper bound.

    Parameters
    ----------
    pair : Pair
        The points on an engine; in float32 with a cost that has a modulus.
    points : pair of Tensor, shapes (..., N, D) and (..., M, D)
        Features in float64, of which the pair's may be roundings.
    epsilon : float

    Notes
    -----
    v counts as what it is rounded to; u is not rounded. With unit roundoff η a term exp(z) is off by the factor e^Δ,
    Δ ≤ η [(D + 8) C/ε + 2 |u| + 2 |z|] + |C − Ĉ|/ε, where Ĉ is the cost of the rounded points, which the cost's modulus
    bounds. Only terms above e⁻⁶⁰ are counted one by one, and their costs are below ε(u + max v + 60).
    """

    def __init__(self, pair: Pair, points: tuple[Tensor, Tensor], epsilon: float):
        self.pair, self.epsilon = engine.certain(pair), epsilon
        x, y = points
        self._moved = (x - pair.x.double()).norm(dim=-1) + (y - pair.y.double()).norm(dim=-1).amax(-1, keepdim=True)
        self._products = torch.zeros_like(self._moved)
        if by_products(x.shape[-1], pair.cost.quadratic is not None):
            # ‖x‖² + ‖y‖² − 2⟨x, y⟩ is rounded like its terms.
            reach = x.norm(dim=-1) + y.norm(dim=-1).amax(-1, keepdim=True)
            self._products = pair.cost.quadratic * reach**2

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
        relative = self._relative(self._exponents(shift, v, sums))
        few, back = v.shape[-1] * math.exp(-FAR + 1.0), u - shift
        low = sums.log() + torch.log1p(-(relative + few / sums).clamp(max=1.0)) + back
        left_out = torch.where(lost > 0.0, (lost.log() - back).exp(), 0.0)
        high = sums.log() + torch.log1p(relative + (few + left_out) / sums) + back
        return low, high

    def cost_sums(self, u: Tensor, v: Tensor) -> Tensor:
        """Upper bounds of Σ_j exp(u_i + v_j − C_ij/ε) C_ij, shape (..., N), for costs that are not negative and sums
        without their costs that are 1 at most."""
        return self._cost_sums(u, v, None, torch.zeros_like(u))

    def _cost_sums(self, u: Tensor, v: Tensor, pattern: Pattern | None, lost: Tensor) -> Tensor:
        dtype, blocks = self.pair.x.dtype, pattern.blocks if pattern else None
        shift = u.to(dtype)
        sums = Gibbs(self.pair, shift, v.to(dtype), self.epsilon, blocks).row_costs().double()
        back, ones = (u - shift.double()).exp(), torch.ones_like(u)
        relative = self._relative(self._exponents(shift.double(), v, ones))
        largest = self.largest_costs().amax(-1, keepdim=True)
        few = lost + v.shape[-1] * math.exp(-FAR + 1.0)
        off = self._cost_error((self.epsilon * (u + v.amax(-1, keepdim=True) + FAR)).clamp(min=0.0))
        return back * (1.0 + relative) * (sums + off) + few * largest

    def _relative(self, exponents: Tensor) -> Tensor:
        """Of a sum whose exponents are off by so much."""
        grown, summed = exponents.expm1(), engine.rounding(self.pair)
        return (grown + summed + grown * summed) * (1.0 + SLACK)

    def largest(self, v: Tensor) -> Tensor:
        """An upper bound of max_j (v_j − C_ij/ε), shape (..., N), for float64 exponents (..., M)."""
        found = Gibbs(self.pair, torch.zeros_like(self.pair.x[..., 0]), v.to(self.pair.x.dtype), self.epsilon).row_max()
        z = found.double()
        return z + (1.0 + SLACK) * self._rounded(torch.zeros_like(z), v, z.abs() + 1.0, -z + 1.0)

    def largest_costs(self) -> Tensor:
        """An upper bound of max_j C_ij, shape (..., N)."""
        # max_j (v_j − C_ij/ε) for v = 0 and ε = −1.
        found = self.pair.row_max(torch.zeros_like(self.pair.y[..., 0]), -1.0).double()
        return found + self._cost_error(found.abs())

    def total_cost(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of Σ_ij a_i b_j C_ij, shape (...), for weights (..., N) and (..., M)."""
        u, v = (w.log().clamp(min=-1e30).to(self.pair.x.dtype) for w in (a, b))
        sums = self.pair.row_costs(u, v, math.inf).double().sum(-1)
        size = torch.maximum(self.largest_costs().amax(-1).abs(), self.lowest_cost().abs())
        # Logarithms of weights are rounded, too.
        rounded = (engine.rounding(self.pair) + 4.0 * FAR * UNIT[self.pair.x.dtype]) * size
        off = a.sum(-1) * b.sum(-1) * (rounded + self._cost_error(size[..., None]).amax(-1))
        return sums - off, sums + off

    def lowest_cost(self) -> Tensor:
        """A lower bound of min C_ij, shape (...)."""
        found = -self.pair.row_max(torch.zeros_like(self.pair.y[..., 0]), 1.0).double()
        return (found - self._cost_error(found.abs())).amin(-1)

    @property
    def _operations(self) -> int:
        cost = self.pair.cost
        known, dimension = OTHERS if cost.modulus is None else POWERS, self.pair.x.shape[-1]
        if cost.quadratic is not None:
            return SQUARES + dimension
        if by_products(dimension, cost.of_distances):
            return known + round(2.0 / FROM_DIFFERENCES) * (dimension + 4)  # squares are rounded like ‖x‖² + ‖y‖²
        return known + dimension

    def _powers(self, costs: Tensor) -> Tensor:
        """Further roundings of powers up to these, times the costs: e^{p log d} is off by what p log d is."""
        if self.pair.cost.quadratic is not None:
            return torch.zeros_like(costs)
        # c |log c| rises up to c = 1/e, and is less than there until it rises again.
        most = (costs.xlogy(costs)).abs().clamp(max=1e300)
        return 4.0 * torch.where(costs > 1.0 / math.e, most.clamp(min=1.0 / math.e), most)

    def _cost_error(self, costs: Tensor) -> Tensor:
        """What costs up to these can be off by."""
        off = UNIT[self.pair.x.dtype] * (self._operations * (costs + self._products) + self._powers(costs))
        modulus = self.pair.cost.modulus
        return off if modulus is None else off + modulus(costs, self._moved)

    def _exponents(self, u: Tensor, v: Tensor, sums: Tensor) -> Tensor:
        """Δ for each row."""
        return self._rounded(u, v, sums.log().clamp(min=FAR) + 1.0, u + FAR)

    def _rounded(self, u: Tensor, v: Tensor, largest: Tensor, above: Tensor) -> Tensor:
        """What exponents z of size at most ``largest`` are off by, where C/ε is at most ``above`` + max v."""
        cost, unit = self.pair.cost, UNIT[self.pair.x.dtype]
        there = v > -1e29  # less stands for −∞
        costs = (above + torch.where(there, v, -math.inf).amax(-1, keepdim=True)).clamp(min=0.0)
        if cost.lower_bound is None or float(cost.lower_bound(torch.zeros((), device="cpu"))) < 0.0:
            costs = costs.maximum(largest - u - torch.where(there, v, math.inf).amin(-1, keepdim=True))
        powers = self._powers(costs * self.epsilon) / self.epsilon
        costs_off = self._operations * (costs + self._products / self.epsilon) + powers
        off = unit * (costs_off + 2.0 * u.abs() + 2.0 * largest)
        # Exponents are what potentials are over ε, in float64.
        size = u.abs() + torch.where(there, v.abs(), 0.0).amax(-1, keepdim=True)
        off = off + 4.0 * UNIT[torch.float64] * size
        if cost.modulus is not None:
            off = off + cost.modulus(costs * self.epsilon, self._moved) / self.epsilon
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
        self._built_for: tuple[Tensor, Tensor] = (torch.zeros(0, device="cpu"), torch.zeros(0, device="cpu"))

    def __call__(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._bounds(*self._truncated(u, v))
        return low[self._rows.tree.rank], high[self._rows.tree.rank]

    def cost_sums(self, u: Tensor, v: Tensor) -> Tensor:
        return self._cost_sums(*self._truncated(u, v))[self._rows.tree.rank]

    def _truncated(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Pattern, Tensor]:
        """Exponents in the trees' order, a pattern, and what each row loses with it, at most."""
        u, v = u[self._rows.tree.order], v[self._columns.tree.order]
        if self._pattern is None:
            rows, columns = self._rows.boxes, self._columns.boxes
            slopes = rows.slopes(u), columns.slopes(v)
            self._pattern = pattern(rows, columns, u, v, slopes, self.pair.cost, self.epsilon, self._skipped)
            self._built_for = u, v
        drift = (u - self._built_for[0]) + (v - self._built_for[1]).max()
        bound = self._pattern.bound
        lost = torch.where(bound > 0.0, (bound.log() + drift).exp() * (1.0 + SLACK), 0.0)
        return u, v, self._pattern, lost
