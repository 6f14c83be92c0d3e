"""matching and exact bounds through the public interface: kinds of arrays, masses, places, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import geomsink
from geomsink.transport import matching

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.random((700, 3)), RANDOM.random((700, 3))
BEST = cdist(X, Y, "sqeuclidean")[linear_sum_assignment(cdist(X, Y, "sqeuclidean"))].mean()


def test_a_matching_is_that_of_scipy_and_proves_it():
    found = matching(X, Y)
    assert found.exact and found.status == "exact" and found.one_to_one and found.shape == (700, 700)
    assert found.cost == pytest.approx(BEST, rel=1e-13) and found.relative_gap <= 1e-9
    assert found.rows.dtype == np.int64 and found.rows.tolist() == list(range(700))
    assert cdist(X, Y, "sqeuclidean")[found.rows, found.columns].mean() == pytest.approx(found.cost, rel=1e-13)
    f, g = found.potentials
    assert (f[:, None] + g - cdist(X, Y, "sqeuclidean")).max() < 1e-13
    assert f.mean() + g.mean() == pytest.approx(found.lower, rel=1e-12)
    assert abs(found.matrix.sum(0) - 1 / 700).max() < 1e-15


@pytest.mark.parametrize("options", [{"blur": 0.3}, {"epsilon": 1e-3, "candidates": 3}, {"engine": "keops"}])
def test_options_change_no_answer(options):
    assert matching(X, Y, **options).cost == pytest.approx(BEST, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_give_tensors(dtype):
    x, y = torch.from_numpy(X).to(dtype).requires_grad_(), torch.from_numpy(Y).to(dtype)
    found = matching(x, y)
    assert found.columns.dtype == torch.int64 and found.potentials[0].dtype == dtype
    assert not found.mass.requires_grad and found.exact
    C = cdist(x.detach().double(), y.double(), "sqeuclidean")
    assert found.cost == pytest.approx(C[linear_sum_assignment(C)].mean(), rel=1e-12)


def test_far_from_the_origin():
    found = matching(X + 1e6, Y + 1e6)
    C = cdist(X + 1e6 - 1e6, Y + 1e6 - 1e6, "sqeuclidean")
    assert found.exact and found.cost == pytest.approx(C[linear_sum_assignment(C)].mean(), rel=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_costs_of_1e_12_and_1e12(scale):
    found = matching(scale * X, scale * Y)
    assert found.exact and found.cost == pytest.approx(scale**2 * BEST, rel=1e-12)


def test_identical_clouds_cost_nothing():
    found = matching(X, X[::-1].copy())
    assert found.exact and found.cost == 0.0 and found.gap <= 1e-15
    assert np.array_equal(found.columns, np.arange(700)[::-1])


def test_users_costs_asymmetric_and_without_degree():
    def uphill(x, y):
        return ((y - x).exp() + (x - y) ** 2).sum(-1)

    cost = geomsink.costs.Cost(name="uphill", expression=uphill, symmetric=False)
    found = matching(X, Y, cost=cost)
    C = (np.exp(Y[None] - X[:, None]) + (X[:, None] - Y) ** 2).sum(-1)
    assert found.exact and found.cost == pytest.approx(C[linear_sum_assignment(C)].mean(), rel=1e-13)


@pytest.mark.parametrize("cost", ["cosine", "geodesic", "mahalanobis:1,2,3", "euclidean"])
def test_registered_costs(cost):
    found = matching(X + 0.1, Y + 0.1, cost=cost)
    C = geomsink.costs.get(cost)(torch.from_numpy(X + 0.1), torch.from_numpy(Y + 0.1)).numpy()
    assert found.exact and found.cost == pytest.approx(C[linear_sum_assignment(C)].mean(), rel=1e-9)


def test_masses_are_those_that_were_given():
    a, b = RANDOM.random(30), RANDOM.random(40)
    b *= a.sum() / b.sum()
    found = matching(X[:30], Y[:40], a, b)
    assert not found.one_to_one and found.exact
    np.testing.assert_allclose(found.matrix.sum(1), a, rtol=1e-12)
    np.testing.assert_allclose(found.matrix.sum(0), b, rtol=1e-12)
    assert (found.matrix.multiply(cdist(X[:30], Y[:40], "sqeuclidean"))).sum() == pytest.approx(found.cost, rel=1e-12)


def test_exact_bounds_are_the_matching():
    bounds = geomsink.wasserstein_bounds(X, Y, exact=True)
    assert bounds.lower <= BEST <= bounds.upper and bounds.gap <= 1e-9 * BEST
    assert bounds.distance[0] <= BEST**0.5 <= bounds.distance[1]
    a = RANDOM.random(30)
    line, shifted = X[:30, :1], X[:30, :1] + 2.0
    bounds = geomsink.wasserstein_bounds(line, shifted, a, a, p=1, exact=True, blur=0.1)
    assert bounds.lower <= 2.0 * a.sum() <= bounds.upper and bounds.gap <= 1e-9


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(y=Y[:9], one_to_one=True), "one_to_one: True given with clouds of 10 and 9 points, expected the same"),
        (dict(a=np.arange(10.0), b=np.arange(10.0), one_to_one=True), "one_to_one: True given with weights that"),
        (dict(a=np.ones(10), b=np.full(10, 2.0)), "a, b: they sum to 10 and 20; expected the same mass"),
        (dict(a=-np.ones(10)), "a: the smallest weight is -1, expected none below zero"),
        (dict(y=np.full((10, 3), np.nan)), "y: 30 of 30 numbers are NaN or infinite; expected finite numbers"),
        (dict(cost="taxi"), "cost: unknown name 'taxi'"),
        (dict(candidates=0), "candidates: 0 given, expected a whole number of at least 1"),
        (dict(candidates=2.5), "candidates: a float was given, expected a whole number"),
        (dict(tol_gap=0.0), "tol_gap: 0.0 given, expected a positive share of the cost"),
        (dict(tol_gap="1"), "tol_gap: a str was given, expected a number or None"),
        (dict(one_to_one=1), "one_to_one: a int was given, expected None, True or False"),
        (dict(blur=0.1, epsilon=0.1), "blur, epsilon: both were"),
        (dict(x=X[None, :10], y=Y[None, :10]), "x, y: batches were given, expected two clouds"),
        (dict(engine="fast"), "engine: unknown name 'fast'"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(options, sentence):
    x, y = options.pop("x", X[:10]), options.pop("y", Y[:10])
    with pytest.raises((TypeError, ValueError), match=sentence):
        matching(x, y, **options)


def test_a_matrix_of_bfloat16():
    """NumPy has no such numbers."""
    x, y = (torch.rand(6, 2, generator=torch.Generator().manual_seed(k)).bfloat16() for k in (0, 1))
    found = matching(x, y).matrix
    assert found.shape == (6, 6) and found.sum() == pytest.approx(1.0, rel=1e-2)
