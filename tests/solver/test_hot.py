"""Values at temperatures far above the costs, against their series in 1/ε."""

import numpy as np
import pytest

import geomsink


def series(x, y, a, b, epsilon):
    """⟨a⊗b, C⟩ − Σ a_i b_j C̃_ij² / 2ε, C̃ the cost less its means over rows and over columns: right to C³/6ε²."""
    C = ((x[:, None] - y) ** 2).sum(-1)
    centred = C - (C @ b)[:, None] - a @ C + a @ C @ b
    return a @ C @ b - 0.5 * a @ centred**2 @ b / epsilon


def divergence(x, y, a, b, epsilon):
    return series(x, y, a, b, epsilon) - 0.5 * series(x, x, a, a, epsilon) - 0.5 * series(y, y, b, b, epsilon)


@pytest.mark.parametrize("engine", ["keops", "dense"])
@pytest.mark.parametrize("epsilon", [3e7, 1e8, 8e8])  # the largest cost is about 10
@pytest.mark.parametrize(("function", "truth"), [("solve", series), ("sinkhorn_divergence", divergence)])
def test_values_have_all_their_digits(function, truth, epsilon, engine):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) + 0.3
    a, b = (rng.dirichlet(np.ones(n)) for n in (40, 30))
    found = getattr(geomsink, function)(x, y, a, b, epsilon=epsilon, tol=1e-8, engine=engine)
    exact = truth(x, y, a, b, epsilon)
    assert found.converged
    assert abs(found.value - exact) <= 1e-11 * exact
    assert abs(found.value - exact) <= found.value_error <= 1e-9 * exact


def test_each_item_of_a_batch_and_any_mass():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(3, 20, 2)), rng.normal(size=(3, 25, 2))
    a, b = (rng.dirichlet(np.ones(n), size=3) for n in (20, 25))
    found = geomsink.sinkhorn_divergence(x, y, 7.0 * a, 7.0 * b, epsilon=1e8, tol=1e-8)
    exact = [7.0 * divergence(*item, 1e8) for item in zip(x, y, a, b, strict=True)]
    np.testing.assert_allclose(found.value, exact, rtol=1e-11)
