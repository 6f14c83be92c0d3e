"""Rigorous intervals: whatever the potentials, OT_ε is between a dual value and the cost of a plan that is feasible.

From below: any potentials whose plan has no row, or no column, above its weight have a dual value of ⟨a, f⟩ + ⟨b, g⟩.
From above: with P′ = diag(s) P diag(t) ≤ the marginals, and couplings Q_k of what they leave, e_a = a − P′1 and
e_b = b − P′ᵀ1 (Altschuler, Weed, Rigollet 2017, arXiv:1705.09634), P′ + Σ Q_k is feasible. KL is convex, so that with
θ_k the masses of Q_k and θ their sum

    OT_ε ≤ ⟨P′1, f + ε log s⟩ + ⟨P′ᵀ1, g + ε log t⟩ − ε (1 − θ) log(1 − θ) + Σ_k ⟨Q_k, C + ε log(Q_k / (θ_k a bᵀ))⟩.

P′ is known by its row and column sums, and these to within truncation and rounding. Q₁ couples what is certain to be
left as a product, in self problems each point with itself; Q₂ the rest, which is only bounded: for it any
α_i + β_j ≥ C_ij is put in the place of C.

With penalties D₁ and D₂ every plan is feasible, and P′ = P itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .brackets import RowSums, TruncatedSums
from .cellsums import Cloud
from .engine import Pair
from .penalties import Balanced, Penalty, relaxed, within
from .problem import Problem

ROUNDED = 1e-13
"""Of sums over points, relative to what they are made of: they are float64."""
SIDE = 1.0 / math.e


@dataclass(frozen=True)
class Interval:
    """Bounds of a number, float64, of shape () or (B,).

    Attributes
    ----------
    lower, upper : Tensor
    uncertain : Tensor
        What rounding and truncation have of the width, about.
    """

    lower: Tensor
    upper: Tensor
    uncertain: Tensor

    @property
    def gap(self) -> Tensor:
        return self.upper - self.lower

    def plus(self, other: Interval, factor: float) -> Interval:
        """With another number's interval added that many times; a negative factor exchanges its ends."""
        ends = (other.lower, other.upper) if factor > 0 else (other.upper, other.lower)
        uncertain = self.uncertain + abs(factor) * other.uncertain
        return Interval(self.lower + factor * ends[0], self.upper + factor * ends[1], uncertain)


@dataclass(frozen=True)
class Sides:
    """What a certificate asks of a problem.

    Attributes
    ----------
    rows, columns : RowSums
        Certain bounds of log Σ_j exp(u_i + v_j − C_ij/ε) over columns, and over rows.
    dtype : torch.dtype
        That these are summed in.
    costs : pair of RowSums
        Over all pairs.
    """

    problem: Problem
    rows: RowSums
    columns: RowSums
    dtype: torch.dtype
    costs: tuple[RowSums, RowSums]

    @classmethod
    def full(cls, problem: Problem, pair: Pair) -> Sides:
        """Over all pairs; ``pair`` has the problem's points, in the precision of the sums."""
        x, y, epsilon = problem.alpha.points, problem.beta.points, problem.epsilon
        both = RowSums(pair, (x, y), epsilon), RowSums(pair.T, (y, x), epsilon)
        return cls(problem, *both, pair.x.dtype, both)

    @classmethod
    def truncated(
        cls, problem: Problem, pair: Pair, clouds: tuple[Cloud, Cloud], skipped: float, engine_name: str
    ) -> Sides:
        """Over the pairs that count, of clouds that have a tree; ``skipped`` is about what a row may lose."""
        cost, how = pair.cost, (problem.epsilon, skipped, engine_name, pair.x.dtype)
        rows = TruncatedSums(clouds[0], clouds[1], cost, *how)
        columns = rows if problem.is_self else TruncatedSums(clouds[1], clouds[0], cost.transpose(), *how)
        return replace(cls.full(problem, pair), rows=rows, columns=columns)

    @property
    def T(self) -> Sides:
        p = self.problem
        turned = replace(p, alpha=p.beta, beta=p.alpha, pair=p.pair.T, penalties=p.penalties[::-1])
        return Sides(turned, self.columns, self.rows, self.dtype, self.costs[::-1])

    def row_sums(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of log(P1/a)."""
        p = self.problem
        return self.rows(f / p.epsilon, g / p.epsilon + p.beta.log_weights)

    def column_sums(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of log(Pᵀ1/b)."""
        p = self.problem
        return self.columns(g / p.epsilon, f / p.epsilon + p.alpha.log_weights)

    def exact(self, f: Tensor, side: int) -> Tensor:
        """Potentials close to f and not above, whose exponents have no rounding errors in the precision of the sums."""
        log_weights = (self.problem.alpha, self.problem.beta)[side].log_weights
        exponents = f / self.problem.epsilon + log_weights
        rounded = exponents.to(self.dtype)
        above = rounded.double() > exponents
        rounded = torch.where(above, torch.nextafter(rounded, torch.full_like(rounded, -math.inf)), rounded)
        return torch.where(log_weights > -1e29, self.problem.epsilon * (rounded.double() - log_weights), f)


def certify(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """An interval that contains OT_ε, from any potentials.

    Parameters
    ----------
    sides : Sides
    f, g : Tensor, shapes (..., N) and (..., M), float64
        The closer to the solution, the narrower the interval. Those of a self problem are the same.

    Returns
    -------
    Interval
    """
    fixed = [isinstance(penalty, Balanced) for penalty in sides.problem.penalties]
    if sides.problem.epsilon == math.inf:
        low, high = _product(sides)
        return Interval(low, high, high - low)
    if all(fixed):
        mass = sides.problem.masses[0]
        if bool(((mass - 1.0).abs() > ROUNDED).any()):
            return _of_mass(mass, sides, f, g)
        return _self_problem(sides, f) if sides.problem.is_self else _balanced(sides, f, g)
    if fixed[1]:
        return _unbalanced(sides.T, g, f)
    return _unbalanced(sides, f, g)


def _of_mass(mass: Tensor, sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """Fixed marginals of mass m: OT_ε = m OT_ε,₁ − ε m log m + ε (m² − m), and f + g is lower by ε log m."""
    problem = sides.problem
    alpha = replace(problem.alpha, weights=problem.alpha.weights / mass[..., None])
    beta = alpha if problem.is_self else replace(problem.beta, weights=problem.beta.weights / mass[..., None])
    raised = 0.5 * problem.epsilon * mass.log()[..., None]
    found = certify(replace(sides, problem=replace(problem, alpha=alpha, beta=beta)), f + raised, g + raised)
    constant = problem.epsilon * mass * (mass - 1.0 - mass.log())
    slack = ROUNDED * constant.abs()
    lower, upper = mass * found.lower + constant - slack, mass * found.upper + constant + slack
    return Interval(lower, upper, mass * found.uncertain)


def _balanced(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """Columns are scaled to their weights, then rows below theirs: three reductions."""
    problem = sides.problem
    epsilon, a, b = problem.epsilon, problem.alpha.weights, problem.beta.weights
    f = sides.exact(f, 0)
    g = sides.exact(g, 1)
    g = sides.exact(g - epsilon * sides.column_sums(f, g)[1], 1)
    low, high = sides.row_sums(f, g)
    lower = _Total(a, f - epsilon * high).plus(b, g)
    scaled = sides.exact(f - epsilon * high.clamp(min=0.0), 0)
    moved = (scaled - f) / epsilon
    left_a = _Left.of(a, low + moved, high + moved)
    left_b = _Left.of(b, *sides.column_sums(scaled, g))
    upper, uncertain = _completed(sides, (scaled, g), (left_a, left_b), diagonal=False)
    return _interval(sides, lower, upper, uncertain, epsilon * (a * (high - low)).sum(-1))


def _self_problem(sides: Sides, f: Tensor) -> Interval:
    """Rows and columns are scaled alike, and each point is coupled with itself: two reductions."""
    problem = sides.problem
    epsilon, a = problem.epsilon, problem.alpha.weights
    f = sides.exact(f, 0)
    low, high = sides.row_sums(f, f)
    lower = _Total(a, f).plus(a, f - epsilon * high)
    scaled = sides.exact(f - epsilon * high.clamp(min=0.0), 0)
    left = _Left.of(a, *sides.row_sums(scaled, scaled))
    upper, uncertain = _completed(sides, (scaled, scaled), (left, left), diagonal=True)
    return _interval(sides, lower, upper, uncertain, epsilon * (a * (high - low)).sum(-1))


def _interval(sides: Sides, lower: _Total, upper: _Total, *uncertain: Tensor) -> Interval:
    """From a dual value, and the cost of a plan or that of a ⊗ b, which is always feasible."""
    most, problem = upper.high, sides.problem
    if problem.pair.cost.quadratic is not None or problem.epsilon >= problem.cost_scale:
        most = torch.minimum(most, _product(sides)[1])
    return Interval(lower.low, most, sum(uncertain, torch.zeros_like(most)))


def _unbalanced(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """The columns have a penalty; the rows have one, or are scaled to their weights and filled up: two reductions."""
    problem = sides.problem
    epsilon, a, b = problem.epsilon, problem.alpha.weights, problem.beta.weights
    first, second = problem.penalties
    free = epsilon * a.sum(-1) * b.sum(-1)
    f, g = sides.exact(f, 0), sides.exact(within(second, g), 1)
    low, high = sides.row_sums(f, g)
    better, after = relaxed(first, f, high, 1.0, epsilon)
    lower = _Total(a, better, first.dual).plus(b, g, second.dual).plus(a, -epsilon * after.exp())
    scaled = sides.exact(better, 0)
    moved = (scaled - f) / epsilon
    rows, columns = (low + moved, high + moved), sides.column_sums(scaled, g)
    if isinstance(first, Balanced):
        upper = _filled(sides, scaled, g, _Left.of(a, *rows), columns)
    else:
        upper = _Total(a, _largest(rows, lambda r: r * scaled + _penalty(first, r)))
        upper = upper.plus(b, _largest(columns, lambda c: c * (g - epsilon) + _penalty(second, c)))
    uncertain = epsilon * ((a * (high - low)).sum(-1) + (b * (columns[1] - columns[0])).sum(-1))
    return Interval(lower.low + free, upper.high + free, uncertain)


class _Total:
    """⟨weights, values⟩ and further such sums, with what rounding can have done to them."""

    def __init__(self, weights: Tensor, values: Tensor, of: Callable[[Tensor, Tensor], Tensor] | None = None):
        total = (weights * values).sum(-1) if of is None else of(weights, values)
        self._value, self._size = total, (weights * values.abs()).sum(-1) + total.abs()

    def plus(
        self, weights: Tensor, values: Tensor, of: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> _Total:  # fmt: skip
        more, out = _Total(weights, values, of), object.__new__(_Total)
        out._value, out._size = self._value + more._value, self._size + more._size
        return out

    def plus_number(self, number: Tensor) -> _Total:
        return self.plus(torch.ones_like(number)[..., None], number[..., None])

    @property
    def low(self) -> Tensor:
        return self._value - ROUNDED * self._size

    @property
    def high(self) -> Tensor:
        return self._value + ROUNDED * self._size


@dataclass(frozen=True)
class _Left:
    """What a marginal of P′ leaves of its weights: at least ``certain``, and at most ``rest`` more."""

    weights: Tensor
    certain: Tensor
    rest: Tensor

    @classmethod
    def of(cls, weights: Tensor, low: Tensor, high: Tensor) -> _Left:
        """From bounds of log marginal over weight."""
        least, most = -high.clamp(max=0.0).expm1(), -low.clamp(max=0.0).expm1()
        return cls(weights, weights * least, weights * (most - least + ROUNDED))

    def cut(self, mass: Tensor) -> _Left:
        """With that mass certain, and the rest larger instead."""
        share = (mass / self.certain.sum(-1)).nan_to_num(0.0, 0.0).clamp(max=1.0)[..., None]
        return _Left(self.weights, share * self.certain, self.rest + (1.0 - share) * self.certain)


def _completed(
    sides: Sides, potentials: tuple[Tensor, Tensor], left: tuple[_Left, _Left], diagonal: bool
) -> tuple[_Total, Tensor]:
    """The cost of P′ and the couplings of what it leaves; and what uncertainty has of it."""
    f, g = potentials
    epsilon, weights = sides.problem.epsilon, (left[0].weights, left[1].weights)
    certain = torch.minimum(left[0].certain.sum(-1), left[1].certain.sum(-1))
    left = left[0].cut(certain), left[1].cut(certain)
    uncertain = torch.minimum(left[0].rest.sum(-1), left[1].rest.sum(-1))
    total = _Total(weights[0] - left[0].certain, f).plus(weights[1] - left[1].certain, g)
    total = total.plus_number(_coupled(sides, left, certain, diagonal))
    # ⟨Q₂, C − f − g⟩ ≤ Σ r_i (α_i − f_i − t) + Σ r_j (β_j − g_j + t) for any t, and rests are only bounded.
    above = _above(sides)
    excess = above[0] - f, above[1] - g
    t = 0.5 * (_mean(weights[0], excess[0]) - _mean(weights[1], excess[1]))[..., None]
    rest = (left[0].rest * (excess[0] - t).clamp(min=0.0)).sum(-1)
    rest = rest + (left[1].rest * (excess[1] + t).clamp(min=0.0)).sum(-1)
    entropy = 2.0 * _entropy_bound(uncertain)
    for side in left:
        ratio = side.rest / side.weights.clamp(min=1e-300)
        entropy = entropy + (side.rest * ratio.log().clamp(min=0.0)).sum(-1)
    rest = rest + epsilon * entropy
    mixing = epsilon * _mixing(certain, uncertain)
    return total.plus_number(mixing).plus_number(rest), rest


def _coupled(sides: Sides, left: tuple[_Left, _Left], mass: Tensor, diagonal: bool) -> Tensor:
    """⟨Q₁, C + ε log(Q₁/(θ₁ a bᵀ))⟩: of the product, or each point with itself."""
    problem, (a, b) = sides.problem, left
    per_point = [
        torch.where(side.certain > 0.0, (side.certain / side.weights.clamp(min=1e-300)).log(), 0.0) for side in left
    ]
    entropies = [(side.certain * log).sum(-1) for side, log in zip(left, per_point, strict=True)]
    costs = _product_cost(sides, a.certain, b.certain, mass)[1]
    of_product = costs + problem.epsilon * (sum(entropies) - 2.0 * mass.xlogy(mass))
    if not diagonal:
        return of_product
    x = problem.alpha.points
    costs = (a.certain * problem.pair.cost.between(x, x)).sum(-1)
    logs = per_point[0] - a.weights.clamp(min=1e-300).log()
    of_points = costs + problem.epsilon * ((a.certain * logs).sum(-1) - mass.xlogy(mass))
    return torch.minimum(of_product, of_points)


def _product_cost(sides: Sides, a: Tensor, b: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of Σ a_i b_j C_ij / mass, for weights of that mass each."""
    problem = sides.problem
    kappa, x, y = problem.pair.cost.quadratic, problem.alpha.points, problem.beta.points
    if kappa is None:
        low, high = sides.costs[0].total_cost(a, b)
        return (low / mass).nan_to_num(0.0), (high / mass).nan_to_num(0.0)
    means = [(w[..., None] * p).sum(-2) for w, p in ((a, x), (b, y))]
    squares = (a * (x * x).sum(-1)).sum(-1) + (b * (y * y).sum(-1)).sum(-1)
    cost = squares - 2.0 * ((means[0] * means[1]).sum(-1) / mass).nan_to_num(0.0)
    return kappa * (cost - ROUNDED * squares), kappa * (cost + ROUNDED * squares)


def _product(sides: Sides) -> tuple[Tensor, Tensor]:
    """Bounds of the cost of a ⊗ b."""
    a, b = sides.problem.alpha.weights, sides.problem.beta.weights
    return _product_cost(sides, a, b, a.sum(-1))


def _above(sides: Sides) -> tuple[Tensor, Tensor]:
    """α (..., N) and β (..., M) with α_i + β_j ≥ C_ij."""
    problem = sides.problem
    kappa, x, y = problem.pair.cost.quadratic, problem.alpha.points, problem.beta.points
    if kappa is not None:  # ‖x − y‖² ≤ 2‖x‖² + 2‖y‖²
        return 2.0 * kappa * (x * x).sum(-1), 2.0 * kappa * (y * y).sum(-1)
    return 0.5 * sides.costs[0].largest_costs(), 0.5 * sides.costs[1].largest_costs()


def _filled(sides: Sides, f: Tensor, g: Tensor, left: _Left, columns: tuple[Tensor, Tensor]) -> _Total:
    """The cost of P′, whose rows are at most a, and of e_a ⊗ b/m_b."""
    problem = sides.problem
    epsilon, a, b = problem.epsilon, problem.alpha.weights, problem.beta.weights
    masses, second = (a.sum(-1), b.sum(-1)), problem.penalties[1]
    bound = left.certain + left.rest
    share = (bound.sum(-1) / masses[0]).clamp(max=1.0)
    above = _above(sides)
    costs = above[0] + above[1].amax(-1, keepdim=True)
    # Deficits cost C − f more than what they are missing from; their entropy against a ⊗ b is that of e_a against a.
    total = _Total(a, f).plus(bound, (costs - f).clamp(min=0.0))
    low, high = columns
    filled = (low, (high.exp() + (masses[0] * share / masses[1])[..., None]).log())
    total = total.plus(b, _largest(columns, lambda c: c * g))
    total = total.plus(b, _largest(filled, lambda c: _penalty(second, c)))
    ratio = (bound / a.clamp(min=1e-300)).log().clamp(min=0.0)
    entropy = (bound * ratio).sum(-1) + masses[0] * _mixing(torch.zeros_like(share), share)
    entropy = entropy + masses[0] * _entropy_bound(share) + share * masses[0] * masses[1].log().abs()
    return total.plus_number(epsilon * entropy).plus_number(-epsilon * masses[0])


def _penalty(penalty: Penalty, density: Tensor) -> Tensor:
    """That of one unit of weight."""
    return penalty.primal(torch.ones_like(density)[..., None], density[..., None])


def _largest(logs: tuple[Tensor, Tensor], of: Callable[[Tensor], Tensor]) -> Tensor:
    """Of a convex function of marginals between bounds: at one end of them."""
    return torch.maximum(of(logs[0].exp()), of(logs[1].exp()))


def _mixing(certain: Tensor, uncertain: Tensor) -> Tensor:
    """−(1 − θ) log(1 − θ), which rises up to 1 − 1/e and is 1/e there, for θ between bounds."""
    most = (certain + uncertain).clamp(max=1.0)
    value = -torch.special.xlog1py(1.0 - most, -most)
    return torch.where(most < 1.0 - SIDE, value, SIDE)


def _entropy_bound(most: Tensor) -> Tensor:
    """−θ log θ, which rises up to 1/e, for θ up to a bound."""
    return torch.where(most < SIDE, -most.xlogy(most), SIDE)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    return (weights * values).sum(-1) / weights.sum(-1)
