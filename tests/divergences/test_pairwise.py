"""Matrices of divergences against calls one by one; two-sample tests; suggested blurs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geomsink
from geomsink import pairwise, sinkhorn_divergence, suggest_blur, two_sample_test

RNG = np.random.default_rng(0)
CLOUDS = [RNG.normal(size=(n, 2)) * 0.3 + RNG.random(2) for n in (20, 5, 33, 1, 150)]


def one_by_one(clouds, others, weights=None, other_weights=None, **options):
    none = [None] * len(clouds), [None] * len(others)
    a, b = weights or none[0], other_weights or none[1]
    rows, columns = list(zip(clouds, a, strict=True)), list(zip(others, b, strict=True))
    return np.array([[float(sinkhorn_divergence(x, y, v, w, **options)) for y, w in columns] for x, v in rows])


@pytest.mark.parametrize(
    "options",
    [dict(blur=0.2), dict(epsilon=0.05, cost="euclidean"), dict(blur=0.1, tol=1e-6), dict(blur=0.2, reach=0.5),
     dict(epsilon=float("inf"))],
    ids=lambda options: "-".join(options),
)  # fmt: skip
def test_values_are_those_of_single_calls(options):
    S = pairwise(CLOUDS, **options)
    expected = one_by_one(CLOUDS, CLOUDS, **options)
    assert S.converged and S.solved.all()
    share = options.get("tol", 1e-3) / 100.0
    assert np.abs(S.values - expected).max() <= 2.0 * share * expected.max() + 1e-12
    assert (S.values == S.values.T).all() and (np.diag(S.values) == 0.0).all()
    assert (np.abs(S.values - expected) <= S.value_errors + 1e-5 * expected).all()
    assert S.marginal_errors.max() <= options.get("tol", 1e-3)


def test_two_lists_with_weights():
    a = [RNG.random(len(x)) for x in CLOUDS]
    a = [w / w.sum() for w in a]
    S = pairwise(CLOUDS[:3], CLOUDS[2:], a[:3], [None, *a[3:]], blur=0.2)
    expected = one_by_one(CLOUDS[:3], CLOUDS[2:], a[:3], [None, *a[3:]], blur=0.2)
    assert S.values.shape == (3, 3) and S.converged
    assert np.allclose(S.values, expected, rtol=1e-5)


def test_close_and_equal_clouds_and_masses():
    x = CLOUDS[0]
    S = pairwise([x, x + 1e-4, x.copy()], blur=0.3)
    assert S.converged and S.values[0, 2] == 0.0
    assert S.values[0, 1] == pytest.approx(2e-8, rel=1e-4)
    doubled = pairwise([x, x + 0.5], weights=[np.full(20, 0.1)] * 2, blur=0.3)
    assert doubled.values[0, 1] == pytest.approx(2.0 * 0.5, rel=1e-5)


def test_large_clouds_are_solved_alone_and_tensors_stay_tensors():
    clouds = [torch.tensor(RNG.normal(size=(n, 3)), dtype=torch.float32, requires_grad=True) for n in (300, 200, 30)]
    S = pairwise(clouds, blur=0.5)
    assert S.values.dtype == torch.float32 and not S.values.requires_grad and S.solved.dtype == torch.bool
    assert S.values[0, 1] == pytest.approx(float(sinkhorn_divergence(clouds[0], clouds[1], blur=0.5)), rel=1e-5)


def test_what_does_not_converge_is_said():
    x = [RNG.random((40, 2)) for _ in range(3)]
    with pytest.warns(geomsink.ConvergenceWarning, match="6 of 9 values are not converged"):
        S = pairwise(x, blur=0.01, tol=1e-9, max_iter=1)
    assert not S.converged and (S.solved == np.eye(3, dtype=bool)).all() and "not converged: 6 values" in repr(S)


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((np.ones((3, 2)),), {}, "clouds: a ndarray was given, expected a list of clouds"),
        (([],), {}, "clouds: an empty sequence was given"),
        (([np.ones((3, 2)), np.ones(3)],), {}, r"clouds\[1\]: .*\(3,\)"),
        (([np.ones((3, 2))], [np.full((3, 2), np.nan)]), {}, r"others\[0\]: .*NaN"),
        (([np.ones((3, 2))] * 2, None, [None]), {}, "weights: 1 given for 2 clouds"),
        (([np.ones((3, 2))] * 2,), dict(reach=(1.0, None)), "reach: .* expected one number"),
        (([np.ones((3, 2)), torch.ones(3, 2)],), {}, "clouds: torch tensors and other arrays are mixed"),
        (([np.ones((3, 2))], None, None, [None]), {}, "other_weights: given without others"),
    ],
)
def test_bad_input(arguments, options, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        pairwise(*arguments, blur=0.1, **options)


def test_two_samples_of_different_distributions_are_told_apart():
    x, y = RNG.normal(size=(25, 2)), RNG.normal(size=(30, 2)) + 0.9
    t = two_sample_test(x, y, blur=0.5, permutations=39, seed=1)
    assert t.p_value == 1 / 40 and t.converged and len(t.null) == 39 and t.null.max() < t.statistic
    assert t.statistic == pytest.approx(sinkhorn_divergence(x, y, blur=0.5).value)
    again = two_sample_test(torch.from_numpy(x), torch.from_numpy(y), blur=0.5, permutations=39, seed=1)
    assert np.allclose(again.null, t.null, rtol=1e-9) and again.p_value == t.p_value
    assert "p_value=0.025" in repr(t)


def test_the_size_of_the_test_is_right():
    """p ≤ 0.2 has probability 0.2 under the hypothesis: 12 ± 3.1 of 60 tests; p-values are multiples of 1/10."""
    random = np.random.default_rng(3)
    p = np.array([
        two_sample_test(random.random((9, 1)), random.random((7, 1)), blur=0.2, permutations=9, seed=k).p_value
        for k in range(60)
    ])  # fmt: skip
    assert 4 <= (p <= 0.2).sum() <= 20 and 0.4 < p.mean() < 0.7
    assert np.allclose(10 * p, np.round(10 * p)) and p.min() >= 0.1


def test_equal_divergences_count():
    """Two points a side at two places: a third of the cuts separates them again."""
    x, y = np.zeros((2, 1)), np.ones((2, 1))
    t = two_sample_test(x, y, blur=0.1, permutations=299, seed=0)
    assert t.p_value == pytest.approx(1 / 3, abs=0.08)


def test_bad_arguments_of_tests():
    x = np.ones((3, 1))
    for options, sentence in (
        (dict(permutations=0), "permutations: 0 given, expected a whole number of at least 1"),
        (dict(permutations=9.5), "permutations: a float was given, expected a whole number"),
        (dict(seed=-1), "seed: -1 given"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            two_sample_test(x, x, blur=0.1, **options)
    with pytest.raises(ValueError, match="x, y: batches were given"):
        two_sample_test(np.ones((2, 3, 1)), np.ones((2, 3, 1)), blur=0.1)


def test_suggested_blurs():
    line = np.linspace(0.0, 1.0, 101)[:, None]
    assert suggest_blur(line, line) == pytest.approx(0.03)
    assert suggest_blur(10.0 * line, 10.0 * line + 3.0) == pytest.approx(0.3)
    sparse = np.linspace(0.0, 1.0, 11)[:, None]  # the coarser cloud counts, and clouds of few points are bounded
    assert suggest_blur(line, sparse) == pytest.approx(0.25 * np.sqrt(np.square(line - sparse.T).mean()))
    weights = np.r_[np.full(50, 0.02), np.zeros(51)]
    assert suggest_blur(line, line, np.where(np.arange(101) % 2 == 0, 1 / 51, 0.0)) == pytest.approx(0.06)
    assert suggest_blur(torch.from_numpy(line), torch.from_numpy(line), torch.from_numpy(weights)) == pytest.approx(
        0.03
    )
    assert suggest_blur(np.repeat(line, 3, axis=0), line) == pytest.approx(0.03)  # copies of points are no neighbours
    assert suggest_blur([[0.0]], [[2.0]]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="x, y: all points are the same"):
        suggest_blur(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="x, y: all points are the same"):  # whatever the mean of 0.637 is rounded to
        suggest_blur(np.full((5, 1), 0.6369616873214543), [[0.6369616873214543]])


def test_a_suggested_blur_converges_in_few_cycles():
    x, y = (geomsink.shapes.sample("shape:torus", 400, seed=seed) for seed in (0, 1))
    r = sinkhorn_divergence(x, y, blur=suggest_blur(x, y))
    assert r.converged and r.n_iter < 60


def test_sentences_about_blurs_suggest_one():
    x = RNG.random((50, 2))
    with pytest.raises(ValueError, match=r"neither was given, expected one of them; geomsink\.suggest_blur\(x, y\)"):
        sinkhorn_divergence(x, x)
    with pytest.raises(ValueError, match="both were .* expected one of them\\.$"):
        sinkhorn_divergence(x, x, blur=0.1, epsilon=0.1)


def test_half_precision_holds_what_it_says():
    """Values beyond float16 were infinite and converged, and stated errors left its rounding out."""
    drawn = torch.Generator().manual_seed(0)
    clouds = [(torch.rand(20, 2, generator=drawn) + 300.0 * k).half() for k in range(2)]
    with pytest.raises(ValueError, match="float16"):
        pairwise(clouds, blur=0.1)
    near = [(torch.rand(20, 2, generator=drawn)).half() for _ in range(3)]
    found, exact = (pairwise([c.to(t) for c in near], blur=0.1) for t in (torch.float16, torch.float64))
    off = (found.values.double() - exact.values).abs()
    assert bool((off <= found.value_errors.double() + exact.value_errors).all()) and float(off.max()) > 1e-7
