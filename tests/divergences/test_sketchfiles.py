"""Sketches in files: what comes back is what was saved, and what is damaged or none is refused in a sentence."""

import numpy as np
import pytest
import torch

import geomsink
from geomsink import Sketch, sinkhorn_divergence, sketch

N = 2_000


def cloud(name, seed):
    return geomsink.shapes.sample(name, N, seed=seed, normalize=True).astype(np.float64)


def test_files(tmp_path):
    small, path = sketch(cloud("shape:knot", 0), blur=0.3), tmp_path / "small.npz"
    small.save(path)
    with np.load(path, allow_pickle=False) as members:
        assert all(members[name].dtype != object for name in members)
    again = Sketch.load(path)
    for name in ("points", "weights", "nearby"):
        assert np.array_equal(getattr(again, name), getattr(small, name))
    assert vars(again).keys() == vars(small).keys()
    assert (again.epsilon, again.cost, again.count) == (small.epsilon, "sqeuclidean", N)
    data = path.read_bytes()
    damaged = tmp_path / "damaged.npz"
    for change in (lambda b: b[:-9], lambda b: b[: len(b) // 2], lambda b: b[:200] + bytes(100) + b[300:]):
        damaged.write_bytes(change(data))
        with pytest.raises(ValueError, match="damaged.npz: found") as caught:
            Sketch.load(damaged)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="none of them named 'points'"):
        geomsink.shapes.read(path)
    np.savez(damaged, points=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="found no sketch, expected a file that"):
        Sketch.load(damaged)
    with np.load(path) as members:
        for name, value in (("weights", np.zeros(3)), ("cost", "euclidean"), ("epsilon", -1.0), ("nodes", np.nan)):
            np.savez(damaged, **{**members, name: value})
            with pytest.raises(ValueError, match="truncated or malformed"):
                Sketch.load(damaged)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Sketch.load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"ends in .npz"):
        small.save(tmp_path / "small.ply")


def test_only_costs_with_names_are_in_files(tmp_path):
    x, weights = cloud("shape:knot", 0), [1.0, 2.0, 0.5]
    own = geomsink.costs.mahalanobis(weights)
    with pytest.raises(ValueError, match="cost: 'mahalanobis' is no cost that a file can name"):
        sketch(x, blur=0.3, cost=own).save(tmp_path / "own.npz")
    named = sketch(x, blur=0.3, cost="mahalanobis:1,2,0.5")
    named.save(tmp_path / "named.npz")
    found = Sketch.load(tmp_path / "named.npz")
    y = cloud("shape:star", 1)
    value = sinkhorn_divergence(found, y, blur=0.3, cost="mahalanobis:1,2,0.5").value
    assert value == pytest.approx(sinkhorn_divergence(x, y, blur=0.3, cost=own, tol=1e-5).value, rel=1e-5)


def test_sketches_of_bfloat16(tmp_path):
    """NumPy has no such numbers; they are kept, and stand beside arrays, in single precision."""
    points = torch.from_numpy(cloud("shape:knot", 0)).bfloat16()
    small = sketch(points, blur=0.3)
    small.save(tmp_path / "small.npz")
    again = Sketch.load(tmp_path / "small.npz")
    assert np.array_equal(again.points, small.points.float().numpy())
    other = cloud("shape:star", 1)
    one, two = (float(sinkhorn_divergence(s, other, blur=0.3).value) for s in (small, again))
    assert one == pytest.approx(two, rel=1e-3)


def test_costs_of_the_same_numbers_are_the_same():
    x, y = cloud("shape:knot", 0), cloud("shape:star", 1)
    small = sketch(x, blur=0.3, cost="mahalanobis:1,2,3")
    found = sinkhorn_divergence(small, y, blur=0.3, cost="mahalanobis:1.0,2.0,3.0")
    assert found.value == pytest.approx(sinkhorn_divergence(x, y, blur=0.3, cost="mahalanobis:1,2,3").value, rel=1e-4)
    with pytest.raises(ValueError, match="for the cost 'mahalanobis' was given, expected one for another one of that"):
        sinkhorn_divergence(small, y, blur=0.3, cost="mahalanobis:1,2,4")
