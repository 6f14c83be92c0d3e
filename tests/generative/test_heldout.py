"""Held-out data: what they are measured by, and what they choose."""

import copy

import pytest
import torch
from fitting_cases import distance, gaussian, target, weights

from geomsink import MMD, SinkhornDivergence
from geomsink.generative import MLP, Trainer, fit
from geomsink.generative.randomness import LATENTS, seed_of


def test_held_out_data_choose_the_weights():
    """Steps that are far too long: the best weights are kept, and training ends after two worse ones."""
    generator, data = gaussian(), target(200)
    trainer = Trainer(
        generator, data[:100], distance, steps=50, lr=0.5, held_out=data[100:], evaluate_every=2, patience=2
    )
    kept = {}
    for row in trainer.run():
        kept[row["step"]] = copy.deepcopy(generator)
        assert (row["held_out"] is not None) == (row["step"] % 2 == 0)
    result = trainer.result()
    measured = {row["step"]: row["held_out"] for row in result.history if row["held_out"] is not None}
    best = min(measured, key=measured.get)
    assert result.stopped == "patience" and max(measured) == best + 4 < 50
    assert (result.best_step, result.held_out) == (best, measured[best])
    assert torch.equal(weights(result.generator), weights(kept[best]))
    assert not torch.equal(weights(result.generator), weights(generator))


def test_another_score():
    loss = MMD(kernel="energy")
    trainer = Trainer(gaussian(), target(50), distance, steps=2, held_out=target(30, 1), score=loss)
    assert trainer.train().held_out == trainer.evaluate()
    torch.manual_seed(seed_of(0, LATENTS, 2**31))
    x = trainer.generator(trainer.generator.latent(30)).detach()
    assert trainer.evaluate() == pytest.approx(loss(x, target(30, 1)).item(), rel=1e-6)


def test_held_out_data_are_scored_at_the_last_temperature():
    """Of any loss with a blur, the caller's own object left as it was: one that was no module was set by each step."""

    class Loss:
        blur = 1.0

        def __call__(self, x, y):
            seen.append((self.blur, len(y)))
            return SinkhornDivergence(blur=self.blur)(x, y)

    loss, data, seen = Loss(), torch.rand(40, 2), []
    fit(MLP(2, 2, width=4), data, loss, batch=10, steps=3, blur=(1.0, 0.1), held_out=13, seed=0)
    assert loss.blur == 1.0
    assert {blur for blur, n in seen if n == 13} == {0.1}
    assert [round(blur, 3) for blur, n in seen if n == 10] == [1.0, 0.316, 0.1]
