"""Numbers that are NaN or infinite stop training with a report, and cost no weight and no checkpoint."""

import pickle
import re

import pytest
import torch
from torch import nn

from geomsink import MMD, SinkhornDivergence
from geomsink.generative import Ellipse, LearnedCost, NonFiniteError, Trainer, fit

DATA = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) + 1


def spoiled(part, step):
    """A generator, loss or φ that gives NaN at a step."""
    calls = []

    class Module(Ellipse):
        def forward(self, z):
            calls.append(0)
            return super().forward(z) * (float("nan") if part == "generated points" and len(calls) == step else 1.0)

    def loss(x, y):
        value = SinkhornDivergence(blur=1.0)(x, y)
        if len(loss.calls) == step - 1 and part == "loss":
            value = value / 0.0
        if len(loss.calls) == step - 1 and part == "gradient":
            value = value + (x - x).square().sum().sqrt()  # 0, with a derivative of 0/0
        loss.calls.append(0)
        return value

    loss.calls = []
    return Module(), loss


def test_what_is_open_is_closed_where_a_log_is_refused(monkeypatch, tmp_path):
    said = []

    class Bar:
        def __init__(self, steps, step, may_stop):
            said.append("opened")

        def close(self):
            said.append("closed")

    monkeypatch.setattr("geomsink.generative.trainer.Bar", Bar)
    (tmp_path / "log.csv").write_text("something else\n")
    with pytest.raises(ValueError, match="^log: "):
        fit(Ellipse(), DATA, MMD(kernel="energy"), steps=1, folder=tmp_path, progress=True)
    assert said == ["opened", "closed"]


@pytest.mark.parametrize("part", ["generated points", "loss", "gradient"])
def test_numbers_that_are_not_finite_stop_training(part, tmp_path):
    generator, loss = spoiled(part, step=5)
    trainer = Trainer(generator, DATA, loss, steps=9, batch=8, folder=tmp_path, checkpoint_every=3)
    rows, kept = [], []
    with pytest.raises(NonFiniteError, match=rf"^step 5: {part} not finite \(batch of seed \d+") as caught:
        for row in trainer.run():
            rows.append(row)
            kept = [p.detach().clone() for p in generator.parameters()]
    error = caught.value
    assert (error.what, error.step, error.checkpoint) == (part, 5, tmp_path / "checkpoint-000000003.pt")
    assert len(rows) == trainer.step == 4
    assert all(map(torch.equal, kept, generator.parameters()))
    torch.manual_seed(error.seed)
    z = generator.latent(8)
    if part != "generated points":
        torch.testing.assert_close(error.x, generator(z).detach())
    assert error.y.shape == (8, 2) and (error.value is None) == (part == "generated points")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    resumed = Trainer(Ellipse(), DATA, loss, steps=4, batch=8, folder=tmp_path)
    assert resumed.step == 3
    assert [row["step"] for row in resumed.train().history] == [1, 2, 3, 4]


def test_the_report_has_the_state_of_the_solver():
    """Points whose squared distances leave the range of float32: so does the loss."""

    class Growing(Ellipse):
        def forward(self, z):
            Growing.factor *= 1e20
            return super().forward(z) * Growing.factor

    Growing.factor = 1e-20
    with pytest.raises(NonFiniteError) as caught:
        fit(Growing(), DATA, SinkhornDivergence(blur=1.0), steps=20, optimizer="sgd", lr=1e-30)
    error = caught.value
    assert (error.what, error.step, error.value, error.epsilon) == ("loss", 2, float("inf"), 2.0)
    assert error.marginal_error < 1e-3 and error.status == "converged"  # of the step before
    sentence = r"step 2: loss not finite \(batch of seed \d+, loss inf; last solve converged, .*, epsilon 2\); no check"
    assert re.match(sentence, str(error))
    assert error.x.abs().max() > 1e19 and torch.equal(error.y, DATA)


def test_features_and_held_out_values_that_are_not_finite():
    class Bad(nn.Linear):
        def forward(self, points):
            return super().forward(points) / 0.0

    features = LearnedCost(Bad(2, 2), constraint=None)
    with pytest.raises(NonFiniteError, match="^step 1: features not finite .* the loss has no report"):
        fit(Ellipse(), DATA, lambda x, y: (x - y).square().sum(), features=features)
    with pytest.raises(NonFiniteError, match="^step 2: held-out value not finite") as caught:
        fit(Ellipse(), DATA, MMD(kernel="energy"), held_out=9, score=lambda x, y: x.sum() / 0.0, evaluate_every=2)
    assert caught.value.x.shape == (9, 2)
