"""Costs and kernels against SciPy's distances, and sums over pairs against dense algebra."""

import numpy as np
import pytest
import torch
from drawn import clouds, small
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import geomsink
from geomsink import costs, kernels


def angle(x, y):
    return np.arccos(np.clip(1.0 - cdist(x, y, "cosine"), -1.0, 1.0))


FORMULAS = {
    "sqeuclidean": lambda x, y: cdist(x, y) ** 2,
    "euclidean": cdist,
    "power:1.5": lambda x, y: cdist(x, y) ** 1.5,
    "cosine": lambda x, y: cdist(x, y, "cosine"),
    "geodesic": angle,
}


@given(small, st.sampled_from(sorted(FORMULAS)), st.sampled_from((0.5, 3.0)))
def test_costs_are_their_formulas(c, name, factor):
    x, y = (c.x / c.scale + 0.1, c.y / c.scale + 0.2)
    cost, expected = costs.get(name), FORMULAS[name](x, y)
    tensors = tuple(map(torch.from_numpy, (x, y)))
    # Of an angle near 0 half of the digits are lost, as its cosine has them.
    close = dict(rtol=1e-9, atol=1e-7 if name == "geodesic" else 1e-12 * (1.0 + np.abs(expected).max()))
    np.testing.assert_allclose(cost(*tensors), expected, **close)
    np.testing.assert_allclose(cost.scaled(factor)(*tensors), factor * expected, **close)
    np.testing.assert_allclose(cost.transpose()(*tensors), expected, **close)
    if cost.degree is not None:
        epsilon = costs.temperature(cost, blur=factor, epsilon=None)
        assert epsilon == pytest.approx(cost.degree * factor**cost.degree) == cost.epsilon(factor)


@given(small)
def test_weights_features_and_matrices_are_the_same_cost(c):
    """A linear map, the matrix of its squares, and the matrix of costs, as costs of one problem."""
    dim = c.x.shape[1]
    L = c.random.standard_normal((dim, dim)) + 3.0 * np.eye(dim)
    phi = torch.nn.Linear(dim, dim, bias=False, dtype=torch.float64)
    phi.weight.data = torch.from_numpy(L.T.copy())
    C = cdist(c.x @ L, c.y @ L) ** 2
    epsilon = 0.1 * C.max() + 2.0 * c.blur**2
    given = dict(a=c.a, b=c.b, epsilon=epsilon, tol=1e-8)
    matrix = geomsink.MatrixCost(C)
    found = [
        geomsink.solve(c.x, c.y, cost=costs.mahalanobis(L @ L.T), **given).value,
        geomsink.solve(c.x, c.y, cost=geomsink.FeatureCost(phi), **given).value,
        geomsink.solve(matrix.rows, matrix.columns, cost=matrix, **given).value,
    ]
    assert found == pytest.approx([geomsink.solve(c.x @ L, c.y @ L, **given).value] * 3, rel=1e-6, abs=1e-7 * epsilon)


@given(small, st.sampled_from(("gaussian", "laplacian", "energy", "-euclidean")), st.sampled_from((0.5, 2.0)))
def test_kernels_are_their_formulas(c, name, blur):
    x, y = c.x / c.scale, c.y / c.scale
    r = cdist(x, y) / blur
    expected = {"gaussian": np.exp(-0.5 * r**2), "laplacian": np.exp(-r)}.get(name, -r)
    kernel = geomsink.kernels.get(name)
    np.testing.assert_allclose(kernel(*map(torch.from_numpy, (x, y)), blur=blur), expected, rtol=1e-9, atol=1e-9)
    assert name[0] != "-" or kernels.negative(name[1:]).name == kernel.name


@given(clouds(scales=(1.0,)), st.sampled_from(("sqeuclidean", "euclidean")))
def test_sums_of_an_engine_are_dense_algebra(c, name):
    u, v = c.random.standard_normal(len(c.x)), c.random.standard_normal(len(c.y))
    x, y = c.x - c.x.mean(0), c.y - c.x.mean(0)
    pair = geomsink.engine.pair(*map(torch.from_numpy, (x, y)), costs.get(name), "dense")
    operator = geomsink.engine.Gibbs(pair, torch.from_numpy(u), torch.from_numpy(v), 0.5)
    K = np.exp(u[:, None] + v - FORMULAS[name](x, y) / 0.5)
    w = c.random.standard_normal((len(v), 2))
    np.testing.assert_allclose(operator.row_sums(), K.sum(1), rtol=1e-9)
    np.testing.assert_allclose(operator.T.row_sums(), K.sum(0), rtol=1e-9)
    np.testing.assert_allclose(operator.apply(torch.from_numpy(w)), K @ w, rtol=1e-9, atol=1e-9 * K.sum())
