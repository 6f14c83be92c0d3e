"""Marginal penalties: how far, and at which price, the marginals of a plan may differ from the weights.

With penalties D₁ and D₂ a problem is min_P ⟨P, C⟩ + ε KL(P | a ⊗ b) + D₁(P1 | a) + D₂(Pᵀ1 | b), and its dual

    max_{f, g} −D₁*(−f) − D₂*(−g) − ε (Σ P_ij − m_a m_b),    P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε).

An update of f maximises over f: it is a function of the softmin s_i = −ε log Σ_j b_j exp((g_j − C_ij)/ε) alone
(Chizat, Peyré, Schmitzer, Vialard 2018, arXiv:1607.05816; Séjourné et al. 2019, arXiv:1910.12958).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..costs import Cost
from ..counts import number, one_of

STEPS = 50
"""Of Newton's method for one update, at most; it takes 3 to 8."""
LOOKED_AT = 4
"""Steps after which it is looked whether that is enough: a GPU waits there."""
FAINTEST = 1e-15
"""Densities below are not told from 0 by 1 − f/ρ."""
FIXED = 1e12
"""Curvature of a potential that is at the end of its range, and does not move."""


class Penalty(Protocol):
    """A penalty of one marginal; potentials are between ``low`` and ``high``, ``kinked`` says that at these, and not
    before, the marginal gives way, and ``bend`` is |t″/t′|: where it is 0, `dual` is quadratic. Below
    ``faintest``, log t is not told from −∞ by a potential."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float | Tensor: ...
    @property
    def kinked(self) -> bool: ...
    @property
    def bend(self) -> float: ...
    @property
    def faintest(self) -> float: ...

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        """The best potential, from softmins; differentiable."""
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

    def log_density(self, f: Tensor) -> Tensor:
        """log t."""
        ...

    def softness(self, f: Tensor) -> Tensor:
        """−t′/t; differentiable."""
        ...

    def curvature(self, f: Tensor, epsilon: float) -> Tensor | float:
        """κ with diag(κ P1) the block of Newton's matrix: 1 if the marginal is fixed."""
        ...


class _Rigid:
    """The marginal is the weights, wherever the potential is not at the end of its range."""

    def density(self, f: Tensor) -> Tensor:
        return torch.ones_like(f)

    def log_density(self, f: Tensor) -> Tensor:
        return torch.zeros_like(f)

    def softness(self, f: Tensor) -> Tensor:
        return torch.zeros_like(f)

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        return (weights * f).sum(-1)


@dataclass(frozen=True)
class Balanced(_Rigid):
    """P1 = a."""

    low, high, kinked, bend, faintest = -math.inf, math.inf, False, 0.0, -math.inf

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return 0.0 * (weights * density).sum(-1)

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

    low, high, kinked, faintest = -math.inf, math.inf, False, -math.inf

    @property
    def bend(self) -> float:
        return 1.0 / self.rho

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin / (1.0 + epsilon / self.rho)

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        return -self.rho * (weights * (-f / self.rho).expm1()).sum(-1)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return self.rho * (weights * (density.xlogy(density) - density + 1.0)).sum(-1)

    def density(self, f: Tensor) -> Tensor:
        return (-f / self.rho).exp()

    def log_density(self, f: Tensor) -> Tensor:
        return -f / self.rho

    def softness(self, f: Tensor) -> Tensor:
        return torch.full_like(f, 1.0 / self.rho)

    def curvature(self, f: Tensor, epsilon: float) -> float:
        return 1.0 + epsilon / self.rho


@dataclass(frozen=True)
class L2:
    """½ρ Σ_i a_i (t_i − 1)² for P1 = t a: at the optimum P1 = a (1 − f/ρ).

    An update solves f = s + ε log(1 − f/ρ) by Newton's method, in z = log(1 − f/ρ).

    Examples
    --------
    >>> L2(2.0).update(torch.tensor([1.0 + math.log(2.0)]), epsilon=1.0)
    tensor([1.])
    """

    rho: float

    low, kinked, bend, faintest = -math.inf, False, 0.0, math.log(FAINTEST)

    @property
    def high(self) -> float:
        return self.rho

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        s, temperature = softmin.detach(), epsilon.detach() if isinstance(epsilon, Tensor) else epsilon
        # ρ (e^z − 1) + ε z + s is convex, and not negative here: Newton's steps come down to its root.
        z = torch.where(s < 0.0, (-s / self.rho).clamp(min=0.0).log1p(), ((self.rho - s) / temperature).clamp(max=0.0))
        for step in range(1, STEPS + 1):
            before, z = z, self._closer(z, s, temperature)
            if step % LOOKED_AT == 0 and not bool(((z - before).abs() > 1e-15 * (1.0 + z.abs())).any()):
                break
        z = self._closer(self._closer(z, softmin, epsilon), softmin, epsilon)  # whose derivatives are the root's
        return -self.rho * z.expm1()

    def _closer(self, z: Tensor, s: Tensor, epsilon: float | Tensor) -> Tensor:
        return z - (self.rho * z.expm1() + epsilon * z + s) / (self.rho * z.exp() + epsilon)

    def dual(self, weights: Tensor, f: Tensor) -> Tensor:
        inside = f.clamp(max=self.rho)
        return (weights * inside * (1.0 - 0.5 * inside / self.rho)).sum(-1)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return 0.5 * self.rho * (weights * (density - 1.0).square()).sum(-1)

    def density(self, f: Tensor) -> Tensor:
        return (1.0 - f / self.rho).clamp(min=0.0)

    def log_density(self, f: Tensor) -> Tensor:
        return self.density(f).clamp(min=FAINTEST).log()

    def softness(self, f: Tensor) -> Tensor:
        return 1.0 / (self.rho * self.density(f).clamp(min=FAINTEST))

    def curvature(self, f: Tensor, epsilon: float) -> Tensor:
        return (1.0 + epsilon * self.softness(f)).clamp(max=FIXED)


@dataclass(frozen=True)
class TV(_Rigid):
    """ρ ‖P1 − a‖₁: potentials stay within [−ρ, ρ].

    Examples
    --------
    >>> TV(2.0).update(torch.tensor([3.0]), epsilon=1.0)
    tensor([2.])
    """

    rho: float

    kinked, bend, faintest = True, 0.0, -math.inf

    @property
    def low(self) -> float:
        return -self.rho

    @property
    def high(self) -> float:
        return self.rho

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin.clamp(self.low, self.high)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return self.rho * (weights * (density - 1.0).abs()).sum(-1)

    def curvature(self, f: Tensor, epsilon: float) -> Tensor:
        return torch.full_like(f, FIXED).masked_fill((f > self.low) & (f < self.high), 1.0)


@dataclass(frozen=True)
class Partial(_Rigid):
    """P1 ≤ a, and ρ for each unit of mass that a has more: potentials stay below ρ, which may be negative, and may be a
    tensor (B, 1), one number for each item of a batch.

    Examples
    --------
    >>> Partial(2.0).update(torch.tensor([3.0, -9.0]), epsilon=1.0)
    tensor([ 2., -9.])
    """

    rho: float | Tensor

    low, kinked, bend, faintest = -math.inf, True, 0.0, -math.inf

    @property
    def high(self) -> float | Tensor:
        return self.rho

    def update(self, softmin: Tensor, epsilon: float | Tensor) -> Tensor:
        return softmin.clamp(max=self.rho)

    def primal(self, weights: Tensor, density: Tensor) -> Tensor:
        return (self.rho * weights * (1.0 - density)).sum(-1)

    def curvature(self, f: Tensor, epsilon: float) -> Tensor:
        return torch.full_like(f, FIXED).masked_fill(f < self.rho, 1.0)


KINDS: dict[str, Callable[[float], Penalty]] = {"kl": KL, "tv": TV, "l2": L2, "partial": Partial}


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
    penalty : {"kl", "tv", "l2", "partial"}

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
    one_of("penalty", penalty, KINDS)
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
    if penalty == "partial" and None in values:
        raise ValueError(f"{name}: {given} given with penalty='partial', expected a number for both marginals.")

    def made(value: Any) -> Penalty:
        if value is None:
            return Balanced()
        found = number(name, value, "a number, None or a pair of them")
        if not 0 < found < math.inf:
            raise ValueError(f"{name}: {value} given, expected a positive number, or None for a fixed marginal.")
        return KINDS[penalty](cost.epsilon(found, name) if name == "reach" else found)

    return made(values[0]), made(values[1])
