"""Clouds whose parts lie on several processes: what each has is validated by itself, what all have is made known."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..choose import WIDEST
from ..costs import Cost
from ..measures import Measure, check_masses
from ..processes import Group
from .inputs import positions
from .options import Options
from .sketches import Sketch
from .stands import Given, pair_of_points

CALL = "sinkhorn_divergence"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Whole:
    """What two clouds are of which each process has a part; the same on all.

    Attributes
    ----------
    group : Group
    counts : pair of int
    masses : pair of Tensor, shape ()
        What all weights sum to, float64, with the history of the own ones.
    centre : Tensor, shape (1, D)
        What coordinates are relative to.
    live : bool
        Whether weights have history anywhere.
    """

    group: Group
    counts: tuple[int, int]
    masses: tuple[Tensor, Tensor]
    centre: Tensor
    live: bool

    @classmethod
    def of(
        cls, group: Group, given: Given, options: Options, weighted: tuple[bool, bool], earlier: Tensor | None
    ) -> Whole:
        """From what each process has; an ``earlier`` centre is kept where it is good enough.

        Raises
        ------
        ValueError
            On all processes, for clouds without points or mass, and for masses that differ.
        """
        with group.step(CALL):
            with torch.no_grad():
                places = positions(given.points, options.ground)
            facts = []
            for points, weights, has in zip(places, given.weights, weighted, strict=True):
                of_all = float(weights.detach().sum()) if has else float(len(points))
                live = weights.requires_grad and torch.is_grad_enabled()
                facts.append(torch.cat((weights.new_tensor([len(points), of_all, live]), points.sum(0))))
        sums = torch.cat(group.gather(torch.stack(facts)[None], CALL)).sum(0)  # of both sides
        counts = int(sums[0, 0]), int(sums[1, 0])
        masses = []
        for side, (name, has) in enumerate(zip("xy", weighted, strict=True)):
            if not counts[side]:
                raise ValueError(f"{name}: no process has points of it, expected at least one.")
            scale = 1.0 if has else 1.0 / counts[side]
            mass, weights = scale * sums[side, 1], given.weights[side]
            if not mass > 0.0:
                raise ValueError(f"{'ab'[side]}: all weights are zero on all processes, expected a positive mass.")
            own = weights.sum() if has else mass
            masses.append(mass + (own - own.detach()))
        if options.balanced and not options.normalize:
            both = masses[0].detach(), masses[1].detach()
            check_masses(both, given.container.mass_tolerance, "reach= for others, or normalize=True")
        centre = 0.5 * (sums[:, 3:] / sums[:, :1]).sum(0, keepdim=True)
        if earlier is not None and earlier.shape == centre.shape:
            sizes = [(points - centre).norm(dim=1).max() for points in places if len(points)]
            extent = group.largest(torch.stack([*sizes, centre.new_zeros(())]).max(), CALL)
            centre = earlier if bool((earlier - centre).norm() <= extent) else centre
        return cls(group, counts, (masses[0], masses[1]), centre, bool(sums[:, 2].any()))

    def weights(self, given: Given, weighted: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
        """Those of the own points: without any, 1 over the number of all."""
        first, second = (
            w if has else torch.full_like(w, 1.0 / n)
            for w, has, n in zip(given.weights, weighted, self.counts, strict=True)
        )
        return first, second

    def agrees(self, flag: bool) -> bool:
        """Whether it is so on all processes."""
        return bool(self.group.smallest(torch.tensor([float(flag)], device=self.centre.device), CALL) > 0.0)

    def corners(self, alpha: Measure, beta: Measure) -> tuple[Tensor, Tensor]:
        """Points of the two clouds, of all processes, that are extreme in some coordinate."""
        first, second = (torch.cat(self.group.gather(_extremes(m.points), CALL)) for m in (alpha, beta))
        return first, second


def _extremes(points: Tensor) -> Tensor:
    return torch.cat((points[points.argmin(0)], points[points.argmax(0)])) if len(points) else points


def given_parts(
    group: Group, x: Any, y: Any, a: Any, b: Any, options: Options, index: tuple[Any, Any], init: Any
) -> Given:
    """Each process's points and weights, validated, where all were asked for the same.

    Raises
    ------
    TypeError, ValueError
        Where it has failed.
    ProcessesError
        On the others, and where they were asked for something else.
    """
    with group.step(CALL, **{f.name: plain(getattr(options, f.name)) for f in fields(options)}):
        for name, given in zip(("x_batch", "y_batch", "init"), (*index, init), strict=True):
            if given is not None:
                raise ValueError(f"{name}: given with group=, expected None.")
        read = pair_of_points(x, y, a, b, False, None, None, False, parts=True)
        if read.container.layouts:
            raise ValueError("group: given with a batch, expected single clouds, of which each process has a part.")
        if any(p.requires_grad for p in options.ground.parameters):
            raise ValueError("cost: its parameters require gradients, and group= is given; expected constant ones.")
    container = read.container
    kind = "NumPy" if container.is_numpy else "torch"
    with group.step(
        CALL, coordinates=read.points[0].shape[1], dtype=str(container.dtype), arrays=kind,
        weights=[w is not None for w in (a, b)],
    ):  # fmt: skip
        pass
    return read


def sketches_serve(x: Any, y: Any, options: Options) -> bool:
    """Whether processes may solve a problem between sketches, as far as options and coordinates tell."""
    if options.ground.quadratic is None or any(isinstance(cloud, Sketch) for cloud in (x, y)):
        return False
    if (options.form, options.differentiation, options.nan_policy) != ("entropic", "envelope", "raise"):
        return False
    if options.certified or any(penalty.kinked for penalty in options.penalties):  # intervals are of all pairs
        return False
    temperature = options.live_epsilon()
    if temperature.requires_grad or float(temperature) == math.inf:
        return False
    if options.multiscale is not None:
        return options.multiscale
    return max(np.shape(x)[-1:], default=0) <= WIDEST


def plain(value: Any) -> Any:
    """What JSON holds, and a sentence can show."""
    if isinstance(value, Tensor):
        return float(value.detach())
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Cost) else float(value) if isinstance(value, (int, float)) else str(value)


def asked(group: Group | None) -> contextlib.AbstractContextManager[None]:
    """What each process of a group does by itself, or the only one."""
    return contextlib.nullcontext() if group is None else group.step(CALL)


def tried_once(function: F) -> F:
    """For functions with an argument ``group``: what a GPU has too little memory for is not tried again where there is
    one, since the other processes have been told.

    Raises
    ------
    MemoryError
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except torch.cuda.OutOfMemoryError as error:
            if kwargs.get("group") is None:
                raise
            raise MemoryError(str(error)) from error

    return wrapper  # type: ignore[return-value]
