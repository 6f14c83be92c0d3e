"""One step of Algorithm 1 of arXiv:1706.00292: n_c steps of the features up, one of the generator down.

With targets it is many of the generator, on one evaluation of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import processes
from .adversary import LearnedCost
from .data import Source
from .latents import Sampler
from .objective import NotFinite, Objective, finite, untrained
from .optimisers import gradient_norm
from .randomness import FORWARD, LATENTS, seeded
from .reports import Row
from .schedules import NAMES, Course, Schedule, number
from .targets import Targets


class Algorithm:
    """Everything that a step changes.

    Parameters
    ----------
    generator : torch.nn.Module
    optimizer : torch.optim.Optimizer
    rates : Course or None
        Of its learning rate; None leaves it alone.
    source : Source
    latent : callable
    samples : int or None
        Generated points a step; None is as many as data points.
    loss : callable
    schedule : Schedule or None
    learned : LearnedCost or None
    targets : Targets or None
    clip, average : float or None
    seed : int
    """

    def __init__(
        self,
        generator: nn.Module,
        optimizer: torch.optim.Optimizer,
        rates: Course | None,
        source: Source,
        latent: Sampler,
        samples: int | None,
        loss: Callable[[Tensor, Tensor], Tensor],
        schedule: Schedule | None,
        learned: LearnedCost | None,
        targets: Targets | None,
        clip: float | None,
        average: float | None,
        seed: int,
    ):
        self.generator, self.optimizer, self.source, self.latent = generator, optimizer, source, latent
        self._rates = rates
        self.loss, self._schedule, self._learned, self._targets = loss, schedule, learned, targets
        self._samples, self._clip, self._seed = samples, clip, seed
        self.like = next(generator.parameters()).detach()
        self.features_optimizer = None if learned is None else learned.begin(seed)
        self.objective = Objective(loss, None if learned is None else learned.phi)
        for module in self._networks.values():
            processes.first_of_all(module)
            module.train()
        mean = None if average is None else get_ema_multi_avg_fn(average)
        self._average = None if mean is None else AveragedModel(generator, multi_avg_fn=mean)

    @property
    def average(self) -> nn.Module | None:
        return None if self._average is None else self._average.module

    @property
    def best_guess(self) -> nn.Module:
        """The generator with averaged weights if there are any."""
        return self.average or self.generator

    @property
    def columns(self) -> list[str]:
        """Names of the numbers of a step."""
        temperature = [name for name in NAMES if number(self.loss, name) is not None]
        inner = {"features_loss": self._learned, "targets_loss": self._targets}
        rate = [] if self._rates is None else ["lr"]
        inner_losses = (name for name, on in inner.items() if on)
        return ["loss", *temperature, *rate, "gradient_norm", "marginal_error", *inner_losses]

    def step(self, t: int) -> Row:
        """Step t, counted from 0; it depends on nothing but t and the state.

        Raises
        ------
        NotFinite
            With the seed and the points of the batch. Weights of the generator are as they were before the optimiser's
            step that was about to be done.
        """
        row: Row = dict.fromkeys(self.columns)
        if self._schedule is not None:
            setattr(self.loss, self._schedule.name, self._schedule(t))
        if self._rates is not None:
            row["lr"] = self._rates(t)
            for group in self.optimizer.param_groups:
                group["lr"] = row["lr"]
        passes = 0 if self._learned is None else self._learned.steps
        if passes:
            row["features_loss"] = math.fsum(self._raise_loss(t, k) for k in range(passes)) / passes
        row |= self._lower_loss(t, passes) if self._targets is None else self._approach_targets(t, passes)
        row |= {name: number(self.loss, name) for name in NAMES if name in row}
        row["marginal_error"] = getattr(self.objective.report, "marginal_error", None)
        return row

    def _lower_loss(self, t: int, k: int) -> Row:
        self.optimizer.zero_grad()
        with self._batch(t, k) as (_, x, y), untrained(None if self._learned is None else self._learned.phi):
            value = self.objective(x, y)
            value.backward()
            loss = float(value.detach())
            return {"loss": loss, "gradient_norm": self._descend(loss, "gradient")}

    def _approach_targets(self, t: int, k: int) -> Row:
        assert self._targets is not None
        norms, distances = list[float](), list[float]()
        with self._batch(t, k, history=False) as (z, x, y):
            x, n = x.detach().requires_grad_(), processes.total(len(x))
            self._targets.check(n)
            if len(x) != len(z):
                raise ValueError(
                    f"generator: {len(x)} points came of {len(z)} latents, expected one of each for targets."
                )
            with untrained(None if self._learned is None else self._learned.phi):
                value = self.objective(x, y)
                (gradient,) = torch.autograd.grad(value, x)
            loss = float(value.detach())
            if processes.total(int((~gradient.isfinite()).sum())):
                raise NotFinite("gradient", loss)
            goals = self._targets.of(x.detach(), gradient, n)
            for rows in self._targets.batches(n, (self._seed, t, k)):
                self.optimizer.zero_grad()
                mine = processes.own(rows, n)
                if len(mine):  # a batch may have none of this process's points
                    distance = self._targets.distance(self.generator(z[mine]), goals[mine], len(rows))
                    distance.backward()
                    distances.append(float(distance.detach()))
                norms.append(self._descend(loss, "gradient towards targets"))
        mean = processes.summed(math.fsum(distances)) / len(norms)
        return {"loss": loss, "gradient_norm": math.fsum(norms) / len(norms), "targets_loss": mean}

    def _descend(self, loss: float, what: str) -> float:
        """A step of the generator down the gradient that it has; the gradient's norm."""
        processes.add_gradients(self.generator)
        norm = gradient_norm(self.generator, self._clip)
        finite(what, norm, loss)
        self.optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.generator)
        return float(norm)

    def _raise_loss(self, t: int, k: int) -> float:
        assert self._learned is not None and self.features_optimizer is not None
        phi, constraint = self._learned.phi, self._learned.constraint
        self.features_optimizer.zero_grad()
        with self._batch(t, k, history=False) as (_, x, y):
            value = self.objective(x, y)
            against = -value
            if constraint is not None:
                everywhere = processes.gather(x), processes.gather(y)
                penalty = constraint.penalty(phi, *everywhere, (self._seed, t, k))
                against = against if penalty is None else against + penalty
            against.backward()
            processes.add_gradients(phi)
            loss = float(value.detach())
            finite("gradient of the features", gradient_norm(phi, None), loss)
        self.features_optimizer.step()
        if constraint is not None:
            constraint.after_step(phi)
        return loss

    @contextmanager
    def _batch(self, t: int, k: int, history: bool = True) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Latents, generated points and data of this process for pass k of step t.

        Within, random numbers are of its seed.
        """
        passes = 1 if self._learned is None else 1 + self._learned.steps
        clouds: list[Tensor] = []
        with seeded(self._seed, LATENTS, t, k, device=self.like.device) as seed:
            try:
                y = self.source.batch(t * passes + k).to(self.like)
                n = self._samples or processes.total(len(y))
                z = self.latent(n)[processes.part(n)]
                # What networks draw themselves is to differ between processes.
                place = (self._seed, FORWARD, t, k, processes.rank())
                with seeded(*place, device=self.like.device):
                    with torch.set_grad_enabled(history):
                        clouds += [self.generator(z), y]
                    yield z, clouds[0], clouds[1]
            except NotFinite as problem:
                problem.seed, problem.clouds = seed, (clouds[0], clouds[1])
                raise

    # ------------------------------------------------------------------ the state

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator} | ({} if self._learned is None else {"features": self._learned.phi})

    @property
    def _parts(self) -> dict[str, Any]:
        parts = self._networks | {"optimizer": self.optimizer}
        if self.features_optimizer is not None:
            parts["features_optimizer"] = self.features_optimizer
        if self._average is not None:
            parts["average"] = self._average
        return parts

    def state(self) -> dict[str, Any]:
        """Of all that has one, by name."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there; errors are torch's."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
