"""Potentials as functions of what a problem depends on, by the linear system of the optimality conditions.

Cuturi, Teboul, Niles-Weed 2020 (arXiv:2002.03229); Eisenberger et al. 2022 (arXiv:2203.15305), by conjugate gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..guards import exactly
from .krylov import ImplicitOperator
from .terms import Direction, Terms

Gradients = tuple[Tensor | None, ...]


def optimal_potentials(operator: ImplicitOperator, terms: Terms) -> tuple[Tensor, Tensor]:
    """The potentials that a solver found, with history in all `Terms.tensors`, to any order.

    Raises
    ------
    ValueError
        As `ImplicitOperator.check_defined`.
    """
    operator.check_defined()
    state = operator.solver.state
    f, g = _Potentials.apply(operator, terms, state.f, state.g, *terms.tensors)
    return (f, f) if operator.solver.problem.is_self else (f, g)


def separated(tensors: Gradients) -> tuple[Tensor, ...]:
    """Views, so that a tensor in two places, as in self problems, has a gradient in each."""
    return tuple(t.view_as(t) for t in tensors if t is not None)


def gradient_of(
    value: Tensor, tensors: tuple[Tensor, ...], wanted: tuple[bool, ...], cotangent: Tensor, again: bool = True
) -> Gradients:
    """Of a value or of a batch of values, in the wanted tensors; with history, to be differentiated ``again``."""
    chosen = [t for t, want in zip(tensors, wanted, strict=True) if want]
    if not chosen:
        return (None,) * len(tensors)
    found = iter(torch.autograd.grad(value, chosen, cotangent, create_graph=again, allow_unused=True))
    return tuple(next(found) if want else None for want in wanted)


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
            apart = separated(tuple(tensors))
            to = _direction(ctx.operator, (lam, mu), (of_f, of_g))
            value = _share(ctx.operator) * ctx.terms.rebuilt(apart).stationarity(f, g, to)
            found = gradient_of(value, apart, wanted, torch.ones_like(value))
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
        ctx.set_materialize_grads(False)  # of points that are dealt out, zeros would not be
        ctx.save_for_backward(*out, r, s, f, g, *tensors)
        return out

    @staticmethod
    @exactly()
    def backward(ctx: Any, of_lam: Tensor | None, of_mu: Tensor | None) -> tuple[Any, ...]:
        lam, mu, r, s, f, g, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        of_lam = torch.zeros_like(lam) if of_lam is None else of_lam
        of_mu = torch.zeros_like(mu) if of_mu is None else of_mu
        of = of_lam, of_mu
        other = _Inverse.apply(ctx.operator, ctx.terms, *of, f, g, *tensors)
        with torch.enable_grad():
            apart = separated((f, g, *tensors))
            one = _direction(ctx.operator, (lam, mu), (r, s))
            form = ctx.terms.rebuilt(apart[2:]).curvature(*apart[:2], one, _direction(ctx.operator, other, of))
            form = -_share(ctx.operator) * form
            found = gradient_of(form, apart, wanted, torch.ones_like(form))
        return None, None, *other, *found


def _direction(operator: ImplicitOperator, found: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> Direction:
    """What was found for a right-hand side, with what that is at points without weight."""
    epsilon = operator.solver.problem.epsilon
    rows, columns = operator.weightless(*right)
    return Direction(*found, epsilon * rows, epsilon * columns)


def _share(operator: ImplicitOperator) -> float:
    """Both potentials of a self problem are one: forms of the two count it twice."""
    return 0.5 if operator.solver.problem.is_self else 1.0
