"""Feasible plans from any potentials: what is left of the marginals when a plan is scaled below them, and couplings of
it (Altschuler, Weed, Rigollet 2017, arXiv:1705.09634)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .sides import ROUNDED, Sides

SIDE = 1.0 / math.e


class Total:
    """⟨weights, values⟩ and further such sums, with what rounding can have done to them."""

    def __init__(self, weights: Tensor, values: Tensor, of: Callable[[Tensor, Tensor], Tensor] | None = None):
        total = (weights * values).sum(-1) if of is None else of(weights, values)
        self._value, self._size = total, (weights * values.abs()).sum(-1) + total.abs()

    def plus(
        self, weights: Tensor, values: Tensor, of: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> Total:  # fmt: skip
        more, out = Total(weights, values, of), object.__new__(Total)
        out._value, out._size = self._value + more._value, self._size + more._size
        return out

    def plus_number(self, number: Tensor) -> Total:
        return self.plus(torch.ones_like(number)[..., None], number[..., None])

    @property
    def low(self) -> Tensor:
        return self._value - ROUNDED * self._size

    @property
    def high(self) -> Tensor:
        return self._value + ROUNDED * self._size


@dataclass(frozen=True)
class Left:
    """What a marginal of P′ leaves of its weights: at least ``certain``, and at most ``rest`` more."""

    weights: Tensor
    certain: Tensor
    rest: Tensor

    @classmethod
    def of(cls, weights: Tensor, low: Tensor, high: Tensor) -> Left:
        """From bounds of log marginal over weight."""
        least, most = -high.clamp(max=0.0).expm1(), -low.clamp(max=0.0).expm1()
        return cls(weights, weights * least, weights * (most - least + ROUNDED))

    def cut(self, mass: Tensor) -> Left:
        """With that mass certain, and the rest larger instead."""
        share = (mass / self.certain.sum(-1)).nan_to_num(0.0, 0.0).clamp(max=1.0)[..., None]
        return Left(self.weights, share * self.certain, self.rest + (1.0 - share) * self.certain)


@dataclass(frozen=True)
class Scaled:
    """A plan whose marginals are below the weights.

    Attributes
    ----------
    f, g : Tensor
        Its potentials.
    left : pair of Left
    dual : pair of Tensor
        Potentials whose rows are not above their weights.
    width : Tensor
        Of what is known of the logarithms of its rows, the weighted mean.
    """

    f: Tensor
    g: Tensor
    left: tuple[Left, Left]
    dual: tuple[Tensor, Tensor]
    width: Tensor

    @classmethod
    def of(cls, sides: Sides, f: Tensor, g: Tensor) -> Scaled:
        """Columns are scaled to their weights, then rows below theirs: three reductions."""
        problem = sides.problem
        epsilon, a, b = problem.epsilon, problem.alpha.weights, problem.beta.weights
        f = sides.exact(f, 0)
        g = sides.exact(g, 1)
        g = sides.exact(g - epsilon * sides.column_sums(f, g)[1], 1)
        low, high = sides.row_sums(f, g)
        scaled = sides.exact(f - epsilon * high.clamp(min=0.0), 0)
        moved = (scaled - f) / epsilon
        left = Left.of(a, low + moved, high + moved), Left.of(b, *sides.column_sums(scaled, g))
        return cls(scaled, g, left, (f - epsilon * high, g), _mean_width(a, low, high))

    @classmethod
    def symmetric(cls, sides: Sides, f: Tensor) -> Scaled:
        """Of a self problem, rows and columns are scaled alike: two reductions."""
        epsilon, a = sides.problem.epsilon, sides.problem.alpha.weights
        f = sides.exact(f, 0)
        low, high = sides.row_sums(f, f)
        scaled = sides.exact(f - epsilon * high.clamp(min=0.0), 0)
        left = Left.of(a, *sides.row_sums(scaled, scaled))
        return cls(scaled, scaled, (left, left), (f, f - epsilon * high), _mean_width(a, low, high))


def completed(sides: Sides, plan: Scaled) -> tuple[Total, Tensor]:
    """The entropic cost of a scaled plan and couplings of what it leaves; and what uncertainty has of it."""
    problem = sides.problem
    weights = problem.alpha.weights, problem.beta.weights
    left, certain = balanced(plan.left)
    uncertain = torch.minimum(left[0].rest.sum(-1), left[1].rest.sum(-1))
    total = Total(weights[0] - left[0].certain, plan.f).plus(weights[1] - left[1].certain, plan.g)
    total = total.plus_number(_coupled(sides, left, certain))
    entropy = 2.0 * entropy_bound(uncertain)
    for side in left:
        ratio = side.rest / side.weights.clamp(min=1e-300)
        entropy = entropy + (side.rest * ratio.log().clamp(min=0.0)).sum(-1)
    rest = rest_cost(sides, left, (plan.f, plan.g)) + problem.epsilon * entropy
    mixing = problem.epsilon * mixing_bound(certain, uncertain)
    return total.plus_number(mixing).plus_number(rest), rest


def balanced(left: tuple[Left, Left]) -> tuple[tuple[Left, Left], Tensor]:
    """With the same mass certain on both sides, and that mass."""
    certain = torch.minimum(left[0].certain.sum(-1), left[1].certain.sum(-1))
    return (left[0].cut(certain), left[1].cut(certain)), certain


def _coupled(sides: Sides, left: tuple[Left, Left], mass: Tensor) -> Tensor:
    """⟨Q₁, C + ε log(Q₁/(θ₁ a bᵀ))⟩: of the product, or, in self problems, of each point with itself."""
    problem, (a, b) = sides.problem, left
    per_point = [
        torch.where(side.certain > 0.0, (side.certain / side.weights.clamp(min=1e-300)).log(), 0.0) for side in left
    ]
    entropies = [(side.certain * log).sum(-1) for side, log in zip(left, per_point, strict=True)]
    costs = sides.product_cost(a.certain, b.certain, mass)[1]
    of_product = costs + problem.epsilon * (sum(entropies) - 2.0 * mass.xlogy(mass))
    if not problem.is_self:
        return of_product
    x = problem.alpha.points
    costs = (a.certain * problem.pair.cost.between(x, x)).sum(-1)
    logs = per_point[0] - a.weights.clamp(min=1e-300).log()
    of_points = costs + problem.epsilon * ((a.certain * logs).sum(-1) - mass.xlogy(mass))
    return torch.minimum(of_product, of_points)


def rest_cost(sides: Sides, left: tuple[Left, Left], potentials: tuple[Tensor, Tensor]) -> Tensor:
    """⟨Q₂, C − f − g⟩ at most, for a coupling of rests that are only bounded.

    It is Σ r_i (α_i − f_i − t) + Σ r_j (β_j − g_j + t) at most, for any t.
    """
    excess = [bound - potential for bound, potential in zip(sides.above(), potentials, strict=True)]
    t = 0.5 * (_mean(left[0].weights, excess[0]) - _mean(left[1].weights, excess[1]))[..., None]
    rest = (left[0].rest * (excess[0] - t).clamp(min=0.0)).sum(-1)
    return rest + (left[1].rest * (excess[1] + t).clamp(min=0.0)).sum(-1)


def mixing_bound(certain: Tensor, uncertain: Tensor) -> Tensor:
    """−(1 − θ) log(1 − θ), which rises up to 1 − 1/e and is 1/e there, for θ between bounds."""
    most = (certain + uncertain).clamp(max=1.0)
    value = -torch.special.xlog1py(1.0 - most, -most)
    return torch.where(most < 1.0 - SIDE, value, SIDE)


def entropy_bound(most: Tensor) -> Tensor:
    """−θ log θ, which rises up to 1/e, for θ up to a bound."""
    return torch.where(most < SIDE, -most.xlogy(most), SIDE)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    return (weights * values).sum(-1) / weights.sum(-1)


def _mean_width(weights: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.where(weights > 0.0, weights * (high - low), 0.0).sum(-1)
