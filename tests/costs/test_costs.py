"""Values of the costs in torch, to the last digits; what the registry takes and refuses is in test_registry.py."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from geomsink import costs

EPS = torch.finfo(torch.float64).eps


def cloud(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def values(cost, x, y):
    return costs.get(cost)(torch.as_tensor(x), torch.as_tensor(y)).numpy()


@pytest.mark.parametrize("d", [1, 3, 20])
@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2])
def test_powers_of_the_distance_are_scipys(p, d):
    x, y = cloud(7, d, 0), cloud(9, d, 1)
    # D rounded additions, a root and a power.
    np.testing.assert_allclose(values(f"power:{p}", x, y), cdist(x, y) ** p, rtol=(d + 8) * EPS)


@pytest.mark.parametrize("d", [2, 3, 20])
def test_cosine_and_geodesic_are_scipys(d):
    x, y = cloud(7, d, 0), cloud(9, d, 1)
    similarity = 1 - cdist(x, y, "cosine")
    # 1 - cos and the arc cosine have absolute errors of a few roundings of 1; the latter divided by the sine.
    np.testing.assert_allclose(values("cosine", x, y), 1 - similarity, rtol=0, atol=16 * EPS)
    error = 16 * EPS / np.sqrt(1 - similarity**2).min()
    np.testing.assert_allclose(values("geodesic", x, y), np.arccos(similarity), rtol=0, atol=error)


def test_mahalanobis_with_a_diagonal_is_scipys():
    x, y = cloud(7, 3, 0), cloud(9, 3, 1)
    expected = cdist(x, y, "sqeuclidean", w=[2.0, 1.0, 3.0])
    np.testing.assert_allclose(values("mahalanobis:2,1,3", x, y), expected, rtol=0, atol=16 * EPS * expected.max())


@pytest.mark.parametrize("angle", [1e-15, 1e-9, 1e-4, 1.0, math.pi / 2, math.pi - 1e-4, math.pi - 1e-9, math.pi])
def test_geodesic_is_accurate_at_tiny_and_antipodal_angles(angle):
    x, y = np.array([[1.0, 0.0]]), np.array([[math.cos(angle), math.sin(angle)]])
    assert values("geodesic", x, y).item() == pytest.approx(angle, rel=8 * EPS)


def test_geodesic_does_not_depend_on_lengths():
    x, y = cloud(4, 3, 0), cloud(5, 3, 1)
    np.testing.assert_allclose(values("geodesic", 1e-3 * x, 1e3 * y), values("geodesic", x, y), rtol=1e-14)


@pytest.mark.parametrize("name", ["sqeuclidean", "euclidean", "power:1.5", "power:0.5", "cosine", "geodesic"])
def test_equal_points_cost_nothing(name):
    x = cloud(6, 3, 0)
    assert (values(name, x, x).diagonal() == 0).all()


@pytest.mark.parametrize("name", ["cosine", "geodesic"])
def test_the_origin_has_no_direction(name):
    with pytest.raises(ValueError, match="origin"):
        costs.get(name)(torch.zeros(1, 3), torch.ones(1, 3))


def test_transposing_an_asymmetric_cost_exchanges_its_arguments():
    cost = costs.Cost(name="uphill", expression=lambda x, y: (x - y).relu().sum(-1), symmetric=False)
    x, y = torch.as_tensor(cloud(4, 3, 0)), torch.as_tensor(cloud(5, 3, 1))
    assert torch.equal(cost.transpose()(y, x), cost(x, y).T)
    assert not torch.allclose(cost(y, x), cost(x, y).T)
    assert costs.get("euclidean").transpose() is costs.get("euclidean")


def test_temperature_takes_one_of_blur_and_epsilon():
    cost = costs.get("power:1.5")
    assert costs.temperature(cost, None, 0.25) == 0.25
    with pytest.raises(ValueError, match="no power of a length"):
        costs.temperature(costs.get("cosine"), 0.1, None)
    with pytest.raises(ValueError, match="^width: cost 'cosine' is no power of a length; give epsilon"):
        costs.get("cosine").epsilon(0.1, "width")
    for blur, epsilon in [(None, None), (0.1, 0.1), (0.0, None), (None, -1.0), (math.nan, None)]:
        with pytest.raises(ValueError, match="blur|epsilon"):
            costs.temperature(cost, blur, epsilon)
    with pytest.raises(TypeError, match="str"):
        costs.temperature(cost, "x", None)
