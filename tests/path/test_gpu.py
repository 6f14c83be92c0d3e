"""The path down the temperatures on a pretend GPU: the CPU's, and what the host waits for."""

from collections import Counter

import torch
from pretend import pretend

from geomsink import choose, costs, engine
from geomsink.measures import Measure
from geomsink.multiscale import Cloud
from geomsink.path import PathFollowing, equation, stages, trees
from geomsink.progress import Progress
from geomsink.solver import Goal, Problem

READS = 9
"""A cycle, at most, but for conjugate gradients, which are looked at every ten iterations, and sparse factors. Where
steps go well: of row and of column sums, whether the kernel in memory still does for them (2); the marginal error; what
points are off by and the value; whether the factor and the step are right (2); and what pairs a new kernel is made of
(3, at a new temperature and where potentials have moved far)."""


def path(x, y, sigma, tol=1e-8):
    alpha, beta = (Measure(t, torch.full_like(t[:, 0], 1 / len(t))) for t in (x, y))
    cost, epsilon = costs.get("sqeuclidean"), 2 * sigma**2
    problem = Problem(alpha, beta, engine.pair(x, y, cost, "dense"), (1.0, epsilon), 3.0)
    clouds = Cloud(alpha, cost, epsilon), Cloud(beta, cost, epsilon)
    return PathFollowing(Goal(tol, 1e-9), 1000, clouds).solve(problem, Progress(False))


def solved(x, y, sigma):
    found = path(x, y, sigma)
    assert found.converged, found.status
    return found.solver


def clouds(*sizes, dimension=3):
    drawn = torch.Generator().manual_seed(0)
    return [torch.rand(n, dimension, generator=drawn, dtype=torch.float64) for n in sizes]


def agrees(one, other):
    """Values, and where the plan sends points."""
    torch.testing.assert_close(one.value().cpu(), other.value(), rtol=1e-11, atol=0.0)
    plans = [solver.plan().row_costs().cpu() for solver in (one, other)]
    torch.testing.assert_close(*plans, rtol=1e-5, atol=1e-12)


def test_reads_and_copies_of_a_path():
    x, y = clouds(60, 50)
    here = solved(x, y, 0.01)
    with pretend() as log:
        x, y = x.cuda(), y.cuda()
        before = log.count("copy")
        there = solved(x, y, 0.01)
        assert log.count("read") <= READS * there.cycles and log.count("copy") == before
        agrees(there, here)


def test_a_gpu_with_too_little_memory(monkeypatch):
    """The path is given up, and says so: what comes next sums over all pairs in pieces."""

    def failing(*args):
        raise torch.cuda.OutOfMemoryError

    x, y = clouds(30, 30)
    monkeypatch.setattr(equation.NewtonEquation, "solve", failing)
    with pretend():
        found = path(x.cuda(), y.cuda(), 0.01)
        assert found.status == "the path down the temperatures was lost"
        assert all(bool(h.isfinite().all()) for h in found.potentials)


def test_cells_trees_and_every_method(monkeypatch):
    """Stages of 16 and 64 cells, pairs that are found by bounds on cells, and Newton's equation by every method."""
    used = Counter()

    def counted(owner, name):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: used.update([name]) or original(*args))

    for name in ("_cholesky", "_conjugate_gradients", "_by_sparse_factor"):
        counted(equation.NewtonEquation, name)
    counted(equation, "by_groups")
    counted(trees.TreePairs, "near")
    monkeypatch.setattr(equation, "FEW", 60)
    monkeypatch.setattr(stages, "CELLS", (4, 6))
    for device in ("cpu", "cuda"):
        monkeypatch.setitem(choose.IN_MEMORY, device, 70**2)
    x, y = clouds(160, 150)
    here, methods = solved(x, y, 0.015), used.copy()
    assert len(methods) == 5, methods
    with pretend() as log:
        used.clear()
        there = solved(x.cuda(), y.cuda(), 0.015)
        assert used.keys() == methods.keys() and abs(there.cycles - here.cycles) <= 2
        to_host = {event.where.split(":")[0] for event in log.events if event.what == "to(cpu)"}
        assert to_host == {"path/factor.py"}
        agrees(there, here)
