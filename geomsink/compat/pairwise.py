"""What GeomLoss's users write of pairs of points: functions of whole clouds, or of batches of them.

They are called on the clouds as they are, integers as floating-point numbers, once for each pair of clouds, and what
they return is a matrix of costs or a kernel: it may be of a network, of another precision, looked up, or the same
whatever the points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..costs import Cost, MatrixCost
from ..measures import pair_of_measures

SYMMETRIC = 1e-4
"""Relative difference of c(x, y) and c(y, x) that rounding explains."""
SAMPLE = 16
"""Points of each cloud between which a cost of single pairs is looked at."""

Pairwise = Callable[[Tensor, Tensor], Tensor]


def matrix_cost(
    function: Pairwise,
    batched: bool,
    x: Tensor,
    y: Tensor,
    debias: bool,
    as_numpy: bool = False,
    name: str = "cost",
) -> tuple[Cost, Any, Any]:
    """The cost between two clouds, (..., N, D) and (..., M, D), and the positions in it that stand for their points.

    Parameters
    ----------
    function : callable
        To a matrix of costs, differentiable in whatever it is made of.
    batched : bool
        Whether it takes (B, N, D) and (B, M, D), and gives (B, N, M), or takes single clouds.
    x, y : Tensor
        Validated.
    debias : bool
        Whether costs within the clouds are needed, which are symmetric then.
    as_numpy : bool, default False
        Whether positions are NumPy arrays.
    name : str, default "cost"
        What sentences call the function.

    Raises
    ------
    ValueError
        Where the function fails, and for anything but finite costs of all pairs: one sentence.
    """

    def costs(x: Tensor, y: Tensor) -> Tensor:
        items = (x, y) if x.ndim == 3 else (x[None], y[None])
        shape = len(items[0]), items[0].shape[1], items[1].shape[1]
        try:
            C = function(*items) if batched else torch.stack([function(*pair) for pair in zip(*items, strict=True)])
        except Exception as error:
            shapes = " and ".join(str(tuple(t.shape) if batched else tuple(t.shape[1:])) for t in items)
            raise ValueError(f"{name}: it fails on {shapes}: {error}") from error
        if not isinstance(C, Tensor) or C.shape != shape:
            found = f"tensor of shape {tuple(C.shape)}" if isinstance(C, Tensor) else type(C).__name__
            raise ValueError(
                f"{name}: it returned a {found} for {shape[1]} points against {shape[2]}, expected {shape}."
            )
        if not bool(C.isfinite().all()):
            raise ValueError(f"{name}: it is NaN or infinite between some of the points, expected finite numbers.")
        return C if x.ndim == 3 else C[0]

    C, n = costs(x, y), x.shape[-2]
    if debias:
        within = [_symmetric(costs(z, z), name) for z in (x, y)]
        C = torch.cat((torch.cat((within[0], C), -1), torch.cat((C.mT, within[1]), -1)), -2)
    cost = MatrixCost(C.numpy() if as_numpy else C, symmetric=debias)
    return cost, cost.rows[..., :n, :], cost.rows[..., n:, :] if debias else cost.columns


def of_floats(given: tuple[Tensor, Tensor], points: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """What functions are called on: the clouds as given, and where one is of integers, whose differences would wrap
    around, the points that both promote to."""
    return given if all(cloud.is_floating_point() for cloud in given) else points


def _symmetric(C: Tensor, name: str = "cost") -> Tensor:
    """Costs within a cloud, without what rounding does to their symmetry."""
    apart = (C - C.mT).detach().abs().max()
    if apart > SYMMETRIC * C.detach().abs().max():
        raise ValueError(
            f"{name}: c(x, y) and c(y, x) differ by {float(apart):.3g}; expected a symmetric cost, or debias=False."
        )
    return 0.5 * (C + C.mT)


def check_symmetric(cost: Cost, x: Tensor, y: Tensor) -> Cost:
    """A cost of single pairs, as one that can be debiased, if it can on some of the points."""
    z = torch.cat([p.detach().flatten(0, -2)[:SAMPLE].double() for p in (x, y)])
    C = cost(z, z)
    if not bool(C.isfinite().all()):
        raise ValueError(f"cost: {cost.name!r} is NaN or infinite between some of the points, expected finite numbers.")
    _symmetric(C)
    return replace(cost, symmetric=True)


def discrepancy(
    kernel: Callable[..., Tensor], blur: Any, x: Any, y: Any, a: Any, b: Any
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """½ ⟨α − β, k(α − β)⟩ and its potentials, of a kernel that returns its matrices."""
    points, (a, b), container = pair_of_measures(x, y, a, b, equal_masses=False)
    x, y = (p if p.ndim == 3 else p[None] for p in of_floats((x, y), points))
    a, b = a.to(points[0]), b.to(points[0])

    def matrix(x: Tensor, y: Tensor) -> Tensor:
        K = kernel(x, y, blur=blur, use_keops=False, ranges=None)
        expected = (len(x), x.shape[1], y.shape[1])
        if not isinstance(K, Tensor) or K.shape != expected:
            found = f"tensor of shape {tuple(K.shape)}" if isinstance(K, Tensor) else type(K).__name__
            raise TypeError(f"kernel: it returned a {found}, expected a tensor of shape {expected}.")
        return (K if a.ndim == 2 else K[0]).to(a)

    def times(K: Tensor, w: Tensor) -> Tensor:
        return (K @ w[..., None])[..., 0]

    K = matrix(x, y)
    F = times(matrix(x, x), a) - times(K, b)
    G = times(matrix(y, y), b) - times(K.transpose(-1, -2), a)
    value = 0.5 * ((a * F).sum(-1) + (b * G).sum(-1))
    return container.number(value), (container.array(F, 0), container.array(G, 1))
