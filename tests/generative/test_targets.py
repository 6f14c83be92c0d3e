"""Targets: points that a step of the loss's gradient has moved, and generators that learn to make them."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from geomsink import MMD, EntropicOT, SinkhornDivergence, sinkhorn_divergence
from geomsink.generative import MLP, Ellipse, LearnedCost, NonFiniteError, Targets, Trainer, fit, randomness

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
    """Against a loop by hand: orders of passes, clipped gradient descent on squared distances, averages of weights."""
    ours, theirs, seen = Ellipse().double(), Ellipse().double(), []
    average = [p.detach().clone() for p in theirs.parameters()]

    def loss(x, y):
        seen.append(x.detach().clone())
        return (x.mean(0) - y.mean(0)).square().sum() + x.square().sum() / len(x)

    options = dict(steps=2, optimizer="sgd", lr=0.1, seed=4, clip=2.0, average=0.7)
    trainer = Trainer(ours, DATA, loss, targets=Targets(6, 20, move=0.3), **options)
    rows = list(trainer.run())
    first, lengths = True, []
    for t in range(2):
        with randomness.seeded(4, randomness.LATENTS, t, 0):
            z = theirs.latent(60).double()
        x = theirs(z).detach()
        torch.testing.assert_close(seen[t], x, rtol=1e-12, atol=1e-13)
        goals = x - 0.3 * (2 * (x.mean(0) - DATA.mean(0)) + 2 * x)
        values, norms = [], []
        for k in range(6):
            seed = randomness.seed_of(4, randomness.TARGETS, t, 0, k // 3)
            mine = np.random.default_rng(seed).permutation(60)[20 * (k % 3) : 20 * (k % 3 + 1)]
            value = (theirs(z[mine]) - goals[mine]).square().sum(1).mean() / 0.6
            gradients = torch.autograd.grad(value, list(theirs.parameters()))
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            for i, (weight, gradient) in enumerate(zip(theirs.parameters(), gradients, strict=True)):
                weight.data -= 0.1 * min(1.0, 2.0 / (norm + 1e-6)) * gradient  # as torch does
                average[i] = weight.detach().clone() if first else 0.7 * average[i] + 0.3 * weight.detach()
            first = False
            values.append(value.item())
            norms.append(norm)
        assert rows[t]["targets_loss"] == pytest.approx(np.mean(values), rel=1e-12)
        assert rows[t]["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-12)
        lengths += norms
    assert min(lengths) < 2.0 < max(lengths)  # some are clipped, and some are not
    for made, expected in ((ours, theirs.parameters()), (trainer.average, average)):
        for a, b in zip(made.parameters(), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_few_evaluations_are_enough():
    """An ellipse from 8 evaluations of S_ε, which falls to less than a thousandth."""
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(5))
    data = z / z.norm(dim=1, keepdim=True) * torch.tensor([3.0, 1.0]) + 5.0
    torch.manual_seed(0)
    options = dict(steps=8, batch=400, optimizer="adam", lr=0.05, targets=Targets(50, 100))
    fitted = fit(Ellipse(base="ring"), data, SinkhornDivergence(blur=0.2), **options)
    assert fitted.history[-1]["loss"] < 1e-3 * fitted.history[0]["loss"]
    assert float((fitted.generator.centre.detach() - 5.0).norm()) < 0.15
    assert fitted.generator.axes.tolist() == pytest.approx([3.0, 1.0], abs=0.15)


def test_a_gradient_that_is_not_finite_stops_training():
    """In one point of sixty, and before any step of the optimiser, though no batch may have that point."""

    def loss(x, y):
        return (x**2).mean() + (x[-1:] - x[-1:].detach()).abs().sqrt().sum()

    made = network()
    before = [p.detach().clone() for p in made.parameters()]
    with pytest.raises(NonFiniteError, match="^step 1: gradient not finite"):
        fit(made, DATA, loss, steps=1, targets=Targets(40, 1))
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


def test_steps_towards_targets_that_are_not_finite_are_named():
    with pytest.raises(NonFiniteError, match="^step 1: gradient towards targets not finite"):
        fit(network(), DATA, MMD(kernel="energy"), steps=1, targets=Targets(9), optimizer="sgd", lr=1e30)


def test_a_step_that_was_broken_off_is_not_gone_on_with(tmp_path):
    """An interrupt between updates: the trainer says so, and a new one goes on from the checkpoint."""
    options = dict(steps=4, targets=Targets(5), checkpoint_every=2, optimizer="adam")
    whole = Trainer(network(), DATA, MMD(kernel="energy"), **options, folder=tmp_path / "whole")
    whole.train()
    cut, calls = Trainer(network(), DATA, MMD(kernel="energy"), **options, folder=tmp_path / "cut"), [0]

    def interrupt(*_):
        calls[0] += 1
        if calls[0] == 2 * 6 + 4:
            raise KeyboardInterrupt

    hook = cut.generator.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    hook.remove()
    for go_on in (cut.train, cut.save):
        with pytest.raises(
            RuntimeError, match="^trainer: step 3 was broken off with some of its updates done; expected"
        ):
            go_on()
    new = Trainer(network(), DATA, MMD(kernel="energy"), **options, folder=tmp_path / "cut")
    assert new.step == 2
    new.train()
    for a, b in zip(new.generator.parameters(), whole.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_other_numbers_of_points_are_one_sentence():
    class Twice(MLP):
        def forward(self, z):
            return super().forward(z).repeat(2, 1)

    with pytest.raises(ValueError, match="^generator: 120 points came of 60 latents, expected one of each for targets"):
        fit(Twice(2, 2).double(), DATA, MMD(kernel="energy"), steps=1, targets=Targets(1))
    loader = DataLoader(TensorDataset(DATA), batch_size=50)  # whose last batch is of ten
    with pytest.raises(ValueError, match="^targets: batches of 20 given for a cloud of 10 points, expected no more"):
        fit(network(), loader, MMD(kernel="energy"), steps=2, targets=Targets(1, 20))


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
        Trainer(network(), DATA, MMD(kernel="energy"), targets=made())
