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
from dataclasses import replace

import torch
from torch import Tensor

from ..engine import UNIT
from ..solver import KL, L2, TV, Balanced, Partial, Penalty, free_constant, relaxed, within
from .couplings import Left, Scaled, Total, completed, entropy_bound, mixing_bound
from .sides import ROUNDED, Interval, Sides


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
    found = _interval(sides, f, g)
    # Where exponents overflow nothing is known of an end.
    lower, upper = found.lower.nan_to_num(-math.inf, math.inf, -math.inf), found.upper
    return replace(found, lower=lower, upper=upper.nan_to_num(math.inf, math.inf, -math.inf))


def _interval(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    fixed = [isinstance(penalty, Balanced) for penalty in sides.problem.penalties]
    if sides.problem.epsilon == math.inf:
        low, high = _product(sides)
        return Interval(low, high, high - low)
    if all(fixed):
        mass = sides.problem.masses[0]
        if bool(((mass - 1.0).abs() > ROUNDED).any()):
            return _of_mass(mass, sides, f, g)
        return _balanced(sides, f, g)
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
    constant, size = free_constant(mass, problem.epsilon)
    slack = ROUNDED * size
    lower, upper = mass * found.lower + constant - slack, mass * found.upper + constant + slack
    return Interval(lower, upper, mass * found.uncertain)


def _balanced(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """From a plan that is scaled below its marginals, or from a ⊗ b, which is always feasible."""
    problem = sides.problem
    a, b = problem.alpha.weights, problem.beta.weights
    plan = Scaled.symmetric(sides, f) if problem.is_self else Scaled.of(sides, f, g)
    lower = Total(a, plan.dual[0]).plus(b, plan.dual[1])
    upper, uncertain = completed(sides, plan)
    most = upper.high
    if problem.pair.cost.quadratic is not None or problem.epsilon >= problem.cost_scale:
        most = torch.minimum(most, _product(sides)[1])
    return Interval(lower.low, most, uncertain + problem.epsilon * plan.width)


def _unbalanced(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """The columns have a penalty; the rows have one, or are scaled to their weights and filled up: two reductions."""
    problem = sides.problem
    epsilon, a, b = problem.epsilon, problem.alpha.weights, problem.beta.weights
    first, second = problem.penalties
    free = epsilon * a.sum(-1) * b.sum(-1)
    f, g = sides.exact(f, 0), sides.exact(within(second, g), 1)
    if second.low > -math.inf:  # rounded down it may have left its range
        unit = 4.0 * UNIT[sides.dtype] * (g.abs() + epsilon * problem.beta.log_weights.clamp(min=-1e3).abs())
        g = torch.where(g < second.low, sides.exact(g + unit, 1), g)
    low, high = sides.row_sums(f, g)
    better, after = relaxed(first, f, high, 1.0, epsilon)
    lower = Total(a, better, first.dual).plus(b, g, second.dual).plus(a, -epsilon * after.exp())
    scaled = sides.exact(better, 0)
    moved = (scaled - f) / epsilon
    rows, columns = (low + moved, high + moved), sides.column_sums(scaled, g)
    if isinstance(second, Partial):  # a plan whose marginals are below the weights: somewhat less of this one
        above = torch.maximum(rows[1].amax(-1), columns[1].amax(-1)).clamp(min=0.0)[..., None] * (1.0 + ROUNDED)
        scaled = scaled - epsilon * above
        rows, columns = ((low - above, high - above) for low, high in (rows, columns))
    if isinstance(first, Balanced):
        upper = _filled(sides, scaled, g, Left.of(a, *rows), columns)
    else:
        upper = Total(a, _largest(rows, lambda r: r.exp() * scaled + _penalty(first, r)))
        upper = upper.plus(b, _largest(columns, lambda c: c.exp() * (g - epsilon) + _penalty(second, c)))
    uncertain = epsilon * ((a * (high - low)).sum(-1) + (b * (columns[1] - columns[0])).sum(-1))
    return Interval(lower.low + free, upper.high + free, uncertain)


def _product(sides: Sides) -> tuple[Tensor, Tensor]:
    """Bounds of the cost of a ⊗ b."""
    a, b = sides.problem.alpha.weights, sides.problem.beta.weights
    return sides.product_cost(a, b, a.sum(-1))


def _filled(sides: Sides, f: Tensor, g: Tensor, left: Left, columns: tuple[Tensor, Tensor]) -> Total:
    """The cost of P′, whose rows are at most a, and of e_a ⊗ b/m_b."""
    problem = sides.problem
    epsilon, a, b = problem.epsilon, problem.alpha.weights, problem.beta.weights
    masses, second = (a.sum(-1), b.sum(-1)), problem.penalties[1]
    bound = left.certain + left.rest
    share = (bound.sum(-1) / masses[0]).clamp(max=1.0)
    above = sides.above()
    costs = above[0] + above[1].amax(-1, keepdim=True)
    # Deficits cost C − f more than what they are missing from; their entropy against a ⊗ b is that of e_a against a.
    total = Total(a, f).plus(bound, (costs - f).clamp(min=0.0))
    low, high = columns
    filled = (low, (high.exp() + (masses[0] * share / masses[1])[..., None]).log())
    total = total.plus(b, _largest(columns, lambda c: c.exp() * g))
    total = total.plus(b, _largest(filled, lambda c: _penalty(second, c)))
    ratio = (bound / a.clamp(min=1e-300)).log().clamp(min=0.0)
    entropy = (bound * ratio).sum(-1) + masses[0] * mixing_bound(torch.zeros_like(share), share)
    entropy = entropy + masses[0] * entropy_bound(share) + share * masses[0] * masses[1].log().abs()
    return total.plus_number(epsilon * entropy).plus_number(-epsilon * masses[0])


def _penalty(penalty: Penalty, log: Tensor) -> Tensor:
    """That of one unit of weight, from the logarithm of a density: d log d − d + 1 would cancel close to 1."""
    if isinstance(penalty, Balanced):
        return torch.zeros_like(log)
    if isinstance(penalty, L2):
        return 0.5 * penalty.rho * log.expm1().square()
    if isinstance(penalty, Partial):
        return -penalty.rho * log.expm1()
    if isinstance(penalty, TV):
        return penalty.rho * log.expm1().abs()
    assert isinstance(penalty, KL)
    close = log**2 * (0.5 + log * (1.0 / 3.0 + log * (0.125 + log * (1.0 / 30.0 + log / 144.0))))
    return penalty.rho * torch.where(log.abs() < 1e-2, close, log * log.exp() - log.expm1())


def _largest(logs: tuple[Tensor, Tensor], of: Callable[[Tensor], Tensor]) -> Tensor:
    """Of a convex function of marginals between bounds, from their logarithms: at one end of them."""
    return torch.maximum(of(logs[0]), of(logs[1]))
