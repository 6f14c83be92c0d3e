"""From what a caller asked for to problems, and from problems, each by its strategy, to solved ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import engine
from ..choose import WIDEST, Choice, choose, is_final, skips_pairs, tried
from ..derivatives import Terms, Unrolled
from ..facts import Facts
from ..measures import Measure
from ..multiscale import Cloud, CoarseToFine, Dealt, Levels, Newton, Part, Shared, Sketched, TooFine, stepped
from ..path import ItemByItem, PathFollowing, nearest_cost
from ..progress import Progress
from ..solver import (
    LIMIT,
    Balanced,
    Goal,
    Iterate,
    Limit,
    OneLevel,
    Potentials,
    Problem,
    Solved,
    Strategy,
    rounding,
    share_of,
    temperatures,
)
from .requests import Request


@dataclass(frozen=True)
class Problems:
    """The problems between two measures, and what they share.

    Attributes
    ----------
    request : Request
    """

    request: Request
    _clouds: dict[int, Cloud] = field(default_factory=dict)
    _levels: dict[tuple[int, int], Levels | None] = field(default_factory=dict)

    # ------------------------------------------------------------------ what they share

    def cloud(self, measure: Measure) -> Cloud:
        """A measure with its tree."""
        side = int(measure is not self.request.alpha)
        if side not in self._clouds:
            self._clouds[side] = self._prepared(measure, side)
        return self._clouds[side]

    def _prepared(self, measure: Measure, side: int) -> Cloud:
        request, whole = self.request, self.request.whole
        if whole is None:
            return Cloud(measure, request.cost, request.epsilon)
        numbers = whole.counts[side], float(request.inputs.masses[side].detach())
        return Part(measure, request.cost, request.epsilon, whole.group, *numbers, request.options.engine)

    def levels(self, alpha: Measure, beta: Measure) -> Levels | None:
        """Of two of the measures, if they have any."""
        sides = self.request.sides(alpha, beta)
        if sides not in self._levels:
            deep = self.request.options.multiscale is True
            self._levels[sides] = Levels.of(self.cloud(alpha), self.cloud(beta), deep)
        return self._levels[sides]

    def pair(self, alpha: Measure, beta: Measure, dtype: torch.dtype) -> engine.Pair:
        """Two of the measures on the engine."""
        request = self.request
        x = alpha.points.to(dtype)
        y = x if beta is alpha else beta.points.to(dtype)
        name = request.options.engine if len(x) and len(y) else "dense"  # parts of clouds may be empty
        return engine.pair(x, y, request.cost, name, request.lengths(alpha, beta))

    def terms(self, problem: Problem) -> Terms:
        """What a problem depends on, with history, in its working precision."""
        inputs, penalties = self.request.inputs, problem.penalties
        dtype = problem.pair.x.dtype
        (x, a), (y, b) = (
            ((inputs.x, inputs.a), (inputs.y, inputs.b))[side]
            for side in self.request.sides(problem.alpha, problem.beta)
        )
        pairs = engine.Pairs.of(problem.pair)
        x, y = x.to(dtype), y.to(dtype)
        return Terms(x, y, a, b, inputs.epsilon, inputs.parameters, self.request.cost, penalties, pairs)

    def terms_of_part(self, part: Iterate, side: int) -> Terms:
        """The same of what this process has of a side, with history, against the sketch of another one."""
        inputs, problem = self.request.inputs, part.problem
        x, a = ((inputs.x, inputs.a), (inputs.y, inputs.b))[side]
        pairs, epsilon = engine.Pairs.of(problem.pair), inputs.epsilon.detach()
        y, b = problem.pair.y, problem.beta.weights
        x = x.to(problem.pair.x.dtype)
        return Terms(x, y, a, b, epsilon, inputs.parameters, self.request.cost, problem.penalties, pairs)

    # -------------------------------------------------------------------------- solving

    def solve(
        self,
        name: str,
        alpha: Measure,
        beta: Measure,
        bar: Progress,
        start: Potentials | None = None,
        before: Solved | None = None,
        goal: Goal | None = None,
    ) -> Solved:
        """Solve between two of the measures, in float64 after float32 if the latter does not reach the goal.

        ``start`` are potentials to start from, ``before`` is an earlier solve that the report continues; the goal is
        that of the options, unless it is given.
        """
        request = self.request
        goal = self.goal() if goal is None else goal
        facts = Facts(
            pairs=self._pairs(alpha, beta),
            dimension=alpha.points.shape[-1],
            epsilon=request.temperature,
            cost_scale=request.cost_scale,
            tol=goal.tol,
            dtype=request.container.working,
            batched=request.batched,
            is_self=beta is alpha,
            cells=lambda: self.levels(alpha, beta),
            extent=request.extent,
            bounded=request.cost.lower_bound is not None,
            nearest=lambda: 0.5 * sum(nearest_cost(m.points, m.weights, request.cost) for m in (alpha, beta)),
            fixed=all(isinstance(penalty, Balanced) for penalty in request.penalties(alpha, beta)),
            smooth=not any(penalty.kinked for penalty in request.penalties(alpha, beta)),
            quadratic=request.cost.quadratic is not None,
            items=len(alpha.weights) if request.batched else 1,
            looked_up=request.cost.looked_up,
            signed=any(m.signs is not None for m in (alpha, beta)),
            across=request.across,
            processes=request.processes,
            sketched=lambda: self._is_sketched(alpha, beta, goal),
        )
        device = request.container.device
        choice = choose(facts, request.options, device)
        finer = choice.refined(request.options)
        if before and finer is not None and self._is_rounded(before, goal):
            choice, finer = finer, None
        first, most = replace(goal, final=finer is None), int(request.options.max_iter)
        updates = choice.otherwise and choice.strategy in (OneLevel.name, CoarseToFine.name, "sharded")
        at_once = min(tried(facts.pairs, facts.items, device), most) if updates else most
        solved = self._solve_as(choice, name, alpha, beta, bar, start, before, first, at_once)
        if solved.at_floor and finer is not None:
            solved = self._solve_as(finer, name, alpha, beta, bar, solved.potentials, solved, goal, at_once)
        for other in choice.otherwise:
            left = most - (solved.solver.cycles - (before.solver.cycles if before else 0))
            if solved.converged or left <= 0:
                break
            start = None if other.strategy in (PathFollowing.name, ItemByItem.name) else solved.potentials
            again = self._solve_as(other, name, alpha, beta, bar, start, solved, goal, left)
            better = again.solver.marginal_error <= solved.solver.marginal_error
            solved = again if again.converged or better else solved.continued(again)
        if solved.status.startswith(LIMIT):
            solved = replace(solved, status=f"{LIMIT}{most} is reached")
        return solved

    def _is_sketched(self, alpha: Measure, beta: Measure, goal: Goal) -> bool:
        """Whether a few points stand for one of two measures at least; of parts, for one of the request's, to what its
        options ask for: whatever is solved between them then is, also what is small, or wants to be more exact."""
        if self.request.whole is not None:
            alpha, beta, goal = self.request.alpha, self.request.beta, self.goal()
        return any(self.cloud(m).is_sketched(stepped(goal.of_sums)) for m in (alpha, beta))

    def _pairs(self, alpha: Measure, beta: Measure) -> int:
        """Of points; of parts, of those that all processes have."""
        if self.request.whole is None:
            return alpha.weights.numel() * beta.weights.shape[-1]
        first, second = (self.request.whole.counts[side] for side in self.request.sides(alpha, beta))
        return first * second

    def _is_rounded(self, before: Solved, goal: Goal) -> bool:
        """Whether rounding alone puts an earlier solve's value off by more than it may be."""
        return bool(((rounding(before.solver, goal.sharp) > goal.least) & (goal.least > 0.0)).any())

    def is_final(self, solved: Solved) -> bool:
        """Whether a problem was solved in the finest precision that there is for it."""
        return is_final(solved.solver.problem.pair.x.dtype, self.request.options)

    def goal(self, offset: Tensor | float = 0.0, nearest: float = 0.0) -> Goal:
        """That of the options, for values that are compared with an offset, and count as so far from it at least."""
        options = self.request.options
        share, sharp = share_of(options.tol), options.form == "sharp"
        return Goal(options.tol, share, offset, least=share * nearest, sharp=sharp)

    def _solve_as(
        self,
        choice: Choice,
        name: str,
        alpha: Measure,
        beta: Measure,
        bar: Progress,
        start: Potentials | None,
        before: Solved | None,
        goal: Goal,
        most: int,
    ) -> Solved:
        problem = self._problem(alpha, beta, choice.dtype)
        bar.begin(name, problem.temperatures[0], problem.epsilon)
        return self._strategy(choice, problem, goal, most).solve(problem, bar, start, before)

    def _problem(self, alpha: Measure, beta: Measure, dtype: torch.dtype) -> Problem:
        request = self.request
        steps: tuple[float, ...] = (math.inf,)
        if request.temperature < math.inf:
            scaling, degree = request.options.scaling, request.cost.degree
            steps = temperatures(request.cost_scale, request.epsilon, scaling, degree)
        penalties, whole = request.penalties(alpha, beta), None
        if request.whole is not None:
            first, second = (request.inputs.masses[side].detach() for side in request.sides(alpha, beta))
            whole = first, second
        return Problem(alpha, beta, self.pair(alpha, beta, dtype), steps, request.cost_scale, penalties, whole)

    def _strategy(self, choice: Choice, problem: Problem, goal: Goal, most: int) -> Strategy:
        """The object that a choice names, which makes so many cycles at most."""
        options = self.request.options
        if choice.strategy == Limit.name:
            return Limit(goal.tol)
        if choice.strategy == Unrolled.name:
            assert options.iterations is not None
            return Unrolled(goal.tol, int(options.iterations), options.recompute, self.terms(problem))
        if choice.strategy == "sharded":
            if not self.request.sharded:
                raise TooFine("blur, epsilon: no few points stand for those of the clouds; expected a larger blur.")
            truncates = self._truncates(problem)
            return Dealt(goal, most, engine=options.engine) if truncates else OneLevel(goal, most)
        if choice.strategy == PathFollowing.name and self.request.sharded:
            return PathFollowing(goal, most)
        clouds = self.cloud(problem.alpha), self.cloud(problem.beta)
        if choice.strategy == PathFollowing.name:
            return PathFollowing(goal, most, clouds)
        if choice.strategy == ItemByItem.name:
            return ItemByItem(goal, most)
        if isinstance(clouds[0], Part) and isinstance(clouds[1], Part):
            return Shared(goal, most, options.scaling, options.engine, (clouds[0], clouds[1]))
        if choice.strategy == Sketched.name:
            return Sketched(goal, most, options.scaling, options.engine, clouds)
        levels = self.levels(problem.alpha, problem.beta) if choice.strategy == CoarseToFine.name else None
        if levels is not None:  # clouds that have sketches may be too small for cells
            return CoarseToFine(goal, most, options.scaling, options.engine, clouds, levels)
        newton = Newton(*clouds, problem.pair.cost, problem.epsilon, problem.penalties) if choice.newton else None
        return OneLevel(goal, most, newton)

    def _truncates(self, problem: Problem) -> bool:
        """Whether sums over points that are dealt out leave out pairs of far cells."""
        request, cost = self.request, self.request.cost
        few = problem.alpha.points.shape[-1] <= WIDEST and problem.pair.name == "keops-sharded"
        bounded = cost.lower_bound is not None and few and request.options.multiscale is not False
        pairs = problem.pairs // request.processes
        return skips_pairs(pairs, request.container.device, bounded)

    # ------------------------------------------------------------------ from call to call

    def constant(self) -> Problems:
        """The same without history, to be kept."""
        return replace(self, request=self.request.constant())

    def adopting(self, other: Problems) -> tuple[Problems, tuple[bool, bool]]:
        """With what earlier ones of the same options have prepared of clouds that are the same; and which are."""
        mine, theirs = self.request, other.request
        if (mine.epsilon, mine.container) != (theirs.epsilon, theirs.container):
            return self, (False, False)
        if not all(map(torch.equal, mine.cost.parameters, theirs.cost.parameters)):
            return self, (False, False)
        request, same, clouds = mine, [False, False], dict(self._clouds)
        for side, name in enumerate(("alpha", "beta")):
            one, earlier = getattr(mine, name), getattr(theirs, name)
            same[side] = torch.equal(one.points, earlier.points) and torch.equal(one.weights, earlier.weights)
            same[side] = same[side] if mine.whole is None else mine.whole.agrees(same[side])
            if same[side]:
                request = replace(request, **{name: earlier})
                clouds |= {key: cloud for key, cloud in other._clouds.items() if key == side}
        return replace(self, request=request, _clouds=clouds), (same[0], same[1])
