"""Solves from several threads at once are those of one after the other."""

import os
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import geomsink
from geomsink import transport

pytestmark = pytest.mark.slow

THREADS = 4
RANDOM = np.random.default_rng(0)
CLOUDS = [tuple(RANDOM.random((n, d)) for n in sizes) for sizes, d in (((40, 30), 2), ((25, 60), 3), ((7, 7), 5))]


def gradient(x, y):
    x = torch.from_numpy(x).requires_grad_()
    geomsink.SinkhornDivergence(blur=0.2)(x, torch.from_numpy(y)).backward()
    return x.grad.numpy()


def cells():
    x, y = (geomsink.shapes.procedural(name, 600) for name in ("knot", "star"))
    return np.array([geomsink.solve(x, y, blur=0.2, multiscale=True).value])


def flow(x, y):
    return transport.gradient_flow(x, y, blur=0.3, steps=3).points


WORK = {
    "dense": lambda x, y: np.array([geomsink.sinkhorn_divergence(x, y, blur=0.1, engine="dense").value]),
    "compiled": lambda x, y: np.array([geomsink.sinkhorn_divergence(x, y, blur=0.2, engine="keops").value]),
    "small blur": lambda x, y: geomsink.solve(x, y, blur=0.01).potentials[0],
    "single": lambda x, y: geomsink.solve(x.astype("f4"), y.astype("f4"), blur=0.1).potentials[1],
    "gradient": gradient,
    "discrepancy": lambda x, y: geomsink.mmd(x, y, blur=[0.1, 0.5]).potentials[0],
    "matching": lambda x, y: transport.matching(x, y).mass,
    "bounds": lambda x, y: np.array([geomsink.wasserstein_bounds(x, y).lower]),
    "sketch": lambda x, y: geomsink.sketch(x, blur=0.5).weights,
    "flow": flow,
    "cells": lambda x, y: cells(),
}


def test_all_threads_find_the_same_bits():
    calls = [(name, pair) for name in WORK for pair in (CLOUDS if name != "cells" else CLOUDS[:1])]
    alone = [WORK[name](*pair) for name, pair in calls]
    order = RANDOM.permutation(np.repeat(np.arange(len(calls)), 2))
    filters = list(warnings.filters)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda k: WORK[calls[k][0]](*calls[k][1]), order))
    for k, one in zip(order, found, strict=True):
        assert np.array_equal(one, alone[k]), calls[k][0]
    assert warnings.filters == filters  # which are those of all threads


def test_threads_may_share_a_loss():
    """Which starts from whatever was solved last, and is right from there, too."""
    loss = geomsink.SinkhornDivergence(blur=0.2, tol=1e-6)
    pairs = [tuple(map(torch.from_numpy, pair)) for pair in CLOUDS]
    expected = [float(geomsink.sinkhorn_divergence(*pair, blur=0.2, tol=1e-6).value) for pair in pairs]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda k: float(loss(*pairs[k % 3])), range(30)))
    for k, value in enumerate(found):
        assert value == pytest.approx(expected[k % 3], rel=1e-5)


def test_threads_that_compile_at_once(tmp_path):
    """A cost that none has compiled yet."""
    script = """
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np, geomsink
        x, y = np.random.default_rng(0).random((2, 30, 3))
        def value(engine):
            return geomsink.solve(x, y, epsilon=0.1, cost="power:1.25", engine=engine, tol=1e-9).value
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(value, ["keops"] * 4))
        assert len(set(found)) == 1 and np.allclose(found, value("dense"), rtol=1e-8), found
        print("alike")
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = os.environ | {"GEOMSINK_CACHE": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.stdout == "alike\n" and done.returncode == 0, done.stderr
