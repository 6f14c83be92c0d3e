"""What is measured on data that training does not see, and which weights were best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..counts import whole
from . import processes
from .latents import Sampler
from .objective import NotFinite, Objective
from .randomness import LATENTS, seeded

PASS = 2**31
"""In place of a step: the latent variables are the same for each evaluation."""


class HeldOut:
    """A score on held-out points, of as many generated ones.

    Parameters
    ----------
    points : Tensor (n, ...)
        Those of this process.
    objective : Objective
    seed : int
    patience : int, optional
        Evaluations without a new best after which it is time to stop.

    Attributes
    ----------
    value, best_step : float and int, or None
        The best so far, and after which step it was.
    weights : dict or None
        Those that were best.
    """

    def __init__(self, points: Tensor, objective: Objective, seed: int, patience: int | None):
        self.points, self.objective, self._seed = points, objective, seed
        self._patience = None if patience is None else whole("patience", patience)
        self.value: float | None = None
        self.best_step: int | None = None
        self.weights: dict[str, Any] | None = None
        self._misses = 0

    @torch.no_grad()
    def score(self, generator: nn.Module, latent: Sampler) -> float:
        """The same on all processes; `NotFinite` is raised as `Objective` does."""
        was_training = generator.training
        generator.eval()
        try:
            with seeded(self._seed, LATENTS, PASS, device=self.points.device) as seed:
                n = processes.total(len(self.points), self.points)
                x = generator(latent(n)[processes.part(n)])
                try:
                    return float(processes.agreed(float(self.objective(x, self.points))))
                except NotFinite as problem:
                    problem.what, problem.seed, problem.clouds = "held-out value", seed, (x, self.points)
                    raise
        finally:
            generator.train(was_training)

    def note(self, value: float, step: int, weights: dict[str, Any]) -> None:
        """Keep the weights if they are the best so far."""
        if self.value is None or value < self.value:
            self.value, self.best_step, self._misses = value, step, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        else:
            self._misses += 1

    @property
    def exhausted(self) -> bool:
        return self._patience is not None and self._misses >= self._patience

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "step": self.best_step, "weights": self.weights, "misses": self._misses}

    def load(self, state: dict[str, Any], like: Tensor) -> None:
        self.value, self.best_step, self._misses = state["value"], state["step"], state["misses"]
        kept = state["weights"]
        self.weights = None if kept is None else {name: tensor.to(like.device) for name, tensor in kept.items()}
