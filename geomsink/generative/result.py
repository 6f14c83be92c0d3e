"""A fitted generator, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..shown import Curve, Facts, Shown, Words
from .latents import sample
from .reports import Row


@dataclass(frozen=True, repr=False)
class Fit(Shown):
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
    history: list[Row]
    folder: Path | None = None
    latent: Any = None

    def _facts(self) -> Facts:
        return {
            "generator": Words(type(self.generator).__name__),
            "steps": self.steps,
            "stopped": Words(f"stopped by {self.stopped}"),
            "loss": self.loss,
            "held_out": self.held_out,
            "best_step": self.best_step,
            "folder": None if self.folder is None else str(self.folder),
        }

    def _curve(self) -> Curve:
        return Curve([(k, row["loss"]) for k, row in enumerate(self.history, 1)], up="loss")

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Points of the generator, as `geomsink.generative.sample`.

        Parameters
        ----------
        n : int
            How many.
        seed : int, default 0
            The same seed gives the same points.

        Returns
        -------
        Tensor, shape (n, ...)
        """
        return sample(self.generator, n, latent=self.latent, seed=seed)
