"""The c-transform, soft and hard, against dense algebra: values, gradients, batches."""

import math

import numpy as np
import pytest
import torch

from geomsink import c_transform, costs, solve


def clouds(n=9, m=7, items=()):
    generator = torch.Generator().manual_seed(0)
    x, y, g, b = (
        torch.rand(*items, *shape, generator=generator, dtype=torch.float64) for shape in ((n, 2), (m, 2), (m,), (m,))
    )
    return x, y, 0.3 * g, b + 0.1


def dense(x, y, g, b, epsilon, cost="sqeuclidean"):
    C = costs.get(cost)(x, y)
    if epsilon is None:
        return (C - g[..., None, :]).amin(-1)
    return -epsilon * ((g[..., None, :] - C) / epsilon + b.log()[..., None, :]).logsumexp(-1)


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("epsilon", [None, 0.1, 1e-4])
def test_values_and_gradients(epsilon, engine):
    tensors = [t.requires_grad_() for t in clouds()]
    found, expected = c_transform(*tensors, epsilon=epsilon, engine=engine), dense(*tensors, epsilon)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    w = torch.linspace(-1, 2, 9).double()
    wanted = tensors[: 3 if epsilon is None else 4]
    for one, other in zip(*(torch.autograd.grad((w * f).sum(), wanted) for f in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_second_derivatives_and_the_temperature():
    x, y, g, b = (t.requires_grad_() for t in clouds(3, 2))
    blur = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda *t: c_transform(*t[:4], blur=t[4]), (x, y, g, b, blur), atol=1e-6)
    (slope,) = torch.autograd.grad(c_transform(x, y, g, b, blur=blur).sum(), blur)
    ends = [float(dense(x, y, g, b, 2 * (0.4 + h) ** 2).sum().detach()) for h in (1e-5, -1e-5)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-8)


@pytest.mark.parametrize("epsilon", [None, 0.05])
def test_batches_in_their_forms(epsilon):
    x, y, g, b = clouds(items=(2,))
    expected = dense(x, y, g, b, epsilon)
    torch.testing.assert_close(c_transform(x, y, g, b, epsilon=epsilon, engine="keops"), expected)
    short = [t[1, :4] for t in (y, g, b)]
    found = c_transform([*x], [y[0], short[0]], [g[0], short[1]], [b[0], short[2]], epsilon=epsilon)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], dense(x[1], *short, epsilon))


def test_solutions_are_their_transforms():
    x, y, _, b = (t.numpy() for t in clouds())
    b = 2.0 * b / b.sum()  # of another mass than 1
    a = np.full(9, 2.0 / 9)
    s = solve(x, y, a, b, epsilon=0.05, cost="euclidean", tol=1e-11)
    f, g = s.potentials
    np.testing.assert_allclose(c_transform(x, y, g, b, epsilon=0.05, cost="euclidean"), f, rtol=0, atol=1e-9)
    np.testing.assert_allclose(c_transform(y, x, f, a, epsilon=0.05, cost="euclidean"), g, rtol=0, atol=1e-9)
    few = c_transform(np.float32(x), np.float32(y), np.float32(g), np.float32(b), epsilon=0.05, cost="euclidean")
    assert few.dtype == np.float32
    np.testing.assert_allclose(few, f, rtol=0, atol=1e-5)


def test_hard_minima_of_points_with_weight():
    x, y = torch.zeros(1, 1), torch.tensor([[-1.0], [1.0], [0.5]])
    g = torch.tensor([0.0, 0.0, 0.0], requires_grad=True)
    found = c_transform(x, y, g, torch.tensor([1.0, 2.0, 0.0]))
    assert found.tolist() == [1.0]  # the nearest has no weight
    (gradient,) = torch.autograd.grad(found.sum(), g)
    assert gradient.tolist() == pytest.approx([-0.5, -0.5, 0.0], rel=1e-6)  # of two minima the mean


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_light_points_far_above_all_others(engine):
    """e^800 leaves what numbers hold, and the weight makes the sum look like any other."""
    g, b = np.array([8.0, 0.0]), np.array([1e-100, 1.0])
    found = c_transform(np.zeros((1, 1)), np.array([[0.0], [1.0]]), g, b, epsilon=0.01, engine=engine)
    assert found[0] == pytest.approx(-8.0 + 0.01 * np.log(1e100), rel=1e-12)


def test_temperatures_far_above_all_costs():
    """Also where all costs are 0."""
    g = np.array([3.0, -2.0])
    found = c_transform(np.ones((1, 1)), np.ones((2, 1)), g, [0.25, 0.75], epsilon=2e12)
    assert found[0] == pytest.approx(-(0.25 * 3.0 + 0.75 * -2.0), abs=1e-2)  # of 2e12, float64 has 2e-4


@pytest.mark.parametrize(
    ("g", "options", "sentence"),
    [
        (np.zeros(3), {}, r"^g: a torch.float64 tensor of shape \(3,\) was given, expected \(7,\)"),
        (np.full(7, math.nan), {}, r"^g: 7 of 7 numbers are NaN"),
        (np.zeros(7), {"blur": 1.0, "epsilon": 1.0}, r"^blur, epsilon: both were"),
    ],
)
def test_refusals(g, options, sentence):
    x, y, _, b = (t.numpy() for t in clouds())
    with pytest.raises(ValueError, match=sentence):
        c_transform(x, y, g, b, **options)
