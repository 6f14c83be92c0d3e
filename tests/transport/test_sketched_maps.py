"""Maps of plans to a cloud that a sketch stands for, whose weights may be negative: those to all of its points."""

import numpy as np
import pytest

import geomsink
from geomsink import transport

BLUR = 0.2


@pytest.fixture(scope="module")
def problem():
    """A divergence to a sketch, the same to its cloud, and new points."""
    x, y = (geomsink.shapes.sample(f"shape:{name}", n, seed=0) for name, n in (("knot", 200), ("torus", 3_000)))
    few = geomsink.sketch(y, blur=BLUR)
    assert (few.weights < 0.0).any()
    solved = [geomsink.sinkhorn_divergence(x, cloud, blur=BLUR, tol=1e-5, multiscale=False) for cloud in (few, y)]
    return *solved, few, (x[:20] + [0.2, 0.0, 0.0]).astype(np.float32)


def test_a_map_to_a_sketch_is_that_to_its_cloud(problem):
    between_few, between_all, few, new = problem
    for way in (lambda r: transport.barycentric_map(r.xy), transport.displacement,
                lambda r: transport.entropic_map(r.xy, new), lambda r: transport.entropic_map(r, new)):  # fmt: skip
        np.testing.assert_allclose(way(between_few), way(between_all), atol=5e-5)
    back = transport.displacement(between_few, reverse=True)  # at the sketch's points
    assert np.abs(back - (transport.entropic_map(between_all, few.points, reverse=True) - few.points)).max() < 5e-5


def test_labels_belong_to_points_and_not_to_those_that_stand_for_them(problem):
    between_few, _, few, _ = problem
    with pytest.raises(ValueError, match="labels: given for a Sketch as y, expected a plan from the points themselves"):
        transport.transfer(between_few.xy, few.points[:, 0])
    with pytest.raises(ValueError, match="labels: given for a Sketch as x"):
        transport.transfer(geomsink.solve(few, few.points, blur=BLUR), few.points[:, 0], reverse=True)
    assert transport.transfer(between_few.xy, np.ones(200), reverse=True) == pytest.approx(1.0)  # from points to it
