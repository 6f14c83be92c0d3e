"""Exact transport over all pairs, from few of them: least flows between candidates, and pairs that these lack.

Potentials of a least flow between candidates are feasible for all pairs but those with f_i + g_j > C_ij. Such pairs
join the candidates until there are none: the flow is then the least of all, and the potentials prove it (column
generation: Ford, Fulkerson 1958; Dantzig, Wolfe 1960; for point clouds Schmitzer 2016, arXiv:1510.05466).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..choose import by_products
from ..costs import Cost
from ..measures import Measure
from ..multiscale import Tree
from ..progress import Progress
from ..solver import largest_cost
from .flow import Flow
from .graph import Graph, Indices, Numbers
from .masses import whole
from .pricing import Pricing

COMPLETE = 2**18
"""Up to this many pairs all are candidates."""
CANDIDATES = 8
"""Pairs a row and a column at first, and a row that lacks some from then on."""
ROUNDS = 200
"""Flows between candidates, at most; a few are enough."""
SEARCHED, FARTHER = 100, 4
"""Columns that a path is looked for among at first, and how many times as many after each round that left rows: a path
that is far is mostly one that candidates lack."""
LEAST_LIFT, LIFTED = 1e-9, 4.0
"""Of the largest cost, by which potentials rise at first where candidates lack columns; and how fast that grows."""
ROUNDED = 2.0**-48
"""Of the largest numbers that a reduced cost is a difference of: less is rounding."""
PROVEN = 1e-12
"""Gap, of the sizes of the sums that it is a difference of, that is rounding."""


@dataclass(frozen=True)
class Optimum:
    """A plan of sparse support between two measures of mass 1, and a bound of how far from the least it is.

    Attributes
    ----------
    i, j : array, shape (K,), int64
        Pairs with mass, in the order of i, then of j.
    mass : array, shape (K,)
        Of each pair.
    f, g : array, shapes (N,) and (M,)
        Potentials with f_i + g_j ≤ C_ij for all pairs; ⟨a, f⟩ = ⟨b, g⟩.
    cost : float
        ⟨P, C⟩; infinite if not all mass was placed.
    lower : float
        ⟨a, f⟩ + ⟨b, g⟩: no plan costs less.
    rounding : float
        What each of the two may be off by.
    exact : bool
        Whether the two are equal but for rounding.
    rounds : int
        Flows between candidates that were solved.
    edges : int
        Candidates at the end.
    """

    i: Indices
    j: Indices
    mass: Numbers
    f: Numbers
    g: Numbers
    cost: float
    lower: float
    rounding: float
    exact: bool
    rounds: int
    edges: int


def least_transport(
    alpha: Measure,
    beta: Measure,
    cost: Cost,
    start: tuple[Tensor, Tensor] | None = None,
    *,
    candidates: int = CANDIDATES,
    tol_gap: float | None = None,
    engine: str = "auto",
    bar: Progress | None = None,
) -> Optimum:
    """min ⟨P, C⟩ over the plans between two measures of mass 1.

    Parameters
    ----------
    alpha, beta : Measure
        Features of N and of M points, float64, on the CPU.
    cost : Cost
    start : pair of Tensor, shapes (N,) and (M,), float64, optional
        Potentials, of an entropic problem: the better, the sooner. Default: zeros.
    candidates : int, default 8
        For each row and each column at first; all pairs, if they are few.
    tol_gap : float, optional
        Stop once the gap is at most this share of the cost. Default: once it is rounding.
    engine : {"auto", "keops", "dense"}
    bar : Progress, optional

    Returns
    -------
    Optimum
        In the order of the given points. Memory is linear in N + M; a round reduces over the pairs that bounds leave
        (`bounds.below`), or over all.
    """
    trees = Tree.of(alpha), Tree.of(beta)
    x, y = (tree.measure.points.double() for tree in trees)
    a, b = (tree.measure.weights.numpy() for tree in trees)
    supply, demand, total = whole(a, b)
    pricing = Pricing.of(x, y, cost, engine)
    zero = torch.zeros(len(x), dtype=x.dtype, device="cpu"), torch.zeros(len(y), dtype=y.dtype, device="cpu")
    given = zero if start is None else (start[0][trees[0].order], start[1][trees[1].order])
    line = _Line.of(pricing, supply, demand) if x.shape[1] == 1 else None
    graph = _candidates(pricing, *given, candidates, line)
    flow = Flow(graph, supply, demand, given[1].numpy())
    if line is not None and line.g is not None:
        ordered = Flow(graph, supply, demand, line.g, line.plan)
        flow = ordered if _Search(pricing, ordered, supply, demand, candidates).is_over else flow
    search = _Search(pricing, flow, supply, demand, candidates)
    largest = largest_cost(x, y, cost)
    first, most = _lift(flow, largest), SEARCHED
    lift = first
    for rounds in range(1, ROUNDS + 1):
        stuck = flow.solve(lift, most)
        most = min(FARTHER * most, len(y) + 1) if stuck else most
        lift = max(min(LIFTED * lift, largest), first) if stuck else first
        f, g, missing = search.price()
        lower = float((supply * f).sum() + (demand * g).sum()) / total
        value = math.inf if stuck else float((flow.mass * flow.graph.costs).sum()) / total
        size = float((supply * np.abs(f)).sum() + (demand * np.abs(g)).sum()) / total
        gap, off = value - lower, PROVEN * (size + abs(value))
        if bar is not None:
            bar.update(0.0, max(gap / abs(value), 1e-16) if 0.0 < abs(value) < math.inf else 1.0, tol_gap or 1e-12)
        done = len(missing[0]) == 0 and not stuck
        if done or (tol_gap is not None and not stuck and gap <= tol_gap * abs(value)):
            break
        if rounds < ROUNDS:
            flow.add(*missing, search.rounding)
    carried = np.flatnonzero(flow.mass > 0.0)
    graph, (rows, columns) = flow.graph, (tree.order.numpy() for tree in trees)
    i, j = rows[graph.i[carried]], columns[graph.j[carried]]
    order = np.lexsort((j, i))
    return Optimum(
        i[order], j[order], flow.mass[carried][order] / total, f[trees[0].rank.numpy()],
        g[trees[1].rank.numpy()], value, lower, off, done and gap <= off, rounds, len(graph),
    )  # fmt: skip


@dataclass(frozen=True)
class _Search:
    """For pairs that the candidates of a flow lack."""

    pricing: Pricing
    flow: Flow
    supply: Numbers
    demand: Numbers
    count: int

    @property
    def rounding(self) -> float:
        """Of reduced costs."""
        flow, cost, pair = self.flow, self.pricing.cost, self.pricing.pair
        used = flow.graph.costs[flow.mass > 0.0]
        size = np.abs(flow.f).max() + np.abs(flow.g).max() + np.abs(used).max(initial=0.0)
        if by_products(pair.x.shape[1], cost.quadratic is not None):
            assert cost.quadratic is not None
            size += cost.quadratic * float((pair.x**2).sum(1).max() + (pair.y**2).sum(1).max())
        return float(ROUNDED * size)

    @property
    def is_over(self) -> bool:
        """Whether what is carried is carried by tight edges, and potentials are feasible for all pairs."""
        slack = self.flow.slack[self.flow.mass > 0.0].max(initial=0.0)
        return bool(slack <= self.rounding) and len(self.price()[2][0]) == 0

    def price(self) -> tuple[Numbers, Numbers, tuple[Indices, Indices, Numbers]]:
        """Potentials feasible for all pairs, with ⟨a, f⟩ = ⟨b, g⟩, and pairs for which the flow's own are not."""
        flow = self.flow
        f, g = torch.from_numpy(flow.f), torch.from_numpy(flow.g)
        blocks = self.pricing.blocks(f, g)
        least = self.pricing.least(f, g, blocks)
        below = (least < -self.rounding) & torch.from_numpy(self.supply > 0.0)
        i, j, costs = self.pricing.negative(below.nonzero()[:, 0], f, g, self.count, blocks)
        feasible = flow.f + least.clamp(max=0.0).numpy()
        shift = 0.5 * float((self.demand * flow.g).sum() - (self.supply * feasible).sum()) / float(self.supply.sum())
        return feasible + shift, flow.g - shift, (i.numpy(), j.numpy(), costs.numpy())


@dataclass(frozen=True)
class _Line:
    """The plan that keeps the order of points on a line, and the corners of its staircase.

    For convex costs of the distance that plan is optimal, and potentials that are feasible for these pairs are so for
    all (Monge; Burkard, Klinz, Rudolf 1996, Discrete Appl. Math. 70).

    Attributes
    ----------
    plan : arrays i, j, mass, each of shape (K,)
    corners : pair of array
    g : array, shape (M,), or None
        Potentials for which the plan's pairs have no reduced cost, and of convex costs no pair a negative one; None
        where points have no mass.
    """

    plan: tuple[Indices, Indices, Numbers]
    corners: tuple[Indices, Indices]
    g: Numbers | None

    @classmethod
    def of(cls, pricing: Pricing, supply: Numbers, demand: Numbers) -> _Line:
        def costs(rows: Indices, columns: Indices) -> Numbers:
            found: Numbers = pricing.costs(torch.from_numpy(rows), torch.from_numpy(columns)).numpy()
            return found

        rows, columns = (t[:, 0].argsort(stable=True).numpy() for t in (pricing.pair.x, pricing.pair.y))
        ends = supply[rows].cumsum(), demand[columns].cumsum()
        cuts = np.union1d(*(end[end > 0] for end in ends))
        i, j = rows[np.searchsorted(ends[0], cuts)], columns[np.searchsorted(ends[1], cuts)]
        plan, corners = (i, j, np.diff(cuts, prepend=0.0)), (np.append(i[:-1], i[1:]), np.append(j[1:], j[:-1]))
        if not (supply.min() > 0 and demand.min() > 0):
            return cls(plan, corners, None)
        # From a step to the next, the corner above has a reduced cost of 0.
        used = costs(i, j)
        f = np.append(0.0, (used[1:] - costs(i[:-1], j[1:])).cumsum())
        g = np.empty(len(columns))
        g[j] = used - f
        return cls(plan, corners, g)


def _candidates(pricing: Pricing, f: Tensor, g: Tensor, count: int, line: _Line | None = None) -> Graph:
    """The pairs of least reduced cost of each row and column, and those of a line; all, if they are few."""
    shape = len(f), len(g)
    if shape[0] * shape[1] <= COMPLETE:
        i, j = (index.ravel() for index in np.indices(shape))
    else:
        rows, columns = pricing.near(f, g, min(count, shape[1])), pricing.T.near(g, f, min(count, shape[0]))
        i, j = (torch.cat((rows[k], columns[1 - k])).numpy() for k in (0, 1))
        if line is not None:
            i = np.concatenate((i, line.plan[0], line.corners[0]))
            j = np.concatenate((j, line.plan[1], line.corners[1]))
        keys = np.unique(i * shape[1] + j)
        i, j = keys // shape[1], keys % shape[1]
    return Graph.of(shape, i, j, pricing.costs(torch.from_numpy(i), torch.from_numpy(j)).numpy())


def _lift(flow: Flow, largest: float) -> float:
    """What candidates cost more than the best of their row, on average; or a small share of the largest cost."""
    return max(float(flow.slack.mean()), LEAST_LIFT * largest, 1e-300)
