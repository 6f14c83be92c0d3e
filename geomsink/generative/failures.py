"""What is said when numbers stop being numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .objective import NotFinite


class NonFiniteError(FloatingPointError):
    """Training stopped where numbers are NaN or infinite, before they changed any weight.

    Weights are those before the optimiser's step that was not made; earlier ones of the same training step (of
    features, or towards targets) are in them. The checkpoint is of a whole step.

    Attributes
    ----------
    what : str
        Where they were seen first: ``"generated points"``, ``"features"``, ``"loss"``, ``"gradient"``,
        ``"gradient towards targets"``, ``"gradient of the features"`` or ``"held-out value"``.
    step : int
        The step, counted from 1.
    seed : int
        Of the batch: after ``torch.manual_seed(seed)`` its latent variables are drawn.
    value : float or None
        Of the loss, if it came to that.
    marginal_error, epsilon, status : float, float and str, or None
        Of the last solve of the loss, where it has a report.
    x, y : Tensor or None
        Generated points and data of the batch, in this process.
    checkpoint : Path or None
        The last one, from which training can go on.
    """

    what: str
    step: int
    seed: int
    value: float | None
    marginal_error: float | None
    epsilon: float | None
    status: str | None
    x: Tensor | None
    y: Tensor | None
    checkpoint: Path | None

    @classmethod
    def of(cls, problem: NotFinite, step: int, report: Any, checkpoint: Path | None) -> NonFiniteError:
        """With the sentence that says it all.

        Parameters
        ----------
        problem : NotFinite
            What was found, and where.
        step : int
        report : object
            Of the loss, where it has one.
        checkpoint : Path or None
            The last one that was written.

        Returns
        -------
        NonFiniteError
        """
        if getattr(report, "status", None) is None:
            solve, solver = (None, None, None), "the loss has no report of a solver"
        else:
            solve = report.marginal_error, report.epsilon, report.status
            solver = f"last solve {solve[2]}, marginal error {solve[0]:.3g}, epsilon {solve[1]:.3g}"
        loss = "" if problem.value is None else f", loss {problem.value:.6g}"
        kept = "no checkpoint is kept" if checkpoint is None else f"the last checkpoint is {checkpoint}"
        error = cls(f"step {step}: {problem.what} not finite (batch of seed {problem.seed}{loss}; {solver}); {kept}.")
        error.what, error.step, error.seed, error.value = problem.what, step, problem.seed, problem.value
        error.marginal_error, error.epsilon, error.status = solve
        error.x, error.y = (cloud.detach() for cloud in problem.clouds) if problem.clouds else (None, None)
        error.checkpoint = checkpoint
        return error
