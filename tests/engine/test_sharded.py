"""The Gibbs operator across processes: against dense float64 algebra, and what it sends and keeps."""

import math

import pytest
import torch
from dealt import SIZES, clouds, dealt
from outcomes import needs_gloo

from geomsink import costs, engine
from geomsink.engine import Gibbs, Pairs
from geomsink.processes import deal, own, parts_of

pytestmark = needs_gloo
EPSILON = 0.3
DOWNHILL = costs.Cost(
    name="downhill", expression=lambda x, y: ((x - y) ** 2).sum(-1) + (x - y).sum(-1), symmetric=False
)
COSTS = {cost.name: cost for cost in (costs.get("sqeuclidean"), costs.get("euclidean"), DOWNHILL)}
WIDTH = 3


def weights():
    random = torch.Generator().manual_seed(7)
    made = (torch.randn(n, generator=random, dtype=torch.float64) for n in (60, 80))
    return *made, *(torch.randn(n, WIDTH, generator=random, dtype=torch.float64) for n in (80, 60))


def kernel(x, y, u, v, scale):
    return (u + v - ((x - y) ** 2).sum(-1) * scale).exp()


def reduced(group, rows, columns):
    """All reductions, of operators, transposes and self problems, on both engines."""
    found = {}
    x, y, *_ = clouds()
    u, v, w, z = weights()
    of_x, of_y = parts_of(len(x[rows]), group), parts_of(len(y[columns]), group)
    dealt_x, dealt_y = deal(x[rows], of_x), deal(y[columns], of_y)
    u, z, v, w = deal(u[rows], of_x), deal(z[rows], of_x), deal(v[columns], of_y), deal(w[columns], of_y)
    for name in ("dense", "keops"):
        for cost in COSTS.values() if name == "dense" else [costs.get("euclidean")]:
            K = Gibbs(engine.pair(dealt_x, dealt_y, cost, name), u, v, EPSILON)
            sums = [K.row_sums(), K.apply(w), K.row_costs(), K.row_max()]
            turned = [K.T.row_sums(), K.T.apply(z), K.T.row_costs(), K.T.row_max()]
            found[name, cost.name] = [own(t) for t in (*sums, *turned)]
    K = Gibbs(engine.pair(dealt_x, dealt_x, costs.get("sqeuclidean"), "dense"), u, u, EPSILON)
    found["self"] = own(K.row_sums())
    whole_x = Gibbs(engine.pair(x[:5], dealt_y, costs.get("sqeuclidean"), "dense"), weights()[0][:5], v, EPSILON)
    found["whole rows"] = [whole_x.row_sums(), whole_x.apply(w), whole_x.row_max(), own(whole_x.T.row_sums())]
    with pytest.raises(ValueError, match="engine: unknown name 'fast'"):
        engine.pair(dealt_x, dealt_y, costs.get("sqeuclidean"), "fast")
    return found


def sent(group, rows, columns):
    """Bytes and numbers in memory of products: of points, exponents, and as many columns."""
    x, y, *_ = clouds()
    u, v, w, _ = weights()
    of_x, of_y = parts_of(len(x[rows]), group), parts_of(len(y[columns]), group)
    pair = engine.pair(deal(x[rows], of_x), deal(y[columns], of_y), costs.get("sqeuclidean"), "dense")
    K, found = Gibbs(pair, deal(u[rows], of_x), deal(v[columns], of_y), EPSILON), []
    for reduce in (K.row_sums, lambda: K.apply(deal(w[columns], of_y))):
        before = group.traffic.bytes
        reduce()
        found.append(group.traffic.bytes - before)
    return found


def differentiated(group, rows, columns):
    """Gradients of a sum over pairs in all that it depends on, and those of a number made of these."""
    x, y, *_ = clouds()
    u, v, w, _ = weights()
    of_x, of_y = parts_of(len(x[rows]), group), parts_of(len(y[columns]), group)
    leaves = [t.clone().requires_grad_() for t in (x[rows], y[columns], w[columns], u[rows], v[columns])]
    scale = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    a, b, c, d, e = (deal(t, part) for t, part in zip(leaves, (of_x, of_y, of_y, of_x, of_y), strict=True))
    found = {}
    for name in ("dense-sharded", "keops-sharded"):
        number = Pairs(name).sums(kernel, a, b, c, d, e, (scale,)).mul(0.01).sin().sum()
        first = torch.autograd.grad(number, (*leaves, scale), create_graph=True)
        # What each process has for its own points counts in a sum over all, and what all have alike once.
        second = torch.autograd.grad(sum(t.square().sum() for t in first), (*leaves, scale))
        found[name] = [number.detach(), *(t.detach() for t in first), *second]
    return found


@pytest.fixture(scope="module")
def found():
    return dealt([reduced, sent, differentiated])


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize(("name", "cost"), [*(("dense", cost) for cost in COSTS), ("keops", "euclidean")])
def test_reductions_are_those_of_dense_algebra(found, count, name, cost):
    x, y, *_ = clouds()
    u, v, w, z = weights()
    C = COSTS[cost].between(x[:, None], y[None])
    P = (u[:, None] + v - C / EPSILON).exp()
    forward = [P.sum(1), P @ w, (P * C).sum(1), (v - C / EPSILON).amax(1)]
    back = [P.sum(0), P.T @ z, (P * C).sum(0), (u[:, None] - C / EPSILON).amax(0)]
    for k, expected in enumerate((*forward, *back)):
        close(torch.cat([one[name, cost][k] for one in found["reduced", count]]), expected)


@pytest.mark.parametrize("count", SIZES)
def test_self_problems_and_rows_that_all_have(found, count):
    x, y, *_ = clouds()
    u, v, w, _ = weights()
    P = (u[:, None] + u - ((x[:, None] - x) ** 2).sum(-1) / EPSILON).exp()
    close(torch.cat([one["self"] for one in found["reduced", count]]), P.sum(1))
    exponents = v - ((x[:5, None] - y) ** 2).sum(-1) / EPSILON
    P = (u[:5, None] + exponents).exp()
    for one in found["reduced", count]:
        for k, expected in enumerate((P.sum(1), P @ w, exponents.amax(1))):
            close(one["whole rows"][k], expected)
    close(torch.cat([one["whole rows"][3] for one in found["reduced", count]]), P.sum(0))


@pytest.mark.parametrize("count", SIZES)
def test_a_reduction_sends_all_blocks_but_one(found, count):
    """M − m of the next process rows of D coordinates, an exponent, and the columns that are multiplied with."""
    sizes = SIZES[count][1]
    for rank, (sums, products) in enumerate(found["sent", count]):
        rows = (sum(sizes) - sizes[(rank + 1) % count]) * 8
        assert 0 <= sums - rows * (3 + 1) <= 64  # what processes say to each other before
        assert 0 <= products - rows * (3 + 1 + WIDTH) <= 64


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", ["dense-sharded", "keops-sharded"])
def test_derivatives(found, name, count):
    x, y, *_ = clouds()
    u, v, w, _ = weights()
    leaves = [t.clone().requires_grad_() for t in (x, y, w, u, v, torch.tensor(1.5, dtype=torch.float64))]
    x, y, w, u, v, scale = leaves
    number = ((u[:, None] + v - ((x[:, None] - y) ** 2).sum(-1) * scale).exp() @ w).mul(0.01).sin().sum()
    first = torch.autograd.grad(number, leaves, create_graph=True)
    second = torch.autograd.grad(sum(t.square().sum() for t in first), leaves)
    results = [one[name] for one in found["differentiated", count]]
    assert all(float(t.detach().abs().max()) > 1e-3 for t in (*first, *second))
    for k, expected in enumerate((number, *first, *second)):
        if expected.ndim:
            close(torch.cat([one[k] for one in results]), expected.detach())
        for one in results if not expected.ndim else ():  # whole on each
            close(one[k].reshape(()), expected.detach())


def test_the_bound_of_rounding_counts_all_columns():
    from geomsink.engine.sharded import ShardedPair

    x = torch.rand(4, 3)
    plain = engine.pair(x, x, costs.get("sqeuclidean"), "dense")
    sharded = ShardedPair(x, x, costs.get("sqeuclidean"), "dense", lambda *_: plain)
    assert math.isclose(engine.rounding(sharded), engine.rounding(plain) + engine.UNIT[torch.float32])
