"""Kernels of maximum mean discrepancies: one symbolic expression each, as costs are.

An expression is written once, with operations that torch tensors and KeOps LazyTensors have in common, of points that
are divided by the blur already::

    def cauchy(x, y):
        return 1 / (1 + ((x - y) ** 2).sum(-1))

    geomsink.kernels.register("cauchy", cauchy)

and ``geomsink.mmd(x, y, kernel="cauchy", blur=0.1)`` then works on both engines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import registry
from .cost import Cost, check_name
from .expressions import Expression, Symbolic, distance, negated, of_distances, squared_distance
from .registering import tried, unknown


@dataclass(frozen=True, kw_only=True)
class Kernel(Symbolic):
    """A kernel k(x, y) = e(φ(x)/σ, φ(y)/σ), symmetric, of length scale σ.

    Parameters
    ----------
    name : str
        What reports call it.
    expression : callable
        e, from points (..., D) and (..., D) that broadcast to numbers (...): it runs on torch tensors and on
        KeOps LazyTensors, and sums over coordinates with ``.sum(-1)``.
    takes_blur : bool, default True
        Whether the kernel has a length scale σ, given as ``blur``; without one, points are not divided by anything.
    upper_bound : callable, optional
        ρ, nonincreasing, with |e(x, y)| ≤ ρ(‖x − y‖), distances being in units of σ: pairs of far cells can then be
        left out of sums. Without it all pairs are summed.
    translation_invariant : bool, default False
        Whether k(x + t, y + t) = k(x, y), so that points can be centred before they are rounded.
    features : callable, optional
        φ, from points (N, D) to points (N, D'), applied once to each cloud. Default: the identity.
    looked_up : bool, default False
        Whether points are positions in a table: the expression is for torch tensors alone.
    parameters : tuple of Tensor, default ()
        Numbers, of shape () or (K,), that the expression takes as further arguments, ``e(x, y, *parameters)``, and
        that losses are differentiated in.

    Examples
    --------
    >>> import torch
    >>> get("gaussian")(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), blur=5.0)
    tensor([[0.6065]])
    """

    name: str
    expression: Expression
    takes_blur: bool = True
    upper_bound: Callable[[Tensor], Tensor] | None = None
    translation_invariant: bool = False
    features: Callable[[Tensor], Tensor] | None = None
    looked_up: bool = False
    parameters: tuple[Tensor, ...] = field(default=(), compare=False)

    def __call__(self, x: Tensor, y: Tensor, blur: float = 1.0) -> Tensor:
        """The matrix of k, shape (N, M), between points (N, D) and (M, D)."""
        x, y = self.map(x) / blur, self.map(y) / blur
        values: Tensor = self.expression(x[..., :, None, :], y[..., None, :, :], *(p.to(x) for p in self.parameters))
        return values

    def map(self, points: Tensor) -> Tensor:
        """φ(points): what the expression is evaluated on.

        Parameters
        ----------
        points : Tensor, shape (..., N, D)

        Returns
        -------
        Tensor, shape (..., N, E)

        Raises
        ------
        ValueError
            If that is not one row of finite numbers a point.
        """
        if self.features is None:
            return points
        flat = points.flatten(0, -2)
        found = self.features(flat)
        if found.ndim != 2 or len(found) != len(flat):
            raise ValueError(
                f"kernel: features of points {tuple(flat.shape)} have shape {tuple(found.shape)}, expected a row each."
            )
        if not bool(found.isfinite().all()):
            raise ValueError(f"kernel: features of kernel {self.name!r} are NaN or infinite for some points.")
        return found.reshape(*points.shape[:-1], -1)


def negative(cost: str | Cost) -> Kernel:
    """The kernel k = −c, which ``kernel="-NAME"`` stands for: Sinkhorn divergences tend to its discrepancy as ε → ∞.

    Parameters
    ----------
    cost : str or Cost
        Symmetric. A discrepancy is not negative if −c is positive definite on measures of mass 0, as for powers of
        distances up to the second.

    Returns
    -------
    Kernel

    Raises
    ------
    ValueError
        For an unknown cost, or one that is not symmetric.

    Examples
    --------
    >>> negative("sqeuclidean").name
    '-sqeuclidean'
    """
    ground = registry.get(cost)
    if not ground.symmetric:
        raise ValueError(f"cost: {ground.name!r} is not symmetric, which kernels have to be.")
    return Kernel(
        name=f"-{ground.name}",
        expression=functools.partial(negated, ground.expression),
        takes_blur=False,
        translation_invariant=ground.translation_invariant,
        features=ground.features,
        looked_up=ground.looked_up,
        parameters=ground.parameters,
    )


@of_distances
def _gaussian(x: Any, y: Any) -> Any:
    return (squared_distance(x, y) * -0.5).exp()


@of_distances
def _laplacian(x: Any, y: Any) -> Any:
    return (-distance(x, y)).exp()


def _gaussian_of(length: Tensor) -> Tensor:
    return (-0.5 * length**2).exp()


def _laplacian_of(length: Tensor) -> Tensor:
    return (-length).exp()


_kernels: dict[str, Kernel] = {
    "gaussian": Kernel(
        name="gaussian",
        expression=_gaussian,
        upper_bound=_gaussian_of,
        translation_invariant=True,
    ),
    "laplacian": Kernel(
        name="laplacian",
        expression=_laplacian,
        upper_bound=_laplacian_of,
        translation_invariant=True,
    ),
    "energy": Kernel(
        name="energy",
        expression=functools.partial(negated, distance),
        takes_blur=False,
        translation_invariant=True,
    ),
}


def names() -> list[str]:
    """Names that ``kernel=`` takes; a minus sign before a cost's name is the kernel −c.

    Returns
    -------
    list of str

    Examples
    --------
    >>> names()
    ['energy', 'gaussian', 'laplacian', '-COST']
    """
    return [*sorted(_kernels), "-COST"]


def register(name: str, expression: Expression | Kernel) -> Kernel:
    """Add a kernel to the registry.

    Parameters
    ----------
    name : str
        A new name, without a minus sign before it.
    expression : callable or Kernel
        See `Kernel`.

    Returns
    -------
    Kernel

    Raises
    ------
    TypeError, ValueError
        If the name is taken, or if on random points the expression does not give one finite number a pair, is not
        symmetric, or exceeds its upper bound. That the engines agree on it is checked when it is used, on the points
        at hand.

    Examples
    --------
    >>> cauchy = register("cauchy", lambda x, y: 1 / (1 + ((x - y) ** 2).sum(-1)))
    >>> "cauchy" in names()
    True
    >>> unregister("cauchy")
    """
    check_name(name)
    if not callable(expression):
        raise TypeError(f"expression: a {type(expression).__name__} was given, expected a function or a Kernel.")
    if name in _kernels or name.startswith("-"):
        raise ValueError(f"name: {name!r} is taken or begins with a minus; the kernels are {', '.join(names())}.")
    kernel = expression if isinstance(expression, Kernel) else Kernel(name=name, expression=expression)
    x, y, K = tried(kernel, "number", 3.0)
    if not torch.allclose(K, kernel(y, x).T):
        raise ValueError("expression: k(x, y) differs from k(y, x), expected a symmetric kernel.")
    if kernel.upper_bound is not None:
        _check_bound(kernel.upper_bound, torch.cdist(kernel.map(x), kernel.map(y)), K)
    _kernels[name] = kernel
    return kernel


def _check_bound(upper_bound: Callable[[Tensor], Tensor], distances: Tensor, K: Tensor) -> None:
    if bool((K.abs() > upper_bound(distances) * (1.0 + 1e-9)).any()):
        raise ValueError("upper_bound: on random points the kernel exceeds it, expected a bound of |k|.")
    if bool((upper_bound(torch.linspace(0.0, 30.0, 301, dtype=K.dtype, device=K.device)).diff() > 0).any()):
        raise ValueError("upper_bound: it increases somewhere, expected a nonincreasing function of the distance.")


def unregister(name: str) -> None:
    """Remove a registered kernel.

    Parameters
    ----------
    name : str

    Raises
    ------
    KeyError
        If there is none of that name.

    Examples
    --------
    >>> _ = register("cauchy", lambda x, y: 1.0 / (1.0 + ((x - y) ** 2).sum(-1)))
    >>> unregister("cauchy")
    >>> "cauchy" in names()
    False
    """
    del _kernels[name]


def get(kernel: str | Kernel) -> Kernel:
    """The kernel of that name, or the kernel itself.

    Parameters
    ----------
    kernel : str or Kernel

    Returns
    -------
    Kernel

    Raises
    ------
    TypeError
        For anything but a name or a kernel.
    ValueError
        For an unknown name; the sentence lists the known ones.

    Examples
    --------
    >>> get("-power:1.5").takes_blur
    False
    """
    if isinstance(kernel, Kernel):
        return kernel
    if not isinstance(kernel, str):
        raise TypeError(f"kernel: a {type(kernel).__name__} was given, expected a name or a geomsink.kernels.Kernel.")
    if kernel in _kernels:
        return _kernels[kernel]
    if kernel.startswith("-"):
        try:
            return negative(kernel[1:])
        except ValueError as error:
            raise ValueError(f"kernel: {kernel!r} is the negative of no cost that there is; {error}") from None
    raise ValueError(unknown("kernel", kernel, _kernels, names(), "kernels"))
