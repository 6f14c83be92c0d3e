"""What certificates are made of: a problem whose row and column sums, and costs, are certain to within bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..engine import Pair
from ..multiscale import Cloud
from ..solver import Problem
from .brackets import RowSums, TruncatedSums

ROUNDED = 1e-13
"""Of sums over points, relative to what they are made of: they are float64."""


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
        return Sides(self.problem.T, self.columns, self.rows, self.dtype, self.costs[::-1])

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

    def product_cost(self, a: Tensor, b: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of Σ a_i b_j C_ij / mass, for weights of that mass each."""
        problem = self.problem
        kappa, x, y = problem.pair.cost.quadratic, problem.alpha.points, problem.beta.points
        if kappa is None:
            low, high = self.costs[0].total_cost(a, b)
            return (low / mass).nan_to_num(0.0), (high / mass).nan_to_num(0.0)
        means = [(w[..., None] * p).sum(-2) for w, p in ((a, x), (b, y))]
        squares = (a * (x * x).sum(-1)).sum(-1) + (b * (y * y).sum(-1)).sum(-1)
        cost = squares - 2.0 * ((means[0] * means[1]).sum(-1) / mass).nan_to_num(0.0)
        return kappa * (cost - ROUNDED * squares), kappa * (cost + ROUNDED * squares)

    def above(self) -> tuple[Tensor, Tensor]:
        """α (..., N) and β (..., M) with α_i + β_j ≥ C_ij."""
        problem = self.problem
        kappa, x, y = problem.pair.cost.quadratic, problem.alpha.points, problem.beta.points
        if kappa is not None:  # ‖x − y‖² ≤ 2‖x‖² + 2‖y‖²
            return 2.0 * kappa * (x * x).sum(-1), 2.0 * kappa * (y * y).sum(-1)
        return 0.5 * self.costs[0].largest_costs(), 0.5 * self.costs[1].largest_costs()

    def cost_range(self) -> Tensor:
        """An upper bound of max C − min C."""
        above = self.above()
        largest = above[0].amax(-1) + above[1].amax(-1)
        return largest if self.problem.pair.cost.quadratic is not None else largest - self.costs[0].lowest_cost()
