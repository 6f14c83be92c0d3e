"""Intervals of unregularised costs against exact solvers."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

import geomsink
from geomsink import shapes, wasserstein_bounds


def surfaces(n: int) -> tuple[np.ndarray, np.ndarray]:
    return shapes.sample("torus", n, seed=0).astype(np.float64), shapes.sample("cube", n, seed=1).astype(np.float64)


def assigned(x: np.ndarray, y: np.ndarray, p: float) -> float:
    C = cdist(x, y) ** p
    return float(C[linear_sum_assignment(C)].mean())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("p", [1, 2])
def test_intervals_contain_the_assignment_of_1000_points_and_narrow(p, dtype):
    x, y = (c.astype(dtype) for c in surfaces(1000))
    exact = assigned(x.astype(np.float64), y.astype(np.float64), p)
    widths = []
    for blur in (0.08, 0.04, 0.02):
        bounds = wasserstein_bounds(x, y, p=p, blur=blur)
        assert bounds.lower <= exact <= bounds.upper
        low, high = bounds.distance
        assert low <= exact ** (1 / p) <= high
        widths.append(bounds.gap / exact)
    # The entropic plan costs about ε for each coordinate that it blurs: ε is σ for p = 1, and 2σ² for p = 2.
    assert widths[1] < 0.65 * widths[0] and widths[2] < 0.65 * widths[1]
    assert widths[2] < (0.1 if p == 1 else 0.02)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2])
def test_weighted_measures_of_any_mass_against_a_linear_program(p):
    rng = np.random.default_rng(0)
    for _ in range(5):
        n, m = rng.integers(2, 15, 2)
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2))
        a, b = rng.random(n), rng.random(m)
        a[0] = 0.0
        b *= a.sum() / b.sum()
        C = cdist(x, y) ** p
        rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
        exact = linprog(C.ravel(), A_eq=np.vstack((rows, columns)), b_eq=np.concatenate((a, b))).fun
        bounds = wasserstein_bounds(x, y, a, b, p=p, epsilon=0.01)
        slack = 1e-9 * exact  # of the linear program
        assert bounds.lower - slack <= exact <= bounds.upper + slack
        assert bounds.gap < 0.05 * exact


def test_sums_in_float32_are_refined_where_rounding_is_most_of_the_width(monkeypatch):
    """As those of clouds of 10⁵ points are."""
    x, y = (c.astype(np.float32) for c in surfaces(2100))
    double = wasserstein_bounds(x, y, blur=0.05, engine="keops")
    monkeypatch.setattr("geomsink.choose.CHEAP", 0)
    single = wasserstein_bounds(x, y, blur=0.05, engine="keops")
    exact = assigned(x.astype(np.float64), y.astype(np.float64), 2)
    assert single.lower <= exact <= single.upper
    assert single.solution.dtype == "float32" and double.gap <= single.gap < 1.1 * double.gap


def test_far_potentials_give_an_interval_that_is_right_and_wide():
    x, y = surfaces(200)
    with pytest.warns(geomsink.ConvergenceWarning):
        bounds = wasserstein_bounds(x, y, blur=0.01, max_iter=1)
    assert bounds.lower <= assigned(x, y, 2) <= bounds.upper
    assert not bounds.solution.converged


def test_tensors_give_tensors_that_are_rounded_outwards():
    x, y = (torch.tensor(c, dtype=torch.float32, requires_grad=True) for c in surfaces(300))
    bounds = wasserstein_bounds(x, y, blur=0.02)
    exact = assigned(x.detach().double().numpy(), y.detach().double().numpy(), 2)
    assert bounds.lower.dtype == torch.float32 and not bounds.lower.requires_grad
    assert float(bounds.lower) <= exact <= float(bounds.upper)


def test_one_place_has_no_cost():
    x = np.ones((5, 3))
    bounds = wasserstein_bounds(x, x)
    assert bounds.lower <= 0.0 <= bounds.upper and bounds.gap < 1e-12


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(p=3), "p: 3.0 given, expected 0 < p <= 2."),
        (dict(blur=0.1, epsilon=0.1), "blur, epsilon: both were"),
        (dict(p="2"), "p: a str was given, expected a number."),
        (dict(blur=-1.0), "blur: -1.0 given, expected a positive number."),
    ],
)
def test_bad_options_are_refused(options, sentence):
    x, y = surfaces(10)
    with pytest.raises((TypeError, ValueError), match=sentence):
        wasserstein_bounds(x, y, **options)


def test_batches_are_refused():
    with pytest.raises(ValueError, match="x, y: batches were given, expected two clouds"):
        wasserstein_bounds(np.ones((2, 5, 3)), np.ones((2, 5, 3)), blur=0.1)
