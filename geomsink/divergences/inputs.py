"""Points, weights and temperature as problems take them, with the autograd history of what the caller gave."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..copies import Constant
from ..costs import Cost
from .options import Options


@dataclass(frozen=True)
class Inputs(Constant):
    """What the caller's arguments were made into, with autograd history where they have any.

    Attributes
    ----------
    points : pair of Tensor, shapes (..., N, D) and (..., M, D)
        As the caller gave them, float64.
    x, y : Tensor, shapes (..., N, D') and (..., M, D')
        Their features, float64.
    a, b : Tensor, shapes (..., N) and (..., M)
        Weights, of mass 1 if the marginals are fixed, or they are to be normalised.
    mass : Tensor, shape (...)
        What the weights had to be divided by.
    epsilon : Tensor, shape ()
    centre : Tensor, shape (..., 1, D)
        What coordinates, or features, are relative to.
    parameters : tuple of Tensor
        Of the cost.
    masses : pair of Tensor, shape (...)
        Of a and b; where these are parts of larger measures, of those.
    """

    points: tuple[Tensor, Tensor]
    x: Tensor
    y: Tensor
    a: Tensor
    b: Tensor
    mass: Tensor
    epsilon: Tensor
    centre: Tensor
    parameters: tuple[Tensor, ...]
    masses: tuple[Tensor, Tensor]

    @classmethod
    def of(
        cls,
        points: tuple[Tensor, Tensor],
        weights: tuple[Tensor, Tensor],
        options: Options,
        centre: Tensor | None = None,
        whole: tuple[Tensor, tuple[Tensor, Tensor]] | None = None,
    ) -> Inputs:
        """From validated points and weights; an earlier ``centre`` is kept where it is good enough.

        ``whole`` are the centre and the masses of clouds that these are parts of.
        """
        cost = options.ground
        given = points[0].double(), points[1].double()
        x, y = positions(points, cost)
        # Rounding errors of a cost are relative to the coordinates: keep those small where it depends on differences.
        if cost.translation_invariant or cost.quadratic is not None:
            centre = _centre(x.detach(), y.detach(), centre) if whole is None else whole[0]
            x, y = x - centre, y - centre
        else:
            centre = torch.zeros_like(x[..., :1, :])
        if not _maps_first(cost):
            x, y = _mapped(cost, x), _mapped(cost, y)
        a, b = weights
        mass = x.new_ones(x.shape[:-2])
        masses = (a.sum(-1), b.sum(-1)) if whole is None else whole[1]
        if options.balanced or options.normalize:
            # Masses that differ by rounding would be a floor under the marginal error: each is made 1.
            # Of a whole, other processes have parts: what it gives to the gradient is added where all know it.
            first, second = masses if whole is None else (masses[0].detach(), masses[1].detach())
            a, b = a / first[..., None], b / second[..., None]
            mass = mass if options.normalize else 0.5 * (masses[0] + masses[1])
            masses = (a.sum(-1), b.sum(-1)) if whole is None else (torch.ones_like(first), torch.ones_like(second))
        epsilon = options.live_epsilon().to(x.device)
        return cls(given, x, y, a, b, mass, epsilon, centre, cost.parameters, masses)

    def features(self, cost: Cost, points: Tensor) -> Tensor:
        """Of other points (..., K, D), as those of the two clouds are, float64."""
        points = points.double()
        if _maps_first(cost):
            return _mapped(cost, points) - self.centre
        return _mapped(cost, points - self.centre)

    @property
    def live(self) -> bool:
        """Whether anything has history that autograd is to follow."""
        tensors = (self.x, self.y, self.a, self.b, self.epsilon, *self.parameters)
        return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def positions(points: tuple[Tensor, Tensor], cost: Cost) -> tuple[Tensor, Tensor]:
    """What a centre is the mean of: points, or features, in float64."""
    x, y = points[0].double(), points[1].double()
    return (_mapped(cost, x), _mapped(cost, y)) if _maps_first(cost) else (x, y)


def _maps_first(cost: Cost) -> bool:
    """Whether points are centred after they are mapped, if at all: before, where the cost allows it, loses less."""
    return not cost.translation_invariant


def _centre(x: Tensor, y: Tensor, earlier: Tensor | None) -> Tensor:
    """Of two clouds, or an earlier one that is not farther from it than the points are: the same cloud, in the next
    call, then has the same coordinates."""
    centre = 0.5 * (x.mean(-2, keepdim=True) + y.mean(-2, keepdim=True))
    if earlier is None or earlier.shape != centre.shape or earlier.device != centre.device:
        return centre
    extent = torch.maximum(*((p - centre).norm(dim=-1).amax(-1) for p in (x, y)))
    moved = (earlier - centre).norm(dim=-1)[..., 0]
    return earlier if bool((moved <= extent).all()) else centre


def _mapped(cost: Cost, points: Tensor) -> Tensor:
    flat = points.flatten(0, -2)
    features = cost.map(flat)
    if features.ndim != 2 or len(features) != len(flat):
        raise ValueError(
            f"cost: features of points {tuple(flat.shape)} have shape {tuple(features.shape)}, expected as many rows."
        )
    if not bool(features.isfinite().all()):
        raise ValueError(f"cost: features of cost {cost.name!r} are NaN or infinite for some points.")
    mapped: Tensor = features.double().unflatten(0, points.shape[:-1])
    return mapped
