"""Problems on which the soak once found a wrong answer."""

import pytest
from soak_checks import run
from soak_problems import problem

FOUND = {
    # Potentials between clusters that exchange less mass than is missing.
    (29, 2930): "solve 46x65 D=50 dot, torch float64 single, epsilon 2.84e+04, shape line, weights dominant",
    (29, 3128): "solve 29x23 D=32 features, torch float32 single, epsilon 8.85e+03, shape normal, weights equal",
    (31, 672): "sinkhorn_divergence 34x39 D=31 power2, torch float64 single, blur 397, shape normal, weights equal",
    # Those of light points beside a heavy one.
    (27, 694): "solve 69x34 D=3 power2, torch float64 single, blur 0.116, multiscale True, shape normal, "
    "weights dominant, mass 48.6",
    # Potentials that come to the end of their range.
    (31, 577): "solve 26x58 D=3 power1, numpy float32 single, blur 0.664, reach 2.89, penalty tv, shape cube, "
    "weights decades",
    (37, 2049): "solve 72x9 D=3 power2, torch float32 single, blur 0.28, rho 4.3, penalty tv, shape line, "
    "weights dominant",
    (37, 5898): "sinkhorn_divergence 6x3 D=3 power2, torch float64 single, epsilon 0.081, "
    "rho (0.1966653776598133, 218.57359884602565), penalty tv, tol 1e-06, shape normal, weights decades",
    (104, 4801): "sinkhorn_divergence 32x23 D=16 power2, numpy float32 single, blur 0.799, reach 20.7, penalty tv, "
    "shape normal, weights dominant",
    (104, 6308): "sinkhorn_divergence 22x22 D=31 power2, torch float64 single, blur 1.98, "
    "rho (0.512713844146308, 3004.2788745908947), penalty tv, shape normal, weights random",
    # Temperatures at which logarithms of sums have few digits.
    (29, 872): "sinkhorn_divergence 39x38 D=5 power2, numpy float64 single, epsilon 1.18e+08, tol 1e-06, "
    "shape shells, weights decades",
    (29, 1831): "solve 32x22 D=8 power2, torch float64 single, blur 4.91e+04, tol 1e-06, shape normal, weights random",
    # e^∞ times 0, between points without weight.
    (31, 2713): "sinkhorn_divergence 5x5 D=16 features, torch float64 single, blur 0.052, form sharp, shape normal, "
    "weights zeros",
}


@pytest.mark.parametrize("drawn", FOUND)
def test_is_right_now(drawn):
    outcome = run(problem(*drawn))
    assert outcome.drawn.describe() == FOUND[drawn]  # or the soak draws others now
    assert outcome.state == "converged" and not outcome.faults
