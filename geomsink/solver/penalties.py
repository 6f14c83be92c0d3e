"""Marginal penalties: how far, and at which price, the marginals of a plan may differ from the weights.

With penalties D₁ and D₂ a problem is min_P ⟨P, C⟩ + ε KL(P | a ⊗ b) + D₁(P1 | a) + D₂(Pᵀ1 | b), and its dual

    max_{f, g} −D₁*(−f) − D₂*(−g) − ε (Σ P_ij − m_a m_b),    P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε).

An update of f maximises over f: it is a function of the softmin s_i = −ε log Σ_j b_j exp((g_j − C_ij)/ε) alone
(Chizat, Peyré, Schmitzer, Vialard 2018, arXiv:1607.05816; Séjourné et al. 2019, arXiv:1910.12958).
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..costs import Cost

NAMES = ("kl", "tv")
FIXED = 1e12
"""Curvature of a potential that is at the end of its range, and does not move."""


class Penalty(Protocol):
    """A penalty of one marginal; ``softness`` is −t′/t for its `density` t."""

    @property
    def softness(self) -> float: ...

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        """The best potential, from softmins; differentiable."""
        ...

    def step(self, epsilon: float) -> float:
        """Derivative of an update in −log row sums."""
        ...

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        """−D*(−f), a scalar; differentiable."""
        ...

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        """D(density · weights | weights), a scalar; of fixed marginals 0, whatever they are off by."""
        ...

    def density(self, f: Tensor) -> Tensor:
        """t with P1 = t a at the optimum: what `dual` has as its derivative; differentiable."""
        ...

    def curvature(self, f: Tensor, epsilon: float) -> Tensor | float:
        """κ with diag(κ P1) the block of Newton's matrix: 1 if the marginal is fixed."""
        ...


@dataclass(frozen=True)
class Balanced:
    """P1 = a."""

    softness = 0.0

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin

    def step(self, epsilon: float) -> float:
        return epsilon

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        return (weights * f).sum(-1)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return 0.0 * (weights * density).sum(-1)

    def density(self, f: Tensor) -> Tensor:
        return torch.ones_like(f)

    def curvature(self, f: Tensor, epsilon: float) -> float:
        return 1.0


@dataclass(frozen=True)
class KL:
    """ρ KL(P1 | a): at the optimum P1 = a exp(−f/ρ).

    Examples
    --------
    >>> KL(2.0).update(torch.tensor([3.0]), epsilon=1.0)
    tensor([2.])
    """

    rho: float

    @property
    def softness(self) -> float:
        return 1.0 / self.rho

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin / (1.0 + epsilon / self.rho)

    def step(self, epsilon: float) -> float:
        return epsilon / (1.0 + epsilon / self.rho)

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        return -self.rho * (weights * (-f / self.rho).expm1()).sum(-1)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return self.rho * (weights * (density.xlogy(density) - density + 1.0)).sum(-1)

    def density(self, f: Tensor) -> Tensor:
        return (-f / self.rho).exp()

    def curvature(self, f: Tensor, epsilon: float) -> float:
        return 1.0 + epsilon / self.rho


@dataclass(frozen=True)
class TV:
    """ρ ‖P1 − a‖₁: potentials stay within [−ρ, ρ].

    Examples
    --------
    >>> TV(2.0).update(torch.tensor([3.0]), epsilon=1.0)
    tensor([2.])
    """

    rho: float

    softness = 0.0

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin.clamp(-self.rho, self.rho)

    def step(self, epsilon: float) -> float:
        return epsilon

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        return (weights * f).sum(-1)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return self.rho * (weights * (density - 1.0).abs()).sum(-1)

    def density(self, f: Tensor) -> Tensor:
        return torch.ones_like(f)

    def curvature(self, f: Tensor, epsilon: float) -> Tensor:
        return torch.where(f.abs() < self.rho, 1.0, FIXED).to(f)


def residual(penalty: Penalty, f: Tensor, log_sums: Tensor, epsilon: float) -> Tensor:
    """What the next update divides by its step: log(P1/a) if the marginal is fixed, 0 at the optimum."""
    if isinstance(penalty, Balanced):
        return log_sums
    return (f - penalty.update(f - epsilon * log_sums, epsilon)) / penalty.step(epsilon)


def relaxed(
    penalty: Penalty, f: Tensor, log_sums: Tensor, omega: float | Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The update of f extrapolated by ω, and log row sums after it."""
    new = f - omega * penalty.step(epsilon) * residual(penalty, f, log_sums, epsilon)
    new = within(penalty, new)
    return new, log_sums + (new - f) / epsilon


def within(penalty: Penalty, f: Tensor) -> Tensor:
    """Potentials, moved into the range that they may have."""
    return f.clamp(-penalty.rho, penalty.rho) if isinstance(penalty, TV) else f


def translated(
    penalties: tuple[Penalty, Penalty], weights: tuple[Tensor, Tensor], f: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """f + t and g − t with the best constant t, which changes no entry of the plan.

    Without it, updates with a large ρ need ρ/ε cycles to find t (Séjourné, Vialard, Peyré 2022, arXiv:2201.00730).
    Along the last axis; other axes are batches.
    """
    first, second = penalties
    if isinstance(first, Balanced) and isinstance(second, Balanced):
        return f, g
    logs = [_log_mass(p, w, h) for p, w, h in zip(penalties, weights, (f, g), strict=True)]
    slope = sum(1.0 / p.rho for p in penalties if isinstance(p, KL))
    difference = logs[0] - logs[1]
    t = difference / slope if slope else difference.sign().masked_fill(difference.abs() < 1e-9, 0.0) * math.inf
    t = t.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    if isinstance(first, TV):
        t = t.clamp(min=-first.rho - f.amin(-1)).minimum(first.rho - f.amax(-1))
    if isinstance(second, TV):
        t = t.maximum(g.amax(-1) - second.rho).minimum(g.amin(-1) + second.rho)
    return f + t[..., None], g - t[..., None]


def _log_mass(penalty: Penalty, weights: Tensor, f: Tensor) -> Tensor:
    """log of the marginal's mass that potentials ask for."""
    exponents = weights.log() - f / penalty.rho if isinstance(penalty, KL) else weights.log()
    return exponents.logsumexp(-1)


def pair_of_penalties(cost: Cost, reach: Any, rho: Any, penalty: Any) -> tuple[Penalty, Penalty]:
    """The penalties of the two marginals from what the caller gave.

    Parameters
    ----------
    cost : Cost
        A reach r means ρ = p r^p for a cost of degree p.
    reach : float, or pair of float or None, optional
        A length. None is a fixed marginal.
    rho : the same, optional
        ρ itself, in units of the cost.
    penalty : {"kl", "tv"}

    Raises
    ------
    TypeError, ValueError
        If both are given, or for anything but positive numbers.

    Examples
    --------
    >>> from geomsink import costs
    >>> pair_of_penalties(costs.get("sqeuclidean"), (0.5, None), None, "kl")
    (KL(rho=0.5), Balanced())
    """
    if penalty not in NAMES:
        raise ValueError(f"penalty: unknown name {penalty!r}; expected one of {', '.join(NAMES)}.")
    if reach is not None and rho is not None:
        raise ValueError(f"reach, rho: both were given ({reach} and {rho}), expected one of them at most.")
    name, given = ("reach", reach) if reach is not None else ("rho", rho)
    if given is None:
        if penalty != "kl":
            raise ValueError(f"penalty: {penalty!r} is given without reach or rho, which says how much it counts.")
        return Balanced(), Balanced()
    values = given if isinstance(given, (tuple, list)) else (given, given)
    if len(values) != 2:
        raise ValueError(f"{name}: {len(values)} values given, expected one or a pair.")
    kind = KL if penalty == "kl" else TV

    def made(value: Any) -> Penalty:
        if value is None:
            return Balanced()
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name}: a {type(value).__name__} was given, expected a number, None or a pair of them.")
        if not 0 < float(value) < math.inf:
            raise ValueError(f"{name}: {value} given, expected a positive number, or None for a fixed marginal.")
        return kind(cost.epsilon(float(value), name) if name == "reach" else float(value))

    return made(values[0]), made(values[1])
