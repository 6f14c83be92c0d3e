"""What a transport problem is, and what its solution says: Problem in, Solution out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .engine import Gibbs, Pair
from .measures import Measure
from .sums import Approximation

ROUNDING = {torch.float32: 6e-8, torch.float64: 1.2e-16}


class ConvergenceWarning(UserWarning):
    """A solve stopped before its marginal error came below ``tol``."""


@dataclass(frozen=True)
class Problem:
    """One entropic transport problem, ready to be solved.

    Attributes
    ----------
    alpha, beta : Measure
        Of mass 1; ``beta is alpha`` makes it a self problem, with one potential.
    pair : Pair
        The same points on an engine, in the working precision.
    temperatures : tuple of float
        To anneal through; the last one is the problem's ε.
    cost_scale : float
        About the largest cost.
    """

    alpha: Measure
    beta: Measure
    pair: Pair
    temperatures: tuple[float, ...]
    cost_scale: float

    @property
    def epsilon(self) -> float:
        return self.temperatures[-1]

    @property
    def is_self(self) -> bool:
        return self.beta is self.alpha

    def floor(self) -> float:
        """About the smallest marginal error that rounding of the exponents allows."""
        return ROUNDING[self.pair.x.dtype] * max(self.cost_scale / self.epsilon, 16.0)


@dataclass(frozen=True)
class Step:
    """One evaluation on the way: how many row sums so far, at which ε, with which marginal error."""

    evaluations: int
    epsilon: float
    marginal_error: float


@dataclass(frozen=True)
class Solution:
    """A solved problem OT_ε(α, β), and how well it is solved.

    Attributes
    ----------
    value : float or Tensor
        The dual value ⟨a, f⟩ + ⟨b, g⟩ − ε (Σ P_ij − m²) for masses m: a lower bound of OT_ε(α, β), whose
        error is of second order in the marginal error.
    potentials : tuple of arrays, shapes (N,) and (M,)
        f and g, in units of the cost, shifted so that ⟨a, f⟩ = ⟨b, g⟩.
    converged : bool
    status : str
        ``"converged"``, or why not.
    marginal_error : float
        ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of the plan P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), relative to the mass.
    n_iter : int
        Cycles, of one update of each potential; annealing included.
    epsilon : float
    temperatures : tuple of float
        Annealed through.
    tol : float
    engine : str
    dtype : str
        The working precision.
    seconds : float
    approximation : Approximation or None
        The levels, truncation and stand-ins of a solve on several levels; None is one over all pairs.
    history : tuple of Step
    plan : Gibbs
        P, as an operator in the working precision; its engine computes costs anew, so that none are kept.
    """

    value: float | Tensor
    potentials: tuple[Any, Any]
    converged: bool
    status: str
    marginal_error: float
    n_iter: int
    epsilon: float
    temperatures: tuple[float, ...]
    tol: float
    engine: str
    dtype: str
    seconds: float
    approximation: Approximation | None
    history: tuple[Step, ...] = field(repr=False)
    plan: Gibbs = field(repr=False)

    @cached_property
    def transport_cost(self) -> float | Tensor:
        """⟨P, C⟩, by one reduction when first asked for; its error is of first order in the marginal error."""
        total = transport_cost(self.plan)
        return self.value.new_tensor(total) if isinstance(self.value, Tensor) else total


def transport_cost(plan: Gibbs) -> float:
    """⟨P, C⟩ of a plan, in float64 whatever the caller's precision."""
    return float(plan.row_costs().double().sum())
