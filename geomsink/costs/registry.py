"""Ground costs: one symbolic expression each, shared by every engine.

An expression is written once, with operations that torch tensors and KeOps LazyTensors have in common::

    def manhattan(x, y):
        return (x - y).abs().sum(-1)

    geomsink.costs.register("manhattan", manhattan, degree=1)

and ``cost="manhattan"`` then works everywhere.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..counts import number
from ..measures import tensor
from .cost import Cost, check_name
from .expressions import (
    Expression,
    angle,
    distance,
    half_square,
    half_square_modulus,
    half_squared_chord,
    power_modulus,
    power_of_distance,
    raised,
    same,
    squared_distance,
    to_sphere,
)
from .registering import tried, unknown


def power(p: float) -> Cost:
    """‖x − y‖^p for 0 < p ≤ 2, of degree p.

    Parameters
    ----------
    p : float

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        For anything but a number in ]0, 2].

    Examples
    --------
    >>> power(1.5).degree
    1.5
    """
    exponent = number("p", p)
    if not 0 < exponent <= 2:
        raise ValueError(f"p: {p} given, expected 0 < p <= 2.")
    return _power(exponent)


@functools.lru_cache(maxsize=256)
def _power(p: float) -> Cost:
    """One object each, which the engines compare with each other once."""
    of_degree = functools.partial(
        Cost, degree=p, translation_invariant=True, modulus=functools.partial(power_modulus, p)
    )
    if p == 2:
        return of_degree(name="sqeuclidean", expression=squared_distance, lower_bound=torch.square, quadratic=1.0)
    if p == 1:
        return of_degree(name="euclidean", expression=distance, lower_bound=torch.abs)
    expression, bound = functools.partial(power_of_distance, p), functools.partial(raised, p)
    return of_degree(name=f"power:{p:g}", expression=expression, lower_bound=bound)


def mahalanobis(weights: Any) -> Cost:
    """(x − y)ᵀ A (x − y), of degree 2: the squared Euclidean cost with weights on its coordinates.

    Parameters
    ----------
    weights : array_like, shape (D,) or (D, D)
        The diagonal of A, or A itself: symmetric, positive definite. A tensor is read anew at every use, and losses
        are differentiated in it.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If A is not symmetric positive definite.

    Examples
    --------
    >>> import torch
    >>> mahalanobis([4.0, 1.0])(torch.zeros(1, 2), torch.ones(1, 2))
    tensor([[5.]])
    """
    given = tensor("weights", weights)
    if given.ndim not in (1, 2) or (given.ndim == 2 and given.shape[0] != given.shape[1]) or not given.numel():
        raise ValueError(f"weights: shape is {tuple(given.shape)}, expected (D,) or (D, D).")

    features = _Root(given)
    features.root()
    return replace(power(2), name="mahalanobis", features=features)


@dataclass(frozen=True, eq=False)
class _Root:
    """From points to those whose squared distances are (x − y)ᵀ A (x − y)."""

    weights: Tensor

    def __getstate__(self) -> dict[str, Any]:
        """Weights that were computed are constants in copies, which torch would refuse; leaves are leaves."""
        return {"weights": self.weights if self.weights.is_leaf else self.weights.detach()}

    def root(self) -> Tensor:
        """L with L Lᵀ = A."""
        A = self.weights.double()
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(torch.diag(A) if A.ndim == 1 else A)
        if bool(failed) or not bool(factor.isfinite().all()) or (A.ndim == 2 and not torch.allclose(A, A.T)):
            raise ValueError("weights: they are not a symmetric positive definite matrix (or positive diagonal).")
        return factor

    def __call__(self, points: Tensor) -> Tensor:
        n = len(self.weights)
        if points.shape[-1] != n:
            raise ValueError(f"x: points have {points.shape[-1]} coordinates, but the cost's weights {n}.")
        mapped: Tensor = points @ self.root().to(points)
        return mapped


_costs: dict[str, Cost] = {
    "sqeuclidean": power(2),
    "euclidean": power(1),
    "cosine": Cost(
        name="cosine",
        expression=half_squared_chord,
        features=to_sphere,
        lower_bound=half_square,
        modulus=half_square_modulus,
        quadratic=0.5,
    ),
    "geodesic": Cost(
        name="geodesic",
        expression=angle,
        degree=1.0,
        features=to_sphere,
        lower_bound=same,  # an arc is longer
    ),
}
_families: dict[str, Callable[[list[float]], Cost]] = {
    "power": lambda values: power(*values),
    "mahalanobis": mahalanobis,
}


def names() -> list[str]:
    """Names that ``cost=`` takes; families take numbers after a colon, as in ``power:1.5``.

    Returns
    -------
    list of str

    Examples
    --------
    >>> names()[:2]
    ['cosine', 'euclidean']
    """
    return sorted(_costs) + ["mahalanobis:W1,W2,...", "power:P"]


def register(name: str, expression: Expression | Cost, *, degree: float | None = None, symmetric: bool = True) -> Cost:
    """Add a cost to the registry.

    Parameters
    ----------
    name : str
        A new name, without a colon.
    expression : callable or Cost
        See `Cost`.
    degree : float, optional
        p if the cost is the p-th power of a length. A `Cost` has its own.
    symmetric : bool, default True
        Whether c(x, y) = c(y, x). A `Cost` has its own.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If the name is taken, if options are given with a `Cost`, or if on random points the expression does not give
        one finite number a pair or is not symmetric though said to be. That the engines agree on it is checked before
        its first use, on the points at hand.

    Examples
    --------
    >>> manhattan = register("manhattan", lambda x, y: (x - y).abs().sum(-1), degree=1)
    >>> "manhattan" in names()
    True
    >>> unregister("manhattan")
    """
    check_name(name)
    if name in _costs or name in _families or ":" in name:
        raise ValueError(f"name: {name!r} is taken or has a colon; the costs are {', '.join(names())}.")
    if not callable(expression):
        raise TypeError(f"expression: a {type(expression).__name__} was given, expected a function or a Cost.")
    if isinstance(expression, Cost):
        if degree is not None or not symmetric:
            raise ValueError(
                "degree, symmetric: given with a Cost, which has its own; expected them with an expression."
            )
        cost = expression
    else:
        cost = Cost(name=name, expression=expression, degree=degree, symmetric=symmetric)
    x, y, C = tried(cost, "cost", 1.0)
    if cost.symmetric and not torch.allclose(C, cost(y, x).T):
        raise ValueError("expression: c(x, y) differs from c(y, x); register it with symmetric=False.")
    _costs[name] = cost
    return cost


def temperature(cost: Cost, blur: Any, epsilon: Any) -> float:
    """ε from whichever of ``blur`` and ``epsilon`` was given.

    Parameters
    ----------
    cost : Cost
    blur : float or None
        Length σ.
    epsilon : float or None
        ε, in units of the cost.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        For what is no number.
    ValueError
        If both or neither were given, or one that is not positive.

    Examples
    --------
    >>> temperature(get("sqeuclidean"), blur=0.5, epsilon=None)
    0.5
    """
    if (blur is None) == (epsilon is None):
        if blur is None:
            raise ValueError(
                "blur, epsilon: neither was given, expected one of them; geomsink.suggest_blur(x, y) suggests a blur."
            )
        raise ValueError(f"blur, epsilon: both were ({blur} and {epsilon}) given, expected one of them.")
    name, value = ("blur", blur) if blur is not None else ("epsilon", epsilon)
    given = number(name, value)
    if not given > 0:
        raise ValueError(f"{name}: {given} given, expected a positive number.")
    try:
        target: float = get(cost).epsilon(given) if name == "blur" else given
    except OverflowError:
        target = math.nan
    if not target > 0:
        raise ValueError(f"blur: {given} given, for which epsilon is outside of the range of floating-point numbers.")
    return target


def unregister(name: str) -> None:
    """Remove a registered cost.

    Parameters
    ----------
    name : str

    Raises
    ------
    KeyError
        If there is none of that name.

    Examples
    --------
    >>> _ = register("cubed", lambda x, y: (x - y).abs().sum(-1) ** 3, degree=3)
    >>> unregister("cubed")
    >>> "cubed" in names()
    False
    """
    del _costs[name]


@functools.lru_cache(maxsize=64)
def _of_family(family: str, numbers: tuple[float, ...]) -> Cost:
    """One cost for all names that have these numbers, which are then equal."""
    return _families[family](list(numbers))


def get(cost: str | Cost, name: str = "cost") -> Cost:
    """The cost of that name, or the cost itself.

    Parameters
    ----------
    cost : str or Cost
    name : str, default "cost"
        Of the argument, for sentences.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError
        For anything but a name or a cost.
    ValueError
        For an unknown name; the sentence lists the known ones.

    Examples
    --------
    >>> get("power:0.5").degree
    0.5
    """
    if isinstance(cost, Cost):
        return cost
    if not isinstance(cost, str):
        raise TypeError(f"{name}: a {type(cost).__name__} was given, expected a name or a geomsink.costs.Cost.")
    if cost in _costs:
        return _costs[cost]
    family, _, listed = cost.partition(":")
    if family in _families and listed:
        try:
            values = [float(number) for number in listed.split(",")]
        except ValueError:
            raise ValueError(f"{name}: {cost!r} has no numbers after the colon; try {family}:1.5.") from None
        if family == "power" and len(values) != 1:
            raise ValueError(f"{name}: {cost!r} has {len(values)} exponents, expected one.")
        try:
            return _of_family(family, tuple(values))
        except ValueError as error:
            raise ValueError(f"{name}: {cost!r} is none that there is; {error}") from None
    raise ValueError(unknown(name, cost, _costs, names(), "costs"))
