"""Problems between the points that have weight, and their solutions as those of all points.

Nothing depends on the potential of a point without weight, and nothing but all pairs says what it is: on the way down
the temperatures it would be left behind, and pairs with it would seem to carry mass without end.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from .. import engine
from ..measures import Measure
from ..processes import Sharded, deal, own, parts_of
from ..progress import Progress
from ..solver import Accuracy, Goal, Iterate, Judged, Potentials, Problem, Solved


def supports(problem: Problem, item: int | None = None) -> tuple[Tensor, Tensor]:
    """Where the weights of both sides are not zero; of an item of a batch."""
    sides = problem.alpha.weights, problem.beta.weights
    rows, columns = (w if item is None else w[item] for w in sides)
    return rows > 0.0, columns > 0.0


def between_supports(problem: Problem, goal: Goal, item: int | None = None) -> tuple[Problem, Goal]:
    """The problem between the points that have weight, and when to stop; of an item of a batch."""
    alpha, beta = (
        _of_support(measure, here, item)
        for measure, here in zip((problem.alpha, problem.beta), supports(problem, item), strict=True)
    )
    pair = engine.pair(alpha.points, beta.points, problem.pair.cost, problem.pair.name)
    goal = replace(goal, offset=_of_item(goal.offset, item), least=_of_item(goal.least, item))
    return replace(problem, alpha=alpha, beta=beta, pair=pair), goal


class Gathered(Judged):
    """A problem, or a batch of them, in the state of solutions between the points that have weight.

    Parameters
    ----------
    problem, goal, progress, before
        See `geomsink.solver.Judged`.
    """

    def __init__(self, problem: Problem, goal: Goal, progress: Progress, before: Iterate | None):
        super().__init__(problem, goal, progress, before, None)
        self._potentials = torch.zeros_like(problem.alpha.weights), torch.zeros_like(problem.beta.weights)
        self._found: list[Accuracy | None] = []

    def take_solved(self, solved: Solved, item: int | None = None) -> None:
        """The solution; of a batch, that of the next item."""
        sides, found = supports(self.problem, item), solved.solver.accuracy
        for whole, here, h in zip(self._potentials, sides, solved.potentials, strict=True):
            one = whole if item is None else whole[item]
            (one.local if isinstance(one, Sharded) else one)[own(here)] = own(h)
        if found is not None:
            found = replace(found, step=_scattered(sides, found.step))
        self._found.append(found)

    def finish(self, is_batch: bool) -> None:
        """After the last one: the marginals of all, and potentials of points without weight."""
        self._row_update(self._potentials)
        self._complete()
        known = [found for found in self._found if found is not None]
        if len(known) < len(self._found):
            return
        self.accuracy = known[0]
        if is_batch:
            self.accuracy = Accuracy(*(_stacked([getattr(a, f.name) for a in known]) for f in fields(Accuracy)))


def _of_support(measure: Measure, here: Tensor, item: int | None) -> Measure:
    points, weights = measure.points, measure.weights
    if item is not None:
        points, weights = points[item], weights[item]
    points, weights = of_support(here, points.double(), weights)
    return Measure(points, weights)


def of_support(here: Tensor, *given: Tensor) -> list[Tensor]:
    """Those rows of some tensors over all points."""
    mine = own(here)
    found = [own(t)[mine] for t in given]
    if not isinstance(here, Sharded):
        return found
    parts = parts_of(len(found[0]), here.parts.group)
    return [deal(t, parts) for t in found]


def _of_item(number: Tensor | float, item: int | None) -> Any:
    return number[item] if isinstance(number, Tensor) and number.ndim else number


def _scattered(sides: tuple[Tensor, Tensor], parts: Potentials) -> Potentials:
    """Numbers of the points that have weight, and 0 of the others."""
    found = []
    for here, h in zip(sides, parts, strict=True):
        whole = torch.zeros_like(own(here), dtype=h.dtype).masked_scatter(own(here), own(h))
        found.append(deal(whole, here.parts) if isinstance(here, Sharded) else whole)
    return found[0], found[1]


def _stacked(parts: list[Any]) -> Any:
    return tuple(map(torch.stack, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else torch.stack(parts)
