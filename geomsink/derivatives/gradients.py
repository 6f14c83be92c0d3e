"""Derivatives of a solved problem: the envelope theorem, and implicit differentiation.

At the optimum the dual value does not depend on the potentials to first order, so that its gradient is the one at fixed
potentials (Danskin; Feydy et al. 2019, arXiv:1810.08278): one reduction a cloud. Derivatives of the potentials, and so
second ones of the value, come from the linear system that the optimality conditions give (Cuturi, Teboul, Niles-Weed,
2020, arXiv:2002.03229; Eisenberger et al. 2022, arXiv:2203.15305), solved by conjugate gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..copies import Constant
from ..costs import Cost
from ..engine import Pair, Pairs, bounded
from ..guards import exactly
from ..measures import Measure
from ..solver import SAFE, Balanced, Iterate, Penalty, floored, log_sums
from .krylov import ImplicitOperator


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
            weight = bounded(u + v - cost * inverse, points).exp()  # where weights are 0, e^∞ must not be NaN
            return weight * cost if costs else weight

        inverse = (1.0 / self.epsilon).to(dtype).reshape(1)
        parameters = (inverse, *(p.to(dtype).reshape(-1) for p in self.parameters))
        u, v = (f / self.epsilon).to(dtype), (g / self.epsilon).to(dtype)
        temporaries = self.cost.temporaries(self.x.shape[-1])
        return self.pairs.sums(kernel, self.x, self.y, w.to(dtype), u, v, parameters, temporaries).double()

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

    def stationarity(self, f: Tensor, g: Tensor, lam: Tensor, mu: Tensor) -> Tensor:
        """⟨λ, ∂D/∂f⟩ + ⟨μ, ∂D/∂g⟩, which vanishes at the optimum for all λ and μ."""
        first, second = self.penalties
        z = self.sums(f, g, torch.stack((self.b, self.b * mu), -1))
        pairs = (self.a * (lam * z[..., 0] + z[..., 1])).sum(-1)
        return (self.a * lam * first.density(f)).sum(-1) + (self.b * mu * second.density(g)).sum(-1) - pairs

    def curvature(self, f: Tensor, g: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """−D″ as a bilinear form of two directions (λ, μ)."""
        (lam, mu), (lam2, mu2) = first, second
        z = self.sums(f, g, self.b[..., None] * torch.stack((torch.ones_like(mu), mu, mu2, mu * mu2), -1))
        pairs = lam * lam2 * z[..., 0] + lam2 * z[..., 1] + lam * z[..., 2] + z[..., 3]
        rows, columns = self.penalties
        soft = (self.a * rows.softness(f) * rows.density(f) * lam * lam2).sum(-1)
        soft = soft + (self.b * columns.softness(g) * columns.density(g) * mu * mu2).sum(-1)
        return (self.a * pairs).sum(-1) / self.epsilon + soft


def softmin(terms: Terms, pair: Pair, guess: Tensor, g: Tensor) -> Tensor:
    """−ε log Σ_j b_j exp((g_j − C_ij)/ε) at the rows, with history; stabilised by a constant near it.

    That is ``guess``, where it is near enough. ``pair`` are the points of the terms on an engine.
    """
    near, safe = guess.detach(), SAFE[terms.x.dtype]
    sums = terms.sums(near, g, terms.b[..., None])[..., 0]
    if not bool(((sums > 1 / safe) & (sums < safe)).all()):
        epsilon = float(terms.epsilon.detach())
        v = g.detach() / epsilon + Measure(terms.y, terms.b.detach()).log_weights
        near = near - epsilon * log_sums(pair, near / epsilon, v, epsilon)
        sums = terms.sums(near, g, terms.b[..., None])[..., 0]
    return near - terms.epsilon * sums.log()


Gradients = tuple[Tensor | None, ...]


def optimal_value(solver: Iterate, terms: Terms, potentials: tuple[Tensor, Tensor] | None) -> Tensor:
    """The dual value that a solver found, with history in all `Terms.tensors`.

    Parameters
    ----------
    solver : Iterate
        In its final state.
    terms : Terms
    potentials : pair of Tensor, optional
        As `optimal_potentials` gives them, for a value that can be differentiated again.

    Returns
    -------
    Tensor, shape () or (B,), float64
    """
    value = torch.as_tensor(solver.value(), dtype=torch.float64, device=terms.x.device)
    again = potentials is not None
    f, g = potentials or (solver.state.f, solver.state.g)
    out: Tensor = _Envelope.apply(solver, terms, again, value, f, g, *terms.tensors)
    return out


def optimal_potentials(operator: ImplicitOperator, terms: Terms) -> tuple[Tensor, Tensor]:
    """The potentials that a solver found, with history in all `Terms.tensors`, to any order."""
    state = operator.solver.state
    terms = replace(terms, a=floored(terms.a), b=floored(terms.b))
    f, g = _Potentials.apply(operator, terms, state.f, state.g, *terms.tensors)
    return (f, f) if operator.solver.problem.is_self else (f, g)


def _apart(tensors: Gradients) -> tuple[Tensor, ...]:
    """Views, so that a tensor in two places, as in self problems, has a gradient in each."""
    return tuple(t.view_as(t) for t in tensors if t is not None)


def _gradients(
    value: Tensor, tensors: tuple[Tensor, ...], wanted: tuple[bool, ...], cotangent: Tensor, again: bool = True
) -> Gradients:
    """Of a value or of a batch of values, in the wanted tensors; with history, to be differentiated ``again``."""
    chosen = [t for t, want in zip(tensors, wanted, strict=True) if want]
    if not chosen:
        return (None,) * len(tensors)
    found = iter(torch.autograd.grad(value, chosen, cotangent, create_graph=again, allow_unused=True))
    return tuple(next(found) if want else None for want in wanted)


class _Envelope(torch.autograd.Function):
    """The optimal dual value; with potentials that have history themselves, its gradient can be differentiated."""

    @staticmethod
    def forward(
        ctx: Any, solver: Iterate, terms: Terms, again: bool, value: Tensor, f: Tensor, g: Tensor, *tensors: Tensor
    ) -> Tensor:
        ctx.solver, ctx.terms, ctx.again = solver, terms, again
        ctx.save_for_backward(f, g, *tensors)
        return value.clone()

    @staticmethod
    @exactly()
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        f, g, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[6:]
        if torch.is_grad_enabled() and ctx.again:
            apart = _apart(tuple(tensors))
            value = ctx.terms.rebuilt(apart).dual_value(f, g)
            found = _gradients(value, apart, wanted, cotangent)
        else:
            with torch.no_grad():
                terms = ctx.terms.rebuilt(tuple(t.detach() for t in tensors))
                found = _envelope(ctx.solver, terms, wanted, cotangent)
            if torch.is_grad_enabled():
                found = tuple(t if t is None else _Once.apply(t, cotangent, *tensors) for t in found)
        return None, None, None, None, None, None, *found


class _Once(torch.autograd.Function):
    """Refuses to be differentiated, in a sentence."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *depends_on: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    @exactly()
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise RuntimeError(
            "differentiation: gradients of 'envelope' were differentiated again, which gives wrong second derivatives; "
            "choose differentiation='implicit'."
        )


def _envelope(solver: Iterate, terms: Terms, wanted: tuple[bool, ...], cotangent: Tensor) -> Gradients:
    """Gradients of the dual value at fixed potentials, times cotangents, in `Terms.tensors`."""
    x, y, a, b, epsilon, *parameters = wanted
    is_self = solver.problem.is_self
    found: list[Tensor | None] = [None] * len(wanted)
    if x or any(parameters):
        found[0], found[5:] = _point_gradients(solver, terms, 0, x, parameters, cotangent)
    if y and not is_self:
        found[1], _ = _point_gradients(solver, terms, 1, y, [False] * len(parameters), cotangent)
    for side, want in enumerate((a, b)):
        if want and not (is_self and side):
            found[2 + side] = cotangent[..., None] * _weight_gradient(solver, terms, side)
    if is_self:  # both arguments are the same tensors: what the second has is what the first has
        found[0] = None if found[0] is None else 2.0 * found[0]
        found[2] = None if found[2] is None else 2.0 * found[2]
    if epsilon:
        found[4] = (cotangent * _temperature_gradient(solver, terms)).sum()
    return tuple(found)


def _point_gradients(
    solver: Iterate, terms: Terms, side: int, want_points: bool, want_parameters: list[bool], cotangent: Tensor
) -> tuple[Tensor | None, Gradients]:
    """⟨P, ∂C⟩ in the points of a side, and in the cost's parameters, with the marginal of that side exact."""
    problem, state = solver.problem, solver.state
    potential, log_sums = solver.exact(side)
    here, other = (terms, state.g) if side == 0 else (terms.T, state.f)
    weights = cotangent[..., None] * here.a
    points: Tensor | None = None
    if want_points and terms.cost.quadratic is not None:
        products = solver.sums.row_products if side == 0 else solver.sums.column_products
        whole = potential  # only the ratio counts, and rows that sum to 1 do not underflow
        if problem.epsilon < math.inf:
            whole = whole - problem.epsilon * log_sums
        ends = (whole, other) if side == 0 else (other, whole)
        y = here.y.double()
        z = products(*ends, problem.epsilon, torch.cat((torch.ones_like(y[..., :1]), y), -1))
        mass = (weights * log_sums.clamp(max=700.0).exp())[..., None]
        points = 2.0 * terms.cost.quadratic * mass * (here.x.double() - z[..., 1:] / z[..., :1])
        points = torch.where(mass != 0.0, points, 0.0)  # one without mass may see none
        points, want_points = points.to(terms.x.dtype), False
    if not (want_points or any(want_parameters)):
        return points, (None,) * len(want_parameters)
    with torch.enable_grad():
        leaves = tuple(t.detach().requires_grad_() for t in (here.x, *here.parameters))
        leaf = replace(here, x=leaves[0], parameters=leaves[1:])
        value = -terms.epsilon * (weights * leaf.sums(potential, other, here.b[..., None])[..., 0]).sum()
        found = _gradients(value, leaves, (want_points, *want_parameters), torch.ones_like(value), again=False)
    return (found[0] if want_points else points), found[1:]


def _weight_gradient(solver: Iterate, terms: Terms, side: int) -> Tensor:
    """∂D/∂a: for a fixed marginal, the potential."""
    potential, log_sums = solver.exact(side)
    here = terms if side == 0 else terms.T
    with torch.enable_grad():
        weights = here.a.detach().requires_grad_()
        dual = here.penalties[0].dual(weights, potential).sum()
        (gradient,) = torch.autograd.grad(dual, weights)
    return gradient - terms.epsilon * (log_sums.clamp(max=700.0).exp() - here.b.sum(-1, keepdim=True))


def _temperature_gradient(solver: Iterate, terms: Terms) -> Tensor:
    """∂D/∂ε = KL(P | a ⊗ b)."""
    g, a, b = solver.state.g, terms.a, terms.b
    potential, log_sums = solver.exact(0)
    sums = log_sums.clamp(max=700.0).exp()
    z = solver.full_sums.row_products(potential, g, solver.problem.epsilon, g[..., None])[..., 0]
    cost = (a * terms.sums(potential, g, b[..., None], costs=True)[..., 0]).sum(-1)
    moved = (a * (sums * potential + z)).sum(-1)
    return (moved - cost) / terms.epsilon - ((a * sums).sum(-1) - a.sum(-1) * b.sum(-1))


class _Potentials(torch.autograd.Function):
    """The optimal potentials, as functions of what the problem depends on."""

    @staticmethod
    def forward(
        ctx: Any, operator: ImplicitOperator, terms: Terms, f: Tensor, g: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.operator, ctx.terms = operator, terms
        ctx.set_materialize_grads(False)  # where nothing is asked of the potentials there is nothing to solve
        out = f.clone(), g.clone()
        ctx.save_for_backward(*out, *tensors)
        return out

    @staticmethod
    @exactly()
    def backward(ctx: Any, of_f: Tensor | None, of_g: Tensor | None) -> tuple[Any, ...]:
        f, g, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        if of_f is None and of_g is None:
            return (None,) * (4 + len(tensors))
        of_f = torch.zeros_like(f) if of_f is None else of_f
        of_g = torch.zeros_like(g) if of_g is None else of_g
        lam, mu = _Inverse.apply(ctx.operator, ctx.terms, of_f, of_g, f, g, *tensors)
        with torch.enable_grad():
            apart = _apart(tuple(tensors))
            value = _share(ctx.operator) * ctx.terms.rebuilt(apart).stationarity(f, g, lam, mu)
            found = _gradients(value, apart, wanted, torch.ones_like(value))
        return None, None, None, None, *found


class _Inverse(torch.autograd.Function):
    """(−D″)⁻¹ applied to a direction, as a function of it and of what D″ depends on."""

    @staticmethod
    def forward(
        ctx: Any, operator: ImplicitOperator, terms: Terms, r: Tensor, s: Tensor, f: Tensor, g: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        epsilon = operator.solver.problem.epsilon
        lam, mu = operator.solve(r, s)
        out = epsilon * lam, epsilon * mu
        ctx.operator, ctx.terms = operator, terms
        ctx.save_for_backward(*out, f, g, *tensors)
        return out

    @staticmethod
    @exactly()
    def backward(ctx: Any, of_lam: Tensor, of_mu: Tensor) -> tuple[Any, ...]:
        lam, mu, f, g, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        other = _Inverse.apply(ctx.operator, ctx.terms, of_lam, of_mu, f, g, *tensors)
        with torch.enable_grad():
            apart = _apart((f, g, *tensors))
            form = ctx.terms.rebuilt(apart[2:]).curvature(apart[0], apart[1], (lam, mu), other)
            form = -_share(ctx.operator) * form
            found = _gradients(form, apart, wanted, torch.ones_like(form))
        return None, None, *other, *found


def _share(operator: ImplicitOperator) -> float:
    """Both potentials of a self problem are one: forms of the two count it twice."""
    return 0.5 if operator.solver.problem.is_self else 1.0
