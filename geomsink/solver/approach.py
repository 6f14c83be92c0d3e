"""A small problem with fixed marginals, taken near its solution in memory: what is left for `Solver` is to judge it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from .. import engine
from ..choose import anneals_in_single
from ..engine import Gibbs, Pair, matrix
from ..progress import Progress
from .goal import Goal
from .iterate import Iterate
from .kept import NEAR, Kernel, KeptSums
from .penalties import Balanced
from .problem import Problem, Step
from .scalings import Array, Between, Scaled, State, Within, steps
from .sinkhorn import HELD, HOLD, USELESS
from .strategy import Potentials

FINER = 0.1
"""Share of the error that a value may have which missing mass may cost, at most: judging the value is cheap then."""
FLOORS = 10.0
"""Times the smallest marginal error that rounding allows, below which none is asked for."""
ABSORBED = 0.5 * NEAR
"""Exponents of scalings from which on they are absorbed into the potentials."""


class Approach(Iterate):
    """One problem with fixed marginals on a CPU, from a start or by annealing.

    Parameters
    ----------
    problem, progress, before, sums
        See `Iterate`.
    goal : Goal
        What the potentials are for.
    max_iter : int
        Cycles, at most.
    """

    def __init__(
        self, problem: Problem, goal: Goal, max_iter: int, progress: Progress, before: Iterate | None, sums: KeptSums
    ):
        super().__init__(problem, goal.tol, progress, before, sums)
        self._kept, self.goal, self._last = sums, goal, self.cycles + max_iter
        self._weights = problem.alpha.weights.numpy(), problem.beta.weights.numpy()

    @staticmethod
    def takes(problem: Problem) -> bool:
        """Whether a problem is of this kind."""
        weights = problem.alpha.weights
        fixed = all(isinstance(penalty, Balanced) for penalty in problem.penalties)
        return fixed and weights.ndim == 1 and weights.device.type == "cpu"

    def run(self, start: Potentials | None) -> Potentials | None:
        """Potentials near the solution; None where nothing came of it."""
        found = self._solved(start, USELESS) if start is not None else None
        return found or self._solved(self._annealed(), math.inf)

    def _solved(self, start: Potentials, worst: float) -> Potentials | None:
        """From potentials that leave a marginal error of no more than ``worst``."""
        far, (f, g) = True, start
        while far and self.cycles < self._last:
            kernel = self._kept.kernel(f, g, self.problem.epsilon)
            far = False
            for state in self._steps(kernel, f, g):
                if not (state.sound and state.error <= worst):
                    return None
                worst = math.inf
                f, g = (h + kernel.epsilon * torch.from_numpy(e) for h, e in zip((kernel.f, kernel.g), state.exponents, strict=True))
                far = max(float(abs(e).max()) for e in state.exponents) > ABSORBED
                if far or self.cycles >= self._last:
                    break
        return (f, f) if self.problem.is_self else (f, g)

    def _steps(self, kernel: Kernel, f: torch.Tensor, g: torch.Tensor) -> Iterator[State]:
        """Of the target temperature, from potentials that a kernel is near to."""
        goal, floor = self.goal, FLOORS * self.problem.floor()
        price = self.problem.cost_scale + kernel.epsilon
        first = (self.problem.alpha.weights @ kernel.f + self.problem.beta.weights @ kernel.g)

        def target(state: State) -> float:
            if state.error > goal.tol or not goal.asks_for_values:
                return goal.tol
            value = first + kernel.epsilon * state.gain
            allowed = float(goal.allowed(value, torch.zeros_like(value)).min())
            return min(goal.tol, max(FINER * allowed / price, floor))

        scaled = self._scaled(kernel.entries.numpy())
        state = scaled.at(kernel.scalings(f, g)[1].numpy())
        yield self._noted(state, kernel.epsilon)
        for state in steps(scaled, state, target) if state.sound else ():
            yield self._noted(state, kernel.epsilon)

    def _scaled(self, kernel: Array) -> Scaled:
        a, b = self._weights
        return Within(kernel, a) if self.problem.is_self else Between(kernel, a, b)

    def _noted(self, state: State, epsilon: float) -> State:
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
            if anneals_in_single(problem.pairs, problem.cost_scale / epsilon):
                pair = single = single or _in_single(pair)
            elif single is not None:
                memory, single = None, None
            dtype = pair.x.dtype
            memory = matrix(Gibbs(pair, (f / epsilon).to(dtype), (g / epsilon).to(dtype), epsilon), memory)
            scaled = self._scaled(memory.numpy())
            state = self._noted(scaled.at(torch.zeros_like(g).numpy()), epsilon)
            for _ in range(HELD - 1):
                if not state.sound or state.error <= HOLD or self.cycles >= self._last:
                    break
                state = self._noted(scaled.at(scaled.next(state)), epsilon)
            if not state.sound:
                return f, g
            f = f + epsilon * torch.from_numpy(state.exponents[0])
            g = g + epsilon * torch.from_numpy(scaled.next(state))
        return f, g


def _in_single(pair: Pair) -> Pair:
    return engine.pair(pair.x.float(), pair.y.float(), pair.cost, pair.name)
