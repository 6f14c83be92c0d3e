"""Triton's kernels: interpreted on a CPU against float64, and what takes over where they do not run."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geomsink import costs, engine
from geomsink.engine import tiled, triton_at_hand

ROUNDED = {"rest": 1e-13}
"""Errors are relative to the sums of absolute values, in float32."""


@pytest.fixture(scope="module")
def interpreted():
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton")
    script = Path(__file__).parents[1] / "tiles_interpreted.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_sums_and_pivots_are_those_of_float64(interpreted):
    assert len(interpreted) == 10
    for case, errors in interpreted.items():
        for what, error in errors.items():
            assert error <= ROUNDED.get(what, 1e-5), (case, what, error)


@pytest.fixture
def failing(monkeypatch):
    """Tiles on a CPU, where they cannot be launched."""

    def launched(*_):
        raise RuntimeError("no GPU")

    monkeypatch.setattr(triton_at_hand, "_failed", [])
    monkeypatch.setattr(triton_at_hand, "_installed", lambda: True)
    monkeypatch.setattr(tiled.TiledPair, "_launched", launched)
    x, y = torch.rand(2, 30, 3, generator=torch.Generator().manual_seed(0))
    return tiled.TiledPair(x, y, costs.get("sqeuclidean"))


def test_what_does_not_run_is_said_once_and_summed_all_the_same(failing):
    u, w = torch.zeros(30), torch.ones(30, 1)
    expected = engine.pair(failing.x, failing.y, failing.cost, "keops").row_sums(u, u, 0.1)
    with pytest.warns(UserWarning, match="Triton is not used, .* its kernels do not run .no GPU.") as said:
        assert torch.equal(failing.row_sums(u, u, 0.1), expected)
        torch.testing.assert_close(failing.apply(u, u, 0.1, w)[:, 0], expected)
    assert len(said) == 1


def test_too_little_memory_is_not_taken_for_a_failure(failing, monkeypatch):
    def launched(*_):
        raise torch.cuda.OutOfMemoryError("too little")

    monkeypatch.setattr(tiled.TiledPair, "_launched", launched)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        failing.row_sums(torch.zeros(30), torch.zeros(30), 0.1)
    assert triton_at_hand.is_there()


def test_more_places_than_are_counted_in_are_summed_otherwise(failing, monkeypatch):
    monkeypatch.setattr(tiled, "PLACES", 89)  # 30 points of 3 coordinates have 90
    u = torch.zeros(30)
    assert torch.isfinite(failing.row_sums(u, u, 0.1)).all() and triton_at_hand.is_there()
    assert tiled._parts(1, 2**20, torch.device("cpu"), 5) == 5


def test_certificates_sum_without_tiles(failing):
    certain = engine.certain(failing)
    assert type(certain) is not type(failing) and engine.certain(certain) is certain


@pytest.mark.parametrize(
    ("cost", "dtype", "dimension", "takes"),
    [
        ("sqeuclidean", torch.float32, 128, True),
        ("sqeuclidean", torch.float32, 129, False),
        ("sqeuclidean", torch.float64, 3, False),
        ("euclidean", torch.float32, 3, False),
    ],
)
def test_what_tiles_are_for(cost, dtype, dimension, takes, failing, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    assert tiled.TiledPair.takes(torch.zeros(2, dimension, dtype=dtype), costs.get(cost)) == takes
