"""Costs of features: gradients reach their parameters in every mode."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from geomsink import FeatureCost, SinkhornDivergence, sinkhorn_divergence

MODES = {"envelope": {}, "implicit": {}, "unrolled": {"iterations": 20}}


class Features(nn.Module):
    """tanh(x W), with W a tensor that may be anything."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        return torch.tanh(x @ self.weight)


def inputs():
    random = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 3, generator=random).double().requires_grad_() for n in (5, 6))
    weight = torch.randn(3, 4, generator=random).double().requires_grad_()
    return x, y, weight


@pytest.mark.parametrize("form", ["entropic", "sharp"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("ground", "options"),
    [("sqeuclidean", {}), ("euclidean", dict(rho=0.4))],
    ids=["sqeuclidean-balanced", "euclidean-unbalanced"],
)
def test_gradients(ground, options, mode, form):
    def loss(x, y, weight):
        cost = FeatureCost(Features(weight), ground)
        return sinkhorn_divergence(
            x, y, epsilon=0.2, cost=cost, form=form, differentiation=mode, tol=1e-11, max_iter=5000,
            **MODES[mode], **options,
        ).value  # fmt: skip

    # Along random directions: a finite difference in each of 45 numbers would take minutes.
    assert gradcheck(loss, inputs(), atol=1e-6, fast_mode=True)
    if mode == "implicit":
        assert gradgradcheck(loss, inputs(), atol=1e-5, fast_mode=True)


def test_features_are_the_points_of_another_problem():
    x, y, weight = inputs()
    phi = Features(weight)
    by_cost = sinkhorn_divergence(x, y, blur=0.3, cost=FeatureCost(phi))
    by_hand = sinkhorn_divergence(phi(x), phi(y), blur=0.3)
    assert by_cost.value.item() == pytest.approx(by_hand.value.item(), rel=1e-9)
    for one, other in zip(
        torch.autograd.grad(by_cost.value, (x, y, weight)),
        torch.autograd.grad(by_hand.value, (x, y, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_network_in_single_precision_learns():
    """An adversary's steps raise the loss, points of single precision, on batches too."""
    torch.manual_seed(0)
    phi = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 4))
    loss = SinkhornDivergence(epsilon=0.1, cost=FeatureCost(phi))
    x, y = torch.rand(4, 40, 3), torch.rand(4, 40, 3) ** 2
    optimiser, values = torch.optim.Adam(phi.parameters(), lr=1e-2), []
    for _ in range(15):
        optimiser.zero_grad()
        value = loss(x, y).sum()
        (-value).backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] > 3 * values[0]


def test_phi_is_called_once_a_cloud():
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(x.shape)
            return x

    x, y, _ = inputs()
    sinkhorn_divergence(x, y, blur=0.3, cost=FeatureCost(Counted())).value.backward()
    assert calls == [x.shape, y.shape]


def test_bad_features_are_refused():
    x, y, _ = inputs()
    with pytest.raises(TypeError, match=r"^phi: a function was given, expected a torch\.nn\.Module"):
        FeatureCost(lambda points: points)

    class Wrong(nn.Module):
        def forward(self, points):
            return self.answer(points)

    for answer, error, sentence in (
        (lambda p: [p], TypeError, "^phi: it returned a list, expected a tensor"),
        (lambda p: p[:2], ValueError, r"^cost: features of points \(5, 3\) have shape \(2, 3\)"),
        (lambda p: p / 0.0, ValueError, "^cost: features of cost .* are NaN or infinite"),
    ):
        phi = Wrong()
        phi.answer = answer
        with pytest.raises(error, match=sentence):
            sinkhorn_divergence(x, y, blur=0.3, cost=FeatureCost(phi))


def test_a_ground_of_another_name_is_told_where_names_are_given():
    with pytest.raises(ValueError, match=r"^ground: unknown name 'foo'.*geomsink\.costs\.register"):
        FeatureCost(torch.nn.Linear(2, 2), ground="foo")
