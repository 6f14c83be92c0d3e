"""Fitting a generator to data, step by step, with all that a long run needs."""

from __future__ import annotations

import copy
import numbers
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from ..counts import flag, positive, whole
from . import arguments, checkpoints, objective, optimisers, processes
from .adversary import LearnedCost
from .algorithm import Algorithm
from .checkpoints import CheckpointError
from .data import Rows, all_of, set_apart, source
from .failures import NonFiniteError
from .generators import recipe
from .heldout import HeldOut
from .latents import sampler
from .objective import NotFinite, Objective
from .reports import Bar, Board, Log, Row
from .result import Fit
from .schedules import Course, Schedule, half_cosine
from .targets import Targets


class Trainer:
    """Trains a generator so that its points resemble data, step by step; `fit` does all steps at once.

    Parameters
    ----------
    generator, data, loss, steps, batch, samples, latent, optimizer, lr, blur, epsilon, features, targets, clip, \
average, seed, held_out, score, evaluate_every, patience, folder, checkpoint_every, log, tensorboard, progress
        As `geomsink.generative.fit`, which says what each is, takes them; the loss has no default here.

    Attributes
    ----------
    generator : torch.nn.Module
        The one that is trained.
    average : torch.nn.Module or None
        A copy with averaged weights.
    step, steps : int
        How many are done, and how many will be.
    history : list of dict
        A row of numbers for each step: ``step``, ``loss``, ``held_out`` (None where it was not measured), ``blur`` or
        ``epsilon`` where the loss has one, ``lr`` where it changes, ``gradient_norm``, ``marginal_error`` of the solver
        where it has one, ``features_loss`` with learned features and ``targets_loss`` with targets (means over the
        inner steps, as the gradient's norm is then), ``seconds``.
    loss, score : callable
        In use: as given, but without memory. Their ``report`` is of the last call.
    best_value, best_step : float and int, or None
        On held-out data so far.
    stopped : str or None
        ``"patience"`` once held-out data got no better.

    Raises
    ------
    TypeError, ValueError
        For bad arguments: one sentence each.

    Examples
    --------
    >>> import torch
    >>> from geomsink import SinkhornDivergence
    >>> from geomsink.generative import Ellipse
    >>> trainer = Trainer(Ellipse(), torch.randn(100, 2), SinkhornDivergence(blur=0.5), steps=3)
    >>> [row["step"] for row in trainer.run()]
    [1, 2, 3]
    """

    def __init__(
        self,
        generator: nn.Module,
        data: Any,
        loss: Any,
        *,
        steps: int = 1000,
        batch: int | None = None,
        samples: int | None = None,
        latent: Any = None,
        optimizer: Any = "rmsprop",
        lr: Any = None,
        blur: Any = None,
        epsilon: Any = None,
        features: nn.Module | LearnedCost | None = None,
        targets: Targets | None = None,
        clip: float | None = None,
        average: float | None = None,
        seed: int = 0,
        held_out: Any = None,
        score: Any = None,
        evaluate_every: int = 100,
        patience: int | None = None,
        folder: str | PathLike[str] | None = None,
        checkpoint_every: int = 100,
        log: str | PathLike[str] | None = None,
        tensorboard: bool = False,
        progress: bool = False,
    ):
        if not isinstance(generator, nn.Module):
            raise TypeError(f"generator: a {type(generator).__name__} was given, expected a torch.nn.Module.")
        self.generator, self.loss = generator, objective.forgetful("loss", loss)
        self.steps, self.seed = whole("steps", steps), whole("seed", seed, 0)
        self._evaluate_every = whole("evaluate_every", evaluate_every)
        self._checkpoint_every = whole("checkpoint_every", checkpoint_every)
        self._progress, self._tensorboard = flag("progress", progress), flag("tensorboard", tensorboard)
        self._may_stop = patience is not None
        self.folder = None if folder is None else Path(folder)
        if tensorboard and self.folder is None:
            raise ValueError("tensorboard: True given without a folder to write to; expected folder=.")
        self._log = Path(log) if log is not None else self.folder / "log.csv" if self.folder else None
        if not (targets is None or isinstance(targets, Targets)):
            raise TypeError(f"targets: a {type(targets).__name__} was given, expected Targets or None.")
        self._latent, learned = latent, LearnedCost.of(features)
        schedule = _schedule(self.loss, blur, epsilon, self.steps)
        if schedule is not None:  # which sets the loss's temperature, and not the caller's own
            self.loss = copy.copy(self.loss)
        if not (lr is None or isinstance(lr, numbers.Real) or isinstance(optimizer, str)):
            raise ValueError(f"lr: {lr} given with an optimiser that has its own; expected None.")
        rates = None if lr is None or isinstance(lr, numbers.Real) else Course("lr", lr, self.steps, half_cosine)
        made = optimisers.optimiser("optimizer", optimizer, rates(0) if rates else lr, generator, "generator")
        like = next(generator.parameters()).detach()
        batches, kept = source(data, batch, self.seed, like), None
        described = batches.describe()
        if isinstance(held_out, (int, float)):
            batches, kept = set_apart(batches, held_out, self.seed)
        elif held_out is not None:
            kept = all_of("held_out", held_out, self.seed, like)
        self.score = _score(self.loss, score, schedule, self.steps, kept is not None, learned is not None)
        self._held_out = None
        if kept is not None:
            self._held_out = HeldOut(kept.to(like), Objective(self.score), self.seed, patience)
        elif patience is not None:
            raise ValueError(f"patience: {patience} given without data to measure on; expected held_out=.")
        self._algorithm = Algorithm(
            generator, made, rates, batches, sampler(latent, generator),
            None if samples is None else whole("samples", samples),
            self.loss, schedule, learned, targets,
            None if clip is None else positive("clip", clip),
            None if average is None else arguments.share("average", average),
            self.seed,
        )  # fmt: skip
        if targets is not None and (
            known := samples or batch or (len(batches.items) if isinstance(batches, Rows) else 0)
        ):
            targets.check(known)
        self.step, self.history = 0, list[Row]()
        self.stopped: str | None = None
        self._seconds, self._broken_off = 0.0, False
        measured = "none"
        if self._held_out is not None:
            count = processes.total(len(self._held_out.points))
            measured = f"{count} points each {evaluate_every} steps by {objective.describe(self.score)}"
        self._settings = {
            "seed": str(self.seed), "data": described, "batch": str(batch), "samples": str(samples),
            "latent": str(latent) if isinstance(latent, (int, tuple, list)) else type(latent).__name__,
            "loss": objective.describe(loss), "schedule": schedule.describe() if schedule else "none",
            "optimizer": optimisers.describe(made), "lr": rates.describe() if rates else "none",
            "clip": str(clip), "average": str(average),
            "features": learned.describe(self._algorithm.features_optimizer) if learned else "none",
            "targets": str(targets), "held_out": measured,
        }  # fmt: skip
        self._checkpoint: Path | None = None
        if self.folder is not None:
            self._resume(self.folder)

    @property
    def average(self) -> nn.Module | None:
        return self._algorithm.average

    @property
    def best_step(self) -> int | None:
        return self._held_out.best_step if self._held_out else None

    @property
    def best_value(self) -> float | None:
        return self._held_out.value if self._held_out else None

    # ------------------------------------------------------------------- the loop

    def train(self) -> Fit:
        """Do all steps that are left.

        Returns
        -------
        Fit

        Raises
        ------
        NonFiniteError
            As soon as points, the loss, a gradient or the held-out value are not finite.
        """
        for _ in self.run():
            pass
        return self.result()

    def run(self) -> Iterator[Row]:
        """The same step by step: a row of ``history`` after each. The caller may leave the loop, and come back.

        Yields
        ------
        dict
            The row of a step.

        Raises
        ------
        NonFiniteError
            As `train`.
        RuntimeError
            If an exception or an interrupt broke off a step before; so does `save`.
        """
        self._check_whole()
        began = time.perf_counter() - self._seconds
        with ExitStack() as opened:
            log, reports = self._reports(opened)
            while self.step < self.steps and self.stopped is None:
                with processes.step(f"step {self.step + 1} of the fit"):
                    row = self._row()
                    row["seconds"] = self._seconds = time.perf_counter() - began
                    self.history.append(row)
                    for report in reports:
                        report.write(row)
                    last = self.step == self.steps or self.stopped is not None
                    if self.folder is not None and (last or self.step % self._checkpoint_every == 0):
                        if log is not None:
                            log.settle()
                        self.save()
                yield row

    def _check_whole(self) -> None:
        if self._broken_off:
            raise RuntimeError(
                f"trainer: step {self.step + 1} was broken off with some of its updates done; expected a new Trainer, "
                "which goes on from the last checkpoint of its folder."
            )

    def _row(self) -> Row:
        try:
            self._broken_off = True  # until all its updates are done
            numbers = self._algorithm.step(self.step)
            self._broken_off = False
            self.step += 1
            row: Row = {"step": self.step, **dict.fromkeys(self._columns[1:]), **numbers}
            if self._held_out is not None and (self.step % self._evaluate_every == 0 or self.step == self.steps):
                row["held_out"] = self.evaluate()
                self._held_out.note(row["held_out"], self.step, self._algorithm.best_guess.state_dict())
                self.stopped = "patience" if self._held_out.exhausted else None
        except NotFinite as problem:
            measuring = problem.what == "held-out value"  # of a step that is done
            report = getattr(self.score if measuring else self.loss, "report", None)
            raise NonFiniteError.of(problem, self.step + (not measuring), report, self._checkpoint) from None
        return row

    @property
    def _columns(self) -> list[str]:
        loss, *others = self._algorithm.columns
        return ["step", loss, "held_out", *others, "seconds"]

    def _reports(self, opened: ExitStack) -> tuple[Log | None, list[Any]]:
        """The first process writes, the others do not."""
        log: Log | None = None
        reports: list[Any] = []
        if processes.rank() == 0:
            if self._progress:
                reports.append(opened.enter_context(closing(Bar(self.steps, self.step, self._may_stop))))
            if self._tensorboard and self.folder is not None:
                reports.append(opened.enter_context(closing(Board(self.folder, self.step))))
            if self._log is not None:
                log = opened.enter_context(closing(Log(self._log, self._columns, self.step)))
                self.history = log.rows
                reports.append(log)
        return log, reports

    def evaluate(self) -> float:
        """The score of the generator as it stands, with averaged weights if there are any, on held-out data.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            Without such data.
        """
        if self._held_out is None:
            raise ValueError("held_out: None was given, expected data to measure on.")
        return self._held_out.score(self._algorithm.best_guess, self._algorithm.latent)

    def result(self) -> Fit:
        """What training has given so far.

        Returns
        -------
        Fit
        """
        generator = copy.deepcopy(self._algorithm.best_guess)
        if self._held_out is not None and self._held_out.weights is not None:
            generator.load_state_dict(self._held_out.weights)
        why = self.stopped or ("steps" if self.step >= self.steps else "interrupted")
        last = self.history[-1]["loss"] if self.history else None
        return Fit(
            generator.eval(), self.step, why, last, self.best_value, self.best_step, list(self.history), self.folder,
            self._latent,
        )  # fmt: skip

    # --------------------------------------------------------------- checkpoints

    def save(self) -> Path:
        """Write a checkpoint now, which the first process does.

        Returns
        -------
        Path
            Of the file.

        Raises
        ------
        ValueError
            Without a folder.
        """
        if self.folder is None:
            raise ValueError("folder: None was given, expected one to write checkpoints to.")
        self._check_whole()
        self._checkpoint = checkpoints.path_of(self.folder, self.step)
        if processes.rank() == 0:
            state = {
                "settings": self._settings,
                "recipe": recipe(self.generator),
                "seconds": self._seconds,
                "held_out": self._held_out.state() if self._held_out else None,
                **self._algorithm.state(),
            }
            checkpoints.write(self.folder, self.step, state)
        return self._checkpoint

    def _resume(self, folder: Path) -> None:
        """Go on from the last checkpoint of the folder, which the first process reads for all."""
        found: Any = None
        if processes.rank() == 0:
            try:
                found = checkpoints.newest(folder)
            except CheckpointError as problem:
                found = problem
        found = processes.agreed(found)
        if isinstance(found, CheckpointError):
            raise found
        if found is None:
            return
        path, state = found
        for name, now in self._settings.items():
            then = state["settings"].get(name)
            if then != now:
                raise ValueError(
                    f"{name}: the run in {folder} has {then!r}, this one {now!r}; expected the same, or another folder."
                )
        try:
            self._algorithm.load(state)
            if self._held_out is not None:
                self._held_out.load(state["held_out"], self._algorithm.like)
                self.stopped = "patience" if self._held_out.exhausted else None
        except checkpoints.UNFIT as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: it is of other networks ({reason}); expected the same ones.") from error
        self.step, self._seconds = state["step"], state["seconds"]
        self._checkpoint = path


def _schedule(loss: Any, blur: Any, epsilon: Any, steps: int) -> Schedule | None:
    if blur is not None and epsilon is not None:
        raise ValueError("blur, epsilon: both were given, expected one schedule.")
    for name, given in (("blur", blur), ("epsilon", epsilon)):
        if given is not None:
            return Schedule(loss, name, given, steps)
    return None


def _score(loss: Any, given: Any, schedule: Schedule | None, steps: int, wanted: bool, learned: bool) -> Any:
    """What is measured on held-out data: the loss at its last temperature, or another."""
    if not wanted:
        if given is not None:
            raise ValueError("score: a loss was given without data to measure on; expected held_out=.")
        return None
    if given is not None:
        return objective.forgetful("score", given)
    if learned:
        raise ValueError(
            "score: None given with features, whose cost is another at each step; expected a loss for held-out data."
        )
    if schedule is None:
        return objective.forgetful("loss", loss)
    score = copy.copy(loss)  # with a temperature of its own
    setattr(score, schedule.name, schedule(steps - 1))
    return score
