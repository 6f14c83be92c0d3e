"""Clouds: what is prepared of a measure is made once, and its trees are as deep as they need be."""

import numpy as np
import torch

from geomsink import costs
from geomsink.measures import Measure
from geomsink.multiscale.clouds import Cloud

COST = costs.get("sqeuclidean")


def test_clouds_keep_what_they_prepare():
    points = torch.from_numpy(np.random.default_rng(0).uniform(size=(1600, 2)))
    cloud = Cloud(Measure(points, torch.full((1600,), 1 / 1600, dtype=torch.float64)), COST, 2 * 0.08**2)
    assert cloud.tree is cloud.tree and cloud.boxes is cloud.boxes
    assert len(cloud.small_boxes.centre) > 4 * len(cloud.boxes.centre)
    first = cloud.nodes(1e-2)
    assert cloud.nodes(1e-2) is first and len(cloud.nodes(1e-4)) > len(first)
    assert cloud.is_sketched(1e-2) and not cloud.is_sketched(1e-6)
    calls = []
    assert [cloud.once("name", lambda: calls.append(1) or len(calls)) for _ in range(3)] == [1, 1, 1]


def test_large_clouds_are_cut_as_deep_as_their_nodes_need():
    """The tree of a sketch has cells about three σ wide, and a few levels more; not those of the sums."""
    points = torch.from_numpy(np.random.default_rng(0).uniform(size=(2**16, 2)))
    cloud = Cloud(Measure(points, torch.full((2**16,), 0.5**16, dtype=torch.float64)), COST, 2 * 0.05**2)
    nodes = cloud.nodes(1e-2)
    assert nodes.tree is not cloud.tree and nodes.tree.depth < 10 < cloud.tree.depth
    assert nodes.left_alone() == 0.0 and len(nodes) < 0.05 * 2**16
    # Points far from the rest, whose cells would need more levels: the sums' tree has them.
    points[: 2**13] *= 1000.0
    other = Cloud(Measure(points, cloud.measure.weights), COST, 2 * 0.05**2)
    assert other.nodes(1e-2).tree is other.tree
