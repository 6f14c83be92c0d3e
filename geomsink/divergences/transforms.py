"""The c-transform of a potential, soft and hard: what a dual potential is at any points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import engine as engines
from ..choose import precision
from ..costs import Cost
from ..derivatives import Terms, softmin
from ..guards import guarded
from ..measures import check_finite, tensor
from ..solver import Balanced
from .options import Options
from .requests import Request

COLD = 1e-8
"""ε, in units of the largest cost or potential, at which gradients of the hard transform are those at its minimum."""


@guarded
def c_transform(
    x: Any,
    y: Any,
    g: Any,
    b: Any = None,
    *,
    blur: float | Tensor | None = None,
    epsilon: float | Tensor | None = None,
    cost: str | Cost = "sqeuclidean",
    engine: str = "auto",
    dtype: Any = None,
    x_batch: Any = None,
    y_batch: Any = None,
) -> Any:
    """f(x_i) = −ε log Σ_j b_j exp((g_j − C(x_i, y_j))/ε), and min_j C(x_i, y_j) − g_j without a temperature.

    Of the potential g of a solution this is f, and at other points its extension. For the transform of f at y, exchange
    the roles: ``c_transform(y, x, f, a, cost=cost)``, of an asymmetric cost with ``cost.transpose()``.

    Parameters
    ----------
    x : array_like, shape (K, D)
        Where it is evaluated: any points. Batches in the forms of `geomsink.solve`.
    y : array_like, shape (M, D)
    g : array_like, shape (M,)
        In units of the cost, in the form of a batch as b.
    b : array_like, shape (M,), optional
        Weights, of any mass; None is 1/M each. The hard transform only leaves out points without weight.
    blur : float, optional
    epsilon : float, optional
        The temperature, as in `geomsink.solve`; neither is the hard transform, the limit ε → 0.
    cost, engine, dtype, x_batch, y_batch
        As in `geomsink.solve`; the hard transform is in float64.

    Returns
    -------
    array, shape (K,)
        In the caller's kind and precision, with autograd history in x, y, g, b, the temperature and the cost's
        parameters, to any order. Gradients of the hard transform are those at the minimum; of several, their mean.

    Raises
    ------
    TypeError, ValueError, BuildError
        As `geomsink.solve`, and for a g that is not one finite number a point of y.

    Notes
    -----
    Peyré, Cuturi 2019 (arXiv:1803.00567), sections 4.4 and 5.1. Memory is linear in the number of points.

    Examples
    --------
    >>> import geomsink, numpy as np
    >>> c_transform(np.array([[0.0], [3.0]]), np.array([[1.0], [2.0]]), np.array([0.0, 0.5]))
    array([1. , 0.5])
    >>> x = np.linspace(0.0, 1.0, 5)[:, None]
    >>> f, g = geomsink.solve(x, x, blur=0.2, tol=1e-9).potentials
    >>> np.allclose(c_transform(x, x, g, blur=0.2), f)
    True
    """
    hard = blur is None and epsilon is None
    options = Options(blur=blur, epsilon=1.0 if hard else epsilon, cost=cost, engine=engine, dtype=dtype)
    options.check_finite()
    # With rho weights stay as they are given, and masses may differ; any costs are small beside this one.
    options = replace(options, rho=float(options.live_epsilon().detach()))
    request = Request.of(x, y, None, b, options, x_batch, y_batch)
    alpha, beta, inputs = request.alpha, request.beta, request.inputs
    potential = _potential(g, request)
    pairs = alpha.weights.numel() * beta.weights.shape[-1]
    working = options.working_dtype or precision(pairs, request.container.working)
    working = torch.float64 if hard else working
    points = inputs.x.to(working), inputs.y.to(working)
    lengths = request.lengths(alpha, beta)
    pair = engines.pair(points[0].detach(), points[1].detach(), request.cost, engine, lengths)
    fixed = Balanced(), Balanced()
    terms = Terms(
        *points, inputs.a, inputs.b, inputs.epsilon, inputs.parameters, request.cost, fixed, engines.Pairs.of(pair)
    )
    guess = torch.zeros_like(alpha.weights)
    if not hard:
        return request.container.array(softmin(terms, pair, guess, potential), 0)
    kept = beta.weights > 0.0
    floor = torch.where(kept, potential.detach(), -1e30)
    exact = -pair.row_max(floor.to(working), 1.0).double()
    size = max(request.cost_scale, float(potential.detach().abs().max()), 1e-280)
    cold = replace(terms, b=kept.double(), epsilon=torch.full_like(inputs.epsilon.detach(), COLD * size))
    soft = softmin(cold, pair, exact, potential)
    return request.container.array(exact + (soft - soft.detach()), 0)


def _potential(given: Any, request: Request) -> Tensor:
    """g with its history, shape (..., M), float64."""
    potential = tensor("g", request.container.padded("g", given, 1))
    expected = request.beta.weights.shape
    if potential.shape != expected:
        found = f"a {potential.dtype} tensor of shape {tuple(potential.shape)} was given"
        raise ValueError(f"g: {found}, expected {tuple(expected)}, one number a point of y.")
    check_finite("g", potential)
    return potential.to(request.beta.weights.device).double()
