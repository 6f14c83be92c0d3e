"""Plans that have fallen to pieces, between which mass is missing that nothing connects: its price counts in the value."""

import numpy as np
from soak_reference import transport

import geomsink


def test_points_that_lie_at_few_places():
    """Five places of a line, fifty blurs apart, in single precision: between cells, conjugate gradients once went beyond
    any step that is of use, and what they left there was taken for what the step before had left."""
    places = np.linspace(0.0, 1.0, 5)
    counts = (244, 509, 536, 536, 250), (296, 561, 597, 578, 327)
    x, y = (np.repeat(places, n).astype(np.float32)[:, None] for n in counts)
    s = geomsink.solve(x, y, blur=0.005665885862696935)
    a, b = (np.array(n) / sum(n) for n in counts)
    exact = transport((places[:, None] - places) ** 2, a, b, s.epsilon)
    assert s.converged
    assert abs(s.value - exact.value) <= min(s.value_error + 1e-7 * exact.value, 1e-5 * exact.value) + exact.rounding
