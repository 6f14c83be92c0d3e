"""What GeomLoss's users write of pairs of points, costs and kernels, as ours.

Their functions take whole clouds or batches of them, ours points that broadcast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import costs
from ..costs import Cost
from ..measures import pair_of_measures

FORMULAS = {
    "Norm2(X-Y)": costs.power(1),
    "SqDist(X,Y)": costs.power(2),
    "SqDist(X,Y)/IntCst(2)": costs.power(2).scaled(0.5),
}
SAMPLE = 16
"""Points of each cloud on which a cost is tried before it is used."""

Pairwise = Callable[[Tensor, Tensor], Tensor]


def ground_cost(cost: Any, p: float) -> Cost:
    """The cost, with ε = blur^p and ρ = reach^p."""
    if cost is None:
        if not float(p) <= 2:
            raise ValueError(f"p: {p} given, expected 0 < p <= 2, or a cost.")
        ground = _power(float(p))
    elif isinstance(cost, str):
        formula = cost.replace(" ", "")
        formula = formula[1:-1] if formula[:1] == "(" and formula[-1:] == ")" else formula
        if formula not in FORMULAS:
            raise ValueError(
                f"cost: formula {cost!r} is not one of {', '.join(FORMULAS)}; expected one, or a function of tensors "
                "(B, N, D) and (B, M, D), or a geomsink.costs.Cost in geomsink.SinkhornDivergence."
            )
        ground = FORMULAS[formula]
    elif isinstance(cost, tuple) and len(cost) == 2 and callable(cost[1]):
        ground = Cost(name="of the user", expression=_of_pairs(_by_item(cost[1])))
    elif callable(cost):
        ground = Cost(name="of the user", expression=_of_pairs(cost))
    else:
        raise TypeError(f"cost: {cost!r} was given, expected a callable, a formula, or a pair (formula, callable).")
    return replace(ground, degree=float(p), unit=1.0 / float(p))


@functools.cache
def _power(p: float) -> Cost:
    """‖x − y‖^p/p; one object, so that the engines compare it with each other once."""
    return costs.power(p).scaled(1.0 / p)


def _by_item(function: Pairwise) -> Pairwise:
    """From a function of two clouds to one of batches of them."""

    def batched(x: Tensor, y: Tensor) -> Tensor:
        return function(x[0], y[0])[None] if len(x) == 1 else torch.vmap(function)(x, y)

    return batched


def _of_pairs(function: Pairwise) -> Pairwise:
    """From a function of batches of clouds, (B, N, D) and (B, M, D), to one of points that broadcast."""

    def expression(x: Tensor, y: Tensor) -> Tensor:
        if x.ndim > 2 and x.shape[-2] == 1 and y.shape[-3] == 1:  # all pairs of two clouds
            x, y = x.squeeze(-2), y.squeeze(-3)
            C = function(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))
            return C.reshape(*x.shape[:-1], y.shape[-2])
        x, y = torch.broadcast_tensors(x, y)
        d = x.shape[-1]
        return function(x.reshape(-1, 1, d), y.reshape(-1, 1, d)).reshape(x.shape[:-1])

    return expression


def check_cost(cost: Cost, x: Tensor, y: Tensor) -> None:
    """Refuse a user's cost that is not one finite number a pair, symmetric, of the points alone."""
    first, second = (p.detach().flatten(0, -2)[:SAMPLE].double() for p in (x, y))
    if first.shape[-1] != second.shape[-1]:
        return  # refused with the points
    try:
        C, transpose = cost(first, second), cost(second, first).T
    except Exception as error:
        raise ValueError(
            f"cost: it fails on {len(first)} points against {len(second)}, as float64 tensors: {error}"
        ) from error
    if C.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "cost: it depends on tensors that require gradients, which it would not be differentiated in; expected a "
            "function of the points alone; see geomsink.FeatureCost and the parameters of geomsink.costs.Cost."
        )
    if not (bool(C.isfinite().all()) and torch.allclose(C, transpose, rtol=1e-4, atol=1e-6 * float(C.abs().max()))):
        raise ValueError("cost: it is not finite, or c(x, y) differs from c(y, x); expected symmetric numbers.")


def discrepancy(
    kernel: Callable[..., Tensor], blur: Any, x: Any, y: Any, a: Any, b: Any
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """½ ⟨α − β, k(α − β)⟩ and its potentials, of a kernel that returns its matrices."""
    points, weights, container = pair_of_measures(x, y, a, b, equal_masses=False)
    x, y = (p if p.ndim == 3 else p[None] for p in points)
    a, b = (w.to(x) for w in weights)

    def matrix(x: Tensor, y: Tensor) -> Tensor:
        K = kernel(x, y, blur=blur, use_keops=False, ranges=None)
        expected = (len(x), x.shape[1], y.shape[1])
        if not isinstance(K, Tensor) or K.shape != expected:
            found = f"tensor of shape {tuple(K.shape)}" if isinstance(K, Tensor) else type(K).__name__
            raise TypeError(f"kernel: it returned a {found}, expected a tensor of shape {expected}.")
        return K if a.ndim == 2 else K[0]

    def times(K: Tensor, w: Tensor) -> Tensor:
        return (K @ w[..., None])[..., 0]

    K = matrix(x, y)
    F = times(matrix(x, x), a) - times(K, b)
    G = times(matrix(y, y), b) - times(K.transpose(-1, -2), a)
    value = 0.5 * ((a * F).sum(-1) + (b * G).sum(-1))
    return container.number(value), (container.array(F, 0), container.array(G, 1))
