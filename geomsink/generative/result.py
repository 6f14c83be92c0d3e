"""A fitted generator, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .latents import sample
from .reports import Row


@dataclass(frozen=True)
class Fit:
    """What training gave.

    Attributes
    ----------
    generator : torch.nn.Module
        A copy in evaluation mode: with the weights that were best on held-out data; without such data the average of
        the weights; without that the last ones.
    steps : int
        Done.
    stopped : {"steps", "patience", "interrupted"}
        Why: all are done, held-out data got no better, or the caller left the loop.
    loss : float or None
        Of the last step.
    held_out : float or None
        The best value on held-out data.
    best_step : int or None
        After which that was.
    history : list of dict
        A row for each step.
    folder : Path or None
        Of the checkpoints.
    latent : object
        As it was given, for `sample`.
    """

    generator: nn.Module
    steps: int
    stopped: str
    loss: float | None
    held_out: float | None
    best_step: int | None
    history: list[Row] = field(repr=False)
    folder: Path | None = None
    latent: Any = field(default=None, repr=False)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n points (n, ...), as `geomsink.generative.sample`."""
        return sample(self.generator, n, latent=self.latent, seed=seed)
