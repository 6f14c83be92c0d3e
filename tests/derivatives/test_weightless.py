"""Derivatives where some points have no weight: potentials are there, and nothing depends on them."""

import pytest
import torch
from torch.autograd import grad
from torch.autograd.functional import hessian

from geomsink import sinkhorn_divergence, solve

STEP = 1e-3
A = torch.tensor([0.3, 0.3, 0.2, 0.2, 0.0, 0.0]).double()
B = torch.tensor([0.4, 0.3, 0.3, 0.0, 0.0]).double()


@pytest.fixture
def clouds():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(n, 2, dtype=torch.float64, generator=generator) for n in (6, 5))


def differences(function, at):
    """Of a function with a number or tensor as its value, one for each coordinate, to one side: weights are not
    negative."""
    unit = torch.eye(at.numel(), dtype=at.dtype).reshape(-1, *at.shape)
    ends = [[function(at + k * STEP * e) for k in (0, 1, 2)] for e in unit]
    return torch.stack([(4.0 * one - two - 3.0 * here) / (2.0 * STEP) for here, one, two in ends])


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("how", [dict(form="sharp"), dict(reach=0.8), dict(form="sharp", reach=0.8), dict()])
def test_gradients_and_hessians_in_weights(clouds, how, engine):
    """What mass would do where there is none."""
    x, y = clouds

    def value(a):
        masses = {} if "reach" in how else dict(normalize=True)
        options = dict(blur=0.4, tol=1e-12, max_iter=10_000, differentiation="implicit", engine=engine)
        return sinkhorn_divergence(x, y, a, B, **options, **masses, **how).value

    def gradient(a):
        a = a.clone().requires_grad_()
        return grad(value(a), a)[0]

    torch.testing.assert_close(gradient(A), differences(lambda a: value(a).detach(), A), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hessian(value, A), differences(gradient, A), rtol=1e-3, atol=1e-3)


def test_potentials_of_points_without_weight(clouds):
    """A loss may be made of them alone."""
    x, y = clouds

    def loss(x, y):
        s = solve(x, y, A, B, blur=0.4, tol=1e-12, max_iter=10_000, differentiation="implicit")
        return s.potentials[0][4] ** 2 + s.potentials[0][5] * s.potentials[1][3] - s.potentials[1][4]

    for k in (0, 1):
        at = [x.clone(), y.clone()]
        at[k].requires_grad_()
        (found,) = grad(loss(*at), at[k])
        exact = differences(lambda t, k=k: loss(*((t, y) if k == 0 else (x, t))).detach(), at[k].detach())
        torch.testing.assert_close(found.flatten(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("form", ["entropic", "sharp"])
def test_pairs_of_points_without_weight_far_above_the_temperature(form, dtype, engine):
    """Their potentials say nothing of each other: exp((f_i + f_j − C_ij)/ε) is ∞, and counts 0 times."""
    x = torch.tensor([[0.0, 0.0], [0.02, 0.01], [5.0, 1.0], [5.0, 1.1]], dtype=dtype, requires_grad=True)
    y = torch.tensor([[0.01, 0.0], [0.0, 0.03], [-4.0, 3.0]], dtype=dtype, requires_grad=True)
    a = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=dtype)
    b = torch.tensor([0.5, 0.5, 0.0], dtype=dtype)
    s = sinkhorn_divergence(x, y, a, b, blur=0.05, form=form, engine=engine)
    few = sinkhorn_divergence(x[:2], y[:2], a[:2], b[:2], blur=0.05, form=form, engine=engine)
    gradients, right = (torch.autograd.grad(r.value, (x, y)) for r in (s, few))
    assert s.converged and s.value.item() == pytest.approx(few.value.item(), rel=1e-5)
    for found, exact in zip(gradients, right, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-6)
