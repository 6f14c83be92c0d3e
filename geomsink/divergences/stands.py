"""Sketches in the place of clouds: what stands for what, and what it does not serve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import costs
from ..costs import Cost, kernels
from ..costs.kernels import Kernel
from ..measures import Container, check_masses, pair_of_measures
from ..multiscale import width
from .options import Options
from .sketches import SAME, Sketch, as_measure, on_host, same_cost

Stands = tuple[Sketch | None, Sketch | None]


@dataclass(frozen=True)
class Given:
    """Two clouds, each of which may be a sketch.

    Attributes
    ----------
    points, weights : pair of Tensor
    nearby : pair of Tensor or None
        Mass near the points of a sketch.
    stands : pair of Sketch or None
    container : Container
    """

    points: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]
    nearby: tuple[Tensor | None, Tensor | None]
    stands: Stands
    container: Container


def pair_of_clouds(
    x: Any, y: Any, a: Any, b: Any, equal_masses: bool, x_batch: Any, y_batch: Any, propagate: bool, remedy: str = ""
) -> Given:
    """`geomsink.measures.pair_of_measures` of points, or of sketches in their place.

    Raises
    ------
    TypeError, ValueError
        As for points; and for sketches with weights besides, or in a batch.
    """
    weights, indices = (a, b), (x_batch, y_batch)
    first, second = (one if isinstance(one, Sketch) else None for one in (x, y))
    if first is None and second is None:
        return pair_of_points(x, y, a, b, equal_masses, x_batch, y_batch, propagate, remedy)
    for side, stand in enumerate((first, second)):
        if stand is not None and weights[side] is not None:
            raise ValueError(f"{'ab'[side]}: given with a Sketch, which has weights of its own; expected None.")
        if stand is not None and indices[side] is not None:
            raise ValueError(f"{'xy'[side]}_batch: given with a Sketch, which is a single cloud; expected None.")
    like = x if first is None else y
    if first is not None and second is not None:
        like = first.points if isinstance(first.points, Tensor) else second.points
    x = x if first is None else _like(first.points, like)
    y = y if second is None else _like(second.points, like)
    points, sums, container = pair_of_measures(x, y, a, b, False, x_batch, y_batch, propagate=propagate)
    own = [None if stand is None else as_measure(stand) for stand in (first, second)]
    device = points[0].device
    (a_, near_a), (b_, near_b) = (
        (w, None) if one is None else (one.weights.to(device), one.sizes.to(device))
        for w, one in zip(sums, own, strict=True)
    )
    if equal_masses:
        masses = [(w if near is None else near).detach().sum() for w, near in ((a_, near_a), (b_, near_b))]
        check_masses((masses[0], masses[1]), container.mass_tolerance, remedy)
    return Given(points, (a_, b_), (near_a, near_b), (first, second), container)


def pair_of_points(
    x: Any, y: Any, a: Any, b: Any, equal_masses: bool, x_batch: Any, y_batch: Any, propagate: bool, remedy: str = "",
    parts: bool = False,
) -> Given:  # fmt: skip
    """The same of points alone, or of ``parts`` of clouds, which may have none.

    Raises
    ------
    TypeError, ValueError
    """
    points, weights, container = pair_of_measures(
        x, y, a, b, equal_masses, x_batch, y_batch, propagate=propagate, remedy=remedy, parts=parts
    )
    return Given(points, weights, (None, None), (None, None), container)


def check_served(stands: Stands, options: Options, epsilon: float, live: bool) -> None:
    """Refuse sketches that do not stand for their clouds in a problem, and what cannot be found between sketches.

    Raises
    ------
    ValueError
        One sentence.
    """
    for name, stand in zip("xy", stands, strict=True):
        if stand is not None:
            _check_kernel(stand, name, options.cost, epsilon)
    if options.certified:
        name = "certify" if options.tol_gap is None else "tol_gap"
        raise ValueError(f"{name}: given with a Sketch, whose cloud is not at hand, but intervals are of all points.")
    if options.differentiation != "envelope":
        found = f"differentiation: {options.differentiation!r} given with a Sketch"
        raise ValueError(f"{found}, between whose points of negative weight it is not defined; expected 'envelope'.")
    if options.form == "sharp" and live:
        raise ValueError("form: 'sharp' given with a Sketch and what requires gradients, expected 'entropic'.")
    if any(penalty.kinked for penalty in options.penalties):
        found = f"penalty: {options.penalty!r} given with a Sketch"
        raise ValueError(f"{found}, whose points stand for others where potentials are smooth; expected 'kl' or 'l2'.")
    if epsilon == math.inf:
        raise ValueError("epsilon: inf, or so much that the limit is computed, given with a Sketch, expected less.")


def check_gaussian(stand: Sketch, name: str, kernel: Kernel, scales: Sequence[float]) -> None:
    """Refuse a sketch that does not stand for its cloud in sums of a kernel.

    Raises
    ------
    ValueError
        One sentence.
    """
    if kernel != kernels.get("gaussian"):
        raise ValueError(f"kernel: {kernel.name!r} given with a Sketch, which serves the kernel 'gaussian' alone.")
    ground = stand.ground
    if ground.features is not None:
        raise ValueError(f"{name}: a sketch for the cost {ground.name!r} was given, expected one for 'sqeuclidean'.")
    sigma = width(ground, stand.epsilon)
    if min(scales) < (1.0 - SAME) * sigma:
        found = f"{name}: a sketch for a blur of {sigma:.4g} was given at blur {min(scales):.4g}"
        raise ValueError(f"{found}, expected one for this or less: it has too few points.")


def _check_kernel(stand: Sketch, name: str, cost: str | Cost, epsilon: float) -> None:
    if not same_cost(stand.cost, cost):
        found = f"{name}: a sketch for the cost {stand.ground.name!r} was given"
        other = costs.get(cost).name
        asked = "another one of that name" if other == stand.ground.name else repr(other)
        raise ValueError(f"{found}, expected one for {asked}.")
    if epsilon < (1.0 - SAME) * stand.epsilon:
        found = f"{name}: a sketch for epsilon {stand.epsilon:.4g} was given"
        if stand.blur is not None:
            found = f"{name}: a sketch for a blur of {stand.blur:.4g} (epsilon {stand.epsilon:.4g}) was given"
        raise ValueError(f"{found} at epsilon {epsilon:.4g}, expected one for this or less: it has too few points.")


def _like(array: Any, other: Any) -> Any:
    """An array of the kind of another one, on its device."""
    if isinstance(other, Tensor):
        found = array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
        return found.to(other.device)
    return on_host(array)
