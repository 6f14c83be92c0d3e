"""Path following across processes: small blurs on clouds of which each process has a part."""

import os
import time
from unittest import mock

import numpy as np
import pytest
import torch
from outcomes import needs_gloo, together
from soak_dual import Penalty
from soak_reference import transport

from geomsink import costs, engine, solve
from geomsink.measures import Measure
from geomsink.multiscale import OwnRows, Places, Sparse
from geomsink.path import dealtequation, dealtpairs, equation, groups, nearest_cost
from geomsink.path.dealtequation import equation_of
from geomsink.path.dealtmatrix import DealtMatrix
from geomsink.path.dealtpairs import RingPairs
from geomsink.path.dealtstages import cells_of
from geomsink.path.pairs import AllPairs, FewPairs, TooManyPairs
from geomsink.path.sums import Plan
from geomsink.processes import Group, deal, own, parts_of, told_whole
from geomsink.solver import Problem

pytestmark = [needs_gloo, pytest.mark.slow]
COST = costs.get("sqeuclidean")
TIGHT = dict(rtol=1e-11, atol=1e-13)
"""Sums in another order, in float64."""


def share(n, group):
    """Rows of a process, of which later ones have more; of four, the second has none."""
    sizes = np.arange(1, group.count + 1) * (np.arange(group.count) != 1) if group.count > 2 else np.arange(1, 3)
    ends = np.round(n * np.cumsum(sizes[: group.count]) / sizes[: group.count].sum()).astype(int)
    return slice(0 if group.rank == 0 else ends[group.rank - 1], ends[group.rank])


# ------------------------------------------------------------------------- whole solves


def clusters(n=160, gap=3.0, more=0.05):
    """Two clusters whose masses differ between the two clouds, and a blur of a fifth of the spacing."""
    random = np.random.default_rng(0)
    x, y = 0.1 * random.standard_normal((2, n, 3))
    x[n // 2 :, 0] += gap
    y[int(n * (0.5 + more)) :, 0] += gap
    return x, y[: n - 10], 0.2 * nearest_cost(torch.tensor(x), torch.ones(n), COST) ** 0.5


def uneven(n=60):
    """Weights over some decades, and none; penalties, and fewer rows than columns."""
    random = np.random.default_rng(1)
    x, y, a = random.random((n, 2)), random.random((n + 30, 2)), 10.0 ** random.uniform(-4.0, 0.0, n)
    a[::7] = 0.0
    return x, y, a


def solved_clusters(group):
    """Values, and what is of the own points."""
    rows = (lambda n: share(n, group)) if group else lambda n: slice(None)
    x, y, blur = clusters()
    x, y = (torch.tensor(t[rows(len(t))]).requires_grad_() for t in (x, y))
    s = solve(x, y, blur=blur, tol=1e-8, certify=True, group=group)
    # Potentials of a plan in pieces have a constant for each; what follows has not.
    found = report(s, [s.lower, s.upper], (x, y))
    with torch.no_grad():
        found["own"] += [s.plan @ y, s.plan.T @ x, s.plan.row_marginal(), s.plan.column_marginal()]
    return found


def solved_with_penalties(group):
    """The same, with potentials."""
    rows = (lambda n: share(n, group)) if group else lambda n: slice(None)
    x, y, a = uneven()
    x, a = (torch.tensor(t[rows(len(t))]).requires_grad_() for t in (x, a / a.sum()))
    s = solve(x, torch.tensor(y[rows(len(y))]), a, blur=0.02, reach=0.3, tol=1e-8, group=group)
    found = report(s, [], (x, a))
    found["own"] += [t.detach() for t in s.potentials]
    return found


def report(s, bounds, leaves):
    """What is the same on all, derivatives, and how it was found."""
    s.value.backward()
    everywhere = [s.value, s.transport_cost, *bounds, s.marginal_error]
    how = s.converged, s.strategy, s.n_iter, s.temperatures
    return {
        "same": [float(torch.as_tensor(t).detach()) for t in everywhere],
        "own": [t.grad for t in leaves],
        "how": how,
    }


def in_group(function, *arguments):
    return function(Group(timeout=120.0), *arguments)


def several(function, count, *arguments):
    outcomes = together(in_group, count, function, *arguments, within=300.0)
    assert not any(outcome.error for outcome in outcomes), [outcome.error for outcome in outcomes]
    return [outcome.value for outcome in outcomes]


CASES = {"clusters": (solved_clusters, 4), "uneven": (solved_with_penalties, 2)}
"""Each with how many processes solve it: every exchange takes some milliseconds of a core."""


@pytest.fixture(scope="module")
def found():
    return {name: {k: several(case, k) for k in (1, count)} for name, (case, count) in CASES.items()}


def joined(results, kind):
    parts = zip(*(result[kind] for result in results), strict=True)
    return [torch.cat([torch.as_tensor(part) for part in one]) for one in parts]


@pytest.mark.parametrize("name", CASES)
def test_several_processes_find_what_one_does(found, name):
    (one,), results = found[name][1], found[name][CASES[name][1]]
    for result in results:
        assert result["same"] == results[0]["same"]  # to the bit
        assert result["how"] == one["how"] and one["how"][:2] == (True, "path-following")
    np.testing.assert_allclose(results[0]["same"], one["same"], rtol=1e-9, atol=1e-12)
    for mine, whole in zip(joined(results, "own"), one["own"], strict=True):
        torch.testing.assert_close(mine, torch.as_tensor(whole), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_what_they_find_is_right(found, name):
    """Against one process, which goes its own way, and a dense solution of another method."""
    case, count = CASES[name]
    results, alone = found[name][count], case(None)
    first = results[0]
    np.testing.assert_allclose(first["same"][:2], alone["same"][:2], rtol=1e-9)
    for mine, whole in zip(joined(results, "own"), alone["own"], strict=True):
        torch.testing.assert_close(mine, torch.as_tensor(whole), rtol=1e-5, atol=1e-7)
    if name == "clusters":
        (x, y, blur), kinds, a = clusters(), (Penalty(), Penalty()), None
        epsilon = 2.0 * blur**2
        assert first["same"][2] <= first["same"][0] <= first["same"][3]
    else:
        (x, y, a), epsilon, kinds = uneven(), 2.0 * 0.02**2, (Penalty("kl", 2 * 0.3**2), Penalty("kl", 2 * 0.3**2))
    a, b = np.full(len(x), 1 / len(x)) if a is None else a / a.sum(), np.full(len(y), 1 / len(y))
    exact = transport(((x[:, None] - y) ** 2).sum(-1), a, b, epsilon, *kinds)
    assert abs(first["same"][0] - exact.value) <= 1e-9 * exact.value + exact.error + exact.rounding


def from_cells(group):
    """With cells that are told to all, and pairs that are looked for."""
    random = np.random.default_rng(2)
    x, y = (random.random((n, 2)) for n in (1700, 1600))
    if group is None:
        s = solve(x, y, blur=0.004, tol=1e-6)
        return s.value, s.strategy, s.converged
    with mock.patch.object(dealtpairs, "IN_MEMORY", {"cpu": 0}):
        s = solve(x[share(1700, group)], y[share(1600, group)], blur=0.004, tol=1e-6, group=group)
    return s.value, s.strategy, s.converged


def test_from_cells_to_points():
    alone = from_cells(None)
    for value, strategy, converged in several(from_cells, 2):
        assert strategy == "path-following" and converged
        assert value == pytest.approx(alone[0], rel=1e-9)


# ------------------------------------------------------------------------- what it is made of


def measures():
    random = np.random.default_rng(7)
    made = []
    for n in (230, 190):
        weights = random.random(n)
        made.append(Measure(torch.tensor(random.random((n, 2))), torch.tensor(weights / weights.sum())))
    return made


def plan_between(alpha, beta, turned):
    """Entries between neighbours; of points that are not all connected by much."""
    C = COST.between(alpha.points[:, None], beta.points[None])
    P = (-C / 2e-3).exp()
    P[P < 1e-8] = 0.0
    P = P + torch.eye(*P.shape, dtype=P.dtype) * 1e-3
    return P.T.contiguous() if turned else P


def pieces(group):
    """Each against the same on the whole; what is returned is wrong."""
    whole, wrong = measures(), []
    parts = [parts_of(len(m.points[share(len(m.points), group)]), group) for m in whole]
    alpha, beta = (
        Measure(deal(m.points[share(len(m.points), group)], p), deal(m.weights[share(len(m.points), group)], p))
        for m, p in zip(whole, parts, strict=True)
    )

    def check(what, mine, expected, **close):
        mine, expected = (t if isinstance(t, Tensor) else torch.tensor(t) for t in (told_whole(mine), expected))
        if not torch.allclose(mine.double(), expected.double(), **(close or TIGHT)):
            wrong.append(what)

    Tensor = torch.Tensor
    for m, w in ((alpha, whole[0]), (beta, whole[1])):
        exact = torch.cdist(w.points, w.points).fill_diagonal_(torch.inf).amin(1).square().median()
        found = nearest_cost(m.points, m.weights, COST)
        wrong += ["nearest"] if not 0.5 * float(exact) < found < 2.0 * float(exact) else []
        cells = cells_of(OwnRows(m))
        check("mass of cells", cells.weights.sum(), w.weights.sum())
        check("centre of cells", cells.weights @ cells.points, w.weights @ w.points)
        wrong += ["number of cells"] if not len(w.points) / 16 <= len(cells.weights) <= len(w.points) / 3 else []

    random = torch.Generator().manual_seed(3)
    f, g = 0.1 * whole[0].points[:, 0], -0.05 * whole[1].points[:, 1]
    for turned in (False, True):
        order = slice(None, None, -1 if turned else 1)
        first, second = (alpha, beta)[order]
        (p, q), (u, v), (one, other) = parts[order], (f, g)[order], whole[order]
        mine = deal(u[p.start : p.start + p.mine], p), deal(v[q.start : q.start + q.mine], q)
        pair = engine.pair(first.points, second.points, COST)
        problem = Problem(first, second, pair, (1e-3,), 2.0)
        ring = RingPairs(problem, OwnRows(first), OwnRows(second))
        every = AllPairs(COST.between(one.points[:, None], other.points[None]))
        kernel = every.kernel(u, v, 5e-3)
        assert isinstance(every.near(u, v, 0.02), FewPairs)
        w = torch.rand(len(v), 2, dtype=torch.float64, generator=random)
        z = torch.rand(len(u), dtype=torch.float64, generator=random)
        dealt_w, dealt_z = deal(w[q.start : q.start + q.mine], q), deal(z[p.start : p.start + p.mine], p)
        for name, source in (("ring", ring), ("everything", ring.everything())):
            check(f"{name}: highest", source.highest(mine[1], 1e-3), every.highest(v, 1e-3))
            for slack in (0.02, 9.0):
                near = source.near(*mine, slack)
                found, costs_there = near.kernel(*mine, 5e-3), every.costs - u[:, None] - v
                expected = torch.where(costs_there < slack, kernel, 0.0)
                check(f"{name}: products", found @ dealt_w, expected @ w)
                check(f"{name}: products back", found.T @ dealt_z, expected.T @ z)
                wrong += [f"{name}: count"] if near.count != int((costs_there < slack).sum()) else []
        with mock.patch.object(dealtpairs, "MOST", 1000):
            try:
                ring.near(*mine, 9.0)
                wrong.append("too many pairs")
            except TooManyPairs:
                pass
    for turned in (False, True):
        wrong += equations(group, parts, whole, turned)
    return wrong


def equations(group, parts, whole, turned):
    """Newton's equation by each method, against dense products."""
    P, random, wrong = plan_between(*whole, False), torch.Generator().manual_seed(4), []
    p, q = parts
    stored = P[p.start : p.start + p.mine]
    r, s = (torch.randn(n, dtype=torch.float64, generator=random) for n in P.shape)
    rows, columns = P.sum(1), P.sum(0)
    r, s = r * rows, s * columns
    s = s - columns * (s.sum() - r.sum()) / columns.sum()

    def dealt(t, of):
        return deal(t[of.start : of.start + of.mine], of)

    i, j = stored.nonzero(as_tuple=True)
    sparse = Sparse.of(Places(i.int(), j.int(), tuple(stored.shape)), stored[i, j])
    order = torch.arange(P.shape[1])
    in_groups = (groups.groups_of(torch.arange(P.shape[0])), groups.groups_of(order))
    # Kernel, and limits that leave one method: what is told, factors in full and of few entries, and iterations.
    methods = {
        "told": (sparse, {"FEW": 2**20}, {}),
        "told in full": (stored + 1e-12, {"FEW": 2**20}, {}),
        "factor": (sparse, {"FEW": 0}, {}),
        "full factor": (stored + 1e-12, {"FEW": 0}, {}),
        "sparse factor": (sparse, {"FEW": 0}, {"FEW": 0, "TREES": 1e9}),
        "iterations": (sparse, {"FEW": 0}, {"FEW": 0, "MOST": 0, "SPARSE": 0.0, "GROUPED": 1e9}),
        "iterations with groups": (sparse, {"FEW": 0}, {"FEW": 0, "MOST": 0, "SPARSE": 0.0, "GROUPED": 0.0}),
    }
    for name, (local, first, second) in methods.items():
        total = P.numel() if isinstance(local, torch.Tensor) else int((P > 0).sum())
        kernel, sides = DealtMatrix(local, p, q, total), ((r, rows, p), (s, columns, q))
        kernel, sides, parts_of_groups = (
            (kernel.T, sides[::-1], in_groups[::-1]) if turned else (kernel, sides, in_groups)
        )
        ones = [torch.ones_like(dealt(one[0], one[2])) for one in sides]
        patches = [mock.patch.object(dealtequation, k, v) for k, v in first.items()]
        patches += [mock.patch.object(equation, k, v) for k, v in second.items()]
        for patch in patches:
            patch.start()
        made = equation_of(Plan(kernel, *ones), *(dealt(one[1], one[2]) for one in sides), 1e-11, parts_of_groups)
        found = [told_whole(t) for t in made.solve(*(dealt(one[0], one[2]) for one in sides))]
        for patch in patches:
            patch.stop()
        lam, mu = found[::-1] if turned else found
        off = r - rows * lam - P @ mu, s - columns * mu - P.T @ lam
        if float(torch.cat(off).abs().sum() / torch.cat((r, s)).abs().sum()) > 1e-6:
            wrong.append(f"{name}, turned {turned}")
        if own(made.left).shape != own(ones[0]).shape:
            wrong.append(f"{name}: what is left")
    return wrong


@pytest.mark.parametrize("count", [1, 4])
def test_pairs_products_cells_and_equations_are_those_of_the_whole(count):
    assert several(pieces, count) == [[]] * count


# ------------------------------------------------------------------------- faults


def dying(after):
    """One process ends in the middle of a way down."""
    group, calls = Group(timeout=60.0), [0]
    meet = Group._meet

    def counted(self, *arguments, **others):
        calls[0] += 1
        if group.rank == 1 and calls[0] == after:
            os._exit(3)
        return meet(self, *arguments, **others)

    x, y, blur = clusters()
    with mock.patch.object(Group, "_meet", counted):
        began = time.monotonic()
        try:
            solve(x[share(len(x), group)], y[share(len(y), group)], blur=blur, group=group)
        except Exception as error:
            return type(error).__name__, str(error), time.monotonic() - began
    return calls[0]


def test_a_process_that_ends_in_the_middle_is_named():
    first, second, *_ = together(dying, 2, 300, within=100.0, ended=(0,))
    kind, sentence, seconds = first.value
    assert second.code == 3 and kind == "ProcessesError" and "lost process 1" in sentence and seconds < 50.0
