"""Costs of learned features: c(x, y) = ‖φ(x) − φ(y)‖² with φ a network that a loss has gradients in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from . import registry
from .cost import Cost


def FeatureCost(phi: nn.Module, ground: str | Cost = "sqeuclidean") -> Cost:
    """The cost e(φ(x), φ(y)) of features.

    Parameters
    ----------
    phi : torch.nn.Module
        φ, from points (P, D) to features (P, E); points come in the precision of its parameters. It is called once a
        cloud and solve, and gradients of a loss reach its parameters in every mode of differentiation. Batches of
        clouds of different sizes come filled up with copies of their last points, which BatchNorm would count.
    ground : str or Cost, default "sqeuclidean"
        e, a cost between features; a ``blur`` is a length between them.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If φ is not a module, or there is no such cost.

    Notes
    -----
    The learned cost of Genevay, Peyré, Cuturi 2018 (arXiv:1706.00292), section 4.

    Examples
    --------
    >>> import torch
    >>> phi = nn.Linear(2, 5, bias=False)
    >>> cost = FeatureCost(phi)
    >>> x, y = torch.rand(3, 2), torch.rand(4, 2)
    >>> torch.allclose(cost(x, y), torch.cdist(phi(x), phi(y)) ** 2, atol=1e-5)
    True
    """
    if not isinstance(phi, nn.Module):
        raise TypeError(f"phi: a {type(phi).__name__} was given, expected a torch.nn.Module.")
    base = registry.get(ground, "ground")
    return replace(
        base,
        name=f"{base.name} of {type(phi).__name__}",
        features=_Features(phi, base),
        translation_invariant=False,  # of features it may be, of points it is not
    )


@dataclass(frozen=True, eq=False)
class _Features:
    """From points to what the ground cost takes of their features."""

    phi: nn.Module
    ground: Cost

    def __call__(self, points: Tensor) -> Tensor:
        like = next(iter(self.phi.parameters()), None)
        mapped: Any = self.phi(points if like is None else points.to(like.device, like.dtype))
        if not isinstance(mapped, Tensor):
            raise TypeError(f"phi: it returned a {type(mapped).__name__}, expected a tensor (points, features).")
        return self.ground.map(mapped.to(points.device, points.dtype))
