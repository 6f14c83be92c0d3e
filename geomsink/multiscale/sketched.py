"""Between sketches: solve between a few points of each cloud, carry the potentials over to all points, and look there.

The sketches of two clouds make up a problem like any other, but for signs: its solution is that of the clouds as far as
their sketches stand for them, which an audit of all points tells.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from .. import engine
from ..choose import pays_to_sketch
from ..engine import Gibbs
from ..measures import Measure
from ..progress import Progress
from ..solver import Accuracy, Approximation, Goal, Iterate, Potentials, Problem, Solved, State, log_sums
from .audit import Audit, audit, right_with
from .cellsums import CellSums
from .clouds import Cloud
from .coarsetofine import CoarseToFine
from .levels import Levels
from .sketch import Nodes

ACCURACIES = (1.0, 0.03)
"""Accuracies of sketches, in ``tol``, that are tried until the audit is content."""
OFF = 2.0
"""What sums interpolated in a cell may be off by, the mean square, in units of the accuracy."""
EFFORTS = 1, 4
"""Times the usual number of rows that are audited, one after the other, while it is the chance in them that leaves the
value uncertain."""
UNCERTAIN = 0.03
"""Uncertainty of the plan's mass, in what single sums are off by, from which on it may be chance."""
STEPS, NEARLY = 2, 1.1
"""Steps of accuracies in a power of ten, and by how much one may be missed."""
ROOM = 0.3
"""Share of ``tol`` that a problem between sketches is solved to: what is left is for what they are off by."""


def stepped(accuracy: float) -> float:
    """About an accuracy, and one of a few, so that sketches serve again.

    Examples
    --------
    >>> [f"{stepped(accuracy):.1e}" for accuracy in (1e-3, 9.6e-4, 5e-4)]
    ['1.0e-03', '1.0e-03', '3.2e-04']
    """
    return math.pow(10.0, math.floor(STEPS * math.log10(NEARLY * accuracy)) / STEPS)


class Stand:
    """What stands for a cloud: its nodes, or, where there would be too many of them, its points.

    Parameters
    ----------
    cloud : Cloud
    accuracy : float
        Of the nodes.
    engine_name : {"auto", "keops", "dense"}, default "auto"
        Of sums within their cells.
    """

    def __init__(self, cloud: Cloud, accuracy: float, engine_name: str = "auto"):
        self.cloud, self.inner = cloud, cloud
        self.nodes: Nodes | None = None
        if cloud.measure.signs is None and len(cloud.measure.points):
            nodes = cloud.nodes(accuracy, engine_name)
            if pays_to_sketch(len(nodes), len(nodes.tree)):
                self.nodes = nodes
                self.inner = cloud.once(
                    ("sketch", accuracy, engine_name),
                    lambda: Cloud(nodes.sketch(cloud.measure), cloud.cost, cloud.epsilon),
                )
                self._index = nodes.tree.order[nodes.index]

    @property
    def measure(self) -> Measure:
        return self.inner.measure

    @property
    def is_sketch(self) -> bool:
        """Whether there are fewer points in it than it stands for."""
        return self.nodes is not None

    @property
    def count(self) -> int:
        """Points that it stands for."""
        return len(self.cloud.measure.points)

    def at(self, values: Tensor) -> Tensor:
        """Of numbers over the points, those of the nodes."""
        return values if self.nodes is None else values[self._index]

    def project(self, w: Tensor) -> Tensor:
        """What stands for factors w of the points, shape (N, E)."""
        return w if self.nodes is None else self.nodes.project(w[self.nodes.tree.order])

    def interpolate(self, values: Tensor) -> Tensor:
        """Smooth functions at the points, from what they are at the nodes."""
        return values if self.nodes is None else self.nodes.interpolate(values)[self.nodes.tree.rank]


@dataclass(frozen=True)
class Sketched:
    """Solves between the sketches of two clouds.

    Attributes
    ----------
    goal : Goal
        When to stop.
    max_iter : int
        Cycles, at most, on each level.
    scaling : float
        Of the annealing on the coarsest level.
    engine : str
        Of the sums.
    clouds : pair of Cloud
        The problem's measures; those that are sketches already stand for themselves.
    """

    goal: Goal
    max_iter: int
    scaling: float
    engine: str
    clouds: tuple[Cloud, Cloud]

    name: ClassVar[str] = "sketched"

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """See `geomsink.solver.Strategy`; the state is that of all points."""
        began, earlier, wanted = time.perf_counter(), before, stepped(self.goal.of_sums)
        for share in ACCURACIES:
            alpha = self._stand(self.clouds[0], share * wanted)
            beta = alpha if problem.is_self else self._stand(self.clouds[1], share * wanted)
            first = None if start is None else (alpha.at(start[0]), beta.at(start[1]))
            inner = self._between(problem, alpha, beta, progress, first, earlier)
            sums = self._sums(inner.solver, alpha, beta, problem, share * wanted)
            solver = sums.iterate(self.goal.tol, progress)
            for effort in EFFORTS:
                found = sums.audit(effort)
                solver.accuracy, solver.missing_mass = _at_points(sums.accuracy, solver), found.missing
                # Errors of what is transported count relative to that.
                solver.allowance = found.off * float(problem.mass / solver.mass)
                right = right_with(solver, found, self.goal) and solver.marginal_error <= self.goal.tol
                if right or not inner.converged or found.uncertain < found.off * UNCERTAIN:
                    break
            state = solver.state
            solver.approximation = _approximation(inner.solver, (alpha, beta), share * wanted, found)
            if right or not inner.converged or not (alpha.is_sketch or beta.is_sketch):
                break
            start, earlier = (state.f, state.g), replace(inner, solver=solver)
        status = "sketches are off by more than tol" if inner.converged and not right else inner.status
        stands = problem.is_signed or problem.whole is not None or alpha.is_sketch or beta.is_sketch
        name = self.name if stands else inner.strategy
        return Solved(solver, status, time.perf_counter() - began, name).after(before)

    def _stand(self, cloud: Cloud, accuracy: float) -> Stand:
        return Stand(cloud, accuracy, self.engine)

    def _sums(self, inner: Iterate, alpha: Stand, beta: Stand, problem: Problem, accuracy: float) -> Carried:
        return SketchedSums(inner, alpha, beta, problem, accuracy)

    def _between(
        self,
        problem: Problem,
        alpha: Stand,
        beta: Stand,
        progress: Progress,
        start: Potentials | None,
        before: Solved | None,
    ) -> Solved:
        """The problem of what stands for the two clouds."""
        dtype, old = problem.pair.x.dtype, problem.pair
        x, y = alpha.measure.points.to(dtype), beta.measure.points.to(dtype)
        name = old.name if problem.whole is None else self.engine  # parts may be of any size
        pair = engine.pair(x, x if problem.is_self else y, old.cost, name)
        inner = replace(problem, alpha=alpha.measure, beta=beta.measure, pair=pair, whole=None)
        levels = Levels.of(alpha.inner, beta.inner) or Levels.none()
        goal = replace(self.goal, tol=ROOM * self.goal.tol)
        clouds = alpha.inner, beta.inner
        strategy = CoarseToFine(goal, self.max_iter, self.scaling, self.engine, clouds, levels)
        return strategy.solve(inner, progress, start, before)


class Carried(Protocol):
    """The state of a problem between sketches, carried over to the points."""

    @property
    def accuracy(self) -> Accuracy | None:
        """How far it is from the optimum."""
        ...

    def iterate(self, tol: float, progress: Progress) -> Iterate:
        """The state, as one of the points' problem."""
        ...

    def audit(self, effort: int) -> Audit:
        """What its sums are found to be off by, over so many times the usual number of points."""
        ...


class SketchedSums:
    """Sums of all points by way of those between sketches, at which potentials are known.

    Implements `geomsink.solver.Sums`, at the problem's temperature, and `Carried`.

    Parameters
    ----------
    inner : Iterate
        The solved problem between the sketches.
    alpha, beta : Stand
    problem : Problem
        That of the points.
    accuracy : float
        Of the sketches, and of what is interpolated.
    """

    def __init__(self, inner: Iterate, alpha: Stand, beta: Stand, problem: Problem, accuracy: float):
        self._inner, self._problem = inner, problem
        self._stands, self._accuracy = (alpha, beta), accuracy
        self._rough = [torch.zeros(0, dtype=torch.int64, device=problem.alpha.points.device)] * 2
        f, log_rows = self._extended(0)
        g, log_columns = (f, log_rows) if problem.is_self else self._extended(1)
        self.state = State(f, g, log_rows, log_columns)
        self._known = f, g

    def iterate(self, tol: float, progress: Progress) -> Iterate:
        """The inner problem's state, carried over to all points."""
        solver, state = Iterate(self._problem, tol, progress, self._inner, self), self.state
        solver.state = state
        return solver

    @property
    def accuracy(self) -> Accuracy | None:
        return carried_accuracy(self._inner, self.state)

    def audit(self, effort: int) -> Audit:
        """What the state's sums are found to be off by, over so many times the usual number of points."""
        problem, state = self._problem, self.state
        claimed = state.log_rows, state.log_columns
        near = partial(self.near, 0), partial(self.near, 1)
        measures = problem.alpha, problem.beta
        return audit(problem.pair, measures, (state.f, state.g), claimed, problem.epsilon, near, effort)

    def near(self, side: int, points: Tensor) -> Tensor:
        """Logarithms of row (side 0) or column sums of the state at some points, over what stands for the others."""
        return self._directly(side, points, self._known[side][points])

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        return self._products(0, f, g, torch.ones_like(g)[:, None])[:, 0].log()

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        return self._products(1, g, f, torch.ones_like(f)[:, None])[:, 0].log()

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        return self._products(0, f, g, w)

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        return self._products(1, g, f, w)

    def _extended(self, side: int) -> Potentials:
        """A potential, and logarithms of the sums of its side, at the points: interpolated from the nodes, but where
        that is found to be off, as where the map is not smooth.

        What is interpolated is a softmin, and how far the potential is from an update by it, which is next to nothing:
        the potential itself has kinks where it is as large as a penalty lets it be, and a value that is of first order
        in how far it is from there.
        """
        problem, state, nodes = self._problem, self._inner.state, self._stands[side].nodes
        at_nodes = ((state.f, state.log_rows), (state.g, state.log_columns))[side]
        if nodes is None:
            return at_nodes
        epsilon, penalty = problem.epsilon, problem.penalties[side]
        softmin = at_nodes[0] - epsilon * at_nodes[1]
        rest = at_nodes[0] - penalty.update(softmin, epsilon)
        columns = (softmin, rest) if bool(rest.any()) else (softmin,)  # after an update of this side
        softmin, *more = self._stands[side].interpolate(torch.stack(columns, 1)).unbind(1)
        updated = penalty.update(softmin, epsilon)
        potential = sum(more, updated.clone())
        if penalty.kinked:  # an update is cut off at the bounds
            potential = torch.where(updated == softmin, penalty.update(potential, epsilon), updated)
        sums = (potential - softmin) / epsilon
        points, cells = nodes.checks()
        checked = points.flatten()
        off = (self._directly(side, checked, potential[checked]) - sums[checked]).expm1().reshape(points.shape)
        wrong = off.square().mean(1).sqrt() > OFF * self._accuracy
        self._rough[side] = torch.cat((nodes.points_of(cells[wrong]), nodes.remote)).unique()
        if len(rough := self._rough[side]):
            softmin = potential[rough] - epsilon * self._directly(side, rough, potential[rough])
            potential[rough] = penalty.update(softmin, epsilon)
            sums[rough] = (potential[rough] - softmin) / epsilon
        return potential, sums

    def _products(self, side: int, here: Tensor, there: Tensor, w: Tensor) -> Tensor:
        """Σ_j b_j exp((here_i + there_j − C_ij)/ε) w_j."""
        problem, inner, epsilon = self._problem, self._inner, self._problem.epsilon
        potentials = (inner.state.f, inner.state.g) if side == 0 else (inner.state.g, inner.state.f)
        weights, known = (problem.beta, problem.alpha)[side].weights, self._known[1 - side]
        if there is not known:
            weights = weights * ((there - known) / epsilon).exp()
        w = self._stands[1 - side].project(weights[:, None] * w)
        u, v = (h / epsilon for h in potentials)
        sums = None
        if isinstance(inner.sums, CellSums):
            sums = (inner.sums.rows, inner.sums.columns)[side].products(u, v, epsilon, w)
        if sums is None:
            pair = inner.problem.pair if side == 0 else inner.problem.pair.T
            dtype = pair.x.dtype
            sums = Gibbs(pair, u.to(dtype), v.to(dtype), epsilon).apply(w.to(dtype)).double()
        sums = self._stands[side].interpolate(sums)
        if len(rough := self._rough[side]):
            sums[rough] = self._directly(side, rough, self._known[side][rough], w)
        if here is not self._known[side]:
            sums = sums * ((here - self._known[side]) / epsilon).exp()[:, None]
        return sums

    def _directly(self, side: int, points: Tensor, potential: Tensor, w: Tensor | None = None) -> Tensor:
        """For some points, the logarithm of Σ_k ω_k exp((f + g_k − C_k)/ε) over what stands for the other side, or such
        sums with w in the place of ω."""
        problem, state, stand = self._problem, self._inner.state, self._stands[1 - side]
        x, y = (problem.alpha, problem.beta)[side].points[points], stand.measure.points
        pair, dtype, epsilon = problem.pair if side == 0 else problem.pair.T, problem.pair.x.dtype, problem.epsilon
        between = engine.pair(x.to(dtype), y.to(dtype), pair.cost, pair.name)
        u, v = potential / epsilon, (state.g, state.f)[side] / epsilon
        if w is None:
            return log_sums(between, u, v + stand.measure.log_weights, epsilon, stand.measure.signs)
        return Gibbs(between, u.to(dtype), v.to(dtype), epsilon).apply(w.to(dtype)).double()


def carried_accuracy(inner: Iterate, state: State) -> Accuracy | None:
    """That of the inner problem's state, for the state that is made of it, which has no step of its own."""
    if inner.accuracy is None:
        return None
    return replace(inner.accuracy, step=(torch.zeros_like(state.f), torch.zeros_like(state.g)))


def _at_points(found: Accuracy | None, solver: Iterate) -> Accuracy | None:
    """An accuracy between nodes, which is no less than what the marginals of the points do to the value where all mass
    mixes at once."""
    if found is None or not solver.balanced:
        return found
    problem, state = solver.problem, solver.state
    sides = (problem.alpha, solver.surplus(0, state.log_rows)), (problem.beta, solver.surplus(1, state.log_columns))
    squares = solver.completed(sum((m.sizes * off.square()).sum(-1) for m, off in sides))  # type: ignore[arg-type]
    return replace(found, decrement=found.decrement.maximum(0.5 * problem.epsilon * squares))


def _approximation(inner: Iterate, stands: tuple[Stand, Stand], accuracy: float, found: Audit) -> Approximation:
    """What stood for what."""
    sizes = len(stands[0].measure.points), len(stands[1].measure.points)
    assert inner.approximation is not None
    first, second = (float((-m.weights).clamp(min=0.0).sum() / m.mass) for m in (stands[0].measure, stands[1].measure))
    points, levels = (stands[0].count, stands[1].count), inner.approximation.levels
    return replace(
        inner.approximation,
        share=inner.approximation.share * sizes[0] * sizes[1] / (points[0] * points[1]),
        levels=levels if sizes == points else (*levels, points),
        nodes=sizes,
        negative=(first, second),
        accuracy=accuracy if any(stand.is_sketch for stand in stands) else 0.0,
        audit=found.off,
        audited=(stands[0].cloud.measure.signs is None, stands[1].cloud.measure.signs is None),
    )
