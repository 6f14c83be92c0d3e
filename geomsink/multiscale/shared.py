"""Between the sketches of clouds whose parts lie on several processes.

Each process sketches its part of a cloud, the nodes of all go to all and are sketched again, and the small problem
between the two sketches that are found is solved by each, so that nobody waits for longer than machines differ in
speed; the first one's solution is everybody's, to the bit. What is asked of the points, potentials, gradients and
audits, is found where these are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import engine
from ..choose import pays_to_sketch
from ..costs import Cost
from ..measures import Measure
from ..processes import Group
from ..progress import Progress
from ..solver import Accuracy, Iterate, Potentials, Problem, Solved, State, log_sums, relaxed
from .audit import Audit, Near, SharedAudited, of_both
from .clouds import Cloud
from .sketch import merged
from .sketched import Carried, Sketched, SketchedSums, Stand, carried_accuracy

GATHERED = 2**21
"""Nodes of the parts of a cloud, at most, which every process has in memory and sketches again: 84 MB in three
coordinates."""
SKETCH, MERGE = "sketches of parts", "sketch of the whole"
SOLVE, EXTEND, VALUE = "between sketches", "from sketches to points", "sums over all points"


class TooFine(ValueError):
    """A blur at which sketches do not take the place of clouds; all processes find that."""


class Part(Cloud):
    """What this process has of a cloud.

    Parameters
    ----------
    measure : Measure
    cost : Cost
    epsilon : float
    group : Group
    count : int
        Points of the whole cloud.
    mass : float
        Of the whole cloud.
    engine : {"auto", "keops", "dense"}
        Of sums within cells.
    """

    def __init__(
        self,
        measure: Measure,
        cost: Cost,
        epsilon: float,
        group: Group,
        count: int,
        mass: float,
        engine: str,
    ):
        super().__init__(measure, cost, epsilon)
        self.engine = engine
        self.group, self.count, self.mass = group, count, mass

    def is_sketched(self, accuracy: float) -> bool:
        """Whether a few points stand for the whole cloud: the sketch is made; all processes call it."""
        return SharedStand(self, accuracy, self.engine).is_sketch


class SharedStand(Stand):
    """What stands for a cloud of which this process has a part: the sketch of the sketches of all processes.

    Parameters
    ----------
    cloud : Part
    accuracy : float
        Of the nodes, in each part and in the whole.
    engine_name : {"auto", "keops", "dense"}, default "auto"

    Attributes
    ----------
    own : Stand
        What stands for the part.
    """

    def __init__(self, cloud: Part, accuracy: float, engine_name: str = "auto"):
        self.cloud, self.part, self.nodes = cloud, cloud, None
        with cloud.group.step(SKETCH):
            self.own = cloud.once(("own", accuracy, engine_name), lambda: Stand(cloud, accuracy, engine_name))
        self.inner, self._index = cloud.once(
            ("whole", accuracy, engine_name), lambda: self._gathered(cloud, accuracy, engine_name)
        )

    @property
    def is_sketch(self) -> bool:
        return pays_to_sketch(len(self.measure.points), self.count)

    @property
    def count(self) -> int:
        return self.part.count

    def at(self, values: Tensor) -> Tensor:
        return torch.cat(self.part.group.gather(self.own.at(values), SOLVE))[self._index]

    def _gathered(self, cloud: Part, accuracy: float, engine_name: str) -> tuple[Cloud, Tensor]:
        """The whole sketch, and which of the nodes of all processes are in it."""
        group, mine = cloud.group, self.own.measure
        nodes = int(group.sum(torch.tensor([len(mine.points)], device=mine.points.device), MERGE))
        if nodes > GATHERED:
            raise TooFine(
                f"blur, epsilon: {nodes:,} points stand for the {cloud.count:,} of a cloud on {group.count} processes, "
                f"expected at most {GATHERED:,}, which each of them has in memory; a larger blur has fewer."
            )
        rows = torch.cat((mine.points, mine.weights[:, None], mine.sizes[:, None]), 1)
        rows = torch.cat(group.gather(rows, MERGE))
        with group.step(MERGE):
            union = Measure(rows[:, :-2], rows[:, -2], rows[:, -1])
            found, index = merged(union, cloud.cost, cloud.epsilon, accuracy, engine_name)
            sums = torch.stack((found.weights, found.sizes), 1)
            sums = sums * (cloud.mass / sums.sum(0))
        index, sums = _of_first(group, index), _of_first(group, sums)
        whole = Measure(union.points[index], sums[:, 0].contiguous(), sums[:, 1].contiguous())
        return Cloud(whole, cloud.cost, cloud.epsilon), index


def _of_first(group: Group, t: Tensor) -> Tensor:
    """The first process's tensor, whose number of rows may be another one."""
    n = int(group.first(torch.tensor([len(t)], device=t.device), MERGE))
    return group.first(t if group.rank == 0 else t.new_zeros((n, *t.shape[1:])), MERGE)


@dataclass(frozen=True)
class Shared(Sketched):
    """Solves between the sketches of two clouds whose parts lie on several processes, which all call it.

    Attributes
    ----------
    clouds : pair of Part
    """

    clouds: tuple[Part, Part]

    def _stand(self, cloud: Cloud, accuracy: float) -> Stand:
        assert isinstance(cloud, Part)
        return SharedStand(cloud, accuracy, self.engine)

    def _between(
        self,
        problem: Problem,
        alpha: Stand,
        beta: Stand,
        progress: Progress,
        start: Potentials | None,
        before: Solved | None,
    ) -> Solved:
        group = self.clouds[0].group
        with group.step(SOLVE):
            solved = super()._between(problem, alpha, beta, progress, start, before)
        return _agreed(group, solved)

    def _sums(self, inner: Iterate, alpha: Stand, beta: Stand, problem: Problem, accuracy: float) -> Carried:
        assert isinstance(alpha, SharedStand) and isinstance(beta, SharedStand)
        return SharedSums(inner, (alpha, beta), problem, accuracy, self.engine)


def _agreed(group: Group, solved: Solved) -> Solved:
    """As the first process has solved it: others may be machines that round in another way."""
    solver, state, known = solved.solver, solved.solver.state, solved.solver.accuracy
    names = ("decrement", "left", "rounded", "potentials", "fall")
    mine: dict[str, Any] = {
        "status": solved.status, "evaluations": solver.evaluations, "missing": solver.missing_mass,
        "allowance": float(solver.allowance), "accuracy": known and [float(getattr(known, name)) for name in names],
    }  # fmt: skip
    facts = group.told(mine, SOLVE)[0]
    f, log_rows = g, log_columns = group.first(torch.stack((state.f, state.log_rows)), SOLVE)
    if not solver.problem.is_self:
        g, log_columns = group.first(torch.stack((state.g, state.log_columns)), SOLVE)
    solver.state, solver.accuracy = State(f, g, log_rows, log_columns), None
    solver.evaluations, solver.missing_mass, solver.allowance = (facts[k] for k in list(mine)[1:4])
    if facts["accuracy"] is not None:
        numbers = dict(zip(names, f.new_tensor(facts["accuracy"]).unbind(), strict=True))
        solver.accuracy = Accuracy(step=(torch.zeros_like(f), torch.zeros_like(g)), **numbers)
    return replace(solved, status=facts["status"])


class SharedIterate(Iterate):
    """A state of which this process has the numbers at its points: those of the whole are asked for by all at once.

    Attributes
    ----------
    parts : pair of Iterate
        The own points of each measure as rows, and the sketch of the other one as columns.
    """

    group: Group
    parts: tuple[Iterate, Iterate]

    def completed(self, sums: Tensor) -> Tensor:
        return self.group.sum(sums, VALUE)


class SharedSums:
    """A solved problem between sketches, carried over to the points of all processes.

    Implements `Carried`. The potentials of the columns are updated at the nodes once more, so that potentials at any
    points are softmins against nodes, and sums of rows those of the same potentials.

    Parameters
    ----------
    inner : Iterate
        The solved problem.
    stands : pair of SharedStand
    problem : Problem
        Of the points that this process has.
    accuracy : float
        Of the sketches.
    engine_name : {"auto", "keops", "dense"}
    """

    def __init__(
        self,
        inner: Iterate,
        stands: tuple[SharedStand, SharedStand],
        problem: Problem,
        accuracy: float,
        engine_name: str,
    ):
        self._engine, self._inner, self._stands, self._problem = engine_name, inner, stands, problem
        self._accuracy, self._group = accuracy, stands[0].part.group
        with self._group.step(EXTEND):
            g = inner.state.g
            f, _ = inner.exact(0)
            after = f
            if not problem.is_self:
                log_columns = inner.sums.log_columns(f, g, problem.epsilon)
                after, _ = relaxed(problem.penalties[1], g, log_columns, 1.0, problem.epsilon)
            rows = self._part(0, g, after)
            self.parts = rows, rows if problem.is_self else self._part(1, f, f)
        (f, log_rows), (g, log_columns) = ((part.state.f, part.state.log_rows) for part in self.parts)
        self.state = State(f, g, log_rows, log_columns)

    @property
    def accuracy(self) -> Accuracy | None:
        return carried_accuracy(self._inner, self.state)

    def iterate(self, tol: float, progress: Progress) -> Iterate:
        """The inner problem's state at the points."""
        solver = SharedIterate(self._problem, tol, progress, self._inner)
        solver.group, solver.parts, solver.state = self._group, self.parts, self.state
        return solver

    def audit(self, effort: int) -> Audit:
        """What the state's sums are found to be off by, over all points of all processes."""
        state, epsilon = self.state, self._problem.epsilon
        columns = rows = self._audited(1, effort).against(state.g, state.f, state.log_columns, epsilon, self._near(1))
        if not self._problem.is_self:
            rows = self._audited(0, effort).against(state.f, state.g, state.log_rows, epsilon, self._near(0))
        return of_both(rows, columns, (self._stands[0].part.mass, self._stands[1].part.mass))

    def _audited(self, side: int, effort: int) -> SharedAudited:
        """The rows of one side over the columns of the other."""
        problem, here, other = self._problem, self._stands[side].part, self._stands[1 - side].part
        pair = problem.pair if side == 0 else problem.pair.T
        return SharedAudited(
            rows=here.measure, columns=other.measure, pair=pair, effort=effort, group=self._group, count=other.count,
            mass=here.mass,
        )  # fmt: skip

    def _near(self, side: int) -> Near:
        """Logarithms of row sums at own points of one side, over the sketch of the other."""

        def near(points: Tensor) -> Tensor:
            sums = self.parts[side].sums
            if not len(points):
                return self.state.f[:0]
            assert isinstance(sums, SketchedSums)
            return sums.near(0, points)

        return near

    def _part(self, side: int, before: Tensor, after: Tensor) -> Iterate:
        """The own points of one side, with potentials that are updates by those at the other's nodes ``before``, and
        their row sums with those ``after``."""
        problem, own, other = self._problem, self._stands[side].own, self._stands[1 - side].inner
        penalties = problem.penalties if side == 0 else problem.penalties[::-1]
        here = problem.alpha if side == 0 else problem.beta
        outer = self._against(other, here, replace(problem, penalties=penalties, whole=None))
        if not len(here.points):
            return Iterate(outer, 1.0, Progress(False))
        inner = self._against(other, own.measure, outer)
        v, epsilon, signs = other.measure.log_weights, problem.epsilon, other.measure.signs
        softmin = -epsilon * log_sums(
            inner.pair, torch.zeros_like(own.measure.weights), v + before / epsilon, epsilon, signs
        )
        f = penalties[0].update(softmin, epsilon)
        log_rows = (f - softmin) / epsilon
        if after is not before:
            log_rows = log_sums(inner.pair, f / epsilon, v + after / epsilon, epsilon, signs)
        solver = Iterate(inner, 1.0, Progress(False))
        solver.state = State(f, after, log_rows, torch.zeros_like(after))
        return SketchedSums(solver, own, Stand(other, self._accuracy), outer, self._accuracy).iterate(
            1.0, Progress(False)
        )

    def _against(self, other: Cloud, rows: Measure, problem: Problem) -> Problem:
        """The problem between some points and the sketch of the other side."""
        x, y = (m.points.to(self._problem.pair.x.dtype) for m in (rows, other.measure))
        pair = engine.pair(x, y, self._problem.pair.cost, self._engine if len(x) else "dense")
        return replace(problem, alpha=rows, beta=other.measure, pair=pair)
