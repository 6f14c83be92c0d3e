"""Bounds of what rounding does to row sums, on every engine and device: facts of the formulas, which need no device."""

from types import SimpleNamespace

import pytest
import torch

from geomsink import costs, engine
from geomsink.engine import UNIT, rounding


def pair(name, dtype, cuda, columns=1000):
    x = SimpleNamespace(dtype=dtype, is_cuda=cuda, shape=(10, 3))
    return SimpleNamespace(name=name, x=x, y=SimpleNamespace(shape=(columns, 3)))


def test_fast_exponentials_of_cuda_are_allowed_for():
    """At x = -104, where e^x is about to vanish, __expf may be 124 units in the last place off, of 2 roundings each."""
    single = UNIT[torch.float32]
    fast = rounding(pair("keops", torch.float32, True)) - rounding(pair("dense", torch.float32, True))
    assert fast == pytest.approx((2 * (2 + 1.173 * 104) - 4) * single)
    assert rounding(pair("keops", torch.float64, True)) == rounding(pair("dense", torch.float64, True))


@pytest.mark.parametrize("name", ["dense", "keops"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_keep_to_the_bound(name, dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 3, generator=generator, dtype=torch.float64).to(dtype) for n in (200, 5000))
    between = engine.pair(x, y, costs.get("sqeuclidean"), name)
    # Exponents without rounding: far costs times 0, and constants that both precisions have.
    u, v = torch.full((200,), -3.0, dtype=dtype), torch.linspace(-8, 2, 5000, dtype=dtype).mul(64).round().div(64)
    found = between.row_sums(u, v, 1e30).double()
    exact = (v.double() - 3.0).exp().sum()
    assert float((found / exact - 1.0).abs().max()) <= rounding(between)


def test_batches_are_summed_with_a_bound_too(monkeypatch):
    """What adds all items' points may be tiles, whose exponents have none."""
    monkeypatch.setattr(engine.tiled.TiledPair, "takes", staticmethod(lambda x, cost: True))
    x, lengths = torch.rand(2, 50, 3), (torch.tensor([50, 50]),) * 2
    between = engine.batch.BatchPair(x, x, costs.get("sqeuclidean"), lengths)
    assert isinstance(between._flat, engine.tiled.TiledPair)
    found = engine.certain(between)
    for one in (found, found.T, found.T.T):
        assert isinstance(one, engine.batch.BatchPair) and isinstance(one._flat, engine.keops.KeopsPair)
