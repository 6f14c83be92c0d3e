"""Gradients of the value of a solved problem, by the envelope theorem.

At the optimum the dual value does not depend on the potentials to first order, so that its gradient is the one at fixed
potentials (Danskin; Feydy et al. 2019, arXiv:1810.08278): one reduction a cloud. Second derivatives need those of the
potentials, which are implicit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..guards import exactly
from ..solver import Iterate
from .implicit import Gradients, gradient_of, optimal_potentials, separated
from .krylov import ImplicitOperator
from .terms import Terms


def optimal_value(operator: ImplicitOperator, terms: Terms, potentials: tuple[Tensor, Tensor] | None) -> Tensor:
    """The dual value that a solver found, with history in all `Terms.tensors`, to any order.

    Parameters
    ----------
    operator : ImplicitOperator
        Of the solver in its final state; it is only used where gradients are differentiated again.
    terms : Terms
    potentials : pair of Tensor, optional
        As `optimal_potentials` gives them, where there are any already.

    Returns
    -------
    Tensor, shape () or (B,), float64
    """
    solver = operator.solver
    value = torch.as_tensor(solver.value(), dtype=torch.float64, device=terms.x.device)
    again = potentials is not None
    f, g = potentials or (solver.state.f, solver.state.g)
    out: Tensor = _Envelope.apply(operator, terms, again, value, f, g, *terms.tensors)
    return out


class _Envelope(torch.autograd.Function):
    """The optimal dual value; where potentials have history already (``again``), its gradient is that at them."""

    @staticmethod
    def forward(
        ctx: Any, operator: ImplicitOperator, terms: Terms, again: bool, value: Tensor, f: Tensor, g: Tensor,
        *tensors: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.operator, ctx.terms, ctx.again = operator, terms, again
        ctx.save_for_backward(f, g, *tensors)
        return value.clone()

    @staticmethod
    @exactly()
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        f, g, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[6:]
        if torch.is_grad_enabled() and ctx.again:
            apart = separated(tuple(tensors))
            value = ctx.terms.rebuilt(apart).dual_value(f, g)
            found = gradient_of(value, apart, wanted, cotangent)
        else:
            with torch.no_grad():
                terms = ctx.terms.rebuilt(tuple(t.detach() for t in tensors))
                found = _envelope(ctx.operator.solver, terms, wanted, cotangent)
            if torch.is_grad_enabled():
                has = tuple(t is not None for t in found)
                given = [t for t in found if t is not None]
                live = iter(_Again.apply(ctx.operator, ctx.terms, has, cotangent, *given, *tensors))
                found = tuple(next(live) if there else None for there in has)
        return None, None, None, None, None, None, *found


class _Again(torch.autograd.Function):
    """Gradients of the envelope theorem, as they are; what is differentiated again is that theorem with potentials that
    have history, and these are only asked for then."""

    @staticmethod
    def forward(
        ctx: Any, operator: ImplicitOperator, terms: Terms, wanted: tuple[bool, ...], cotangent: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        gradients, inputs = tensors[: sum(wanted)], tensors[sum(wanted) :]
        ctx.operator, ctx.terms, ctx.wanted = operator, terms, wanted
        ctx.set_materialize_grads(False)  # of points that are dealt out, zeros would not be
        ctx.save_for_backward(cotangent, *inputs)
        return tuple(t.clone() for t in gradients)

    @staticmethod
    @exactly()
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        if ctx.operator.solver.problem.epsilon == math.inf:
            raise RuntimeError(
                "epsilon: it is so large that the limit is computed, whose gradients cannot be differentiated again; "
                "expected less, or see geomsink.mmd."
            )
        n, again = sum(ctx.wanted), torch.is_grad_enabled()
        needed = (ctx.needs_input_grad[3], *ctx.needs_input_grad[4 + n :])
        with torch.enable_grad():
            saved = separated(ctx.saved_tensors)  # what some are made of may be others
            cotangent, *tensors = saved
            f, g = optimal_potentials(ctx.operator, ctx.terms.rebuilt(tuple(tensors)))
            apart = separated(tuple(tensors))
            if ctx.operator.solver.problem.is_self:  # what the first argument has stands for both, as in `_envelope`
                x, _, a, _, *others = apart
                apart = (x, x, a, a, *others)
            value = ctx.terms.rebuilt(apart).dual_value(f, g)
            first = [t for t in gradient_of(value, apart, ctx.wanted, cotangent) if t is not None]
        found, of = zip(*((t, c) for t, c in zip(first, cotangents, strict=True) if c is not None), strict=True)
        chosen = [t for t, need in zip(saved, needed, strict=True) if need]
        second = iter(torch.autograd.grad(found, chosen, of, create_graph=again, allow_unused=True))
        of_saved = [next(second) if need else None for need in needed]
        return None, None, None, of_saved[0], *(None,) * n, *of_saved[1:]


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
            found[2 + side] = cotangent[..., None] * weight_gradient(solver, terms, side)
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
        found = gradient_of(value, leaves, (want_points, *want_parameters), torch.ones_like(value), again=False)
    return (found[0] if want_points else points), found[1:]


def weight_gradient(solver: Iterate, terms: Terms, side: int) -> Tensor:
    """∂D/∂a (side 0) or ∂D/∂b (1) of the dual value D: for a fixed marginal, the potential."""
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
