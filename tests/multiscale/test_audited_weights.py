"""Audits of sums where weights differ by much, and sketches of a few points: what rows drawn by weight do not see."""

import numpy as np
import pytest
import torch

import geomsink
from geomsink import costs, engine
from geomsink.measures import Measure
from geomsink.multiscale.audit import AUDITED, Audited

EPSILON = 0.5


def problem(n, heavy, seed=0):
    """n rows, the first of which has that share of the mass; full sums, and claimed ones that are wrong where light."""
    r = np.random.default_rng(seed)
    x, y = torch.from_numpy(r.random((n, 2))), torch.from_numpy(r.random((40, 2)))
    a = torch.from_numpy(r.random(n))
    a = a / a[1:].sum() * (1.0 - heavy)
    a[0] = heavy
    b = torch.full((40,), 1 / 40, dtype=torch.float64)
    pair = engine.pair(x, y, costs.get("sqeuclidean"), "dense")
    f, g = torch.zeros(n, dtype=torch.float64), torch.zeros(40, dtype=torch.float64)
    full = torch.logsumexp(b.log() - torch.cdist(x, y) ** 2 / EPSILON, 1)
    wrong = torch.from_numpy(0.1 * r.random(n))
    wrong[0] = 0.0
    difference = full.exp() - (full + wrong).exp()
    return Audited(Measure(x, a), Measure(y, b), pair), (f, g, full + wrong), a, difference


@pytest.mark.parametrize("heavy", [0.1, 0.999999])
def test_all_rows_are_looked_at_where_they_are_few(heavy):
    audited, arguments, a, difference = problem(200, heavy)
    found = audited.against(*arguments, EPSILON)
    assert found.missing == pytest.approx(float(a @ difference), rel=1e-9)
    assert found.off == pytest.approx(float(a @ difference.abs()), rel=1e-9)
    assert found.square == pytest.approx(float(a @ difference.square()), rel=1e-9)
    assert found.uncertain == 0.0


def test_light_rows_are_seen_beside_a_heavy_one():
    """Drawn by weight alone, all rows would be the heavy one, which is right."""
    audited, arguments, a, difference = problem(5 * AUDITED[1], 0.9999)
    found = audited.against(*arguments, EPSILON)
    missing = float(a @ difference)
    assert abs(found.missing - missing) <= found.uncertain < 0.3 * abs(missing)
    assert float(a @ difference.abs()) < found.off < 1.3 * float(a @ difference.abs())


@pytest.mark.parametrize("blur", [1.0, 2.0])
def test_few_points_between_sketches_with_a_heavy_one(blur):
    """Where no sketch is exact enough the points are solved themselves, and what is stated holds."""
    r = np.random.default_rng(0)
    b = np.r_[1e3, r.random(62)]
    x, y = r.normal(size=(50, 2)), r.normal(size=(63, 2))
    s = geomsink.solve(x, y, b=b / b.sum(), blur=blur, multiscale=True)
    exact = geomsink.solve(x, y, b=b / b.sum(), blur=blur, multiscale=False, tol=1e-9)
    assert s.converged and exact.converged
    assert abs(s.value - exact.value) <= s.value_error + exact.value_error
