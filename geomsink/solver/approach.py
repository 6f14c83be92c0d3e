"""A small problem with fixed marginals, taken near its solution in memory: what is left for `Solver` is to judge it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..choose import anneals_in_single, products_in_single
from ..engine import Gibbs, in_single, matrix
from ..progress import Progress
from .goal import Goal
from .iterate import Iterate, State
from .judged import Judged
from .kept import NEAR, KeptSums, Kernel
from .penalties import Balanced
from .problem import Problem, Step
from .scalings import Array, Between, Point, Scaled, Within, narrowed, of_tensor, steps, to_tensor
from .sinkhorn import HELD, HOLD, USELESS
from .strategy import Potentials

FINER = 0.1
"""Share of the error that a value may have which missing mass may cost, at most: judging the value is cheap then."""
FLOORS = 10.0
"""Times the smallest marginal error that rounding allows, below which none is asked for."""
ABSORBED = 0.5 * NEAR
"""Exponents of scalings from which on they are absorbed into the potentials."""

ROOM = 2
"""Cycles that are left of ``max_iter``: updates go on from there, and end on a plain one."""
SLOW = 0.3
"""Share of the marginal error that a round leaves, at most, for a value to be made finer before it is judged."""
PATIENCE = 40
"""Cycles in which the marginal error is to fall by half."""
JUDGED = 4
"""Times that a value is judged, at ever smaller marginal errors."""


class Approach(Judged):
    """One problem with fixed marginals, from a start or by annealing, as near to its solution as is cheap.

    Parameters
    ----------
    problem, goal, progress, before, sums
        See `Judged`.
    max_iter : int
        Cycles, at most.
    """

    def __init__(
        self, problem: Problem, goal: Goal, max_iter: int, progress: Progress, before: Iterate | None, sums: KeptSums
    ):
        super().__init__(problem, goal, progress, before, sums)
        self._kept, self._last = sums, self.cycles + max_iter - ROOM
        self._weights = of_tensor(problem.alpha.weights), of_tensor(problem.beta.weights)

    @staticmethod
    def takes(problem: Problem) -> bool:
        """Whether a problem is of this kind."""
        weights = problem.alpha.weights
        fixed = all(isinstance(penalty, Balanced) for penalty in problem.penalties)
        return fixed and weights.ndim == 1

    def run(self, start: Potentials | None) -> bool:
        """Whether the goal is reached; the state is where to go on from."""
        with np.errstate(all="ignore"):  # points that are not numbers are seen, and gone back from
            return self._run(start)

    def _run(self, start: Potentials | None) -> bool:
        warm = start is not None and self._approached(start, USELESS)
        if not warm and not self._approached(self._annealed(), math.inf):
            return False
        for _ in range(JUDGED):
            error = self.marginal_error
            if not error <= self._target:
                return False
            if self._is_right(error):
                return True
            if self.cycles >= self._last or not self._approached((self.state.f, self.state.g), math.inf):
                return False
        return False

    def _approached(self, start: Potentials, worst: float) -> bool:
        """From potentials that leave a marginal error of no more than ``worst``, to the best that was found."""
        far, (f, g), epsilon, least = True, start, self.problem.epsilon, math.inf
        errors = [math.inf, math.inf]
        while far:
            kernel, last, best, ended = self._kept.kernel(f, g, epsilon, ABSORBED), None, None, False
            for point in self._steps(kernel, g):
                if not (point.sound and point.error <= worst):
                    break
                slow = point.error <= self._target and point.error > SLOW * min(errors[:-1])
                worst, last, errors = math.inf, point, [*errors, point.error]
                if point.error < least:
                    least, best = point.error, point
                stuck = len(errors) > PATIENCE and point.error > 0.5 * errors[-PATIENCE]
                ended = slow or stuck or self.cycles >= self._last
                if ended or point.reach > ABSORBED:
                    break
            if best is not None:
                self._take(kernel, best)
            if last is not None:
                f, g = _potentials(kernel, last)
            far = last is not None and last.reach > ABSORBED and not ended
        return least < math.inf

    def _take(self, kernel: Kernel, point: Point) -> None:
        f, g = _potentials(kernel, point)
        columns = to_tensor(point.sums).log()
        weightless = self.problem.beta.weights == 0.0  # Newton's method leaves out what nothing depends on
        g = torch.where(weightless, g - kernel.epsilon * columns, g)
        columns = torch.where(weightless, 0.0, columns)
        f = g if self.problem.is_self else f
        rows = columns if self.problem.is_self else torch.zeros_like(f)
        self.state = State(f, g, rows, columns)

    def _steps(self, kernel: Kernel, g: Tensor) -> Iterator[Point]:
        """At the target temperature, from a potential that a kernel is near to."""
        problem, goal, epsilon = self.problem, self.goal, kernel.epsilon
        value = float(problem.alpha.weights @ kernel.f + problem.beta.weights @ kernel.g)
        offset, least = float(goal.offset), float(goal.least)
        price, floor = problem.cost_scale + epsilon, FLOORS * problem.floor()

        def target(state: Point) -> float:
            if state.error > self._target or not goal.asks_for_values:
                return self._target
            allowed = max(goal.share * abs(value + epsilon * state.gain - offset), least)
            return min(self._target, max(FINER * allowed / price, floor))

        scaled = self._scaled(of_tensor(kernel.entries), products_in_single(problem.pairs, problem.pair.x.device))
        state = self._noted(scaled.at(of_tensor((g - kernel.g) / epsilon)), epsilon)
        yield state
        if state.sound:
            yield from (self._noted(after, epsilon) for after in steps(scaled, state, target))

    def _scaled(self, kernel: Array, single: bool = False) -> Scaled:
        (a, b), light = self._weights, narrowed(kernel) if single else kernel
        return Within(kernel, light, a) if self.problem.is_self else Between(kernel, light, a, b)

    def _noted(self, state: Point, epsilon: float) -> Point:
        self.evaluations += 1 if self.problem.is_self else 2
        self.history.append(Step(self.evaluations, epsilon, state.error))
        self.progress.update(epsilon, state.error, self.tol)
        return state

    def _annealed(self) -> Potentials:
        """Potentials after some cycles at each higher temperature, from zero; of a self problem zero."""
        problem = self.problem
        f, g = torch.zeros_like(problem.alpha.weights), torch.zeros_like(problem.beta.weights)
        if problem.is_self:
            return f, g
        memory, single = None, None
        for epsilon in problem.temperatures[:-1]:
            pair = problem.pair
            if anneals_in_single(problem.pairs, problem.cost_scale, epsilon, problem.epsilon):
                pair = single = single or in_single(pair)
            elif single is not None:
                memory, single = None, None
            dtype = pair.x.dtype
            memory = matrix(Gibbs(pair, (f / epsilon).to(dtype), (g / epsilon).to(dtype), epsilon), memory)
            scaled = self._scaled(of_tensor(memory))
            state = self._noted(scaled.at(of_tensor(torch.zeros_like(g))), epsilon)
            for _ in range(HELD - 1):
                if not state.sound or state.error <= HOLD or self.cycles >= self._last:
                    break
                state = self._noted(scaled.at(scaled.next(state)), epsilon)
            if not state.sound:
                return f, g
            f = f + epsilon * to_tensor(state.exponents[0])
            g = g + epsilon * to_tensor(scaled.next(state))
        return f, g


def _potentials(kernel: Kernel, point: Point) -> Potentials:
    up, right = (kernel.epsilon * to_tensor(exponents) for exponents in point.exponents)
    return kernel.f + up, kernel.g + right
