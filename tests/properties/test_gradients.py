"""Derivatives against differences, and losses against the functions that they are."""

import numpy as np
import pytest
import torch
from drawn import clouds, small
from hypothesis import given
from hypothesis import strategies as st

import geomsink

NICE = (0.3, 1.0, 3.0)
LOSSES = {
    "SinkhornDivergence": (geomsink.SinkhornDivergence, geomsink.sinkhorn_divergence),
    "EntropicOT": (geomsink.EntropicOT, geomsink.solve),
}


def live(c):
    x, y = (t.clone().requires_grad_() for t in c.tensors()[:2])
    a, b = (torch.from_numpy(w).requires_grad_() for w in c.weights)
    return x, y, a, b


@given(clouds(most=15, blurs=NICE, scales=(1.0, 1e-3, 1e3)), st.sampled_from(("envelope", "implicit")))
def test_gradients_are_differences_along_a_direction(c, differentiation):
    """Of points, and of weights in directions that keep the masses."""

    def value(x, y, a, b):
        return geomsink.sinkhorn_divergence(
            x, y, a, b, blur=c.blur, tol=1e-10, differentiation=differentiation
        ).value  # fmt: skip

    tensors = live(c)
    value(*tensors).backward()
    ways = [torch.from_numpy(c.scale * c.random.standard_normal(t.shape)) for t in tensors[:2]]
    ways += [w * torch.from_numpy(c.random.standard_normal(len(w))) for w in map(torch.Tensor.detach, tensors[2:])]
    ways[2:] = [way - w.detach() * way.sum() for way, w in zip(ways[2:], tensors[2:], strict=True)]
    for k, (t, way) in enumerate(zip(tensors, ways, strict=True)):
        h = 1e-4 * min(1.0, c.blur / c.scale)
        moved = [
            [(s.detach() + sign * h * way if j == k else s.detach()) for j, s in enumerate(tensors)] for sign in (1, -1)
        ]
        expected = float(value(*moved[0]) - value(*moved[1])) / (2.0 * h)
        assert float((t.grad * way).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-5 * c.size)


@given(clouds())
def test_moving_both_clouds_has_no_derivative(c):
    x, y, _, _ = live(c)
    geomsink.sinkhorn_divergence(x, y, *c.tensors()[2:], blur=c.blur, tol=1e-8).value.backward()
    size = max(float(x.grad.abs().sum()), float(y.grad.abs().sum()), c.size / c.blur)
    assert torch.allclose(x.grad.sum(0), -y.grad.sum(0), rtol=0.0, atol=1e-6 * size)


@given(clouds(), st.sampled_from(sorted(LOSSES)))
def test_losses_are_their_functions(c, name):
    """Also where they start from another problem's solution."""
    module, function = LOSSES[name]
    loss = module(blur=c.blur, tol=1e-8)
    x, y, a, b = (t.detach() for t in live(c))
    expected = float(function(x, y, a, b, blur=c.blur, tol=1e-8).value)
    for moved in (0.0, 0.1 * c.scale, 0.0):
        found = float(loss(a, x + moved, b, y))
    if c.a is None and c.b is None:
        assert float(loss(x, y)) == pytest.approx(expected, rel=1e-6, abs=1e-6 * c.size)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * c.size)


@given(small)
def test_the_discrepancy_as_a_loss_is_the_function(c):
    loss = geomsink.MMD(blur=c.blur)
    x, y, a, b = live(c)
    value = loss(a, x, b, y)
    assert value.item() == geomsink.mmd(*(t.detach() for t in (x, y, a, b)), blur=c.blur).value.item()
    value.backward()
    assert torch.allclose(x.grad.sum(0), -y.grad.sum(0), rtol=0.0, atol=1e-9 / c.blur)


@given(small, st.integers(3, 30))
def test_unrolled_values_are_textbook_iterations(c, iterations):
    from scipy.special import logsumexp

    found = geomsink.solve(
        *c.tensors(), blur=c.blur, differentiation="unrolled", iterations=iterations, max_iter=iterations, tol=1e9
    )
    a, b = c.weights
    C, epsilon = ((c.x[:, None] - c.y) ** 2).sum(-1), 2.0 * c.blur**2
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(iterations):
        f = -epsilon * logsumexp((g - C) / epsilon, b=b, axis=1)
        g = -epsilon * logsumexp((f[:, None] - C) / epsilon, b=a[:, None], axis=0)
    P = a[:, None] * b * np.exp((f[:, None] + g - C) / epsilon)
    value = a @ f + b @ g - epsilon * (P.sum() - 1.0)
    assert float(found.value) == pytest.approx(value, rel=1e-8, abs=1e-8 * c.size)
