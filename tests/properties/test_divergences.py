"""What holds of `sinkhorn_divergence` and `solve` for all clouds, whatever they are."""

import numpy as np
import pytest
import torch
from drawn import Clouds, clouds, plan, small, squared
from hypothesis import given
from hypothesis import strategies as st

import geomsink

TOL = 1e-8
RIGHT = 1e-7
"""Of ε and the largest cost together, what values at this tolerance are off by at most."""


def S(c: Clouds, **more) -> float:
    found = geomsink.sinkhorn_divergence(*c.all, blur=c.blur, tol=TOL, **more)
    assert found.converged and isinstance(found.value, float)
    return found.value


def near(one, other, c: Clouds, share: float = RIGHT) -> None:
    assert one == pytest.approx(other, rel=share, abs=share * c.size)


@given(clouds())
def test_divergences_are_symmetric_and_not_negative(c):
    value = S(c)
    assert value >= 0.0
    near(S(Clouds(c.y, c.x, c.b, c.a, c.blur, c.scale, c.seed)), value, c)


@given(clouds())
def test_a_cloud_is_at_no_distance_from_itself(c):
    order = c.random.permutation(len(c.x))
    again = None if c.a is None else c.a[order]
    near(geomsink.sinkhorn_divergence(c.x, c.x[order], c.a, again, blur=c.blur, tol=TOL).value, 0.0, c)


@given(clouds())
def test_the_order_of_points_does_not_matter(c):
    first, second = c.random.permutation(len(c.x)), c.random.permutation(len(c.y))
    a, b = (None if w is None else w[order] for w, order in ((c.a, first), (c.b, second)))
    near(S(c.of(c.x[first], c.y[second], a, b)), S(c), c)


@given(clouds())
def test_motions_change_nothing(c):
    turn = np.linalg.qr(c.random.standard_normal((c.x.shape[1],) * 2))[0]
    shift = c.scale * c.random.standard_normal(c.x.shape[1])
    value = S(c)
    near(S(c.of(c.x + shift, c.y + shift)), value, c)
    near(S(c.of(c.x @ turn, c.y @ turn)), value, c)


@given(clouds(), st.sampled_from((0.5, 3.0, 1e-4, 1e5)))
def test_lengths_scale_the_value_by_their_square(c, factor):
    value = S(c)
    near(S(Clouds(factor * c.x, factor * c.y, c.a, c.b, factor * c.blur, c.scale, c.seed)) / factor**2, value, c)


@given(clouds())
def test_a_point_in_two_halves_is_the_same_point(c):
    a = c.weights[0]
    k = int(c.random.integers(len(a)))
    halves = np.concatenate((a, a[k : k + 1] / 2.0))
    halves[k] /= 2.0
    near(S(c.of(np.concatenate((c.x, c.x[k : k + 1])), a=halves)), S(c), c)


@given(clouds())
def test_points_without_weight_change_nothing(c):
    more = c.x[:1] + c.scale * c.random.standard_normal((3, c.x.shape[1]))
    near(S(c.of(np.concatenate((more, c.x)), a=np.concatenate((np.zeros(3), c.weights[0])))), S(c), c)


@given(clouds(), st.sampled_from((1e-6, 0.2, 7.0, 1e8)))
def test_normalised_weights_may_have_any_sum(c, factor):
    a, b = c.weights
    near(S(c.of(a=factor * a, b=b / 3.0), normalize=True), S(c), c)


@given(clouds(), st.sampled_from((1e-6, 0.2, 7.0, 1e8)))
def test_values_scale_with_the_mass(c, factor):
    a, b = c.weights
    near(S(c.of(a=factor * a, b=factor * b)) / factor, S(c), c)


@given(clouds(), st.integers(1, 3))
def test_an_item_of_a_batch_is_a_call_of_its_own(c, more):
    others = [c.x[::-1], c.x + 0.1 * c.scale, 0.5 * c.x][:more]
    a, b = c.weights
    batch = geomsink.sinkhorn_divergence(
        [c.x, *others], [c.y] * (1 + more), [a, a[::-1], a, a][: 1 + more], [b] * (1 + more), blur=c.blur, tol=TOL
    )
    assert batch.converged and batch.value.shape == (1 + more,)
    near(batch.value[0], S(c), c)
    near(batch.value[-1], S(c.of(others[-1], a=a[::-1] if more == 1 else a)), c)


@given(clouds())
def test_arrays_tensors_and_lists_are_the_same_points(c):
    value = S(c)
    tensors = geomsink.sinkhorn_divergence(*c.tensors(), blur=c.blur, tol=TOL)
    lists = geomsink.sinkhorn_divergence(*(None if t is None else t.tolist() for t in c.all), blur=c.blur, tol=TOL)
    assert isinstance(tensors.value, torch.Tensor) and tensors.value.dtype == torch.float64
    assert float(tensors.value) == value == lists.value


@given(clouds())
def test_single_precision_is_near_double(c):
    near(
        float(geomsink.sinkhorn_divergence(*c.tensors(torch.float32), blur=c.blur)),
        S(c),
        c,
        1e-4 if c.x.max() < 10.0 * c.scale else 1e-2,
    )


@given(clouds(most=20))
def test_the_value_is_between_its_certified_bounds(c):
    """Those of single precision have the truth, as double precision has it."""
    truth = S(c)
    for dtype in ("float64", "float32"):
        found = geomsink.sinkhorn_divergence(*c.all, blur=c.blur, certify=True, dtype=dtype)
        assert found.lower - RIGHT * abs(truth) <= truth + RIGHT * c.size * 1e-3
        assert found.upper + RIGHT * abs(truth) >= truth - RIGHT * c.size * 1e-3


@given(clouds())
def test_the_dual_value_is_below_the_primal_one(c):
    """Of the plan, made feasible, in dense algebra; both are the optimum."""
    found = geomsink.solve(*c.all, blur=c.blur, tol=TOL)
    (a, b), C, epsilon = c.weights, squared(c.x, c.y), 2.0 * c.blur**2
    P = plan(c, found.potentials)
    assert np.abs(P.sum(1) - a).sum() + np.abs(P.sum(0) - b).sum() <= max(TOL, 1e-6)
    assert found.marginal_error <= TOL
    P = P * np.minimum(1.0, a / np.maximum(P.sum(1), 1e-300))[:, None]
    P = P * np.minimum(1.0, b / np.maximum(P.sum(0), 1e-300))
    left = a - P.sum(1), b - P.sum(0)
    if left[0].sum() > 0.0:
        P = P + left[0][:, None] * left[1] / left[0].sum()
    outer = a[:, None] * b
    relative = np.where(P > 0.0, P * np.log(np.where(P > 0.0, P, 1.0) / np.where(outer > 0.0, outer, 1.0)), 0.0)
    primal = (P * C).sum() + epsilon * relative.sum()
    assert found.value <= primal + 1e-10 * c.size
    near(found.value, primal, c)
    near(found.transport_cost, (plan(c, found.potentials) * C).sum(), c)


@given(small, st.sampled_from((0.1, 1.0, 10.0)), st.sampled_from(("kl", "tv", "l2")))
def test_unbalanced_divergences_are_symmetric_and_not_negative(c, reach, penalty):
    given = dict(blur=c.blur, reach=reach * c.scale, penalty=penalty, tol=1e-6)
    a, b = c.weights
    found = geomsink.sinkhorn_divergence(c.x, c.y, 2.0 * a, b, **given)
    mirrored = geomsink.sinkhorn_divergence(c.y, c.x, b, 2.0 * a, **given)
    assert found.value >= -1e-6 * c.size
    near(mirrored.value, found.value, c, 1e-5)


@given(clouds())
def test_the_same_call_gives_the_same_bits(c):
    first = geomsink.sinkhorn_divergence(*c.all, blur=c.blur)
    geomsink.solve(c.x[:1], c.y, blur=2.0 * c.blur)
    second = geomsink.sinkhorn_divergence(*c.all, blur=c.blur)
    assert first.value == second.value
    for one, other in zip(first.potentials, second.potentials, strict=True):
        assert np.array_equal(one, other)
