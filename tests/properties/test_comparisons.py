"""What else compares clouds: discrepancies, Hausdorff divergences, bounds, tables, tests; and what goes with them."""

import numpy as np
import pytest
from drawn import clouds, small, squared, transformed
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

import geomsink

KERNELS = {
    "gaussian": lambda r, s: np.exp(-(r**2) / (2.0 * s**2)),
    "laplacian": lambda r, s: np.exp(-r / s),
    "energy": lambda r, s: -r,
    "-sqeuclidean": lambda r, s: -(r**2),
}


def exact(c, power=2.0) -> float:
    """The linear programme of optimal transport."""
    (a, b), C = c.weights, cdist(c.x, c.y) ** power
    size = max(C.max(), 1e-300)
    n, m = C.shape
    rows = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    found = linprog(C.ravel() / size, A_eq=np.concatenate(rows), b_eq=np.concatenate((a, b)), method="highs")
    assert found.status == 0
    return found.fun * size


@given(clouds(), st.sampled_from(sorted(KERNELS)))
def test_discrepancies_are_algebra_with_kernel_matrices(c, kernel):
    a, b = c.weights
    blur = c.blur if kernel in ("gaussian", "laplacian") else None
    xx, xy, yy = (KERNELS[kernel](cdist(p, q), c.blur) for p, q in ((c.x, c.x), (c.x, c.y), (c.y, c.y)))
    found = geomsink.mmd(*c.all, kernel=kernel, blur=blur)
    size = max(np.abs(xy).max(), np.abs(xx).max(), np.abs(yy).max())
    assert found.value == pytest.approx(0.5 * (a @ xx @ a + b @ yy @ b) - a @ xy @ b, rel=1e-9, abs=1e-12 * size)
    np.testing.assert_allclose(found.potentials[0], xx @ a - xy @ b, rtol=1e-9, atol=1e-12 * size)
    np.testing.assert_allclose(found.potentials[1], yy @ b - xy.T @ a, rtol=1e-9, atol=1e-12 * size)


@given(small, st.lists(st.sampled_from((0.1, 1.0, 3.0)), min_size=1, max_size=3))
def test_discrepancies_of_several_blurs_are_sums(c, factors):
    blurs = [factor * c.blur for factor in factors]
    alone = sum(geomsink.mmd(*c.all, blur=blur).value for blur in blurs)
    assert geomsink.mmd(*c.all, blur=blurs).value == pytest.approx(alone, rel=1e-9, abs=1e-14)


@given(clouds())
def test_hausdorff_divergences_are_below_sinkhorn_divergences(c):
    found = geomsink.hausdorff_divergence(*c.all, blur=c.blur, tol=1e-8)
    mirrored = geomsink.hausdorff_divergence(c.y, c.x, c.b, c.a, blur=c.blur, tol=1e-8)
    upper = geomsink.sinkhorn_divergence(*c.all, blur=c.blur, tol=1e-8).value
    assert -1e-8 * c.size <= found.value <= upper + 1e-7 * c.size
    assert mirrored.value == pytest.approx(found.value, rel=1e-7, abs=1e-8 * c.size)
    (a, b), C, epsilon = c.weights, squared(c.x, c.y), 2.0 * c.blur**2
    p, q = found.xx.potentials[0], found.yy.potentials[0]
    across = transformed(C, q, b, epsilon), transformed(C.T, p, a, epsilon)
    dense = 0.5 * (a @ (across[0] - p) + b @ (across[1] - q))
    assert found.value == pytest.approx(dense, rel=1e-7, abs=1e-8 * c.size)


@given(clouds(), st.booleans())
def test_transforms_are_the_dense_formula(c, hard):
    g, (_, b) = c.blur**2 * c.random.standard_normal(len(c.y)), c.weights
    C = squared(c.x, c.y)
    found = geomsink.c_transform(c.x, c.y, g, c.b, **({} if hard else {"blur": c.blur}))
    expected = (C - g)[:, b > 0.0].min(1) if hard else transformed(C, g, b, 2.0 * c.blur**2)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * c.size)


@given(clouds(most=15), st.sampled_from((1.0, 2.0, 0.5)), st.booleans())
def test_bounds_have_the_linear_programme_between_them(c, p, exactly):
    optimum, size = exact(c, p), cdist(c.x, c.y).max() ** p
    found = geomsink.wasserstein_bounds(*c.all, p=p, exact=exactly, tol=1e-2, max_iter=5000)
    assert found.lower <= optimum + 1e-7 * size and optimum - 1e-7 * size <= found.upper
    assert found.lower <= found.upper and found.gap == found.upper - found.lower
    assert found.distance[0] <= found.distance[1]
    if exactly:
        assert found.gap <= 1e-6 * max(size, 1e-300)


@given(st.lists(small, min_size=1, max_size=4), st.booleans())
def test_tables_are_double_loops(several, others):
    dim = min(c.x.shape[1] for c in several)
    clouds, weights = [c.x[:, :dim] / c.scale for c in several], [c.a for c in several]
    second, of_second = [c.y[:, :dim] / c.scale for c in several[:2]], [c.b for c in several[:2]]
    given = dict(blur=0.5, tol=1e-8)
    table = geomsink.pairwise(clouds, *((second, weights, of_second) if others else (None, weights)), **given)
    if not others:
        second, of_second = clouds, weights
    assert table.converged and table.values.shape == (len(clouds), len(second))
    for i, (x, a) in enumerate(zip(clouds, weights, strict=True)):
        for j, (y, b) in enumerate(zip(second, of_second, strict=True)):
            alone = geomsink.sinkhorn_divergence(x, y, a, b, **given).value
            assert table.values[i, j] == pytest.approx(alone, rel=1e-6, abs=1e-7 * (0.5 + squared(x, y).max()))


@given(clouds(most=8, weights=("none",)), st.integers(1, 30), st.integers(0, 100))
def test_p_values_are_ranks(c, permutations, seed):
    given = dict(blur=c.blur, permutations=permutations, seed=seed)
    found = geomsink.two_sample_test(c.x, c.y, **given)
    assert found.null.shape == (permutations,) and found.converged
    rank = found.p_value * (1 + permutations)
    assert round(rank) == pytest.approx(rank, abs=1e-9) and 1 <= round(rank) <= 1 + permutations
    assert found.statistic == geomsink.sinkhorn_divergence(c.x, c.y, blur=c.blur).value
    assert (found.null > found.statistic * 1.001 + 1e-6 * c.size).sum() <= round(rank) - 1
    assert round(rank) - 1 <= (found.null >= found.statistic * 0.999 - 1e-6 * c.size).sum()
    again = geomsink.two_sample_test(c.x, c.y, **given)
    assert np.array_equal(again.null, found.null)


@given(clouds(), st.sampled_from((1e-3, 0.5, 7.0, 1e5)))
def test_suggested_blurs_are_lengths(c, factor):
    if len(np.unique(np.concatenate([p[w > 0.0] for p, w in zip((c.x, c.y), c.weights, strict=True)]), axis=0)) == 1:
        with pytest.raises(ValueError, match="x, y: all points are the same"):
            geomsink.suggest_blur(*c.all)
        return
    found = geomsink.suggest_blur(*c.all)
    assert found > 0.0
    assert geomsink.suggest_blur(factor * c.x, factor * c.y, c.a, c.b) == pytest.approx(factor * found, rel=1e-6)
    assert geomsink.suggest_blur(c.y, c.x, c.b, c.a) == pytest.approx(found, rel=1e-9)


@given(small, st.sampled_from((0.2, 0.5, 0.9)))
def test_partial_plans_carry_the_mass_that_was_asked_for(c, mass):
    a, b = c.weights
    found = geomsink.partial_transport(*c.all, mass=mass, blur=c.blur, tol=1e-6)
    P = found.plan.to_dense()
    assert P.sum() == pytest.approx(mass, rel=1e-4)
    assert (P.sum(1) <= a * (1.0 + 1e-4) + 1e-6).all() and (P.sum(0) <= b * (1.0 + 1e-4) + 1e-6).all()
    C, outer = squared(c.x, c.y), a[:, None] * b
    relative = np.where(P > 0.0, P * np.log(np.where(P > 0.0, P / np.where(outer > 0.0, outer, 1.0), 1.0)), 0.0)
    primal = (P * C).sum() + 2.0 * c.blur**2 * (relative.sum() - P.sum() + 1.0)
    assert found.value == pytest.approx(primal, rel=1e-3, abs=1e-4 * c.size)


@given(clouds(most=12, weights=("none",), equal=True))
def test_matchings_are_permutations_of_least_cost(c):
    found = geomsink.transport.matching(c.x, c.y)
    C = squared(c.x, c.y)
    rows, columns = linear_sum_assignment(C)
    assert sorted(found.rows) == list(range(len(c.x))) == sorted(found.columns)
    assert found.cost == pytest.approx(C[rows, columns].mean(), rel=1e-9, abs=1e-12 * c.size)
    assert found.exact and found.one_to_one


@given(clouds(most=12))
def test_weighted_matchings_are_linear_programmes(c):
    found, (a, b) = geomsink.transport.matching(*c.all, one_to_one=False), c.weights
    assert found.cost == pytest.approx(exact(c), rel=1e-7, abs=1e-8 * c.size)
    np.testing.assert_allclose(
        found.matrix.sum(1).A1 if hasattr(found.matrix.sum(1), "A1") else found.matrix.sum(1), a, atol=1e-12
    )
    f, g = found.potentials
    C = squared(c.x, c.y)
    assert (f[:, None] + g <= C + 1e-7 * c.size)[a > 0.0][:, b > 0.0].all()
    assert a @ f + b @ g == pytest.approx(found.cost, rel=1e-7, abs=1e-8 * c.size)
