"""Targets: points that a step of the loss's gradient has moved, and generators that learn to make them."""

import numpy as np
import pytest
import torch
from torch import nn

from geomsink import MMD, EntropicOT, SinkhornDivergence, generative, sinkhorn_divergence
from geomsink.generative import MLP, Ellipse, LearnedCost, NonFiniteError, Targets, Trainer, fit
from geomsink.generative.randomness import TARGETS

DATA = torch.randn(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1


def network():
    torch.manual_seed(0)
    return MLP(2, 2, width=8, depth=1).double()


def phi():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 3)).double()


@pytest.mark.parametrize("move", [0.5, 0.01])
@pytest.mark.parametrize(
    "loss",
    [SinkhornDivergence(blur=0.3), EntropicOT(epsilon=0.5, cost="euclidean"), MMD(kernel="energy")],
    ids=["divergence", "transport", "mmd"],
)
def test_one_step_is_that_of_the_loss(loss, move):
    """Its gradient, whatever the move, to the rounding of x − (x − move n ∂loss) in float64: 1e-16 / move, n times."""
    options = dict(steps=3, batch=30, optimizer="sgd", lr=0.1, clip=0.2, average=0.5)
    plain = fit(network(), DATA, loss, **options)
    moved = fit(network(), DATA, loss, **options, targets=Targets(1, move=move))
    for name in ("loss", "gradient_norm"):
        expected = [row[name] for row in plain.history]
        assert [row[name] for row in moved.history] == pytest.approx(expected, rel=1e-9)
    for a, b in zip(moved.generator.parameters(), plain.generator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_one_step_with_a_learned_cost():
    """The features rise as they do without targets, and the generator's gradient passes through them."""
    options = dict(steps=3, batch=20, optimizer="sgd", lr=0.1)
    rows = [
        fit(network(), DATA, SinkhornDivergence(epsilon=0.5), features=LearnedCost(phi(), steps=2), **more, **options)
        for more in ({}, dict(targets=Targets(1)))
    ]
    for name in ("loss", "gradient_norm", "features_loss"):
        plain, moved = ([row[name] for row in fitted.history] for fitted in rows)
        assert moved == pytest.approx(plain, rel=1e-9)


def test_targets_are_where_the_debiased_plan_sends_points():
    """x − ½ n ∂S_ε against the map of plans, to the tolerance of the solves."""
    x, y = (torch.rand(50, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (1, 2))
    x.requires_grad_()
    value = SinkhornDivergence(blur=0.2, tol=1e-10, dtype="float64")(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    found = Targets(1).of(x.detach(), gradient, 50)
    plan = sinkhorn_divergence(x.detach(), y, blur=0.2, tol=1e-10, dtype="float64")
    to_y, to_x = plan.xy.plan.to_dense(), plan.xx.plan.to_dense()
    expected = x.detach() + 50 * (to_y @ y - to_x @ x.detach())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_passes_see_every_point_once():
    batches = list(Targets(9, 4).batches(13, (3, 0)))
    assert [len(rows) for rows in batches] == [4] * 9
    for k in range(0, 9, 3):  # what fills no batch is left out of a pass
        assert len(np.unique(np.concatenate(batches[k : k + 3]))) == 12
    assert not np.array_equal(batches[0], batches[3])
    again = Targets(9, 4).batches(13, (3, 0))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert [rows.tolist() for rows in Targets(2).batches(3, (3, 0))] == [[0, 1, 2]] * 2


def test_steps_are_written_out():
    """Against a loop by hand: the orders of its passes, gradient descent on the squared distances."""
    ours, theirs, seen = Ellipse().double(), Ellipse().double(), []

    def loss(x, y):
        seen.append(x.detach().clone())
        return (x.mean(0) - y.mean(0)).square().sum() + x.square().sum() / len(x)

    targets = Targets(6, 20, move=0.3)
    trainer = Trainer(ours, DATA, loss, steps=1, optimizer="sgd", lr=0.1, seed=4, targets=targets)
    with generative.randomness.seeded(4, generative.randomness.LATENTS, 0, 0):
        z = theirs.latent(60).double()
    row = next(iter(trainer.run()))
    x = seen[0]
    torch.testing.assert_close(x, theirs(z).detach())
    goals = x - 0.3 * (2 * (x.mean(0) - DATA.mean(0)) + 2 * x)
    values = []
    for k in range(6):
        seed = generative.randomness.seed_of(4, 0, 0, TARGETS, k // 3)
        mine = np.random.default_rng(seed).permutation(60)[20 * (k % 3) : 20 * (k % 3 + 1)]
        value = (theirs(z[mine]) - goals[mine]).square().sum(1).mean() / 0.6
        values.append(value.item())
        for weight, gradient in zip(
            list(theirs.parameters()), torch.autograd.grad(value, list(theirs.parameters())), strict=True
        ):
            weight.data -= 0.1 * gradient
    assert row["targets_loss"] == pytest.approx(np.mean(values), rel=1e-12)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_few_evaluations_are_enough():
    """An ellipse from 8 evaluations, which as steps of their own with the same rate do not arrive."""
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(5))
    data = z / z.norm(dim=1, keepdim=True) * torch.tensor([3.0, 1.0]) + 5.0
    found = {}
    for name, targets in (("targets", Targets(50, 100)), ("steps", None)):
        torch.manual_seed(0)
        options = dict(steps=8, batch=400, optimizer="adam", lr=0.05, targets=targets)
        found[name] = fit(Ellipse(base="ring"), data, SinkhornDivergence(blur=0.2), **options).generator
    off = {name: float((made.centre.detach() - 5.0).norm()) for name, made in found.items()}
    assert off["targets"] < 0.15 and off["steps"] > 5.0
    assert found["targets"].axes.tolist() == pytest.approx([3.0, 1.0], abs=0.15)


def test_a_gradient_that_is_not_finite_stops_training():
    with pytest.raises(NonFiniteError, match="gradient"):
        fit(network(), DATA, lambda x, y: (x - x.detach()).abs().sqrt().sum(), steps=1, targets=Targets(2))


@pytest.mark.parametrize(
    ("made", "error", "sentence"),
    [
        (lambda: Targets(0), ValueError, "^targets, steps: 0 given, expected a whole number"),
        (lambda: Targets(1.5), TypeError, "^targets, steps: a float was given"),
        (lambda: Targets(1, 0), ValueError, "^targets, batch: 0 given"),
        (lambda: Targets(1, move=-1), ValueError, "^targets, move: -1 given, expected a positive number"),
        (lambda: 5, TypeError, "^targets: a int was given, expected Targets or None"),
        (lambda: Targets(1, 61), ValueError, "^targets: batches of 61 given for a cloud of 60 points"),
    ],
)
def test_bad_targets_are_refused(made, error, sentence):
    with pytest.raises(error, match=sentence):
        fit(network(), DATA, MMD(kernel="energy"), steps=1, targets=made())
