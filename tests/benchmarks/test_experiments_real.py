"""The experiments on digits and surfaces in benchmarks/, small: that they measure right, and that generators learn."""

import argparse
import importlib.util
import itertools
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomsink import MMD, SinkhornDivergence, generative
from geomsink.shapes import sample

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def script(name, monkeypatch):
    """A benchmark under a name of its own: there are other modules called ``shapes``."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shapes(monkeypatch):
    return script("shapes", monkeypatch)


@pytest.fixture
def digits(monkeypatch):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    monkeypatch.setattr("torch.set_num_threads", lambda n: None)  # a run has a process of its own, but not here
    return script("digits", monkeypatch)


# ------------------------------------------------------------------------- surfaces


def test_chamfer_is_that_of_all_pairs(shapes):
    x, y = torch.rand(40, 3).requires_grad_(), torch.rand(30, 3)
    squared = (x[:, None] - y).square().sum(-1)
    expected = squared.min(0).values.mean() + squared.min(1).values.mean()
    found = shapes.chamfer(x, y)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (found, expected)))


def test_surfaces_are_measured(shapes):
    """A cloud and itself moved by less, and by more, than what counts as covered."""
    x = np.stack(np.meshgrid(*[np.linspace(0, 1, 6)] * 3), -1).reshape(-1, 3)
    for shift, covered in ((0.5 * shapes.NEAR, 1.0), (2 * shapes.NEAR, 0.0)):
        moved = shapes.measure(x + [shift, 0.0, 0.0], x)
        assert moved["chamfer"] == pytest.approx(shift)
        assert moved["coverage"] == covered
        assert moved["divergence"] == pytest.approx(shift**2, rel=1e-2)  # of a translation; solved to 1e-3


@pytest.mark.parametrize("key", ["geomsink", "Chamfer", "energy distance", "S_ε by steps of its own"])
def test_surfaces_are_learned(shapes, key):
    method, steps = replace(shapes.METHODS[key], batch=80), 50
    if method.loss is shapes.ours:  # without compiling: small clouds are dense
        method = replace(method, loss=lambda: SinkhornDivergence(blur=0.1, tol=1e-2))
    if method.targets:
        method, steps = replace(method, targets=generative.Targets(10, 40), average=0.98), 5
    y = sample("knot", 500, 1).astype(np.float32)
    run = shapes.Run(method, generative.Shape("shape:knot"), 1e9, 0)  # so long that rates and blur stay as they are
    run.step()
    before = shapes.measure(run.sample(500), y)
    for _ in range(steps):
        run.step()
    after = shapes.measure(run.sample(500), y)
    assert run.trainer.step == steps + 1
    assert run.updates == (60 if method.targets else 51)
    assert after["divergence"] < 0.65 * before["divergence"]
    assert after["chamfer"] < 0.9 * before["chamfer"]


def test_rates_and_blur_follow_the_clock(shapes):
    method = shapes.Method(lambda: SinkhornDivergence(blur=0.1, tol=1e-2), 20, (0.4, 0.1))
    run = shapes.Run(method, generative.Shape("shape:knot"), 100.0, 0)
    for spent, blur, rate in (
        (0.0, 0.4, shapes.RATES[0]),
        (50.0, 0.2, sum(shapes.RATES) / 2),
        (200.0, 0.1, shapes.RATES[1]),
    ):
        run.spent, run._next = spent, 0.0
        run.step()
        assert run.trainer.history[-1]["blur"] == pytest.approx(blur)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        assert run.spent > spent


def test_a_method_is_done_before_a_step_that_would_take_too_long(shapes, monkeypatch):
    """Steps of 1, 2 and 3 seconds: the next is expected to take 4.5."""
    ticks = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.0])
    run = shapes.Run(shapes.Method(lambda: shapes.chamfer, 20), generative.Shape("shape:knot"), 10.0, 0)
    next(run._rows)  # the trainer has looked at its own clock
    run._rows = iter([{}, {}, {}])
    monkeypatch.setattr(shapes.time, "perf_counter", lambda: next(ticks))
    run.step()
    assert (run.spent, run.share, run.done) == (1.0, 0.2, False)
    run.step()
    assert (run.spent, run.share, run.done) == (3.0, 0.7, False)  # twice as long as the one before: 4 for the next
    run.step()
    assert (run.spent, run.share, run.done) == (6.0, 1.0, True)


def test_methods_have_equal_time(shapes, monkeypatch, tmp_path):
    """By a clock that ticks when it is looked at: beside other tests, a step may take longer than the whole time."""
    ticks = itertools.count()
    monkeypatch.setattr(shapes.time, "perf_counter", lambda: 0.01 * next(ticks))
    cheap = shapes.Method(lambda: shapes.chamfer, 50)
    dear = shapes.Method(lambda: MMD(blur=0.3), 200)
    monkeypatch.setattr(shapes, "METHODS", {"geomsink": dear, "Chamfer": cheap, "absent": cheap})
    monkeypatch.setattr(shapes, "NEEDS", {"absent": "no_such_package"})
    monkeypatch.setattr(shapes, "MEASURED", 200)
    monkeypatch.setattr(shapes, "DRAWN", 400)
    case = {"shape": "knot", "rows": []}
    for seed in (0, 1):
        (*rows, surface), clouds = shapes.compare("knot", seed, argparse.Namespace(seconds=0.3))
        case["rows"] += [*rows, surface]
    assert [row["method"] for row in rows] == ["geomsink", "Chamfer"]
    assert all(0.2 < row["seconds"] <= 0.3 and row["evaluations"] == row["updates"] > 1 for row in rows)
    assert surface["chamfer"] < min(row["chamfer"] for row in rows)
    text = shapes.markdown({"about": "", "cases": [case]})
    assert "geomsink is" in text and "of 2 seeds" in text
    assert "absent is left out: the package no_such_package is not installed." in text
    shapes.draw([case], [clouds], tmp_path / "shapes.png")
    assert (tmp_path / "shapes.png").stat().st_size > 10_000


# --------------------------------------------------------------------------- digits


def test_the_cost_is_the_distance(digits):
    x, y = digits.digits()[0][:20], digits.digits()[1][:30]
    torch.testing.assert_close(digits.DISTANCE(x, y), torch.cdist(x, y), rtol=1e-5, atol=1e-5)
    assert digits.DISTANCE(x, x).diagonal().max() < 3e-3  # inner products in float32


def test_digits_are_scored(digits):
    real = digits.scores(digits.digits()[1])
    assert real["divergence"] == pytest.approx(0.0, abs=1e-6)
    assert real["score"] > 8.5 and real["classes"] > 9.8 and real["present"] == 10
    one = digits.scores(digits.digits()[1][:1].repeat(digits.HELD_OUT, 1))
    assert one["score"] == pytest.approx(1.0) and one["classes"] == pytest.approx(1.0) and one["present"] == 1
    assert one["divergence"] > 1.0


@pytest.mark.parametrize("cost", ["fixed", "learned"])
def test_digits_are_learned(digits, cost):
    """Held-out S_ε falls to half, and most classes appear; learned features grow from what they begin with."""
    arm, noise = digits.Arm(cost, 0.5), digits.NOISE
    before = digits.scores(generative.sample(digits.generator(0), digits.HELD_OUT, latent=noise))
    made, features, _ = digits.train(arm, 0, 40, "clip")
    after = digits.scores(generative.sample(made, digits.HELD_OUT, latent=noise))
    assert after["divergence"] < 0.5 * before["divergence"]
    assert after["score"] > 3.0 and after["present"] >= 6
    assert (features is None) == (cost == "fixed")
    if features is not None:
        assert max(float(p.detach().abs().max()) for p in features.phi.parameters()) <= digits.BOUND
        with torch.no_grad():
            real, begun = digits.digits()[1], digits.learned(0, "clip")
            for p in begun.phi.parameters():
                p.clamp_(-digits.BOUND, digits.BOUND)
            spreads = [float(torch.cdist(net(real), net(real)).mean()) for net in (begun.phi.net, features.phi.net)]
        assert spreads[1] > 2.0 * spreads[0]


@pytest.mark.parametrize("constraint", ["penalty", "spectral"])
def test_digits_under_other_constraints(digits, constraint):
    """What is learned beside the pixels keeps to its bound: exactly, or about so."""
    _, features, _ = digits.train(digits.Arm("learned", 0.5), 0, 15, constraint)
    real = digits.digits()[1][:20]
    jacobians = torch.func.vmap(torch.func.jacrev(lambda p: features.phi.net(p[None])[0]))(real)
    stretch = torch.linalg.matrix_norm(jacobians.detach(), 2).max()
    assert 0.01 < stretch < (1.0 + 1e-3 if constraint == "spectral" else 2.0)


def test_digits_are_reported(digits, tmp_path, monkeypatch):
    # Without compiling, which takes half a minute for gradients of 64 and of 96 coordinates.
    monkeypatch.setattr(digits, "MMD", lambda **options: MMD(**options | {"engine": "dense"}))
    arms = [digits.Arm("fixed", 0.5), digits.Arm("fixed", math.inf), digits.Arm("fixed", math.inf, "gaussian")]
    arms += [digits.Arm("learned", 0.5), digits.Arm("learned", math.inf)]
    rows = [digits.measure(arm, seed, 1, "clip") for arm in arms for seed in (0, 1)]
    again = digits.measure(arms[0], 0, 1, "clip")
    assert again["divergence"] == rows[0]["divergence"] and again["score"] == rows[0]["score"]
    sheets = {arm: rows[2 * place]["samples"] for place, arm in enumerate(arms)}
    report = {
        "about": "", "seeds": 2, "accuracy": 0.9, "apart": 3.0, "real": digits.scores(digits.digits()[1]),
        "rows": [digits.plain(row) for row in rows],
    }  # fmt: skip
    text = digits.markdown(report)
    assert [line.split(" | ")[1] for line in text.splitlines() if line.startswith(("| fixed", "| learned"))] == [
        "ε = 0.5", "ε = ∞", "Gaussian MMD", "ε = 0.5", "ε = ∞",
    ]  # fmt: skip
    assert "the learned cost" in text
    digits.draw(report, tmp_path / "digits.png")
    digits.draw_samples(sheets, tmp_path / "samples.png")
    assert min((tmp_path / name).stat().st_size for name in ("digits.png", "samples.png")) > 10_000


def test_differences_within_the_spread_are_none(digits):
    low, high = ([{"score": value + step} for step in (-0.1, 0.1)] for value in (7.0, 8.0))
    near = [{"score": value} for value in (6.95, 7.15)]
    said = [digits.compared("score", *pair) for pair in ((high, low), (low, high), (near, low))]
    assert said == ["beats", "does not beat", "is within the spread of"]
