"""The stages of a registration: blurs, and which points, or cells of points, each is between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..measures import Measure
from ..multiscale import Tree
from .motions import Linear

LOWEST = 8
"""Level of a tree from which on its cells may stand for its points: 256 of them."""
RADIUS = 0.5
"""Of cells, the root mean squared distance of their points from their centroids, in blurs: the mean cost within them is
an eighth of the temperature, and cells of a surface are about as large as the blur."""
HELD = 4
"""Points that a cell holds on average, at least."""
PAYS = 8
"""Times as few pairs as between the points that cells at the last blur must have."""
FEWEST = 1000
"""Cells that a stage may have at any blur; before the last one there are no more than this, or than would be as far
apart, in blurs, as the points are at the last one."""
STEP = 0.03
"""Change of a parameter, which moves points by so many blurs, for a difference of gradients: those of problems that are
solved to 1e-5 differ by three digits."""


@dataclass(frozen=True)
class Stage:
    """A descent of a registration.

    Attributes
    ----------
    blur : float
    alpha, beta : Measure
        Of points, or of cells of them.
    is_last : bool
        Whether its blur is the last one: only then is it gone on with until it rests.
    is_whole : bool
        Whether it is between the points themselves, and the end.
    """

    blur: float
    alpha: Measure
    beta: Measure
    is_last: bool
    is_whole: bool

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.alpha.points), len(self.beta.points)

    @property
    def words(self) -> str:
        """Between what it is, as far as one number says it."""
        return f"{max(self.sizes):,} {'points' if self.is_whole else 'cells'}"


def stages(alpha: Measure, beta: Measure, blurs: Sequence[float]) -> list[Stage]:
    """Between cells of about the size of each blur, where these are many fewer than the points, and then between all.

    Parameters
    ----------
    alpha, beta : Measure
    blurs : sequence of float
        From large to small.
    """
    clouds = _alive(alpha), _alive(beta)
    trees, whole = [Tree.of(cloud) for cloud in clouds], tuple(len(cloud.points) for cloud in clouds)
    found = [
        Stage(blur, _cells(trees[0], blur, blurs[-1]), _cells(trees[1], blur, blurs[-1]), blur == blurs[-1], False)
        for blur in blurs
    ]
    if PAYS * math.prod(found[-1].sizes) > math.prod(whole):
        found.pop()
    return [*found, Stage(blurs[-1], *clouds, True, True)]


def curvature(motion: Linear, loss: Callable[[], Tensor], scale: float) -> Tensor:
    """Second derivatives of a loss times ``scale`` in a motion's parameters, shape (K, K): differences of gradients.

    It costs K + 1 evaluations, and the parameters stay as they are.
    """
    (parameter,) = motion.parameters

    def gradient(k: int | None = None) -> Tensor:
        before = parameter.detach().clone()
        with torch.no_grad():
            if k is not None:
                parameter[k] += STEP
        (found,) = torch.autograd.grad(scale * loss(), parameter)
        with torch.no_grad():
            parameter.copy_(before)
        return found

    here = gradient()
    return torch.stack([(gradient(k) - here) / STEP for k in range(len(parameter))])


def _alive(measure: Measure) -> Measure:
    """The points that have mass."""
    alive = measure.weights > 0
    return measure if bool(alive.all()) else Measure(measure.points[alive], measure.weights[alive])


def _cells(tree: Tree, blur: float, last: float) -> Measure:
    """Its coarsest cells that are as small as the blur asks for, or as many as it may have; its points, if those cells
    were not many fewer."""
    n = len(tree)
    most = math.inf if blur == last else max(FEWEST, n * (last / blur) ** 2)
    for level in range(LOWEST, tree.depth + 1):
        if HELD << level > n:
            break
        coarse = tree.coarse(level)
        apart = (tree.measure.points - coarse.points[tree.cell_of(level)]).square().sum(-1)
        small = math.sqrt(float(tree.measure.weights @ apart / tree.measure.mass)) <= RADIUS * blur
        if small or 2 << level > most:
            return coarse
    return tree.measure
