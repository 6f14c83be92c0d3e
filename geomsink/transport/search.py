"""Where a registration starts when nothing is known: a search among rotations."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..measures import Measure
from .descent import descend
from .motions import Linear, Motion, gaussian

TRIED = 300
"""Points of each cloud between which the rotations are compared."""
HAZE = 0.25
"""The blur of a search, in units of the first cloud's radius."""
FOLLOWED = 8
"""Rotations that are improved, and by how many steps."""
STEPS = 12


def search(alpha: Measure, beta: Measure, scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """Matrix and translation, the best of many rotations about the means, of which the first are improved.

    They are compared by the correlation of the two clouds, each blurred, Σ a_i b_j exp(−‖T(x_i) − y_j‖²/(2 h²)): what
    the transport is at a short reach, and takes no solve (Tsin, Kanade 2004).

    Parameters
    ----------
    alpha, beta : Measure
        In two or three coordinates.
    scale : float
        That the rotations are multiplied by.
    seed : int
        Of the points that they are compared by.

    Raises
    ------
    ValueError
        For other numbers of coordinates.
    """
    d = alpha.points.shape[-1]
    if d not in (2, 3):
        raise ValueError(f"init: 'search' given with {d} coordinates, expected two or three.")
    extent, centres = radius(alpha), (centre(alpha), centre(beta))
    blur = HAZE * extent
    few = sample(alpha, TRIED, seed), sample(beta, TRIED, seed + 1)

    def apart(motion: Motion) -> Tensor:
        correlation = gaussian(motion(few[0].points), few[1].points, blur)
        apart: Tensor = -(few[0].weights / alpha.mass) @ correlation @ (few[1].weights / beta.mass)
        return apart

    motions = []
    for turn in _rotations(alpha, beta):
        matrix = scale * turn
        motions.append(Linear("rigid", matrix, centres[1] - matrix @ centres[0], centres[0], extent, blur))
    with torch.no_grad():
        motions.sort(key=lambda motion: float(apart(motion)))
    found = []
    for motion in motions[:FOLLOWED]:
        history = descend(
            motion.parameters, partial(apart, motion), optimizer="lbfgs", steps=STEPS, tol=None, scale=1.0 / HAZE**2,
            name="search",
        )  # fmt: skip
        found.append((history.values[-1], motion))
    best = min(found, key=lambda one: one[0])[1]
    return best.matrix.detach(), best.translation.detach()


def _rotations(alpha: Measure, beta: Measure) -> list[Tensor]:
    """Those that bring principal axes to each other, in every order and direction, and some evenly spread ones."""
    d = alpha.points.shape[-1]
    (first, second), even = (_axes(m) for m in (alpha, beta)), []
    if d == 3:
        even = [alpha.points.new_tensor(matrix.tolist()) for matrix in Rotation.create_group("I").as_matrix()]
    else:
        angles = [2.0 * math.pi * k / 16 for k in range(16)]
        even = [alpha.points.new_tensor([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]) for t in angles]
    turns = []
    for order in itertools.permutations(range(d)):
        for signs in itertools.product((1.0, -1.0), repeat=d):
            turn = second @ (second.new_tensor(signs)[:, None] * first.T[list(order)])
            if float(torch.det(turn)) > 0:
                turns.append(turn)
    return turns + even


def _axes(measure: Measure) -> Tensor:
    """Principal axes, as columns."""
    shifted = measure.points - centre(measure)
    axes: Tensor = torch.linalg.eigh(shifted.T @ (measure.weights[:, None] * shifted)).eigenvectors
    return axes


def centre(measure: Measure) -> Tensor:
    """Mean of a cloud."""
    return (measure.weights / measure.mass) @ measure.points


def radius(measure: Measure) -> float:
    """Root mean squared distance from the mean."""
    squares = (measure.points - centre(measure)).square().sum(-1)
    return math.sqrt(float((measure.weights / measure.mass) @ squares))


def sample(measure: Measure, n: int, seed: int) -> Measure:
    """At most n points of positive weight, drawn at random, with the same mass."""
    alive = measure.weights.nonzero()[:, 0]
    if len(alive) <= n:
        return measure
    drawn = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed), device="cpu")[:n]
    chosen = alive[drawn.to(alive.device)]
    weights = measure.weights[chosen]
    return Measure(measure.points[chosen], weights * (measure.mass / float(weights.sum())))
