"""The least flow from rows to columns of a sparse graph, with its potentials, by successive shortest paths.

Potentials keep f_i + g_j ≤ c_ij on all edges, equal where there is flow. What a row has left to send goes along a
shortest path in lengths c_ij − f_i − g_j, forwards on any edge and backwards where there is flow, to a column that
lacks some; and the distances, which Dijkstra's method finds, are what potentials move by, so that it becomes tight
(Jewell 1958; Edmonds, Karp 1972; for matchings Jonker, Volgenant 1987). A row that soon reaches no such column lifts
the potentials of all rows that it reaches, and is left: the graph lacks edges then, and the potentials tell which.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

from .. import engine
from .graph import Graph, Indices, Numbers


class Flow:
    """A flow on a graph that grows, and potentials; masses are whole numbers, whose sums are exact.

    Parameters
    ----------
    graph : Graph
        At least one edge a row.
    supply, demand : array, shapes (N,) and (M,), float64
        Whole numbers below 2^53, of the same sum.
    g : array, shape (M,), float64
        To start from: any; the better, the sooner.
    plan : arrays i, j, mass, each of shape (K,), optional
        Edges, each once, that are tight for that g, and what they carry at first. Default: found among tight ones.

    Attributes
    ----------
    f, g : array, shapes (N,) and (M,)
    supply, demand : array
        What is left of them.
    mass : array, shape (E,)
        On each edge.
    """

    def __init__(
        self, graph: Graph, supply: Numbers, demand: Numbers, g: Numbers,
        plan: tuple[Indices, Indices, Numbers] | None = None,
    ):  # fmt: skip
        self.graph, self.g = graph, g.copy()
        self.supply, self.demand, self.mass = supply.copy(), demand.copy(), np.zeros(len(graph))
        self.f = self._transform()
        if plan is not None:
            i, j, mass = plan
            self.mass[graph.find(i, j)] = mass
            np.subtract.at(self.supply, i, mass)
            np.subtract.at(self.demand, j, mass)
            return
        slack = self.slack
        for e in np.flatnonzero(slack <= 0.0).tolist():  # what tight edges can carry at once
            i, j = graph.i[e], graph.j[e]
            sent = min(self.supply[i], self.demand[j])
            self.mass[e] += sent
            self.supply[i] -= sent
            self.demand[j] -= sent

    @property
    def slack(self) -> Numbers:
        """c_ij − f_i − g_j of each edge."""
        slack: Numbers = self.graph.costs - self.f[self.graph.i] - self.g[self.graph.j]
        return slack

    def _transform(self) -> Numbers:
        """min_j c_ij − g_j."""
        least: Numbers = np.minimum.reduceat(self.graph.costs - self.g[self.graph.j], self.graph.by_rows[:-1])
        return least

    def solve(self, lift: float, most: int) -> int:
        """Send what can be sent along paths for which no more than so many columns have to be looked at.

        How many rows are left with some: their potentials have risen, by ``lift`` more where all were reached.
        """
        graph = self.graph
        given = graph.by_rows, graph.j, graph.i, graph.costs
        own = self.f, self.g, self.supply, self.demand, self.mass
        arrays = [np.ascontiguousarray(array) for array in (*given, *own)]
        self.f, self.g, self.supply, self.demand, self.mass = arrays[4:]
        try:
            return engine.shortest_paths(graph.shape, arrays, lift, most)
        except engine.BuildError:
            return self._solve(lift, most)

    def add(self, i: Indices, j: Indices, costs: Numbers, rounding: float) -> None:
        """Further edges. Where they are below the potentials, these fall, and flow that is dearer is taken back."""
        old, before = self.graph, self.mass
        self.graph = old.plus(i, j, costs)
        self.mass = np.zeros(len(self.graph))
        self.mass[self.graph.find(old.i, old.j)] = before
        self.f = np.minimum(self.f, self._transform())
        dear = np.flatnonzero((self.mass > 0.0) & (self.slack > rounding))
        np.add.at(self.supply, self.graph.i[dear], self.mass[dear])
        np.add.at(self.demand, self.graph.j[dear], self.mass[dear])
        self.mass[dear] = 0.0

    def _solve(self, lift: float, most: int) -> int:
        """The same where nothing can be compiled, some hundred times as slow."""
        graph, f, g, mass = self.graph, self.f, self.g, self.mass
        begin, stuck = graph.by_rows, 0
        carrying: list[set[int]] = [set() for _ in range(graph.shape[1])]  # the edges with flow of each column
        for e in np.flatnonzero(mass > 0.0).tolist():
            carrying[graph.j[e]].add(e)
        for source in np.flatnonzero(self.supply > 0.0).tolist():
            while self.supply[source] > 0.0:
                distance: dict[int, float] = {}
                by: dict[int, int] = {}
                settled: set[int] = set()
                rows: dict[int, float] = {source: 0.0}
                back: dict[int, int] = {}
                heap: list[tuple[float, int]] = []
                fresh, sink, reached = [source], -1, 0.0
                enough = math.inf  # a column that lacks some is no farther
                while sink < 0:
                    for i in fresh:
                        edges = slice(begin[i], begin[i + 1])
                        lengths = rows[i] + np.maximum(graph.costs[edges] - f[i] - g[graph.j[edges]], 0.0)
                        seen = range(begin[i], begin[i + 1]), graph.j[edges].tolist(), lengths.tolist()
                        for e, j, d in zip(*seen, strict=True):
                            if d < min(enough, distance.get(j, math.inf)):  # so not settled: distances do not fall
                                distance[j], by[j] = d, e
                                heapq.heappush(heap, (d, j))
                                if self.demand[j] > 0.0:
                                    enough = d
                                    if d <= reached:
                                        sink = j
                                        break
                        if sink >= 0:
                            break
                    if sink >= 0:
                        settled.add(sink)
                        break
                    while heap and heap[0][0] > distance[heap[0][1]]:
                        heapq.heappop(heap)
                    if not heap or len(settled) == most:
                        break
                    reached, j = heapq.heappop(heap)
                    settled.add(j)
                    if self.demand[j] > 0.0:
                        sink = j
                        break
                    fresh = []
                    for e in carrying[j]:
                        i = int(graph.i[e])
                        if i not in rows:
                            rows[i], back[i] = reached, e
                            fresh.append(i)
                total = reached + lift if sink < 0 and len(settled) < most else reached
                for i, d in rows.items():
                    f[i] += total - d
                for j in settled:
                    g[j] -= total - distance[j]
                if sink < 0:
                    stuck += 1
                    break
                forwards, backwards = [by[sink]], []
                while (e := back.get(int(graph.i[forwards[-1]]), -1)) >= 0:
                    backwards.append(e)
                    forwards.append(by[int(graph.j[e])])
                sent = min(self.supply[source], self.demand[sink], *mass[backwards])
                mass[forwards] += sent
                mass[backwards] -= sent
                for e in (*forwards, *backwards):
                    (carrying[graph.j[e]].add if mass[e] > 0.0 else carrying[graph.j[e]].discard)(e)
                self.supply[source] -= sent
                self.demand[sink] -= sent
        return stuck
