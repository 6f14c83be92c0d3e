"""Options are used, or refused in one sentence before any work starts, whichever function they are given to."""

import math
import warnings

import numpy as np
import pytest
import torch

import geomsink
from geomsink import transport

RNG = np.random.default_rng(0)
X, Y = RNG.random((12, 2)), RNG.random((9, 2))
INF = dict(epsilon=math.inf)


@pytest.mark.parametrize(
    "call",
    [
        lambda: geomsink.c_transform(X, Y, np.zeros(9), **INF),
        lambda: geomsink.partial_transport(X, Y, mass=0.5, **INF),
        lambda: geomsink.wasserstein_bounds(X, Y, np.full(12, 0.5), np.full(9, 6 / 9), **INF),
        lambda: transport.matching(X, Y, blur=math.inf),
    ],
)
def test_infinite_temperatures_without_a_limit(call):
    with pytest.raises(ValueError, match=r"^epsilon: inf given, expected a finite temperature\.$"):
        call()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: geomsink.solve(X, Y, blur=True), "blur: a bool was given, expected a number"),
        (lambda: geomsink.solve(X, Y, blur=0.1, tol=True), "tol: a bool was given, expected a number"),
        (lambda: geomsink.solve(X, Y, blur=0.1, reach=True), "reach: a bool was given, expected a number, None or"),
        (lambda: geomsink.solve(X, Y, blur=0.1, differentiation="unrolled", iterations=2, recompute="no"),
         "recompute: a str was given, expected True or False"),
        (lambda: geomsink.wasserstein_bounds(X, Y, p=True), "p: a bool was given, expected a number"),
        (lambda: geomsink.solve(X, Y, blur=0.1, rho=10**400), "rho: 1000"),
        (lambda: geomsink.solve(X, Y, blur=0.1, penalty=["kl"]), "penalty: a list was given, expected one of kl, tv"),
        (lambda: geomsink.solve(X, Y, blur=0.1, nan_policy=X), "nan_policy: a ndarray was given, expected one of"),
        (lambda: geomsink.solve(X, Y, blur=0.1, engine=X), "engine: a ndarray was given, expected one of auto, keops"),
        (lambda: geomsink.pairwise([X, Y], blur=0.1, weights=1), "weights: a int was given, expected a list"),
        (lambda: transport.register(X, Y, blur=0.1, scaling="slow"), "scaling: a str was given, expected a number"),
        (lambda: transport.matching(X, Y, tol_gap="1"), "tol_gap: a str was given, expected a number or None"),
        (lambda: transport.quantize(X, 2, blur=0.1, seed=-1), "seed: -1 given, expected a whole number of at least 0"),
        (lambda: transport.barycenter([X, Y], blur=0.1, seed=0.5), "seed: a float was given, expected a whole number"),
        (lambda: transport.register(X, Y, blur=0.1, seed=-1), "seed: -1 given, expected a whole number of at least 0"),
        (lambda: geomsink.MMD(blur=0.1, engine="cuda"), "engine: "),
        (lambda: geomsink.MMD(blur=0.1, truncate=2), "truncate: 2 given, expected a share from 0 up to 1"),
        (lambda: geomsink.MMD(blur=0.1, truncate="a"), "truncate: a str was given, expected a share from 0 up to 1"),
        (lambda: geomsink.MMD(blur=0.1, dtype="int8"), "dtype: 'int8' given, expected None"),
    ],
)  # fmt: skip
def test_refusals(call, sentence):
    with pytest.raises((TypeError, ValueError), match=f"^{sentence}"):
        call()


def test_an_exact_interval_is_proposed_as_it_is_asked_to_be():
    rough, fine = (geomsink.wasserstein_bounds(X, Y, exact=True, **tol) for tol in ({}, {"tol": 1e-6}))
    assert (rough.solution.tol, fine.solution.tol) == (0.1, 1e-6)
    assert fine.solution.marginal_error <= 1e-6 and rough.upper == pytest.approx(fine.upper, rel=1e-14)


def test_a_blur_with_history_has_constants_for_answers_and_no_warning():
    blur = torch.tensor(0.1, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert geomsink.pairwise([X, Y], blur=blur).epsilon == pytest.approx(0.02)
        assert geomsink.two_sample_test(X, Y, blur=blur, permutations=3).epsilon == pytest.approx(0.02)


def test_what_of_a_test_has_not_converged():
    found = geomsink.TwoSampleTest(0.1, 0.5, np.zeros(3), np.ones(3, bool), False, 0.02, 1.0)
    assert "not converged: the statistic" in repr(found)
