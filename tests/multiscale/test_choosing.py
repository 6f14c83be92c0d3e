"""Where a sketch is worth it: the first level of cells that are tried, and how many nodes some of them tell of."""

import numpy as np
import pytest
import torch

from geomsink import costs
from geomsink.measures import Measure
from geomsink.multiscale.choosing import WIDTH, expected, first_level
from geomsink.multiscale.sketch import Nodes
from geomsink.multiscale.tree import Tree

COST = costs.get("sqeuclidean")


def uniform_tree(n, d):
    points = torch.from_numpy(np.random.default_rng(0).uniform(size=(n, d)))
    return Tree.of(Measure(points, torch.full((n,), 1 / n, dtype=torch.float64)))


def test_first_level():
    """The coarsest whose cells are mostly within three σ."""
    tree = uniform_tree(4096, 2)

    def extent(level):
        inside = tree.measure.points.view(2**level, -1, 2)
        return float((inside.amax(1) - inside.amin(1)).amax(1).median())

    for sigma in (0.3, 0.1, 0.06):
        level = first_level(tree, sigma)
        assert extent(level) < 1.2 * WIDTH * sigma and (level == 0 or extent(level - 1) > WIDTH * sigma)
    assert first_level(tree, 1.0) == 0
    # Cells that are narrow enough have fewer than 32 points.
    assert first_level(tree, 0.01) is None


@pytest.mark.parametrize("accuracy", [1e-2, 1e-4])
@pytest.mark.parametrize(
    ("n", "d", "sigma"), [(2000, 1, 0.02), (3000, 2, 0.15), (3000, 3, 0.7), (4000, 2, 0.04), (20_000, 3, 0.2)]
)
def test_the_number_that_is_expected(n, d, sigma, accuracy):
    """From some cells of a level, and where these need too many, as in a cube, of the next."""
    tree, epsilon = uniform_tree(n, d), 2 * sigma**2
    nodes = Nodes.of(tree, COST, epsilon, accuracy, "dense")
    found, looked_at = expected(tree, COST, epsilon, accuracy)
    assert 0 < looked_at <= n and found / looked_at == pytest.approx(len(nodes) / n, rel=0.1)


def test_none_are_expected_for_narrow_kernels():
    tree = uniform_tree(4000, 2)
    assert expected(tree, COST, 2 * 0.005**2, 1e-3) == (4000, 4000)
