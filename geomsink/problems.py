"""From a caller's arguments to problems that can be solved, and from solved ones to reports."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import costs, engine
from .annealing import largest_cost, temperatures
from .costs import Cost
from .engine import Pair
from .measures import Container, Measure, pair_of_measures
from .progress import Progress
from .sinkhorn import ROUNDING, Problem, Solution, Solver, solve_problem

DTYPES = {"float32": torch.float32, "float64": torch.float64}
FEW_PAIRS = 2**20
"""Up to this many pairs float64 costs nothing that anyone would notice."""
AVERAGED = 8.0
"""Rounding of exponents, in units of ``tol``, that sums over many pairs average away."""
WARM = 10.0
"""Largest ε, in units of the largest cost, of a solve in float32: potentials are rounded by 6e-8 ε."""

Solved = tuple[Solver, str, float]


@dataclass(frozen=True)
class Setup:
    """Validated arguments, and what is shared by the problems between the two measures."""

    alpha: Measure
    beta: Measure
    container: Container
    cost: Cost
    epsilon: float
    tol: float
    max_iter: int
    scaling: float
    engine: str
    dtype: torch.dtype | None
    cost_scale: float

    @classmethod
    def of(
        cls, x: Any, y: Any, a: Any, b: Any, blur: Any, epsilon: Any, cost: Any, tol: float, max_iter: int,
        scaling: float, engine_name: str, dtype: Any, caller: str,
    ) -> Setup:  # fmt: skip
        ground = costs.get(cost)
        target = costs.temperature(ground, blur, epsilon)
        engine.check_name(engine_name)
        working = _dtype(dtype)
        if not tol > 0:
            raise ValueError(f"tol: {tol} given, expected a positive marginal error.")
        if not (isinstance(max_iter, int) and max_iter >= 1):
            raise ValueError(f"max_iter: {max_iter} given, expected a whole number of at least 1.")
        alpha, beta, container = pair_of_measures(x, y, a, b)
        if any(isinstance(t, Tensor) and t.requires_grad for t in (x, y, a, b)):
            warnings.warn(f"{caller} carries no autograd history: its value is a constant.", stacklevel=3)
        if target == float("inf") and abs(alpha.mass - 1.0) > 1e-6:
            raise ValueError(f"epsilon: inf is given with weights that sum to {alpha.mass:.6g}, expected 1.")
        points = [m.points.double() for m in (alpha, beta)]
        if ground.translation_invariant:
            # Rounding errors of a cost are relative to the coordinates: keep those small.
            centre = 0.5 * (points[0].mean(0) + points[1].mean(0))
            points = [p - centre for p in points]
        features = [ground.map(p) for p in points]
        scale = largest_cost(features[0], features[1], ground)
        temperatures(scale, target, scaling, ground.degree)
        return cls(
            Measure(features[0], alpha.weights), Measure(features[1], beta.weights), container, ground, target,
            tol, max_iter, scaling, engine_name, working, scale,
        )  # fmt: skip

    def solve(self, name: str, alpha: Measure, beta: Measure, bar: Progress, start: Any = None) -> Solved:
        """Solve between two of the measures, in float64 after float32 if the latter does not reach ``tol``."""
        dtype = self._working_dtype(alpha, beta)
        solved = self._solve_in(dtype, name, alpha, beta, bar, start)
        if self.dtype is None and dtype == torch.float32 and "floor" in solved[1]:
            state = solved[0].state
            again = self._solve_in(torch.float64, name, alpha, beta, bar, (state.f, state.g))
            again[0].history[:0] = solved[0].history
            solved = again[0], again[1], solved[2] + again[2]
        return solved

    def _solve_in(
        self, dtype: torch.dtype, name: str, alpha: Measure, beta: Measure, bar: Progress, start: Any
    ) -> Solved:
        steps = temperatures(self.cost_scale, self.epsilon, self.scaling, self.cost.degree)
        x = alpha.points.to(dtype)
        y = x if beta is alpha else beta.points.to(dtype)
        pair: Pair = engine.pair(x, y, self.cost, self.engine)
        bar.begin(name, steps[0], self.epsilon)
        return solve_problem(Problem(alpha, beta, pair, steps, self.cost_scale), self.tol, self.max_iter, bar, start)

    def _working_dtype(self, alpha: Measure, beta: Measure) -> torch.dtype:
        if self.dtype is not None:
            return self.dtype
        if self.container.dtype == torch.float64 or len(alpha.points) * len(beta.points) <= FEW_PAIRS:
            return torch.float64
        # Exponents are rounded by 6e-8 C/ε, of which sums over many pairs average most away (a thirtieth to a
        # ninetieth is left as marginal error on the scanned shapes of the benchmarks); potentials, by 6e-8 ε.
        rounded = ROUNDING[torch.float32] * self.cost_scale / self.epsilon
        fits = rounded <= AVERAGED * self.tol and self.epsilon <= WARM * self.cost_scale
        return torch.float32 if fits else torch.float64

    def solution(self, solver: Solver, status: str, seconds: float) -> Solution:
        """The report of a solve, in the caller's kind of arrays."""
        alpha, beta, state = solver.problem.alpha, solver.problem.beta, solver.state
        error = solver.marginal_error
        status = "converged" if error <= self.tol else status
        shift = float(beta.weights @ state.g - alpha.weights @ state.f) / (alpha.mass + beta.mass)
        potentials = (self.container.array(state.f + shift), self.container.array(state.g - shift))
        return Solution(
            value=self.container.number(solver.value()),
            potentials=potentials,
            converged=status == "converged",
            status=status,
            marginal_error=error,
            n_iter=solver.cycles,
            epsilon=self.epsilon,
            temperatures=solver.problem.temperatures,
            tol=self.tol,
            engine=solver.problem.pair.name,
            dtype=solver.dtype,
            seconds=seconds,
            history=tuple(solver.history),
            _plan=solver.plan(),
        )


def _dtype(dtype: Any) -> torch.dtype | None:
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
    if name is None:
        return None
    if name not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} given, expected None, 'float32' or 'float64'.")
    return DTYPES[name]
