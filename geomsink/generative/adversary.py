"""Costs that are learned against the generator: features φ, n_c steps of which raise the loss, and what bounds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from ..counts import one_of, positive, whole
from . import processes
from .optimisers import describe, optimiser
from .randomness import PENALTY, START, normal, seeded, uniform

POWER_ITERATIONS = 2
"""For the largest singular value of a Jacobian: a random direction has a little of all of them."""


class Constraint:
    """What keeps φ from raising a loss by making everything larger; each kind of it does a part of this."""

    def prepare(self, phi: nn.Module) -> None:
        """Once, before training.

        Parameters
        ----------
        phi : torch.nn.Module
            φ, which may be changed in place.
        """

    def after_step(self, phi: nn.Module) -> None:
        """After each step of φ.

        Parameters
        ----------
        phi : torch.nn.Module
            φ, which may be changed in place.
        """

    def penalty(self, phi: nn.Module, x: Tensor, y: Tensor, place: tuple[int, ...]) -> Tensor | None:
        """This process's part of what is taken from the loss that φ raises, at points of all processes.

        Parameters
        ----------
        phi : torch.nn.Module
        x, y : Tensor, shapes (n, ...) and (m, ...)
            Generated points and data.
        place : tuple of int
            What the random numbers follow from.

        Returns
        -------
        Tensor, shape (), or None
        """
        return None


@dataclass(frozen=True)
class Clip(Constraint):
    """Each weight of φ is kept within [−bound, bound], as in arXiv:1706.00292, Algorithm 1.

    Parameters
    ----------
    bound : float, default 0.01
    """

    bound: float = 0.01

    def __post_init__(self) -> None:
        positive("bound", self.bound)

    def prepare(self, phi: nn.Module) -> None:
        """Once, before training: clips.

        Parameters
        ----------
        phi : torch.nn.Module
            φ, which is changed in place.
        """
        self.after_step(phi)

    @torch.no_grad()
    def after_step(self, phi: nn.Module) -> None:
        """Clips each weight, after each step of φ.

        Parameters
        ----------
        phi : torch.nn.Module
            φ, which is changed in place.
        """
        for weight in phi.parameters():
            weight.clamp_(-self.bound, self.bound)


@dataclass(frozen=True)
class SpectralNorm(Constraint):
    """Each linear map and convolution of φ is divided by its largest singular value (arXiv:1802.05957).

    Maps then stretch nothing (convolutions, whose kernels are taken as matrices, nearly so), and φ with activations
    such as ReLU has the Lipschitz constant 1 at most. It is torch's ``parametrizations.spectral_norm``, which makes new
    parameters: φ's optimiser is to be given by name or as a function.
    """

    def prepare(self, phi: nn.Module) -> None:
        """Once, before training: makes the linear maps of φ divide by their norms.

        Parameters
        ----------
        phi : torch.nn.Module
            φ, which is changed in place.

        Raises
        ------
        ValueError
            If φ has no such map.
        """
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        maps = [m for m in phi.modules() if isinstance(m, kinds)]
        if not maps:
            raise ValueError(f"features: {type(phi).__name__} has no linear map or convolution for SpectralNorm.")
        for m in maps:
            if not _is_normed(m):
                spectral_norm(m)


def _is_normed(m: nn.Module) -> bool:
    """By an earlier run with the same φ."""
    if not parametrize.is_parametrized(m, "weight"):
        return False
    ours: Any = m.parametrizations
    return any(type(p).__name__ == "_SpectralNorm" for p in ours["weight"])


@dataclass(frozen=True)
class GradientPenalty(Constraint):
    """weight · mean_i max(σ(J_φ(p_i)) − bound, 0)² is taken from the loss that φ raises.

    σ is the largest singular value of φ's Jacobian, by power iterations; the p_i lie at random places between generated
    points and data. φ has to treat points one by one (no batch norm).

    Parameters
    ----------
    weight : float, default 10.0
        In units of the loss.
    bound : float, default 1.0
        On φ's Lipschitz constant.

    Notes
    -----
    Gulrajani et al. 2017 (arXiv:1704.00028), one-sided as Petzka et al. 2018 (arXiv:1709.08894), and of the Jacobian of
    features in place of one function's gradient.
    """

    weight: float = 10.0
    bound: float = 1.0

    def __post_init__(self) -> None:
        positive("weight", self.weight)
        positive("bound", self.bound)

    def penalty(self, phi: nn.Module, x: Tensor, y: Tensor, place: tuple[int, ...]) -> Tensor:
        """This process's part of what is taken from the loss that φ raises, at points of all processes.

        Parameters
        ----------
        phi : torch.nn.Module
        x, y : Tensor, shapes (n, ...) and (m, ...)
            Generated points and data.
        place : tuple of int
            What the random numbers follow from.

        Returns
        -------
        Tensor, shape ()
        """
        n = min(len(x), len(y))
        with seeded(*place, PENALTY):
            t = uniform(n, *(1,) * (x.ndim - 1)).to(x)
            mine = processes.part(n)
            p = (t * x[:n] + (1 - t) * y[:n])[mine].detach().requires_grad_()
            features = phi(p).flatten(1)
            v = nn.functional.normalize(normal(n, features.shape[1]), dim=1)[mine].to(features)
        stretch = _largest_singular_value(features, p, v)
        return self.weight * (stretch - self.bound).clamp(min=0.0).square().sum() / n


def _largest_singular_value(features: Tensor, p: Tensor, v: Tensor) -> Tensor:
    """‖Jᵀ v‖ of each point, (n,), with v near J's first left singular vector, from a random one."""
    for _ in range(POWER_ITERATIONS):
        # J u is the derivative of ⟨Jᵀ w, u⟩ in w, which is linear in w.
        w = v.clone().requires_grad_()
        (pulled,) = torch.autograd.grad(features, p, w, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, w, pulled.detach(), retain_graph=True, allow_unused=True)
        v = nn.functional.normalize(pushed.detach(), dim=1)
    (pulled,) = torch.autograd.grad(features, p, v, create_graph=True)
    stretch: Tensor = pulled.flatten(1).norm(dim=1)
    return stretch


CONSTRAINTS: dict[str, type[Constraint]] = {"clip": Clip, "spectral": SpectralNorm, "penalty": GradientPenalty}


class LearnedCost:
    """Features φ that are trained against the generator: c_φ(x, y) = e(φ(x), φ(y)), with e the cost of the loss.

    Parameters
    ----------
    phi : torch.nn.Module
        φ, from points (n, ...) as the data are to features (n, ...). Generated points and data pass it together.
    steps : int, default 5
        n_c, steps of φ that raise the loss for each of the generator, each on a batch of its own.
    constraint : {"clip", "spectral", "penalty"}, Clip, SpectralNorm, GradientPenalty or None, default "clip"
        What bounds φ. The names stand for the default numbers; None is for a φ that is bounded by its form.
    optimizer : str, callable or torch.optim.Optimizer, default "rmsprop"
    lr : float, optional
        As `Trainer` takes them.

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Notes
    -----
    Genevay, Peyré, Cuturi 2018 (arXiv:1706.00292), section 4 and Algorithm 1. A loss of φ(x) and φ(y) is the
    loss with cost `geomsink.FeatureCost`. Its blur is a length between features, which a bound on φ bounds.

    Examples
    --------
    >>> LearnedCost(nn.Linear(2, 8), steps=2, constraint=Clip(0.1)).constraint
    Clip(bound=0.1)
    """

    def __init__(
        self,
        phi: nn.Module,
        *,
        steps: int = 5,
        constraint: str | Constraint | None = "clip",
        optimizer: Any = "rmsprop",
        lr: float | None = None,
    ):
        if not isinstance(phi, nn.Module):
            raise TypeError(f"phi: a {type(phi).__name__} was given, expected a torch.nn.Module.")
        if isinstance(constraint, str):
            one_of("constraint", constraint, CONSTRAINTS)
            constraint = CONSTRAINTS[constraint]()
        elif not (constraint is None or isinstance(constraint, tuple(CONSTRAINTS.values()))):
            kind = type(constraint).__name__
            raise TypeError(f"constraint: a {kind} was given, expected a name, Clip, SpectralNorm or GradientPenalty.")
        self.phi, self.steps, self.constraint = phi, whole("steps", steps), constraint
        self._optimizer, self._lr = optimizer, lr

    @classmethod
    def of(cls, features: Any) -> LearnedCost | None:
        """With default numbers for a module.

        Parameters
        ----------
        features : torch.nn.Module, LearnedCost or None
            φ, or what has it already; None is none.

        Returns
        -------
        LearnedCost or None

        Raises
        ------
        TypeError
            For anything else.
        """
        if features is None or isinstance(features, LearnedCost):
            return features
        if not isinstance(features, nn.Module):
            raise TypeError(f"features: a {type(features).__name__} was given, expected a torch.nn.Module.")
        return cls(features)

    def begin(self, seed: int) -> torch.optim.Optimizer:
        """Put φ under its constraint, and make its optimiser.

        Parameters
        ----------
        seed : int
            Of φ's random numbers.

        Returns
        -------
        torch.optim.Optimizer
        """
        if self.constraint is not None:
            with seeded(seed, START):
                self.constraint.prepare(self.phi)
        return optimiser("optimizer of the features", self._optimizer, self._lr, self.phi, "features")

    def describe(self, optimizer: torch.optim.Optimizer | None) -> str:
        """For checkpoints: what must be the same when a run is resumed.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer or None
            That of φ.

        Returns
        -------
        str
        """
        return f"{type(self.phi).__name__}, {self.steps} steps, {self.constraint}, {optimizer and describe(optimizer)}"
