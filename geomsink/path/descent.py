"""Down the temperatures between two clouds, from the solution at one to the solution at another.

Potentials at the next temperature are predicted by ∂(f, g)/∂ log ε, which solves Newton's equation with another
right-hand side, and corrected until no point's mass is off by much; the stride adapts to what the correction takes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ..processes import told_first
from ..progress import Progress
from ..solver import Goal, Iterate, Potentials
from .corrector import Corrector
from .pairs import Around
from .stages import Stage
from .sums import StoredSums

FIRST, SHORTEST, LONGEST = 0.7, 0.02, 2.3
"""Strides in log ε: the first one, and the shortest and longest that are tried."""
CORRECTIONS = 8
"""Of Newton's steps at a temperature, at most."""
QUICK, LENGTHENED, SHORTENED = 2, 1.5, 0.5
"""Steps up to which the next stride is longer; by how much; and what is left of a stride that failed."""
CYCLES = 3
"""Plain ones at the first temperature, where they contract fast."""


class Descent:
    """The way down between two clouds of points.

    Parameters
    ----------
    stage : Stage
        Where it begins.
    goal, progress
        See `geomsink.solver.Judged`.
    before : Iterate, optional
        An earlier solve, whose evaluations and history this one continues.
    last : int
        Cycle after which to stop.

    Attributes
    ----------
    here : Corrector
        The solution at the lowest temperature so far.
    before : Iterate
        The last attempt, whose evaluations the next one continues.
    """

    def __init__(self, stage: Stage, goal: Goal, progress: Progress, before: Iterate | None, last: int):
        self._goal, self._progress, self._last = goal, progress, last
        self._stage, self._pairs = stage, Around(stage.pairs)
        self._passed: tuple[float, ...] = ()
        self._stride = FIRST
        self.before = before
        self.here = self._at(stage.problem.temperatures[0])

    def begin(self, epsilon: float, start: Potentials | None = None) -> bool:
        """Solve at a first temperature, from potentials, or so high that there is none to be told from zero."""
        self.here = self.before = self._at(epsilon)
        if self.here.cycles >= self._last:
            return False
        if start is None:
            problem = self._stage.problem
            start = torch.zeros_like(problem.alpha.weights), torch.zeros_like(problem.beta.weights)
        self.here.begin(start, min(1 + CYCLES, self._last - self.here.cycles))
        return self.here.corrected(2 * CORRECTIONS) is not None

    def down(self, target: float) -> bool:
        """To a lower temperature; whether that was reached."""
        while self.here.problem.epsilon > target:
            high, slopes, there = self.here.problem.epsilon, self.here.tangent(), self.here
            while True:
                if there.cycles >= self._last:
                    return False
                epsilon = high * math.exp(-self._stride)
                epsilon = epsilon if epsilon > target * (1.0 + 1e-9) else target
                change = math.log(epsilon / high)
                f, g = (h + change * slope for h, slope in zip(self.potentials, slopes, strict=True))
                there = self._at(epsilon)
                there.begin((f, g), 1)
                steps = there.corrected(CORRECTIONS)
                if steps is not None:
                    break
                self.before, self._stride = there, SHORTENED * self._stride
                if self._stride < SHORTEST:
                    return False
            self._passed, self.here, self.before = (*self._passed, high), there, there
            self._stride = min(LONGEST, self._stride * (LENGTHENED if steps <= QUICK else 1.0))
        return True

    @property
    def potentials(self) -> Potentials:
        return self.here.state.f, self.here.state.g

    def agreed(self, finer: Stage, reached: bool) -> bool:
        """Whether the way was found to where points are dealt out to processes: each has come there by itself, and all
        go on from where the first one is. Whether it was ``reached``, where there is nothing to agree on."""
        parts = finer.parts
        if parts is None or self._stage.parts is not None:
            return reached
        here, (f, g) = self.here, self.potentials
        numbers = f.new_tensor([reached, here.problem.epsilon, here.evaluations, self._stride])
        told = told_first(torch.cat((numbers, f, g)), parts)
        is_reached, epsilon, evaluations, self._stride = told[:4].tolist()
        self.here = self.before = self._at(epsilon)
        self.here.evaluations = int(evaluations)
        self.here.state.f, self.here.state.g = told[4:].split((len(f), len(g)))
        return bool(is_reached)

    def refine(self, finer: Stage) -> bool:
        """On to smaller cells, or to the points, at the same temperature."""
        epsilon = self.here.problem.epsilon
        return self.begin(epsilon, self._moved(finer, epsilon))

    def jump(self, points: Stage, target: float) -> None:
        """Take the potentials as they are to the points at a lower temperature, to which there is no way: pairs that
        carry mass there are not known."""
        start = self.potentials if self._stage is points else self._moved(points, self.here.problem.epsilon)
        self.here = self.before = self._at(target)
        self.here.sums = self.here.full_sums
        self.here.begin(start, 1)

    def _moved(self, finer: Stage, epsilon: float) -> Potentials:
        """To a finer stage: the potentials there."""
        start = self._stage.extended(finer, epsilon, self.potentials)
        self._stage, self._pairs = finer, Around(finer.pairs)
        return start

    def _at(self, epsilon: float) -> Corrector:
        problem = replace(self._stage.problem, temperatures=(*self._passed, epsilon))
        stored = StoredSums(problem.alpha, problem.beta, self._pairs)
        groups = self._stage.groups
        return Corrector(problem, self._goal, self._progress, self.before, stored, self._last, groups)
