"""A thousand small solves, one like none before: memory is that of one."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
    import gc, os, resource
    import numpy as np, torch, geomsink

    random = np.random.default_rng(0)
    shared = geomsink.SinkhornDivergence(blur=0.2)

    def work(k):
        n, m, d = int(random.integers(1, 40)), int(random.integers(1, 40)), 1 + k % 4
        x, y = torch.from_numpy(random.random((n, d))).requires_grad_(), torch.from_numpy(random.random((m, d)))
        kind = k % 10
        if kind < 4:
            geomsink.solve(x.detach().numpy(), y.numpy(), blur=random.uniform(0.05, 1.0))
        elif kind < 6:
            shared(x, y).backward()
        elif kind == 6:
            geomsink.sinkhorn_divergence(x, y, blur=0.3, differentiation="implicit").value.backward()
        elif kind == 7:
            power = geomsink.costs.power(random.uniform(0.5, 2.0))
            geomsink.solve(x, y, epsilon=0.1, cost=power).value.backward()
        elif kind == 8:
            geomsink.mmd(x, y, blur=random.uniform(0.1, 1.0)).value.backward()
        else:
            cost = geomsink.MatrixCost(torch.from_numpy(random.random((n, m))).requires_grad_())
            geomsink.solve(cost.rows, cost.columns, cost=cost, epsilon=0.3, engine="dense").value.backward()

    def state():
        gc.collect()
        pages = int(open("/proc/self/statm").read().split()[1])
        tensors = [t for t in gc.get_objects() if isinstance(t, torch.Tensor)]
        return pages * resource.getpagesize(), len(tensors), len(gc.get_objects())

    for k in range(200):
        work(k)
    before = state()
    for k in range(1000):
        work(k)
    print(*(after - there for after, there in zip(state(), before)))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs a system that says how much memory is used")
def test_a_thousand_solves_leave_nothing():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    memory, tensors, objects = map(int, done.stdout.split())
    assert memory < 8 * 2**20 and tensors <= 20 and objects < 2000, done.stdout
