"""From a caller's arguments to problems that can be solved."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .. import engine
from ..certificates import Interval
from ..costs import Cost
from ..derivatives import Terms, unrolled_potentials
from ..measures import Container, Measure, pair_of_measures, potentials
from ..multiscale import Cloud, Levels, Newton, solve_multiscale
from ..progress import Progress
from ..solver import ROUNDING, Iterate, Penalty, Problem, largest_cost, solve_problem, temperatures
from .inputs import Inputs
from .options import Options

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
    """A solver in its final state, why it stopped, and the seconds it took; potentials with history if unrolled, and
    the certified interval of the value, if there is one."""

    solver: Iterate
    status: str
    seconds: float
    unrolled: tuple[Tensor, Tensor] | None = None
    interval: Interval | None = None

    @property
    def potentials(self) -> tuple[Tensor, Tensor]:
        return self.solver.state.f, self.solver.state.g


@dataclass(frozen=True)
class Setup:
    """Validated arguments, and what is shared by the problems between the two measures.

    Attributes
    ----------
    alpha, beta : Measure
        Features of the points in float64, centred where the cost allows it, and weights; constants.
    inputs : Inputs
        The same, with history.
    mass : Tensor, shape () or (B,)
        What the caller's weights sum to, if the marginals are fixed.
    cost_scale : float
        About the largest cost between the two.
    """

    alpha: Measure
    beta: Measure
    inputs: Inputs
    container: Container
    options: Options
    cost: Cost
    epsilon: float
    mass: Tensor
    tol: float
    cost_scale: float
    _clouds: dict[str, Cloud] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any,
        a: Any,
        b: Any,
        options: Options,
        x_batch: Any = None,
        y_batch: Any = None,
        centre: Tensor | None = None,
    ) -> Setup:
        points, weights, container = pair_of_measures(x, y, a, b, options.balanced, x_batch, y_batch)
        if options.multiscale and container.layouts:
            raise ValueError("multiscale: True given with a batch, expected single clouds.")
        if options.multiscale and container.device.type != "cpu":
            raise ValueError(f"multiscale: True given with points on {container.device}, expected them on the CPU.")
        inputs = Inputs.of(points, weights, options, centre)
        target, mass, cost = float(inputs.epsilon.detach()), inputs.mass.detach(), options.ground
        if cost.parameters:  # as they are now, whatever an optimiser makes of them
            cost = replace(cost, parameters=tuple(p.detach().clone() for p in cost.parameters))
        if target == math.inf:
            if not options.balanced:
                raise ValueError("epsilon: inf is given with reach or rho, expected a finite temperature.")
            if bool(((mass - 1.0).abs() > 1e-6).any()):
                found = float(mass.reshape(-1)[0])
                raise ValueError(f"epsilon: inf is given with weights that sum to {found:.6g}, expected 1.")
            if inputs.live:
                raise ValueError("epsilon: inf is given with points that require gradients; see geomsink.mmd.")
        # Copies: the caller may change tensors in place.
        alpha = Measure(inputs.x.detach().clone(), inputs.a.detach().clone())
        beta = Measure(inputs.y.detach().clone(), inputs.b.detach().clone())
        scale = largest_cost(alpha.points.flatten(0, -2), beta.points.flatten(0, -2), cost)
        if not scale < RANGE[torch.float64]:
            raise ValueError(f"x, y: costs reach {scale:.3g}, expected less than 1e290; scale the points down.")
        _check_warmth(target, scale, options, inputs.live)
        working = options.working_dtype
        if working is not None and not _in_range(scale, target, working):
            raise ValueError(
                f"dtype: costs of {scale:.3g} and epsilon {target:.3g} leave the range of {options.dtype}."
            )
        return cls(alpha, beta, inputs, container, options, cost, target, mass, options.tol, scale)

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
        if self.options.working_dtype is None and dtype == torch.float32 and "floor" in solved.status:
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
        steps = temperatures(self.cost_scale, self.epsilon, self.options.scaling, self.cost.degree)
        if self.options.balanced and self.epsilon > ENDLESS * self.cost_scale > 0:
            steps = (math.inf,)
        pair = self.pair_of(alpha, beta, dtype)
        bar.begin(name, steps[0], steps[-1])
        penalties = self._penalties(alpha, beta)
        problem = Problem(alpha, beta, pair, steps, self.cost_scale, penalties)
        earlier = before.solver if before else None
        if self.options.iterations is not None:
            return self._unrolled(problem, bar, start)
        on_cpu = self.on_cpu
        levels = (
            self._levels(alpha, beta)
            if on_cpu and steps[-1] < math.inf and self.options.multiscale is not False
            else None
        )
        if levels is None:
            newton = None
            if on_cpu and beta is not alpha:
                newton = Newton(self.cloud(alpha), self.cloud(beta), self.cost, self.epsilon, penalties)
            solver, status, seconds = solve_problem(
                problem, self.tol, int(self.options.max_iter), bar, start, earlier, newton
            )
        else:
            solver, status, seconds = solve_multiscale(
                problem, (self.cloud(alpha), self.cloud(beta)), levels, self.tol, int(self.options.max_iter), bar,
                self.options.engine, self.options.scaling, start, earlier,
            )  # fmt: skip
        return Solved(solver, status, seconds + (before.seconds if before else 0.0))

    def pair_of(self, alpha: Measure, beta: Measure, dtype: torch.dtype) -> engine.Pair:
        """Two of the measures on the engine."""
        x = alpha.points.to(dtype)
        y = x if beta is alpha else beta.points.to(dtype)
        return engine.pair(x, y, self.cost, self.options.engine, self.lengths(alpha, beta))

    @property
    def on_cpu(self) -> bool:
        """Trees and sparse plans are made there, where an evaluation is dear; a GPU has all pairs at once."""
        return self.alpha.points.device.type == "cpu" and self.container.layouts is None

    def _unrolled(self, problem: Problem, bar: Progress, start: tuple[Tensor, Tensor] | None) -> Solved:
        """As many iterations as the caller wants, with history."""
        began, options = time.perf_counter(), self.options
        assert options.iterations is not None
        f, g = unrolled_potentials(problem, self.terms(problem), int(options.iterations), options.recompute, start)
        solver = Iterate(problem, self.tol, bar)
        solver.load(f.detach(), g.detach(), int(options.iterations))
        return Solved(solver, f"{options.iterations} iterations are done", time.perf_counter() - began, (f, g))

    def cloud(self, measure: Measure) -> Cloud:
        name = "alpha" if measure is self.alpha else "beta"
        if name not in self._clouds:
            self._clouds[name] = Cloud(measure, self.cost, self.epsilon)
        return self._clouds[name]

    def _levels(self, alpha: Measure, beta: Measure) -> Levels | None:
        return Levels.of(self.cloud(alpha), self.cloud(beta), force=self.options.multiscale is True)

    def _working_dtype(self, alpha: Measure, beta: Measure) -> torch.dtype:
        if self.options.working_dtype is not None:
            return self.options.working_dtype
        if self.container.dtype == torch.float64 or alpha.weights.numel() * beta.weights.shape[-1] <= FEW_PAIRS:
            return torch.float64
        # Exponents are rounded by 6e-8 C/ε, of which sums over many pairs average most away (a thirtieth to a
        # ninetieth is left as marginal error on the scanned shapes of the tests); potentials, by 6e-8 ε.
        rounded = ROUNDING[torch.float32] * self.cost_scale / self.epsilon
        fits = rounded <= AVERAGED * self.tol and self.epsilon <= WARM * self.cost_scale
        return torch.float32 if fits and _in_range(self.cost_scale, self.epsilon, torch.float32) else torch.float64

    def start(self, name: str, given: Any, alpha: Measure, beta: Measure) -> tuple[Tensor, Tensor]:
        """Potentials between two of the measures at mass 1, from those of an earlier solution."""
        f, g = potentials(name, given, (alpha, beta), self.container_of(alpha, beta))
        if self.epsilon == math.inf or not self.options.balanced:
            return f, g
        lower = 0.5 * self.epsilon * self.mass.log()[..., None]
        return f + lower, g + lower

    def container_of(self, alpha: Measure, beta: Measure) -> Container:
        """For numbers over the points of two of the measures."""
        layouts = self.container.layouts
        if layouts is None:
            return self.container
        first, second = (layouts[0 if m is self.alpha else 1] for m in (alpha, beta))
        return replace(self.container, layouts=(first, second))

    def lengths(self, alpha: Measure, beta: Measure) -> tuple[Tensor, Tensor] | None:
        layouts = self.container_of(alpha, beta).layouts
        return layouts and (torch.tensor(layouts[0].lengths), torch.tensor(layouts[1].lengths))

    def _penalties(self, alpha: Measure, beta: Measure) -> tuple[Penalty, Penalty]:
        first, second = (self.options.penalties[0 if m is self.alpha else 1] for m in (alpha, beta))
        return first, second

    def terms(self, problem: Problem) -> Terms:
        """What a problem depends on, with history, in its working precision."""
        inputs = self.inputs
        dtype = problem.pair.x.dtype
        x, y = inputs.x.to(dtype), inputs.y.to(dtype)
        sides = [(x, inputs.a) if m is self.alpha else (y, inputs.b) for m in (problem.alpha, problem.beta)]
        (x, a), (y, b) = sides
        pairs = engine.Pairs.of(problem.pair)
        return Terms(x, y, a, b, inputs.epsilon, inputs.parameters, self.cost, problem.penalties, pairs)

    def constant(self) -> Setup:
        """The same without history, to be kept."""
        inputs = self.inputs
        names = [f.name for f in fields(Inputs) if f.name not in ("points", "parameters")]
        constants = {name: getattr(inputs, name).detach() for name in names}
        points = inputs.points[0].detach(), inputs.points[1].detach()
        return replace(self, inputs=Inputs(points, **constants, parameters=self.cost.parameters))

    def adopting(self, other: Setup) -> tuple[Setup, tuple[bool, bool]]:
        """With what an earlier setup of the same options has prepared of clouds that are the same; and which are."""
        same = {"alpha": False, "beta": False}
        if (self.epsilon, self.container) != (other.epsilon, other.container):
            return self, (False, False)
        if not all(map(torch.equal, self.cost.parameters, other.cost.parameters)):
            return self, (False, False)
        setup = self
        for name in same:
            mine, theirs = getattr(self, name), getattr(other, name)
            same[name] = torch.equal(mine.points, theirs.points) and torch.equal(mine.weights, theirs.weights)
            if same[name]:
                setup = replace(setup, **{name: theirs})
                setup._clouds.update({key: cloud for key, cloud in other._clouds.items() if key == name})
        return setup, (same["alpha"], same["beta"])


def _check_warmth(epsilon: float, scale: float, options: Options, live: bool) -> None:
    """Refuse temperatures so high that the limit ε = ∞ is computed, where that has no answer."""
    if not epsilon > ENDLESS * scale > 0.0:
        return
    found = f"epsilon: {epsilon:.3g} is more than {ENDLESS:.0e} times the largest cost, {scale:.3g}"
    if not options.balanced:
        raise ValueError(f"{found}, which is given with reach or rho; expected less.")
    if options.iterations is not None or (live and (options.differentiation == "implicit" or options.form == "sharp")):
        how = f"differentiation={options.differentiation!r}, form={options.form!r}"
        raise ValueError(f"{found}, with {how}; expected less, or see geomsink.mmd for the limit.")


def _in_range(scale: float, epsilon: float, dtype: torch.dtype) -> bool:
    """Whether costs, ε and 1/ε are normal numbers of the precision, with room for sums."""
    largest = RANGE[dtype]
    return scale < largest and (epsilon == math.inf or 1 / largest < epsilon < largest)
