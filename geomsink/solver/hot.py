"""Values at temperatures far above the costs, where a logarithm of a sum is off by more than the value may be.

With φ(z) = eᶻ − 1 − z and measures of mass 1, D_ε(f, g) = ⟨a⊗b, C⟩ − ε Σ a_i b_j φ((f_i + g_j − C_ij)/ε): a series in
1/ε, whose first term needs no logarithm. The parabola through it and through D at two lower temperatures τ is D at ε
but for C⁴/24ετ₁τ₂, with roundings of about τ²/ε in the place of ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .penalties import Balanced
from .problem import Problem
from .sums import FullSums, Sums

COOLER = 2e3, 1e3
"""Temperatures, in units of the largest cost, at which values are computed: roundings and what the series leaves out
are about the same there."""
HOT = 1e4
"""The one from which on a value is found by way of these."""


def is_hot(problem: Problem, sums: Sums) -> bool:
    """Whether the value is found so."""
    fixed = all(isinstance(penalty, Balanced) for penalty in problem.penalties) and problem.whole is None
    exact = isinstance(sums, FullSums) and not problem.is_signed and problem.pair.x.dtype == torch.float64
    return fixed and exact and 0.0 < HOT * problem.cost_scale < problem.epsilon < math.inf


def value_when_hot(problem: Problem, sums: Sums, f: Tensor, g: Tensor, completed: Callable[[Tensor], Tensor]) -> Tensor:
    """The dual value of potentials, shape () or (B,)."""
    a, b = problem.alpha, problem.beta
    costs = problem.pair.row_costs(torch.zeros_like(f), b.log_weights, math.inf)
    mean = completed((a.weights * costs).sum(-1))
    linear = completed((a.weights * f).sum(-1) + (b.weights * g).sum(-1))
    value = mean
    for tau, share in _shares(problem):
        excess = completed((b.weights * sums.log_columns(f, g, tau).expm1()).sum(-1))
        value = value + share * (linear - mean - tau * excess)
    return value


def rounding_when_hot(problem: Problem) -> float:
    """What the value is off by, in units of a rounding."""
    cost, left = problem.cost_scale, 1.0 / 24.0 / torch.finfo(torch.float64).eps
    for tau, _ in _shares(problem):
        left *= cost / tau
    return sum(abs(share) * tau for tau, share in _shares(problem)) + left * cost / problem.epsilon * cost


def _shares(problem: Problem) -> list[tuple[float, float]]:
    """Two temperatures, and what the values there count in the parabola, over 1/ε, that is 0 at 0."""
    s, (first, second) = 1.0 / problem.epsilon, (1.0 / tau / problem.cost_scale for tau in COOLER)
    return [
        (1.0 / first, s / first * (second - s) / (second - first)),
        (1.0 / second, s / second * (first - s) / (first - second)),
    ]
