"""Squared distances in many coordinates: memory linear in the input, and right for points that are close together."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch.utils._python_dispatch import TorchDispatchMode

import geomsink
from geomsink import costs
from geomsink.costs.products import squared_distances

EPS = torch.finfo(torch.float64).eps


def clouds(n, m, d, items=()):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*items, k, d, generator=generator, dtype=torch.float64) for k in (n, m))


def test_close_points_have_the_digits_of_differences():
    x, y = clouds(6, 5, 100)
    y[0], y[1], y[2] = x[0], x[1] + 1e-9, 1.01 * x[2]
    exact = cdist(x.numpy().astype(np.longdouble), y.numpy(), "sqeuclidean")
    found = squared_distances(x, y).numpy()
    assert found[0, 0] == 0.0 and exact[1, 1] < 1e-15  # of squares of 100, 1e-14 would be rounding
    np.testing.assert_allclose(found, exact, rtol=32 * 100 * EPS)
    for cost in ("euclidean", "power:0.5"):
        p = costs.get(cost).degree
        np.testing.assert_allclose(costs.get(cost)(x, y), exact ** (p / 2), rtol=32 * 100 * EPS)


def test_derivatives_of_both_orders_and_of_batches():
    x, y = (t.requires_grad_() for t in clouds(3, 2, 4, (2,)))
    assert torch.autograd.gradcheck(squared_distances, (x, y))
    assert torch.autograd.gradgradcheck(squared_distances, (x, y))
    torch.testing.assert_close(squared_distances(x[0], y), ((x[0, :, None] - y[:, None]) ** 2).sum(-1))


def test_equal_points_have_no_gradient_of_their_distance():
    x = clouds(4, 1, 64)[0].requires_grad_()
    expected = geomsink.costs.get("euclidean")(x[:1], x[1:])  # without the pair of a point and itself
    both = torch.autograd.grad(costs.get("euclidean")(x[:1], x).sum(), x)[0]
    torch.testing.assert_close(both, torch.autograd.grad(expected.sum(), x)[0])


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.numbers = max(self.numbers, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize("loss", ["energy", "laplacian", "gaussian", "-power:1.5", "euclidean"])
def test_memory_is_linear_in_the_input(loss):
    n, d = 100, 2000
    x, y = (t.requires_grad_() for t in clouds(n, n, d))
    with Largest() as largest:
        if loss == "euclidean":
            value = geomsink.SinkhornDivergence(cost=loss, blur=10.0)(x, y)
        else:
            value = geomsink.mmd(x, y, kernel=loss, blur=50.0 if loss in ("laplacian", "gaussian") else None).value
        found = torch.autograd.grad(value, (x, y))
    assert largest.numbers <= 2**20  # what is worked on at a time; pairs times coordinates are twenty times that
    if loss == "energy":
        leaf = torch.cat((x, y)).detach().requires_grad_()
        w = torch.cat((torch.ones(n), -torch.ones(n))).double() / n
        distances = torch.cdist(leaf, leaf, compute_mode="donot_use_mm_for_euclid_dist")
        (expected,) = torch.autograd.grad(-0.5 * (w @ distances @ w), leaf)
        torch.testing.assert_close(torch.cat(found), expected, rtol=1e-9, atol=1e-12)
