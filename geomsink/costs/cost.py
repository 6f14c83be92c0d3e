"""What a ground cost is: one symbolic expression, and what is known of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..counts import flag, positive
from .expressions import Expression, Symbolic, exchanged, scaled_bound, scaled_modulus, times


@dataclass(frozen=True, kw_only=True)
class Cost(Symbolic):
    """A ground cost c(x, y) = e(φ(x), φ(y)).

    Parameters
    ----------
    name : str
        What reports call it.
    expression : callable
        e, from points (..., D) and (..., D) that broadcast to costs (...): it runs on torch tensors and on
        KeOps LazyTensors, and sums over coordinates with ``.sum(-1)``.
    degree : float, optional
        p if the cost is the p-th power of a length, so that ``blur`` σ means ε = p σ^p. Without it only
        ``epsilon`` can be given.
    features : callable, optional
        φ, from points (N, D) to points (N, D'), applied once to each cloud. Default: the identity.
    symmetric : bool, default True
        Whether c(x, y) = c(y, x), which divergences need.
    translation_invariant : bool, default False
        Whether c(x + t, y + t) = c(x, y), so that points can be centred before they are rounded.
    lower_bound : callable, optional
        ρ, nondecreasing, with e(x, y) ≥ ρ(‖x − y‖) for features x and y: pairs of far cells can then be left out
        of sums. Without it all pairs are computed.
    modulus : callable, optional
        From costs c and lengths δ: at most what such costs change by when the features of the two points move by δ in
        total. Certified intervals then sum in float32 where the solve does; without it in float64.
    quadratic : float, optional
        κ, if e(x, y) = κ‖x − y‖²: bounds are then tighter, and cells may have stand-ins.
    unit : float, default 1
        λ if the cost is λ times a power of a length; then ε = λ p σ^p.
    looked_up : bool, default False
        Whether points are positions in a table, with nothing between them: the expression is for torch tensors alone,
        and all pairs are computed.
    parameters : tuple of Tensor, default ()
        Numbers, of shape () or (K,), that the expression takes as further arguments, ``e(x, y, *parameters)``, and
        that losses are differentiated in.

    Raises
    ------
    TypeError, ValueError
        For a name that is no string, and a degree that is no positive number.

    Examples
    --------
    >>> import torch
    >>> cost = Cost(name="manhattan", expression=lambda x, y: (x - y).abs().sum(-1), degree=1.0)
    >>> cost(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([[7.]])
    """

    name: str
    expression: Expression
    degree: float | None = None
    features: Callable[[Tensor], Tensor] | None = None
    symmetric: bool = True
    translation_invariant: bool = False
    lower_bound: Callable[[Tensor], Tensor] | None = None
    modulus: Callable[[Tensor, Tensor], Tensor] | None = None
    quadratic: float | None = None
    unit: float = 1.0
    looked_up: bool = False
    parameters: tuple[Tensor, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Refuse what no cost has."""
        check_name(self.name)
        flag("symmetric", self.symmetric)
        if self.degree is not None:
            positive("degree", self.degree, other=" or None")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrix of costs, shape (N, M), between points (N, D) and (M, D)."""
        x, y = self.map(x), self.map(y)
        return self.between(x[..., :, None, :], y[..., None, :, :])

    def between(self, x: Tensor, y: Tensor) -> Tensor:
        """e(x, y) of features that broadcast against each other, at the parameters' present values.

        Parameters
        ----------
        x, y : Tensor, shapes (..., 1, D) and (1, ..., D), or others
            Features.

        Returns
        -------
        Tensor
        """
        if self.looked_up:  # what is found is rounded, and not all of the table
            looked: Tensor = self.expression(x, y, *(p.detach() for p in self.parameters)).to(x)
            return looked
        costs: Tensor = self.expression(x, y, *(p.detach().to(x) for p in self.parameters))
        return costs

    def map(self, points: Tensor) -> Tensor:
        """φ(points): what the expression is evaluated on.

        Parameters
        ----------
        points : Tensor, shape (..., N, D)

        Returns
        -------
        Tensor, shape (..., N, E)
        """
        return points if self.features is None else self.features(points)

    def transpose(self) -> Cost:
        """The cost with its two arguments exchanged.

        Returns
        -------
        Cost
        """
        if self.symmetric:
            return self
        return replace(self, expression=functools.partial(exchanged, self.expression))

    def scaled(self, factor: float) -> Cost:
        """The cost times a positive number.

        A blur keeps its meaning: ``cost.scaled(0.5).epsilon(blur)`` is half of ``cost.epsilon(blur)``.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Cost

        Raises
        ------
        TypeError, ValueError
            If it is not a positive number.
        """
        positive("factor", factor)
        bound, modulus = self.lower_bound, self.modulus
        return replace(
            self,
            name=f"{factor:g} {self.name}",
            expression=functools.partial(times, factor, self.expression),
            lower_bound=None if bound is None else functools.partial(scaled_bound, factor, bound),
            modulus=None if modulus is None else functools.partial(scaled_modulus, factor, modulus),
            quadratic=None if self.quadratic is None else factor * self.quadratic,
            unit=factor * self.unit,
        )

    def epsilon(self, blur: float, name: str = "blur") -> float:
        """Temperature ε = p σ^p of a length σ, times ``unit``.

        Parameters
        ----------
        blur : float
            σ.
        name : str, default "blur"
            What an error calls the length.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If the cost is no power of a length.
        """
        if self.degree is None:
            instead = "rho" if name == "reach" else "epsilon"
            raise ValueError(f"{name}: cost {self.name!r} is no power of a length; give {instead}, in its units.")
        return float(self.unit * self.degree * blur**self.degree)


def check_name(name: Any) -> None:
    """Refuse what is no name, of a cost or a kernel.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(name, str):
        raise TypeError(f"name: a {type(name).__name__} was given, expected a string.")
    if not name:
        raise ValueError("name: an empty one was given, expected letters.")
