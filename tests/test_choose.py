"""What `auto` decides: the table of choices, and that results say them."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import geomsink
from geomsink.choose import (
    COARSE,
    FEW_PAIRS,
    IN_MEMORY,
    KEPT,
    MANY,
    NEAR,
    OF_ITEMS,
    PAYS,
    PAYS_ON_GPU,
    ROOTS,
    SMALL,
    TRIED,
    TRIED_ON_GPU,
    WARM,
    WIDEST,
    Choice,
    certified_precision,
    choose,
    endless,
    engine_of,
    precision,
    skips_pairs,
    tried,
)
from geomsink.facts import Facts

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SINGLE, DOUBLE = torch.float32, torch.float64
FOLLOWED = Choice("path-following", DOUBLE)
AUTO = SimpleNamespace(iterations=None, multiscale=None, working_dtype=None)
WIDE = SimpleNamespace(width=1.01 * COARSE)
LARGE = Facts(
    pairs=10**10, dimension=3, epsilon=0.005, cost_scale=3.0, tol=1e-3, dtype=SINGLE, batched=False, is_self=False,
    cells=lambda: SimpleNamespace(width=0.1),
)  # fmt: skip
CLOSE = replace(LARGE, pairs=100, nearest=lambda: 1.01 * NEAR[0] * 0.005)


ITEMS = replace(LARGE, batched=True, items=8, pairs=2**25, nearest=lambda: NEAR[0] * LARGE.epsilon)
SIGNED = replace(CLOSE, quadratic=True, bounded=True, signed=True, cells=lambda: None)
BETWEEN_SKETCHES = Choice("sketched", DOUBLE, otherwise=(Choice("coarse-to-fine", DOUBLE),))
DEALT, SHARDED = replace(CLOSE, across="pairs"), Choice("sharded", DOUBLE)
DEALT_UPDATED = replace(SHARDED, otherwise=(FOLLOWED, SHARDED))
EACH = Choice("item-by-item", DOUBLE)
HERE, THERE = IN_MEMORY["cpu"], IN_MEMORY["cuda"]
NEXT = lambda: 1.01 * NEAR[2] * 0.005  # noqa: E731
SECOND = lambda: 1.01 * NEAR[1] * 0.005  # noqa: E731


def updated(dtype, newton=True):
    """On one level, and down the temperatures where that is not enough."""
    plain = Choice("one-level", DOUBLE, newton=True)
    return replace(plain, dtype=dtype, newton=newton, otherwise=(FOLLOWED, plain))


def followed(otherwise, **how):
    return replace(FOLLOWED, otherwise=(Choice(otherwise, DOUBLE, **how),))


def wants(**what):
    return SimpleNamespace(**(vars(AUTO) | what))


@pytest.mark.parametrize(
    ("problem", "options", "device", "expected"),
    [
        (LARGE, AUTO, CPU, Choice("coarse-to-fine", SINGLE)),
        (replace(LARGE, is_self=True), AUTO, CPU, Choice("coarse-to-fine", SINGLE)),
        (replace(LARGE, pairs=PAYS - 1), AUTO, CPU, updated(SINGLE)),
        (replace(LARGE, pairs=PAYS - 1, smooth=False), AUTO, CPU, Choice("one-level", SINGLE, newton=True)),
        (replace(LARGE, pairs=PAYS - 1), wants(working_dtype=SINGLE), CPU, Choice("one-level", SINGLE, newton=True)),
        (replace(CLOSE, pairs=PAYS - 1), AUTO, CPU, followed("one-level", newton=True)),
        (replace(CLOSE, pairs=KEPT - 1), AUTO, CPU, followed("coarse-to-fine")),
        (replace(CLOSE, pairs=HERE), AUTO, CPU, followed("coarse-to-fine")),
        (replace(CLOSE, pairs=HERE + 1), AUTO, CPU, Choice("coarse-to-fine", SINGLE)),
        (replace(CLOSE, pairs=HERE + 1, bounded=True), AUTO, CPU, followed("coarse-to-fine")),
        (replace(CLOSE, pairs=HERE), wants(multiscale=True), CPU, Choice("coarse-to-fine", SINGLE)),
        (replace(LARGE, bounded=True), AUTO, CPU, Choice("coarse-to-fine", SINGLE, otherwise=(FOLLOWED,))),
        (replace(CLOSE, is_self=True), AUTO, CPU, Choice("one-level", DOUBLE)),
        (replace(CLOSE, nearest=lambda: 0.99 * NEAR[0] * 0.005), AUTO, CPU, updated(DOUBLE)),
        (CLOSE, AUTO, GPU, followed("one-level", newton=True)),
        (replace(CLOSE, pairs=THERE), AUTO, GPU, followed("one-level", newton=True)),
        (replace(CLOSE, pairs=THERE + 1), AUTO, GPU, Choice("one-level", SINGLE, newton=True)),
        (replace(CLOSE, pairs=THERE + 1, bounded=True), AUTO, GPU, followed("one-level", newton=True)),
        (replace(CLOSE, pairs=THERE, nearest=SECOND, bounded=True), AUTO, GPU, updated(SINGLE)),
        (replace(CLOSE, pairs=THERE + 1, nearest=SECOND, bounded=True), AUTO, GPU, followed("one-level", newton=True)),
        (replace(CLOSE, pairs=PAYS_ON_GPU - 1, nearest=NEXT, bounded=True), AUTO, GPU, updated(SINGLE)),
        (replace(CLOSE, pairs=PAYS_ON_GPU, nearest=NEXT, bounded=True), AUTO, GPU, followed("coarse-to-fine")),
        (replace(LARGE, pairs=PAYS - 1, is_self=True), AUTO, CPU, Choice("one-level", SINGLE)),
        (replace(LARGE, pairs=PAYS - 1, quadratic=True), AUTO, CPU, updated(DOUBLE, newton=False)),
        (replace(LARGE, pairs=PAYS - 1, quadratic=True, fixed=False), AUTO, CPU, updated(DOUBLE)),
        (replace(LARGE, pairs=PAYS_ON_GPU - 1, quadratic=True), AUTO, GPU, Choice("one-level", SINGLE, newton=True)),
        (replace(LARGE, pairs=PAYS_ON_GPU), AUTO, GPU, Choice("coarse-to-fine", SINGLE)),
        (
            replace(LARGE, pairs=PAYS - 1, quadratic=True),
            wants(working_dtype=SINGLE),
            CPU,
            Choice("one-level", SINGLE, newton=True),
        ),
        (replace(LARGE, pairs=FEW_PAIRS), AUTO, CPU, updated(DOUBLE)),
        (replace(LARGE, dimension=WIDEST), AUTO, CPU, Choice("coarse-to-fine", SINGLE)),
        (replace(LARGE, dimension=WIDEST + 1), AUTO, CPU, Choice("one-level", SINGLE, newton=True)),
        (replace(LARGE, cells=lambda: None), AUTO, CPU, Choice("one-level", SINGLE, newton=True)),
        (replace(LARGE, cells=lambda: WIDE), AUTO, CPU, Choice("one-level", SINGLE, newton=True)),
        (replace(LARGE, batched=True), AUTO, CPU, Choice("one-level", SINGLE)),
        (replace(ITEMS, items=1000), AUTO, CPU, Choice("one-level", SINGLE, otherwise=(EACH,))),
        (ITEMS, AUTO, CPU, replace(EACH, otherwise=(Choice("one-level", DOUBLE),))),
        (replace(ITEMS, nearest=lambda: 0.0), AUTO, CPU, Choice("one-level", SINGLE, otherwise=(EACH,))),
        (replace(ITEMS, looked_up=True), AUTO, CPU, Choice("one-level", SINGLE)),
        (replace(ITEMS, is_self=True), AUTO, CPU, Choice("one-level", SINGLE)),
        (ITEMS, AUTO, GPU, replace(EACH, otherwise=(Choice("one-level", DOUBLE),))),
        (replace(ITEMS, looked_up=True), AUTO, GPU, Choice("one-level", SINGLE)),
        (LARGE, wants(multiscale=False), CPU, Choice("one-level", SINGLE, newton=True)),
        (replace(LARGE, pairs=100, dimension=9), wants(multiscale=True), CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, across="pairs"), AUTO, CPU, Choice("sharded", SINGLE)),
        (replace(DEALT, sketched=lambda: True), AUTO, CPU, replace(FOLLOWED, otherwise=(Choice("sharded", DOUBLE),))),
        (replace(DEALT, nearest=lambda: 0.0), AUTO, CPU, DEALT_UPDATED),
        (
            replace(DEALT, pairs=4 * HERE, processes=4, nearest=NEXT, quadratic=True, dtype=DOUBLE),
            AUTO,
            CPU,
            replace(FOLLOWED, otherwise=(SHARDED,)),
        ),
        (replace(DEALT, pairs=4 * HERE, processes=4, nearest=NEXT, dtype=DOUBLE), AUTO, CPU, DEALT_UPDATED),
        (replace(DEALT, pairs=4 * HERE, processes=3, dtype=DOUBLE), AUTO, CPU, SHARDED),
        (replace(DEALT, pairs=4 * HERE, dtype=DOUBLE, bounded=True, nearest=lambda: 0.0), AUTO, CPU, DEALT_UPDATED),
        (replace(DEALT, is_self=True), AUTO, CPU, SHARDED),
        (replace(DEALT, smooth=False), AUTO, CPU, SHARDED),
        (DEALT, wants(working_dtype=SINGLE), CPU, Choice("sharded", SINGLE)),
        (replace(LARGE, across="sketches", sketched=lambda: True), AUTO, CPU, Choice("sketched", SINGLE)),
        (replace(LARGE, across="sketches"), AUTO, CPU, Choice("sharded", SINGLE)),
        (SIGNED, AUTO, CPU, BETWEEN_SKETCHES),
        (replace(SIGNED, dimension=WIDEST + 1, sketched=lambda: False), AUTO, CPU, BETWEEN_SKETCHES),
        (replace(SIGNED, is_self=True), AUTO, GPU, BETWEEN_SKETCHES),
        (SIGNED, wants(multiscale=False), CPU, BETWEEN_SKETCHES),
        (LARGE, wants(iterations=5), CPU, Choice("unrolled", SINGLE)),
        (replace(LARGE, epsilon=math.inf), AUTO, CPU, Choice("limit", DOUBLE)),
        (LARGE, wants(working_dtype=DOUBLE), CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, dtype=DOUBLE), AUTO, CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, tol=1e-6), AUTO, CPU, Choice("coarse-to-fine", DOUBLE)),  # 6e-8 C/ε is 36 tol
        (replace(LARGE, epsilon=3.1 * WARM), AUTO, CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, epsilon=1e36, cost_scale=1e36), AUTO, CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, extent=1e16), AUTO, CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, extent=1e-16), AUTO, CPU, Choice("coarse-to-fine", DOUBLE)),
        (replace(LARGE, extent=0.0), AUTO, CPU, Choice("coarse-to-fine", SINGLE)),
    ],
)
def test_the_table_of_choices(problem, options, device, expected):
    assert choose(problem, options, device) == expected


def test_trees_are_not_made_where_they_are_not_asked_for():
    def trees():
        raise AssertionError("a tree was made")

    few = replace(LARGE, pairs=PAYS - 1)
    for problem, device in ((few, CPU), (replace(LARGE, pairs=PAYS), GPU), (replace(LARGE, batched=True), CPU)):
        assert choose(replace(problem, cells=trees), AUTO, device).strategy == "one-level"


def test_float64_after_float32_unless_the_caller_chose():
    single = Choice("one-level", SINGLE, newton=True)
    assert single.refined(AUTO) == Choice("one-level", DOUBLE, newton=True)
    assert single.refined(wants(working_dtype=SINGLE)) is None
    assert Choice("one-level", DOUBLE).refined(AUTO) is None


def test_how_long_updates_are_tried():
    assert {tried(HERE, 1), tried(THERE + 1, 1), tried(THERE, 1, GPU)} == {TRIED} and tried(2**20, 8) == OF_ITEMS[1]
    assert tried(THERE + 1, 1, GPU) == TRIED_ON_GPU and tried(100, 8, GPU) == tried(100, 8) == OF_ITEMS[2]


def test_engines_and_precisions():
    assert engine_of(SMALL, 3, True) == "dense" and engine_of(SMALL + 1, 3, True) == "keops"
    assert engine_of(SMALL + 1, MANY, True) == "dense" and engine_of(SMALL + 1, MANY, False) == "keops"
    assert [engine_of(SMALL + 1, D, False, distances=True) for D in (ROOTS - 1, ROOTS)] == ["keops", "dense"]
    assert precision(FEW_PAIRS, SINGLE) == DOUBLE and precision(FEW_PAIRS + 1, SINGLE) == SINGLE
    assert certified_precision(10**10, SINGLE, True) == SINGLE and certified_precision(10**10, SINGLE, False) == DOUBLE
    assert not skips_pairs(PAYS - 1, CPU, True) and skips_pairs(PAYS, CPU, True)
    assert not skips_pairs(PAYS_ON_GPU - 1, GPU, True) and skips_pairs(PAYS_ON_GPU, GPU, True)
    assert not any((skips_pairs(PAYS, CPU, False), skips_pairs(PAYS, CPU, True, True)))
    assert endless(1.01e8, 1.0) and not endless(0.99e8, 1.0) and endless(math.inf, 0.0) and not endless(1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "strategy"),
    [
        ({}, "one-level"),
        ({"multiscale": True}, "coarse-to-fine"),
        ({"differentiation": "unrolled", "iterations": 3}, "unrolled"),
        ({"blur": None, "epsilon": math.inf}, "limit"),
    ],
)
def test_results_say_how_they_were_solved(options, strategy):
    x, y = np.random.default_rng(0).random((2, 300, 2))
    r = geomsink.sinkhorn_divergence(x, y, **({"blur": 0.1} | options))
    assert (r.xy.strategy, r.xx.strategy, r.yy.strategy) == (strategy,) * 3
