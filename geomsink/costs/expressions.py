"""What the registered costs are made of: expressions on torch tensors and on KeOps LazyTensors alike.

Functions of the module and `functools.partial` of them, not lambdas: costs go to other processes in pickles.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..choose import by_products
from .products import squared_distances

Expression = Callable[..., Any]

_of_distances: list[Expression] = []


def of_distances(function: Expression) -> Expression:
    """Marks an expression that depends on points through their distances alone: see `Symbolic.of_distances`."""
    _of_distances.append(function)
    return function


class Symbolic:
    """What has one expression of pairs: a cost, or a kernel."""

    expression: Expression

    @property
    def of_distances(self) -> bool:
        """Whether the expression is made of distances, which in many coordinates are matrix products."""
        inner = self.expression
        while isinstance(inner, functools.partial):
            inner = next((argument for argument in inner.args if callable(argument)), inner.func)
        return any(inner is function for function in _of_distances)  # others may have no hash

    def temporaries(self, dimension: int) -> int:
        """Numbers a pair that evaluating it on torch tensors has in memory at a time.

        Parameters
        ----------
        dimension : int
            Coordinates of the features.

        Returns
        -------
        int
        """
        return 1 if by_products(dimension, self.of_distances) else dimension


@of_distances
def squared_distance(x: Any, y: Any) -> Any:
    """‖x − y‖², of LazyTensors or tensors; all against all in many coordinates, by an inner product.

    Parameters
    ----------
    x, y : Tensor or LazyTensor
        Features that broadcast against each other, the last axis being coordinates.

    Returns
    -------
    Tensor or LazyTensor
        One number a pair.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> squared_distance(x, y)
    tensor([2.])
    """
    if isinstance(x, Tensor) and by_products(x.shape[-1]) and x.ndim > 2 and x.shape[-2] == y.shape[-3] == 1:
        # Rounding is that of the largest squared coordinates, as in large costs: points come centred.
        product = (-2.0 * x.squeeze(-2)) @ y.squeeze(-3).mT
        return product.add_((x * x).sum(-1)).add_((y * y).sum(-1))
    return _sum_of_squares(x, y)


def _sum_of_squares(x: Any, y: Any) -> Any:
    """Σ_k (x_k − y_k)²; of tensors, all against all, coordinate by coordinate: a sum over a short axis is slow."""
    if not isinstance(x, Tensor) or min(x.ndim, y.ndim) < 3 or not x.shape[-2] == y.shape[-3] == 1:
        return ((x - y) ** 2).sum(-1)
    if by_products(x.shape[-1]):
        return squared_distances(x.squeeze(-2), y.squeeze(-3))
    differences = (a - b for a, b in zip(x.unbind(-1), y.unbind(-1), strict=True))  # one at a time in memory
    total = next(differences).square()
    for difference in differences:
        total = torch.addcmul(total, difference, difference)
    return total


def root(s: Any, exponent: float) -> Any:
    """s^exponent for s ≥ 0, with derivatives 0 at s = 0: those of a distance between a point and itself.

    Parameters
    ----------
    s : Tensor or LazyTensor
    exponent : float

    Returns
    -------
    Tensor or LazyTensor

    Examples
    --------
    >>> import torch
    >>> root(torch.tensor([0.0, 4.0]), 0.5)
    tensor([0., 2.])
    """
    if isinstance(s, Tensor):
        positive = s > 0
        return torch.where(positive, s, 1.0) ** exponent * positive
    if exponent == 0.5:
        return s.sqrt()  # whose derivative KeOps takes as 0 at 0
    # Not a power: KeOps' has no derivative at 0, and on CUDA the precision of float32.
    positive = s.sign()
    return ((s + (1 - positive)).log() * exponent).exp() * positive


@of_distances
def power_of_distance(p: float, x: Any, y: Any) -> Any:
    """‖x − y‖^p."""
    return root(_sum_of_squares(x, y), p / 2)


def exchanged(expression: Expression, x: Any, y: Any, *parameters: Any) -> Any:
    """e(y, x)."""
    return expression(y, x, *parameters)


def times(factor: float, expression: Expression, x: Any, y: Any, *parameters: Any) -> Any:
    """λ e(x, y)."""
    return expression(x, y, *parameters) * factor


def negated(expression: Expression, x: Any, y: Any, *parameters: Any) -> Any:
    """−e(x, y)."""
    return -expression(x, y, *parameters)


def scaled_bound(factor: float, bound: Callable[[Tensor], Tensor], distance: Tensor) -> Tensor:
    """λ ρ(d)."""
    return factor * bound(distance)


def scaled_modulus(factor: float, modulus: Callable[[Tensor, Tensor], Tensor], costs: Tensor, moved: Tensor) -> Tensor:
    """Of a cost times λ, that of the cost."""
    return factor * modulus(costs / factor, moved)


def raised(p: float, distance: Tensor) -> Tensor:
    """d^p."""
    out: Tensor = distance**p
    return out


def half_square(chord: Tensor) -> Tensor:
    """½ d²."""
    return 0.5 * chord**2


def half_square_modulus(costs: Tensor, moved: Tensor) -> Tensor:
    """Of costs ½ d²."""
    return 0.5 * power_modulus(2.0, 2.0 * costs, moved)


def same(length: Tensor) -> Tensor:
    return length


def power_modulus(p: float, costs: Tensor, moved: Tensor) -> Tensor:
    """How far costs d^p may move if distances d do by δ: (d + δ)^p − d^p, and δ^p where that is larger, for p < 1.

    Parameters
    ----------
    p : float
    costs : Tensor
        d^p.
    moved : Tensor
        δ.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import torch
    >>> power_modulus(2.0, torch.tensor(4.0), torch.tensor(1.0))
    tensor(5.)
    """
    change: Tensor = moved**p if p <= 1 else (costs ** (1.0 / p) + moved) ** p - costs
    return change


@of_distances
def distance(x: Any, y: Any) -> Any:
    """‖x − y‖.

    Parameters
    ----------
    x, y : Tensor or LazyTensor
        Features that broadcast against each other, the last axis being coordinates.

    Returns
    -------
    Tensor or LazyTensor
        One number a pair.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> distance(x, y).round(decimals=4)
    tensor([1.4142])
    """
    return root(_sum_of_squares(x, y), 0.5)


@of_distances
def half_squared_chord(x: Any, y: Any) -> Any:
    """1 − cos of the angle between points of the sphere.

    Parameters
    ----------
    x, y : Tensor or LazyTensor
        Features that broadcast against each other, the last axis being coordinates.

    Returns
    -------
    Tensor or LazyTensor
        One number a pair.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> half_squared_chord(x, y)
    tensor([1.])
    """
    return squared_distance(x, y) * 0.5


@of_distances
def angle(x: Any, y: Any) -> Any:
    """The angle between points of the sphere, in radians.

    Parameters
    ----------
    x, y : Tensor or LazyTensor
        Features that broadcast against each other, the last axis being coordinates.

    Returns
    -------
    Tensor or LazyTensor
        One number a pair.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    >>> angle(x, y).round(decimals=4)
    tensor([1.5708])
    """
    # Accurate for small and for large angles, where the arc cosine of a product is not.
    chord, cochord = distance(x, y), distance(x, -y)
    return chord.atan2(cochord) * 2.0


def to_sphere(points: Tensor) -> Tensor:
    """x/‖x‖.

    Parameters
    ----------
    points : Tensor, shape (..., N, D)

    Returns
    -------
    Tensor, shape (..., N, D)

    Raises
    ------
    ValueError
        For a point at the origin, which has no direction.

    Examples
    --------
    >>> import torch
    >>> to_sphere(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    size = points.detach().abs().amax(-1, keepdim=True)
    if not bool((size > 0).all()):
        raise ValueError("x, y: a point at the origin has no direction, which costs 'cosine' and 'geodesic' need.")
    # Powers of two, which round nothing: squares of coordinates of size 1e160 or 1e-160 leave the range.
    scaled = points / size.log2().floor().exp2()
    directions: Tensor = scaled / scaled.norm(dim=-1, keepdim=True)
    return directions
