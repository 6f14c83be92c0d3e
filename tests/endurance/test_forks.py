"""Solves in other processes that this one has started: forked from it, or anew."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import geomsink

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.random((20, 3)), RANDOM.random((15, 3))
COSTS = {
    "name": "sqeuclidean",
    "power": geomsink.costs.power(1.5),
    "mahalanobis": geomsink.costs.mahalanobis([1.0, 2.0, 3.0]),
    "scaled": geomsink.costs.get("euclidean").scaled(2.0),
    "features": geomsink.FeatureCost(torch.nn.Linear(3, 2)),
    "matrix": geomsink.MatrixCost(RANDOM.random((20, 15))),
}
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def value(cost):
    x, y = (cost.rows, cost.columns) if hasattr(cost, "rows") else (X, Y)
    return geomsink.solve(x, y, epsilon=0.1, cost=cost).value


class Compared(Dataset):
    """Distances of clouds to one, found in the loader's workers by a loss that travels with the data."""

    def __init__(self, loss):
        self.loss = loss

    def __len__(self):
        return 6

    def __getitem__(self, k):
        return self.loss(torch.from_numpy(X + 0.1 * k), torch.from_numpy(Y)).detach()


@forks
def test_a_child_of_a_process_that_has_solved_solves():
    """With OpenMP's threads, which it does not inherit, and while another thread of the parent compiles or solves; and
    what it leaves behind at its end is still the parent's."""
    script = """
        import os, sys, threading, time, warnings
        import numpy as np, torch, geomsink
        from geomsink.engine import build
        warnings.simplefilter("ignore")
        torch.set_num_threads(2)
        x, y = np.random.default_rng(0).random((2, 300, 3))
        before = {engine: geomsink.solve(x, y, blur=0.2, engine=engine).value for engine in ("dense", "keops")}
        for root in ("cache", "temporary"):
            if root == "temporary":
                build._writable = lambda path: False
                build.folder.cache_clear()
                folder = build.folder()
            busy = threading.Thread(target=lambda: build.one_at_a_time.acquire() and time.sleep(0.5)
                                    or build.one_at_a_time.release())
            busy.start()
            time.sleep(0.1)
            pid = os.fork()
            if not pid:
                found = {engine: geomsink.solve(x, y, blur=0.2, engine=engine).value for engine in before}
                same = all(abs(found[engine] / before[engine] - 1.0) < 1e-6 for engine in before)
                sys.exit(0 if same and torch.get_num_threads() == 1 else 3)
            assert os.waitpid(pid, 0)[1] == 0, root
            busy.join()
        assert folder.is_dir() and torch.get_num_threads() == 2
        print("both")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.stdout == "both\n" and done.returncode == 0, done.stderr


def test_new_processes_take_costs_and_give_solutions():
    costs = [cost for name, cost in COSTS.items() if name != "features"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(value, costs)
        solution = pool.apply(geomsink.sinkhorn_divergence, (X, Y), {"blur": 0.2})
    assert found == [value(cost) for cost in costs]
    assert solution.value == geomsink.sinkhorn_divergence(X, Y, blur=0.2).value


@pytest.mark.parametrize("cost", COSTS)
def test_losses_and_costs_travel(cost):
    again = pickle.loads(pickle.dumps(COSTS[cost]))
    assert value(again) == value(COSTS[cost])
    loss = geomsink.EntropicOT(epsilon=0.1, cost=COSTS[cost])
    x, y = (COSTS[cost].rows, COSTS[cost].columns) if cost == "matrix" else (X, Y)
    x, y = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y))
    assert float(pickle.loads(pickle.dumps(loss))(x, y)) == float(loss(x, y))


@forks
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_of_data_loaders_have_losses(how):
    data = Compared(geomsink.SinkhornDivergence(blur=0.2, tol=1e-9))
    expected = [float(data[k]) for k in range(len(data))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        loader = DataLoader(data, batch_size=3, num_workers=1, multiprocessing_context=how)
        found = torch.cat(list(loader)).tolist()
    assert found == pytest.approx(expected, rel=1e-7)
