"""The solved problems of the reference folder, with both engines and both precisions."""

import numpy as np
import pytest
import torch
from reference import NAMES, load

import geomsink

# Transport cost and potentials are of first order in the marginal error. Slow modes amplify it in the potentials,
# by a hundred at blur 0.05 and a thousand at blur 0.01, hence 1e-6 for 1e-3 ε; float32 has a floor of 1e-6 to 1e-5,
# and what it leaves there of slow modes is 3e-3 ε at blur 0.01.
TOL = {"float64": 1e-6, "float32": 1e-5}
CLOSE = {"float64": 1e-3, "float32": 5e-3}
WITHIN = {"float64": 1e-5, "float32": 1e-4}


def centred(difference: np.ndarray) -> np.ndarray:
    return difference - difference.mean()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_keops(name, dtype):
    check(name, dtype, "keops")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dense(dtype):
    check(NAMES[0], dtype, "dense")


def check(name: str, dtype: str, engine: str) -> None:
    solved = load(name)
    r = geomsink.sinkhorn_divergence(
        solved["x"], solved["y"], blur=float(solved["blur"]), tol=TOL[dtype], dtype=dtype, engine=engine
    )
    sharp = r.xy.transport_cost - 0.5 * r.xx.transport_cost - 0.5 * r.yy.transport_cost
    found = {"divergence": r.value, "ot": r.xy.value, "transport_cost": r.xy.transport_cost, "sharp": sharp}
    assert r.converged and r.engine == engine and r.dtype == dtype
    for key, value in found.items():
        assert value == pytest.approx(float(solved[key]), rel=WITHIN[dtype]), key
    for key, potential in zip("fg", r.xy.potentials, strict=True):
        assert np.abs(centred(potential - solved[key])).max() < CLOSE[dtype] * float(solved["epsilon"]), key


@pytest.mark.parametrize("name", NAMES)
def test_default_tolerance(name):
    """What the docstring of tol says of its default: value to 1e-5, gradient to 1 %."""
    solved = load(name)
    r = geomsink.sinkhorn_divergence(solved["x"], solved["y"], blur=float(solved["blur"]))
    assert r.converged
    assert r.value == pytest.approx(float(solved["divergence"]), rel=1e-5)
    gradient = descent(solved["x"], solved["y"], r.xy) - descent(solved["x"], solved["x"], r.xx)
    error = np.linalg.norm(gradient - solved["grad_x"]) / np.linalg.norm(solved["grad_x"])
    assert error < 1e-2


def descent(x: np.ndarray, y: np.ndarray, solution: geomsink.Solution) -> np.ndarray:
    """∂OT_ε/∂x_i = 2 Σ_j P_ij (x_i − y_j) of the envelope theorem, from the potentials in dense float64."""
    x, y = torch.tensor(x).double(), torch.tensor(y).double()
    f, g = (torch.tensor(p).double() for p in solution.potentials)
    P = (
        (f[:, None] + g - torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / solution.epsilon
    ).exp()
    P /= len(x) * len(y)
    return (2 * (P.sum(1, keepdim=True) * x - P @ y)).numpy()
