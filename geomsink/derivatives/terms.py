"""What a solved problem depends on, and its value and plan as functions of that, with autograd history."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..copies import Constant
from ..costs import Cost
from ..engine import Pair, Pairs, bounded_with_room, room
from ..measures import Measure
from ..solver import SAFE, Balanced, Penalty, log_sums


@dataclass(frozen=True)
class Direction:
    """One of both potentials; at points without weight, where what counts is aλ, that may be any number.

    Attributes
    ----------
    lam, mu : Tensor, shapes (..., N) and (..., M)
    rows, columns : Tensor, of the same shapes
        What aλ and bμ are besides there; 0 elsewhere.
    """

    lam: Tensor
    mu: Tensor
    rows: Tensor
    columns: Tensor

    @property
    def T(self) -> Direction:
        """The same with the measures exchanged."""
        return Direction(self.mu, self.lam, self.columns, self.rows)

    def of_rows(self, a: Tensor) -> Tensor:
        """aλ."""
        return a * self.lam + self.rows


@dataclass(frozen=True)
class Terms(Constant):
    """What a problem depends on, with autograd history.

    Attributes
    ----------
    x, y : Tensor, shapes (..., N, D) and (..., M, D)
        Features of the points, in the working precision.
    a, b : Tensor, shapes (..., N) and (..., M)
        Weights, float64.
    epsilon : Tensor, shape ()
    parameters : tuple of Tensor
        Of the cost.
    cost : Cost
    penalties : pair of Penalty
    pairs : Pairs
        The engine, and which points belong together.
    """

    x: Tensor
    y: Tensor
    a: Tensor
    b: Tensor
    epsilon: Tensor
    parameters: tuple[Tensor, ...]
    cost: Cost
    penalties: tuple[Penalty, Penalty]
    pairs: Pairs

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.x, self.y, self.a, self.b, self.epsilon, *self.parameters)

    @property
    def live(self) -> bool:
        """Whether anything has history that autograd is to follow."""
        return torch.is_grad_enabled() and any(t.requires_grad for t in self.tensors)

    @property
    def T(self) -> Terms:
        """The same with the measures exchanged."""
        return replace(
            self, x=self.y, y=self.x, a=self.b, b=self.a, cost=self.cost.transpose(),
            penalties=self.penalties[::-1], pairs=self.pairs.T,
        )  # fmt: skip

    def detached(self) -> Terms:
        """The same without history."""
        return self.rebuilt(tuple(t.detach() for t in self.tensors))

    def rebuilt(self, tensors: tuple[Tensor, ...]) -> Terms:
        """With other tensors in the order of `tensors`."""
        x, y, a, b, epsilon, *parameters = tensors
        return replace(self, x=x, y=y, a=a, b=b, epsilon=epsilon, parameters=tuple(parameters))

    def sums(self, f: Tensor, g: Tensor, w: Tensor, costs: bool = False) -> Tensor:
        """Σ_j exp((f_i + g_j − C_ij)/ε) w_j for w (..., M, E), float64; ``costs`` puts C_ij into the sum."""
        expression, points, dtype = self.cost.expression, self.x, self.x.dtype

        def kernel(x: Any, y: Any, u: Any, v: Any, inverse: Any, *parameters: Any) -> Any:
            cost = expression(x, y, *parameters)
            weight = bounded_with_room(u + v - cost * inverse, points).exp()  # where weights are 0, ∞ · 0 is none
            return weight * cost if costs else weight

        inverse = (1.0 / self.epsilon).to(dtype).reshape(1)
        parameters = (inverse, *(p.to(dtype).reshape(-1) for p in self.parameters))
        u, v = (f / self.epsilon).to(dtype), (g / self.epsilon).to(dtype)
        temporaries = self.cost.temporaries(self.x.shape[-1])
        return self.pairs.sums(kernel, self.x, self.y, w.to(dtype), u, v, parameters, temporaries).double()

    def entries(self, f: Tensor, g: Tensor) -> Tensor:
        """P_ij, shape (..., N, M), float64, with the history of everything."""
        parameters = (p.to(self.x.dtype).reshape(-1) for p in self.parameters)
        C = self.cost.expression(self.x[..., :, None, :], self.y[..., None, :, :], *parameters)
        u, v = (f / self.epsilon)[..., :, None], (g / self.epsilon)[..., None, :]
        exponents = u + v - C / self.epsilon
        weights = self.a[..., :, None] * self.b[..., None, :]
        found: Tensor = weights * bounded_with_room(exponents, exponents).exp()
        return found

    def product(self, f: Tensor, g: Tensor, w: Tensor) -> Tensor:
        """P w."""
        return self.a[..., None] * self.sums(f, g, self.b[..., None] * w)

    def dual_value(self, f: Tensor, g: Tensor) -> Tensor:
        """D(f, g), of which OT_ε is the maximum."""
        first, second = self.penalties
        mass = (self.a * self.sums(f, g, self.b[..., None])[..., 0]).sum(-1)
        free = self.a.sum(-1) * self.b.sum(-1)
        return first.dual(self.a, f) + second.dual(self.b, g) - self.epsilon * (mass - free)

    def transport_cost(self, f: Tensor, g: Tensor) -> Tensor:
        """⟨P, C⟩."""
        return (self.a * self.sums(f, g, self.b[..., None], costs=True)[..., 0]).sum(-1)

    def sharp_value(self, f: Tensor, g: Tensor) -> Tensor:
        """⟨P, C⟩ + D₁(P1 | a) + D₂(Pᵀ1 | b): the primal value without its entropy."""
        first, second = self.penalties
        value = self.transport_cost(f, g)
        if not isinstance(first, Balanced):
            value = value + first.primal(self.a, self.sums(f, g, self.b[..., None])[..., 0])
        if not isinstance(second, Balanced):
            value = value + second.primal(self.b, self.T.sums(g, f, self.a[..., None])[..., 0])
        return value

    def stationarity(self, f: Tensor, g: Tensor, to: Direction) -> Tensor:
        """⟨λ, ∂D/∂f⟩ + ⟨μ, ∂D/∂g⟩, which vanishes at the optimum for all λ and μ."""
        first, second = self.penalties
        a_lam, b_mu = to.of_rows(self.a), to.T.of_rows(self.b)
        z = self.sums(f, g, torch.stack((self.b, b_mu), -1))
        pairs = (a_lam * z[..., 0] + self.a * z[..., 1]).sum(-1)
        return (a_lam * first.density(f)).sum(-1) + (b_mu * second.density(g)).sum(-1) - pairs

    def curvature(self, f: Tensor, g: Tensor, one: Direction, other: Direction) -> Tensor:
        """−D″ as a bilinear form of two directions, without what is of second order at points without weight."""
        a_both, b_both = _both(self.a, one, other), _both(self.b, one.T, other.T)
        z = self.sums(f, g, torch.stack((self.b, one.T.of_rows(self.b), other.T.of_rows(self.b), b_both), -1))
        pairs = a_both * z[..., 0] + other.of_rows(self.a) * z[..., 1] + one.of_rows(self.a) * z[..., 2]
        rows, columns = self.penalties
        soft = (rows.softness(f) * rows.density(f) * a_both).sum(-1)
        soft = soft + (columns.softness(g) * columns.density(g) * b_both).sum(-1)
        return (pairs + self.a * z[..., 3]).sum(-1) / self.epsilon + soft


def _both(a: Tensor, one: Direction, other: Direction) -> Tensor:
    """a λ λ₂."""
    return a * one.lam * other.lam + one.rows * other.lam + other.rows * one.lam


def softmin(terms: Terms, pair: Pair, guess: Tensor, g: Tensor) -> Tensor:
    """−ε log Σ_j b_j exp((g_j − C_ij)/ε) at the rows, with history; stabilised by a constant near it.

    That is ``guess``, where it is near enough. ``pair`` are the points of the terms on an engine.
    """
    near, weights = guess.detach(), terms.b.detach()
    sums = terms.sums(near, g, terms.b[..., None])[..., 0]
    # As large as an exponential that is bounded makes them, or larger.
    full = room(terms.x.dtype) * torch.where(weights > 0.0, weights, math.inf).amin()
    if not bool(((sums > 1 / SAFE[terms.x.dtype]) & (sums < full)).all()):
        epsilon = float(terms.epsilon.detach())
        v = g.detach() / epsilon + Measure(terms.y, terms.b.detach()).log_weights
        near = near - epsilon * log_sums(pair, near / epsilon, v, epsilon)
        sums = terms.sums(near, g, terms.b[..., None])[..., 0]
    return near - terms.epsilon * sums.log()
