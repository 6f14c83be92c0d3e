"""Points that lie at few places: mass is missing between pieces of a plan, and terms of a sum are all the same."""

import numpy as np
import pytest
from soak_reference import transport

import geomsink


def test_points_that_lie_at_few_places():
    """Five places, fifty blurs apart: conjugate gradients go beyond steps that are of use, and what they leave
    there is not what the step before has left."""
    places = np.linspace(0.0, 1.0, 5)
    counts = (244, 509, 536, 536, 250), (296, 561, 597, 578, 327)
    x, y = (np.repeat(places, n).astype(np.float32)[:, None] for n in counts)
    s = geomsink.solve(x, y, blur=0.005665885862696935)
    a, b = (np.array(n) / sum(n) for n in counts)
    exact = transport((places[:, None] - places) ** 2, a, b, s.epsilon)
    assert s.converged
    assert abs(s.value - exact.value) <= min(s.value_error + 1e-7 * exact.value, 1e-5 * exact.value) + exact.rounding


@pytest.mark.parametrize("multiscale", [None, False])
def test_sums_of_equal_terms_in_single_precision(multiscale):
    """All terms are rounded alike, which nothing averages away, and ε is larger than all costs."""
    places, counts = np.array([-1.0, 1.0]), ((2081, 0), (524, 1501))
    x, y = (np.repeat(places, n).astype(np.float32)[:, None] for n in counts)
    s = geomsink.sinkhorn_divergence(x, y, epsilon=4.56, cost="geodesic", multiscale=multiscale)
    (a, b), C = (np.array(n) / sum(n) for n in counts), np.pi * np.abs(places[:, None] - places) / 2
    parts = [transport(C, *pair, 4.56).value for pair in ((a, b), (a, a), (b, b))]
    exact = parts[0] - 0.5 * parts[1] - 0.5 * parts[2]
    assert s.converged
    assert abs(s.value - exact) <= min(s.value_error + 1e-7 * exact, 1e-5 * exact)
