"""The same call gives the same bits: now and later, beside others, in a new process, and however many threads."""

import functools
import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
    import json, sys, warnings
    import numpy as np, torch, geomsink
    from geomsink import transport
    random = np.random.default_rng(0)
    x, y = random.random((60, 3)), random.random((50, 3))
    large = [geomsink.shapes.procedural(name, 600) for name in ("knot", "star")]

    def gradient():
        z = torch.from_numpy(x).requires_grad_()
        geomsink.sinkhorn_divergence(z, torch.from_numpy(y), blur=0.1).value.backward()
        return float(z.grad.square().sum())

    calls = {
        "dense": lambda: geomsink.sinkhorn_divergence(x, y, blur=0.1).value,
        "small blur": lambda: geomsink.solve(x, y, blur=0.01).value,
        "compiled": lambda: geomsink.solve(x, y, blur=0.1, engine="keops").value,
        "gradient": gradient,
        "cells": lambda: geomsink.solve(*large, blur=0.2, multiscale=True).value,
        "sketch": lambda: float(geomsink.sketch(large[0], blur=0.2).weights.sum()),
        "matching": lambda: transport.matching(x[:50], y).cost,
        "barycentre": lambda: float(transport.barycenter([x, y], blur=0.3, steps=3).points.sum()),
        "test": lambda: geomsink.two_sample_test(x, y, blur=0.3, permutations=9).p_value,
    }
    found = {name: float(call()).hex() for name, call in calls.items()}
    geomsink.solve(y, x, blur=0.4, engine="keops")
    again = {name: float(calls[name]()).hex() for name in reversed(list(calls))}
    print(json.dumps([found, again]))
"""


@functools.cache
def bits(threads, run=0):
    """Of each call, first and again, in a process of so many threads."""
    environment = os.environ | {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_call_gives_the_same_bits():
    first, again = bits("1")
    assert again == first
    assert bits("1", run=1) == [first, first]


def test_threads_change_roundings_alone():
    one, two = bits("1")[0], bits("2")[0]
    for name in one:
        assert float.fromhex(two[name]) == pytest.approx(float.fromhex(one[name]), rel=1e-6), name
