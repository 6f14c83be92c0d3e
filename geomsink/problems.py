"""From a caller's arguments to problems that can be solved, and from solved ones to reports."""

from __future__ import annotations

import math
import numbers
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from . import costs, engine
from .annealing import largest_cost, temperatures
from .cellsums import Cloud
from .costs import Cost
from .engine import Gibbs
from .measures import Container, Measure, pair_of_measures, potentials
from .multiscale import Levels, solve_multiscale
from .newton import Newton
from .progress import Progress
from .sinkhorn import Solver, solve_problem
from .solution import ROUNDING, Problem, Solution

DTYPES = {"float32": torch.float32, "float64": torch.float64}
FEW_PAIRS = 2**20
"""Up to this many pairs float64 costs nothing that anyone would notice."""
AVERAGED = 8.0
"""Rounding of exponents, in units of ``tol``, that sums over many pairs average away."""
WARM = 10.0
"""Largest ε, in units of the largest cost, of a solve in float32: potentials are rounded by 6e-8 ε."""

ENDLESS = 1e8
"""ε, in units of the largest cost, from which on the limit ε = ∞ is computed: the difference is of order C/ε,
and the rounding of potentials of size ε would be larger."""
RANGE = {torch.float32: 1e30, torch.float64: 1e290}
"""Costs and temperatures are kept inside of [1/RANGE, RANGE]."""


@dataclass(frozen=True)
class Solved:
    """A solver in its final state, why it stopped, and the seconds it took."""

    solver: Solver
    status: str
    seconds: float

    @property
    def potentials(self) -> tuple[Tensor, Tensor]:
        return self.solver.state.f, self.solver.state.g


@dataclass(frozen=True)
class Setup:
    """Validated arguments, and what is shared by the problems between the two measures.

    Attributes
    ----------
    alpha, beta : Measure
        Features of the points in float64, centred where the cost allows it, and weights of mass 1.
    mass : float
        What the caller's weights sum to.
    multiscale : bool or None
        Whether to solve on several levels; None where it pays.
    cost_scale : float
        About the largest cost between the two.
    """

    alpha: Measure
    beta: Measure
    mass: float
    container: Container
    cost: Cost
    epsilon: float
    tol: float
    max_iter: int
    scaling: float
    engine: str
    dtype: torch.dtype | None
    cost_scale: float
    multiscale: bool | None = None
    _clouds: dict[str, Cloud] = field(default_factory=dict)

    @classmethod
    def of(
        cls, x: Any, y: Any, a: Any, b: Any, blur: Any, epsilon: Any, cost: Any, tol: Any, max_iter: Any,
        scaling: Any, engine_name: str, dtype: Any, multiscale: Any, caller: str,
    ) -> Setup:  # fmt: skip
        ground = costs.get(cost)
        target = costs.temperature(ground, blur, epsilon)
        engine.check_name(engine_name)
        working = _dtype(dtype)
        for name, value in (("tol", tol), ("scaling", scaling)):
            if not isinstance(value, numbers.Real):
                raise TypeError(f"{name}: a {type(value).__name__} was given, expected a number.")
        if not tol > 0:
            raise ValueError(f"tol: {tol} given, expected a positive marginal error.")
        if not (multiscale is None or isinstance(multiscale, bool)):
            raise TypeError(f"multiscale: {multiscale!r} given, expected None, True or False.")
        if not (isinstance(max_iter, numbers.Integral) and int(max_iter) >= 1):
            raise ValueError(f"max_iter: {max_iter} given, expected a whole number of at least 1.")
        alpha, beta, container = pair_of_measures(x, y, a, b)
        if any(isinstance(t, Tensor) and t.requires_grad for t in (x, y, a, b)):
            warnings.warn(f"{caller} carries no autograd history: its value is a constant.", stacklevel=3)
        if multiscale and container.device.type != "cpu":
            raise ValueError(f"multiscale: True given with points on {container.device}, expected them on the CPU.")
        mass = alpha.mass
        if target == math.inf and abs(mass - 1.0) > 1e-6:
            raise ValueError(f"epsilon: inf is given with weights that sum to {mass:.6g}, expected 1.")
        points = [m.points.double() for m in (alpha, beta)]
        if ground.translation_invariant:
            # Rounding errors of a cost are relative to the coordinates: keep those small.
            centre = 0.5 * (points[0].mean(0) + points[1].mean(0))
            points = [p - centre for p in points]
        features = [ground.map(p) for p in points]
        scale = largest_cost(features[0], features[1], ground)
        if not scale < RANGE[torch.float64]:
            raise ValueError(f"x, y: costs reach {scale:.3g}, expected less than 1e290; scale the points down.")
        if working is not None and not _in_range(scale, target, working):
            raise ValueError(f"dtype: costs of {scale:.3g} and epsilon {target:.3g} leave the range of {dtype}.")
        temperatures(scale, target, scaling, ground.degree)
        # Masses that differ by rounding would be a floor under the marginal error: each is made 1.
        weights = [m.weights / m.mass for m in (alpha, beta)]
        return cls(
            Measure(features[0], weights[0]), Measure(features[1], weights[1]), mass, container, ground, target,
            tol, int(max_iter), scaling, engine_name, working, scale, multiscale,
        )  # fmt: skip

    def solve(
        self,
        name: str,
        alpha: Measure,
        beta: Measure,
        bar: Progress,
        start: tuple[Tensor, Tensor] | None = None,
        before: Solved | None = None,
    ) -> Solved:
        """Solve between two of the measures, in float64 after float32 if the latter does not reach ``tol``.

        ``start`` are potentials to start from, ``before`` is an earlier solve that the report continues.
        """
        dtype = self._working_dtype(alpha, beta)
        solved = self._solve_in(dtype, name, alpha, beta, bar, start, before)
        if self.dtype is None and dtype == torch.float32 and "floor" in solved.status:
            solved = self._solve_in(torch.float64, name, alpha, beta, bar, solved.potentials, solved)
        return solved

    def _solve_in(
        self,
        dtype: torch.dtype,
        name: str,
        alpha: Measure,
        beta: Measure,
        bar: Progress,
        start: tuple[Tensor, Tensor] | None,
        before: Solved | None,
    ) -> Solved:
        steps = temperatures(self.cost_scale, self.epsilon, self.scaling, self.cost.degree)
        if self.epsilon > ENDLESS * self.cost_scale > 0:
            steps = (math.inf,)
        x = alpha.points.to(dtype)
        y = x if beta is alpha else beta.points.to(dtype)
        pair = engine.pair(x, y, self.cost, self.engine)
        bar.begin(name, steps[0], steps[-1])
        problem = Problem(alpha, beta, pair, steps, self.cost_scale)
        earlier = before.solver if before else None
        # Trees and sparse plans are made on the CPU, where an evaluation is dear; a GPU has all pairs at once.
        on_cpu = pair.x.device.type == "cpu"
        levels = self._levels(alpha, beta) if on_cpu and steps[-1] < math.inf and self.multiscale is not False else None
        if levels is None:
            newton = None
            if on_cpu and beta is not alpha:
                newton = Newton(self._cloud(alpha), self._cloud(beta), self.cost, self.epsilon)
            solver, status, seconds = solve_problem(problem, self.tol, self.max_iter, bar, start, earlier, newton)
        else:
            solver, status, seconds = solve_multiscale(
                problem, (self._cloud(alpha), self._cloud(beta)), levels, self.tol, self.max_iter, bar, self.engine,
                self.scaling, start, earlier,
            )  # fmt: skip
        return Solved(solver, status, seconds + (before.seconds if before else 0.0))

    def _cloud(self, measure: Measure) -> Cloud:
        name = "alpha" if measure is self.alpha else "beta"
        if name not in self._clouds:
            self._clouds[name] = Cloud(measure, self.cost, self.epsilon)
        return self._clouds[name]

    def _levels(self, alpha: Measure, beta: Measure) -> Levels | None:
        return Levels.of(self._cloud(alpha), self._cloud(beta), force=self.multiscale is True)

    def _working_dtype(self, alpha: Measure, beta: Measure) -> torch.dtype:
        if self.dtype is not None:
            return self.dtype
        if self.container.dtype == torch.float64 or len(alpha.points) * len(beta.points) <= FEW_PAIRS:
            return torch.float64
        # Exponents are rounded by 6e-8 C/ε, of which sums over many pairs average most away (a thirtieth to a
        # ninetieth is left as marginal error on the scanned shapes of the tests); potentials, by 6e-8 ε.
        rounded = ROUNDING[torch.float32] * self.cost_scale / self.epsilon
        fits = rounded <= AVERAGED * self.tol and self.epsilon <= WARM * self.cost_scale
        return torch.float32 if fits and _in_range(self.cost_scale, self.epsilon, torch.float32) else torch.float64

    def start(self, name: str, given: Any, alpha: Measure, beta: Measure) -> tuple[Tensor, Tensor]:
        """Potentials between two of the measures at mass 1, from those of an earlier solution."""
        f, g = potentials(name, given, (len(alpha.points), len(beta.points)), alpha.points.device)
        lower = 0.0 if self.epsilon == math.inf else self.epsilon * math.log(self.mass)
        return f + 0.5 * lower, g + 0.5 * lower

    def solution(self, solved: Solved) -> Solution:
        """The report of a solve, in the caller's kind of arrays and mass.

        With P = m P₁ for the plan of mass 1, OT_ε = m OT_ε,₁ − ε m log m + ε (m² − m), and f + g is lower by
        ε log m.
        """
        solver, mass, epsilon = solved.solver, self.mass, self.epsilon
        alpha, beta, state = solver.problem.alpha, solver.problem.beta, solver.state
        value, lower = mass * solver.value(), 0.0
        if epsilon < math.inf:
            value += epsilon * (mass * mass - mass - mass * math.log(mass))
            lower = epsilon * math.log(mass)
        shift = 0.5 * float(beta.weights @ state.g - alpha.weights @ state.f)
        error = solver.marginal_error
        return Solution(
            value=self.container.number(value),
            potentials=(
                self.container.array(state.f + (shift - 0.5 * lower)),
                self.container.array(state.g - (shift + 0.5 * lower)),
            ),
            converged=error <= self.tol,
            status="converged" if error <= self.tol else solved.status,
            marginal_error=error,
            n_iter=solver.cycles,
            epsilon=epsilon,
            temperatures=solver.problem.temperatures,
            tol=self.tol,
            engine=solver.problem.pair.name,
            dtype=solver.dtype,
            seconds=solved.seconds,
            approximation=solver.approximation,
            history=tuple(solver.history),
            plan=self._plan(solver),
        )

    def _plan(self, solver: Solver) -> Gibbs:
        plan, old = solver.plan(), solver.problem.pair
        pair = engine.pair(old.x, old.y, old.cost, old.name)
        return replace(plan, pair=pair, u=plan.u + math.log(self.mass))


def _in_range(scale: float, epsilon: float, dtype: torch.dtype) -> bool:
    """Whether costs, ε and 1/ε are normal numbers of the precision, with room for sums."""
    largest = RANGE[dtype]
    return scale < largest and (epsilon == math.inf or 1 / largest < epsilon < largest)


def _dtype(dtype: Any) -> torch.dtype | None:
    if dtype is None:
        return None
    # torch.float32, numpy.float32 and numpy.dtype("float32") all have the name in their text.
    name = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype).removeprefix("torch."))
    if name not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} given, expected None, 'float32' or 'float64'.")
    return DTYPES[name]
