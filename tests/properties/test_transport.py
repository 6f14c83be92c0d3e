"""What plans are used for: maps, labels, barycentres, flows, registrations."""

import numpy as np
import pytest
from drawn import clouds, plan, small, squared
from hypothesis import given, settings
from hypothesis import strategies as st

import geomsink
from geomsink import transport

NICE = dict(most=12, dims=3, blurs=(0.3, 1.0), scales=(1.0, 1e-3, 1e3))
few = settings(max_examples=max(1, settings().max_examples // 2))


def solved(c):
    return geomsink.solve(*c.all, blur=c.blur, tol=1e-8)


def towards(c, z, g, reverse=False):
    """Means of the other points at z, by the dense formula, for the potential of these."""
    y, b = (c.x, c.weights[0]) if reverse else (c.y, c.weights[1])
    exponent = (g - squared(z, y)) / (2.0 * c.blur**2)
    P = b * np.exp(exponent - exponent[:, b > 0.0].max(1, keepdims=True))
    return P @ y / P.sum(1, keepdims=True)


@given(clouds(), st.booleans())
def test_maps_are_means_by_the_plan(c, reverse):
    s = solved(c)
    f, g = s.potentials
    here, other = (c.y, f) if reverse else (c.x, g)
    atol = 1e-6 * (c.blur + np.abs(here).max())
    expected = towards(c, here, other, reverse)
    np.testing.assert_allclose(transport.barycentric_map(s, reverse=reverse), expected, atol=atol)
    np.testing.assert_allclose(transport.entropic_map(s, here, reverse=reverse), expected, atol=atol)
    z = here[:3] + c.scale * c.random.standard_normal(here[:3].shape)
    np.testing.assert_allclose(transport.entropic_map(s, z, reverse=reverse), towards(c, z, other, reverse), atol=atol)


@given(clouds())
def test_displacements_are_gradients(c):
    import torch

    x, y = (t.requires_grad_() for t in c.tensors()[:2])
    a, b = map(torch.from_numpy, c.weights)
    d = geomsink.sinkhorn_divergence(x, y, a, b, blur=c.blur, tol=1e-8)
    d.value.backward()
    moved = transport.displacement(d)
    atol = 1e-5 * c.size / c.blur
    np.testing.assert_allclose((-2.0 * a[:, None] * moved).numpy(), x.grad.numpy(), atol=atol)


@given(small, st.booleans())
def test_labels_are_voted_for(c, reverse):
    s = solved(c)
    P = plan(c, s.potentials).T if reverse else plan(c, s.potentials)
    labels = c.random.integers(3, size=P.shape[1])
    votes = transport.transfer(s, labels, probabilities=True, reverse=reverse)
    alive = P.sum(1) > 0.0
    expected = np.stack([P[:, labels == k].sum(1) for k in votes.classes], 1)[alive] / P.sum(1)[alive][:, None]
    np.testing.assert_allclose(votes.probabilities[alive], expected, atol=1e-6)
    np.testing.assert_allclose(votes.probabilities.sum(1), 1.0, atol=1e-9)
    assert np.array_equal(votes.labels, votes.classes[votes.probabilities.argmax(1)])
    means = transport.transfer(s, labels.astype(float), reverse=reverse)
    np.testing.assert_allclose(means, votes.probabilities @ votes.classes, atol=1e-9)


@few
@given(clouds(**NICE), st.integers(1, 3))
def test_the_barycentre_of_equal_clouds_is_the_cloud(c, count):
    found = transport.barycenter([c.x] * count, init=c.x, blur=c.blur, steps=5)
    np.testing.assert_allclose(found.points, c.x, atol=1e-3 * c.scale)
    np.testing.assert_allclose(found.weights, 1.0 / len(c.x))


@few
@given(clouds(**NICE))
def test_the_barycentre_of_a_moved_cloud_is_half_way(c):
    shift = c.scale * c.random.standard_normal(c.x.shape[1])
    found = transport.barycenter([c.x, c.x + shift], init=c.x, blur=c.blur, steps=30, loss=None)
    np.testing.assert_allclose(found.points, c.x + 0.5 * shift, atol=1e-2 * c.scale)


@few
@given(clouds(**NICE), st.integers(1, 4), st.booleans())
def test_quantised_clouds_have_their_mass_and_a_smaller_loss(c, k, fit_weights):
    k = min(k, len(np.unique(c.x[c.weights[0] > 0.0], axis=0)))
    found = transport.quantize(c.x, k, c.a, blur=c.blur, fit_weights=fit_weights, steps=20)
    assert found.points.shape == (k, c.x.shape[1]) and (found.weights >= 0.0).all()
    assert found.weights.sum() == pytest.approx(1.0, rel=1e-6)
    assert found.history.values[-1] <= found.history.values[0] + 1e-6 * c.size
    assert (found.points >= c.x.min(0) - c.scale).all() and (found.points <= c.x.max(0) + c.scale).all()


@few
@given(clouds(**NICE))
def test_flows_descend(c):
    found = transport.gradient_flow(*c.all, blur=c.blur, steps=5, frames=2)
    assert found.points.shape == c.x.shape and np.array_equal(found.frames[0], c.x)
    assert np.array_equal(found.frames[-1], found.points) and len(found.frames) == len(found.times)
    assert found.history.values[-1] <= found.history.values[0] + 1e-4 * c.size


@given(clouds(**NICE), st.floats(0.0, 1.0))
def test_interpolations_have_the_right_ends_and_means(c, time):
    (start, first), (middle, weights), (end, last) = transport.interpolate(
        c.x, c.y, [0.0, time, 1.0], c.a, c.b, blur=c.blur
    )
    a, b = c.weights
    assert np.array_equal(start, c.x) and np.array_equal(end, c.y)
    np.testing.assert_allclose(first, a, rtol=1e-12)
    np.testing.assert_allclose(last, b, rtol=1e-12)
    assert weights.sum() == pytest.approx(1.0, rel=1e-9)
    np.testing.assert_allclose(weights @ middle, (1.0 - time) * a @ c.x + time * b @ c.y, atol=1e-4 * c.size / c.blur)


@few
@given(clouds(**NICE, least=3, shapes=("random",)), st.sampled_from(("rigid", "similarity", "affine", "free")))
def test_registrations_move_clouds_nearer(c, transform):
    found = transport.register(c.x, c.x + 0.3 * c.scale, transform=transform, blur=c.blur, steps=10)
    np.testing.assert_allclose(found(c.x), found.points, atol=1e-9 * np.abs(c.x).max())
    values = [geomsink.sinkhorn_divergence(p, c.x + 0.3 * c.scale, blur=c.blur).value for p in (c.x, found.points)]
    assert values[1] <= values[0] + 1e-4 * c.size
    if transform == "rigid":
        np.testing.assert_allclose(found.matrix @ found.matrix.T, np.eye(len(found.matrix)), atol=1e-9)
        assert np.linalg.det(found.matrix) == pytest.approx(1.0)
    if transform != "free":
        np.testing.assert_allclose(
            c.x @ found.matrix.T + found.translation, found.points, atol=1e-9 * np.abs(c.x).max()
        )
