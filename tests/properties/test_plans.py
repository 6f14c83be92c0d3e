"""Plans and entries of plans, against dense algebra."""

import numpy as np
import pytest
from drawn import clouds, plan, small, squared
from hypothesis import given
from hypothesis import strategies as st

import geomsink


def solved(c, **more):
    return geomsink.solve(*c.all, blur=c.blur, tol=1e-8, **more)


@given(clouds())
def test_plans_are_what_the_potentials_say(c):
    s = solved(c)
    P, (a, b) = plan(c, s.potentials), c.weights
    close = dict(rtol=1e-6, atol=1e-7 / len(a) / len(b))
    np.testing.assert_allclose(s.plan.to_dense(), P, **close)
    np.testing.assert_allclose(s.plan.T.to_dense(), P.T, **close)
    v, w = c.random.standard_normal((len(b), 2)), c.random.standard_normal(len(a))
    np.testing.assert_allclose(s.plan @ v, P @ v, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(s.plan.T @ w, P.T @ w, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(s.plan.row_marginal(), a, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(s.plan.column_marginal(), b, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(s.plan.linear_operator() @ v, P @ v, rtol=1e-6, atol=1e-7)
    assert s.plan.shape == P.shape and s.plan.mass == pytest.approx(1.0, abs=1e-7)
    assert s.plan.transport_cost == pytest.approx((P * squared(c.x, c.y)).sum(), rel=1e-6, abs=1e-7 * c.size)


@given(clouds(), st.integers(1, 50), st.sampled_from((0.3, 1e-2, 1e-6)))
def test_entries_are_those_of_the_dense_plan(c, k, threshold):
    s = solved(c)
    P = s.plan.to_dense()
    k = min(k, P.shape[1])
    top = s.plan.top_k(k)
    found = top.matrix.toarray()
    assert (np.diff(top.matrix.indptr) <= k).all()
    np.testing.assert_allclose(np.sort(found, axis=1)[:, -k:], np.sort(P, axis=1)[:, -k:], rtol=1e-9, atol=1e-300)
    assert top.kept == pytest.approx(found.sum() / P.sum(), rel=1e-9)
    sparse = s.plan.to_sparse(threshold)
    there, share = sparse.matrix.toarray(), P / np.maximum(P.sum(1, keepdims=True), 1e-300)
    assert (there[share > threshold * (1.0 + 1e-9)] > 0.0).all() and not there[share < threshold * (1.0 - 1e-9)].any()
    np.testing.assert_allclose(there[there > 0.0], P[there > 0.0], rtol=1e-9)
    assert sparse.kept == pytest.approx(there.sum() / P.sum(), rel=1e-9)


@given(small, st.integers(0, 100))
def test_samples_of_plans_are_pairs_with_mass(c, seed):
    s = solved(c)
    i, j = s.plan.sample(50, seed)
    again = s.plan.sample(50, seed)
    assert np.array_equal(i, again[0]) and np.array_equal(j, again[1])
    assert (s.plan.to_dense()[i, j] > 0.0).all()
    a, b = c.weights
    assert (a[i] > 0.0).all() and (b[j] > 0.0).all()
