"""Sketches: what they stand for, in any order, and in files."""

import numpy as np
import pytest
import torch
from drawn import clouds, squared
from hypothesis import given
from hypothesis import strategies as st

import geomsink

LARGE = dict(most=60, dims=3, blurs=(0.3, 1.0, 3.0))


def smoothed(points, weights, c):
    """Of a Gaussian of the sketch's blur, at both clouds."""
    return np.exp(-squared(np.concatenate((c.x, c.y)), np.asarray(points)) / (2.0 * c.blur**2)) @ np.asarray(weights)


@given(clouds(**LARGE))
def test_sketches_smooth_as_their_clouds_do(c):
    small = geomsink.sketch(c.x, c.a, blur=c.blur)
    assert len(small) <= len(c.x) == small.count and small.blur == pytest.approx(c.blur, rel=1e-12)
    rows = {tuple(row) for row in c.x}
    assert all(tuple(row) in rows for row in small.points)
    assert small.mass == pytest.approx(1.0, rel=1e-9) and (small.nearby >= 0.0).all()
    np.testing.assert_allclose(smoothed(*(small.points, small.weights), c), smoothed(c.x, c.weights[0], c), atol=3e-4)


@given(clouds(**LARGE), st.integers(2, 5))
def test_the_order_of_merging_does_not_matter(c, parts):
    a = c.weights[0]
    cuts = np.array_split(np.arange(len(a)), min(parts, len(a)))
    alive = [cut for cut in cuts if a[cut].sum() > 0.0]
    pieces = [geomsink.sketch(c.x[cut], a[cut], blur=c.blur) for cut in alive]
    found = [order[0].merge(order[1:]) for order in (pieces, pieces[::-1])]
    for one in found:
        assert one.count == sum(map(len, alive)) and one.mass == pytest.approx(1.0, rel=1e-9)
        np.testing.assert_allclose(smoothed(one.points, one.weights, c), smoothed(c.x, a, c), atol=1e-3)


@given(clouds(**LARGE, scales=(1.0, 1e3)), st.sampled_from(("sqeuclidean", "mahalanobis:2")), st.booleans())
def test_files_have_the_same_bits(c, cost, tensors):
    import tempfile

    if cost != "sqeuclidean":
        cost = "mahalanobis:" + ",".join(["2"] * c.x.shape[1])
    small = geomsink.sketch(torch.from_numpy(c.x) if tensors else c.x, blur=c.blur, cost=cost)
    with tempfile.TemporaryDirectory() as folder:
        small.save(f"{folder}/a.npz")
        again = geomsink.Sketch.load(f"{folder}/a.npz")
    for name in ("points", "weights", "nearby"):
        assert np.array_equal(np.asarray(getattr(small, name)), getattr(again, name))
        assert np.asarray(getattr(small, name)).dtype == getattr(again, name).dtype
    for name in ("epsilon", "cost", "accuracy", "count", "weighted", "normalized"):
        assert getattr(small, name) == getattr(again, name)


@given(clouds(**LARGE))
def test_a_sketch_takes_the_place_of_its_cloud(c):
    small = geomsink.sketch(c.x, c.a, blur=c.blur)
    given = dict(blur=c.blur, tol=1e-6)
    found = geomsink.sinkhorn_divergence(small, c.y, b=c.b, **given)
    assert found.value == pytest.approx(
        geomsink.sinkhorn_divergence(*c.all, **given).value, abs=1e-3 * c.size, rel=1e-3
    )
    discrepancy = geomsink.mmd(small, c.y, b=c.b, blur=c.blur).value
    assert discrepancy == pytest.approx(geomsink.mmd(*c.all, blur=c.blur).value, abs=1e-3)
