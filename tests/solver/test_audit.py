"""Places that audits look at: drawn with the weights' probability, of any number of weights."""

import torch

from geomsink.solver import draw


def test_draws_have_the_weights_frequencies():
    weights = torch.tensor([[0.0, 1.0, 3.0, 0.0, 6.0], [2.0, 2.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    found = draw(weights, 20_000)
    assert found.shape == (2, 20_000) and torch.equal(found, draw(weights, 20_000))
    for row, w in zip(found, weights, strict=True):
        shares = row.bincount(minlength=5) / 20_000
        assert not shares[w == 0.0].any()
        assert float((shares - w / w.sum()).abs().max()) < 4 * 0.5 / 20_000**0.5


def test_draws_from_more_weights_than_torch_takes():
    """`torch.multinomial` refuses more than 2²⁴: solves of so many points in float32 ended with its error."""
    weights = torch.zeros(2**24 + 5, dtype=torch.float64)
    weights[-3:] = 1.0
    assert set(draw(weights, 100).tolist()) == {2**24 + k for k in (2, 3, 4)}
