"""Sums over points of several processes that leave out far pairs: against all pairs, and with what they may lose."""

import pytest
import torch
from dealt import SIZES, dealt
from outcomes import needs_gloo

from geomsink import costs
from geomsink.measures import Measure
from geomsink.multiscale.dealt import DealtSide, OwnRows
from geomsink.processes import deal, own, parts_of

pytestmark = needs_gloo
TIMES = 20
"""Of the points of `dealt.SIZES`."""
SKIPPED = 1e-9


def clouds():
    """Points along a line, where most pairs are far; exponents of a plan of some kind, and columns to multiply with."""
    random = torch.Generator().manual_seed(0)
    x, y = (
        torch.rand(TIMES * n, 1, generator=random, dtype=torch.float64) * torch.tensor([8.0, 0.1]) for n in (60, 80)
    )
    u, v = x[:, 0].sin(), y[:, 0].cos() - 4.0
    return x, y, u, v, torch.randn(len(y), 2, generator=random, dtype=torch.float64)


def more(some):
    return slice(some.start * TIMES, some.stop * TIMES)


def dealt_out(points, parts):
    return Measure(deal(points, parts), deal(torch.ones_like(points[:, 0]), parts))


def sums(group, rows, columns):
    rows, columns, found = more(rows), more(columns), {}
    x, y, u, v, w = clouds()
    of_x, of_y = parts_of(len(x[rows]), group), parts_of(len(y[columns]), group)
    first, second = OwnRows(dealt_out(x[rows], of_x)), OwnRows(dealt_out(y[columns], of_y))
    exponents = deal(u[rows], of_x), deal(v[columns], of_y)
    for name in ("sqeuclidean", "euclidean"):
        side = DealtSide(first, second, costs.get(name), "keops", torch.float64, SKIPPED)
        epsilon = 0.05
        assert side.products(*exponents, epsilon, deal(w[columns], of_y)) is None  # no sums yet
        logs = side.log_sums(*exponents, epsilon)
        products = side.products(*exponents, epsilon, deal(w[columns], of_y))
        found[name] = own(logs), own(products), side.share, side.lost
        far = side.log_sums(exponents[0] - 800.0, exponents[1], epsilon)
        found[name] += (far is None, side.products(*exponents, epsilon, deal(w[columns], of_y)) is None)
    return found


@pytest.fixture(scope="module")
def found():
    return dealt([sums])


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", ["sqeuclidean", "euclidean"])
def test_sums_without_far_pairs_are_those_of_all(found, name, count):
    x, y, u, v, w = clouds()
    P = (u[:, None] + v - costs.get(name).between(x[:, None], y[None]) / 0.05).exp()
    results = [one[name] for one in found["sums", count]]
    logs, products = (torch.cat([one[k] for one in results]) for k in (0, 1))
    off = 1.0 - logs.exp() / P.sum(1)
    assert float(off.max()) <= results[0][3] <= SKIPPED and float(off.min()) > -1e-12
    assert float(off.max()) > 1e-15  # it does leave something out
    torch.testing.assert_close(products, P @ w, rtol=1e-7, atol=1e-8 * float(P.sum(1).max()))
    for _, _, share, lost, is_far, forgotten in results:
        assert (share, lost) == results[0][2:4] and share < 0.6
        assert is_far and forgotten  # sums that underflow are given up, by all
