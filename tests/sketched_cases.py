"""Problems that are solved between sketches, and gradients of them."""

import numpy as np
import torch

from geomsink import costs, shapes, solve
from geomsink.measures import Measure

TIGHT = dict(multiscale=False, dtype="float64", tol=1e-10, max_iter=20_000)
TOL = 1e-3
COST = costs.get("sqeuclidean")


def surfaces(shift=0.0):
    x, y = shapes.sample("knot", 1500, seed=0), shapes.sample("star", 1300, seed=1)
    return x.astype(np.float64), y.astype(np.float64) + shift


def uniform(n, d, seed=0):
    return np.random.default_rng(seed).random((n, d))


def uneven(n, seed=2):
    w = np.random.default_rng(seed).exponential(size=n)
    return w / w.sum()


def measure(points):
    points = torch.from_numpy(points)
    return Measure(points, torch.full((len(points),), 1.0 / len(points), dtype=torch.float64))


SURFACES = dict(zip("xy", surfaces(), strict=True), blur=0.25)
APART = dict(zip("xy", surfaces(0.3), strict=True), blur=0.25)
CASES = {
    "surfaces": SURFACES,
    "uneven weights": {**SURFACES, "a": 3.0 * uneven(1500), "b": 3.0 * uneven(1300, 3)},
    "weights of zero": {**SURFACES, "a": np.r_[np.zeros(700), np.full(800, 1 / 800)]},
    "a square": dict(x=uniform(1800, 2), y=uniform(1400, 2, 1) ** 2, blur=0.15),
    "a cube": dict(x=uniform(2000, 3), y=uniform(1800, 3, 1) ** 2, blur=0.5, tol=2e-3),
    "a line": dict(x=uniform(1500, 1), y=uniform(1500, 1, 1) ** 2, blur=0.03),
    "far from the origin": {**SURFACES, "x": SURFACES["x"] + 100.0, "y": SURFACES["y"] + 100.0},
    "one side": dict(x=uniform(1500, 2), y=uniform(300, 2, 1) ** 2, blur=0.12),
    "reach": {**APART, "reach": 0.3},
    "reach of one side": {**SURFACES, "reach": (0.5, None)},
    "reach and two masses": {**SURFACES, "reach": 0.5, "b": np.full(1300, 2.0 / 1300)},
    "l2": {**APART, "reach": 0.3, "penalty": "l2"},
    "tv": {**APART, "reach": 0.3, "penalty": "tv"},
    "partial": {**APART, "reach": 0.3, "penalty": "partial"},
}


def gradients(case, strategy, **options):
    """Of the value, or of the cost ⟨P, C⟩, by the first cloud's points and weights."""
    x, y = torch.from_numpy(case["x"]).requires_grad_(), torch.from_numpy(case["y"])
    a = torch.full((len(x),), 1.0 / len(x), dtype=torch.float64, requires_grad=True)
    rest = {k: v for k, v in case.items() if k not in "xyab"}
    loss = options.pop("loss", lambda found: found.value)
    found = solve(x, y, a, **{**rest, **options})
    assert found.strategy == strategy and found.converged
    return torch.autograd.grad(loss(found), (x, a))
