"""Costs learned against the generator: steps of φ raise the loss, within the bounds that are put on φ."""

import pytest
import torch
from torch import nn

from geomsink import MMD, FeatureCost, SinkhornDivergence
from geomsink.generative import MLP, Clip, Ellipse, GradientPenalty, LearnedCost, SpectralNorm, Trainer, fit, sample
from geomsink.generative.objective import Objective

LOSS = SinkhornDivergence(epsilon=0.5, tol=1e-2)


def clouds(n=30, m=40):
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(k, 2, generator=random) for k in (n, m))
    return x, 0.5 * y + torch.tensor([1.0, 0.0])


def network(seed=0, width=16):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 4))


def weights(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", "cosine"])
def test_the_loss_is_that_of_a_feature_cost(cost):
    """Value and gradients, in points and φ, for costs of any name on top of the features."""
    phi = network()
    found = {}
    for name in ("ours", "theirs"):
        x, y = (cloud.double().requires_grad_() for cloud in clouds())
        phi = phi.double()
        options = dict(epsilon=0.3, tol=1e-9)
        if name == "ours":
            value = Objective(SinkhornDivergence(**options, cost=cost), phi)(x, y)
        else:
            value = SinkhornDivergence(**options, cost=FeatureCost(phi, cost))(x, y)
        found[name] = (value, *torch.autograd.grad(value, (x, y, *phi.parameters())))
    for one, other in zip(found["ours"], found["theirs"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("constraint", [Clip(0.3), "spectral", GradientPenalty(weight=1.0), None])
def test_inner_steps_raise_the_loss(constraint):
    """The generator stands still: what 30 steps of φ change is the loss, which grows."""
    y = clouds()[1]
    generator, phi = Ellipse(base="gaussian"), network()
    trainer = Trainer(
        generator, y, LOSS, steps=10, optimizer="sgd", lr=1e-12,
        features=LearnedCost(phi, steps=3, constraint=constraint, optimizer="adam", lr=0.01),
    )  # fmt: skip
    rows = list(trainer.run())
    torch.testing.assert_close(generator.matrix, torch.eye(2))
    assert rows[-1]["features_loss"] > 1.5 * rows[0]["features_loss"] > 0
    assert rows[-1]["loss"] > 1.5 * rows[0]["loss"]


def test_each_inner_step_has_a_batch_of_its_own():
    seen = []

    def data(n):
        seen.append(torch.randn(n, 2))
        return seen[-1]

    def loss(x, y):
        calls.append(x.requires_grad)
        return (x.mean() - y.mean()).square()

    calls, phi = [], network()
    before = weights(phi)
    trainer = Trainer(
        Ellipse(), data, loss, batch=7, steps=2, features=LearnedCost(phi, steps=4, constraint=None, lr=1e-3)
    )
    (first, _) = trainer.run()
    assert len(seen) == len(calls) == 10 and len({float(y[0, 0]) for y in seen}) == 10
    assert not torch.equal(weights(phi), before) and all(p.requires_grad for p in phi.parameters())
    assert first["features_loss"] != first["loss"]


def test_inner_steps_are_those_of_gradient_ascent():
    """The generator of the first step sees φ after n_c steps, which plain gradient ascent on the same clouds gives."""
    phi, z, y = network().double(), torch.randn(20, 2).double(), clouds()[1].double()
    twin = network().double()

    def loss(x, y):
        return (x.mean(0) - y.mean(0)).square().sum()

    generator = Ellipse().double()
    features = LearnedCost(phi, steps=3, constraint=Clip(0.2), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    (row,) = fit(generator, y, loss, latent=lambda n: z, steps=1, samples=20, lr=0.01, features=features).history
    with torch.no_grad():
        for weight in twin.parameters():
            weight.clamp_(-0.2, 0.2)
    for _ in range(3):
        gradients = torch.autograd.grad(loss(twin(z), twin(y)), list(twin.parameters()), allow_unused=True)
        with torch.no_grad():
            for weight, gradient in zip(twin.parameters(), gradients, strict=True):
                weight.add_(0.1 * gradient).clamp_(-0.2, 0.2)
    torch.testing.assert_close(weights(phi), weights(twin), rtol=1e-12, atol=1e-14)
    assert row["loss"] == pytest.approx(loss(twin(z), twin(y)).item(), rel=1e-12)


def test_weights_are_clipped():
    phi = network()
    trainer = Trainer(
        Ellipse(), clouds()[1], MMD(kernel="energy"), steps=3, features=LearnedCost(phi, constraint=Clip(0.05), lr=0.1)
    )
    for _ in trainer.run():
        largest = weights(phi).abs().max()
        assert largest <= 0.05
    assert largest == torch.tensor(0.05)


def test_spectral_norms_bound_the_lipschitz_constant():
    phi = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        phi[0].weight.mul_(10)
    trainer = Trainer(
        Ellipse(), clouds()[1], MMD(kernel="energy"), steps=5, features=LearnedCost(phi, constraint="spectral", lr=0.05)
    )
    trainer.train()
    norms = [torch.linalg.matrix_norm(phi[k].weight, 2).item() for k in (0, 2)]
    assert len(phi[0].parametrizations.weight) == 1
    SpectralNorm().prepare(phi)  # of a second run: it is done already
    assert len(phi[0].parametrizations.weight) == 1
    assert norms == pytest.approx([1, 1], abs=0.05)  # one power iteration for each call follows changing weights
    p = torch.randn(500, 2, 2)
    assert ((phi(p[:, 0]) - phi(p[:, 1])).norm(dim=1) <= 1.1 * (p[:, 0] - p[:, 1]).norm(dim=1)).all()


def test_the_gradient_penalty_in_closed_form():
    """Of a linear φ the largest singular value, by two power iterations to (1/3)⁴ of its distance from the next."""
    phi = nn.Linear(3, 3, bias=False).double()
    turns = [torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0] for _ in range(2)]
    with torch.no_grad():
        phi.weight.copy_(turns[0] @ torch.diag(torch.tensor([3.0, 0.5, 0.1]).double()) @ turns[1])
    x, y = torch.randn(2, 200, 3, dtype=torch.float64)
    penalty = GradientPenalty(weight=2.0, bound=1.0).penalty(phi, x, y, (0, 0, 0))
    assert penalty.item() == pytest.approx(2.0 * (3 - 1) ** 2, rel=0.02)
    (gradient,) = torch.autograd.grad(penalty, phi.weight)
    left, right = turns[0][:, 0], turns[1][0]
    expected = 2.0 * 2 * (3 - 1) * torch.outer(left, right)  # of weight (σ − 1)², with dσ/dW = u vᵀ
    assert (gradient - expected).norm() < 0.05 * expected.norm()
    with torch.no_grad():
        phi.weight.div_(4)
    assert GradientPenalty().penalty(phi, x, y, (0, 0, 0)).item() == 0


def test_the_gradient_penalty_of_a_network():
    """Against singular values of Jacobians, which autograd gives point by point; from below, and hardly less."""
    phi, y = network().double(), clouds()[1].double()
    estimate = GradientPenalty(weight=1.0, bound=1e-9).penalty(phi, y, y, (0, 0, 0)).item()
    values = [
        torch.linalg.matrix_norm(torch.autograd.functional.jacobian(phi, p), 2).item() ** 2 for p in y
    ]  # between y and y lies y itself
    exact = sum(values) / len(values)
    assert 0.93 * exact < estimate <= exact * (1 + 1e-9)


def test_the_gradient_penalty_holds_the_slope():
    phi = network()
    trainer = Trainer(
        Ellipse(), clouds()[1] + 3, MMD(kernel="energy"), steps=60, optimizer="sgd", lr=1e-12,
        features=LearnedCost(phi, steps=1, constraint=GradientPenalty(100.0, bound=0.5), optimizer="adam", lr=0.02),
    )  # fmt: skip
    trainer.train()
    x, y = sample(trainer.generator, 40), clouds()[1] + 3
    slopes = (phi(x) - phi(y)).norm(dim=1) / (x - y).norm(dim=1)
    assert 0.3 < slopes.mean() < 0.55


def test_a_generator_learns_against_a_learned_cost():
    torch.manual_seed(0)
    y = 0.3 * torch.randn(200, 2) + torch.tensor([1.5, -1.0])
    trainer = Trainer(
        MLP(2, 2, width=16, depth=2), y, SinkhornDivergence(epsilon=0.1, tol=1e-2), batch=40, steps=60,
        optimizer="adam", lr=0.01, held_out=50, score=MMD(kernel="energy"), evaluate_every=20,
        features=LearnedCost(network(), steps=2, constraint=Clip(0.3), optimizer="adam", lr=0.01),
    )  # fmt: skip
    before = trainer.evaluate()
    assert trainer.train().held_out < before / 5


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: LearnedCost(lambda p: p), TypeError, r"^phi: a function was given, expected a torch\.nn\.Module"),
        (lambda: LearnedCost(network(), steps=0), ValueError, "^steps: 0 given"),
        (lambda: LearnedCost(network(), constraint="lip"), ValueError, "^constraint: unknown name 'lip'; expected one"),
        (lambda: LearnedCost(network(), constraint=0.1), TypeError, "^constraint: a float was given, expected a name"),
        (lambda: Clip(0.0), ValueError, "^bound: 0.0 given, expected a positive number"),
        (lambda: GradientPenalty(weight="1"), TypeError, "^weight: a str was given"),
        (lambda: SpectralNorm().prepare(nn.ReLU()), ValueError, "^features: ReLU has no linear map or convolution"),
        (
            lambda: fit(Ellipse(), clouds()[1], LOSS, features=LearnedCost(network(), optimizer="adm")),
            ValueError,
            "^optimizer of the features: unknown name 'adm'",
        ),
        (lambda: fit(Ellipse(), clouds()[1], LOSS, features="phi"), TypeError, "^features: a str was given"),
        (
            lambda: fit(Ellipse(), clouds()[1], LOSS, features=nn.Identity()),
            ValueError,
            "^features: Identity has no par",
        ),
        (
            lambda: fit(Ellipse(), clouds()[1], LOSS, features=nn.Sequential(nn.Linear(2, 2), nn.Flatten(0))),
            ValueError,
            r"^features: shape \(160,\) came of 80 points, expected one row a point",
        ),
    ],
)
def test_bad_arguments_are_refused(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
