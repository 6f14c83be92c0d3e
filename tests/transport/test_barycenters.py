"""Barycentres against closed forms of Gaussians and of the line, quantisations against clusters and the divergence."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import norm

from geomsink import MMD, SinkhornDivergence, sinkhorn_divergence
from geomsink.transport.barycenters import barycenter, quantize

COVARIANCES = [np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.4, -0.2], [-0.2, 1.2]])]
MEANS = [np.array([0.0, 0.0]), np.array([4.0, 1.0])]


def gaussian(n, mean, covariance, seed):
    """A sample with exactly that mean and covariance."""
    z = np.random.default_rng(seed).normal(size=(n, 2))
    z -= z.mean(0)
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T, bias=True)), z.T).T
    return mean + z @ np.linalg.cholesky(covariance).T


def bures_mean(weights):
    """The covariance S = Σ_k w_k (S^½ S_k S^½)^½ of the Wasserstein barycentre (Agueh, Carlier 2011)."""
    s = np.eye(2)
    for _ in range(100):
        root = sqrtm(s).real
        s = sum(w * sqrtm(root @ c @ root).real for w, c in zip(weights, COVARIANCES, strict=True))
    return s


def clusters(sizes=(30, 60, 110), spread=0.1, seed=0):
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    noise = np.random.default_rng(seed).normal(size=(sum(sizes), 2))
    return centres, np.repeat(centres, sizes, axis=0) + spread * noise


def in_order(found, centres):
    """Index of the fitted point nearest to each centre."""
    return ((centres[:, None] - found) ** 2).sum(-1).argmin(1)


# ------------------------------------------------------------------------- barycentres


@pytest.mark.parametrize("weights", [(0.6, 0.4), (0.2, 0.8)])
def test_barycentre_of_gaussians(weights):
    clouds = [gaussian(n, m, c, seed) for n, m, c, seed in zip((300, 250), MEANS, COVARIANCES, (0, 1), strict=True)]
    found = barycenter(clouds, weights, blur=0.3)
    assert found.history.converged
    mean = sum(w * m for w, m in zip(weights, MEANS, strict=True))
    # The mean is exact but for the marginal errors of 1e-3.
    np.testing.assert_allclose(np.average(found.points, axis=0, weights=found.weights), mean, atol=2e-3)
    # Samples of 300 are Gaussians to about 1/√300 in shape, of which Bures' mean of the exact covariances keeps
    # little; plain entropic transport would take ε/2 = 0.09 off each variance.
    np.testing.assert_allclose(np.cov(found.points.T, bias=True), bures_mean(weights), atol=0.015)


def test_barycentre_on_the_line_is_the_mean_of_quantiles():
    levels = (np.arange(200) + 0.5) / 200
    quantiles = [norm.ppf(levels), 5.0 + 0.5 * norm.ppf(levels), 3.0 * levels]
    weights = [0.5, 0.2, 0.3]
    clouds = [q[:, None] for q in quantiles]
    found = barycenter(clouds, weights, blur=0.05)
    expected = sum(w * q for w, q in zip(weights, quantiles, strict=True))
    # Away from the tails, where neighbours are closer than the blur, and points are known to a part of it.
    assert abs(np.sort(found.points[:, 0]) - expected).max() < 0.05
    assert abs(np.sort(found.points[:, 0]) - expected)[20:180].max() < 0.01


def test_the_centre_of_translates():
    x = np.random.default_rng(0).random((80, 3))
    clouds = [x, x + 1.0, x + [0.0, 3.0, 0.0]]
    found = barycenter(clouds, blur=0.2)
    # Barycentres of translates are translates; the marginal error of 1e-3 times the blur is what is left.
    np.testing.assert_allclose(found.points, x + [1 / 3, 4 / 3, 1 / 3], atol=1e-3)
    np.testing.assert_allclose(found.weights, 1 / 80)


def test_weights_of_points_count():
    """A cloud with weights, of another mass than 1, is the same cloud as with repeated points."""
    random = np.random.default_rng(0)
    x, y, times = random.random((40, 2)), random.random((30, 2)) + 1.0, random.integers(1, 4, 30)
    mass = 7.0
    weighted = barycenter([x, y], masses=[np.full(40, mass / 40), mass * times / times.sum()], init=x, blur=0.2)
    repeated = barycenter([x, np.repeat(y, times, axis=0)], init=x, blur=0.2)
    np.testing.assert_allclose(weighted.points, repeated.points, atol=2e-3)
    assert weighted.weights.sum() == pytest.approx(mass)


def test_numbers_of_points_and_seeds():
    random = np.random.default_rng(0)
    x, y = random.random((30, 2)), random.random((50, 2)) + 2.0
    runs = [
        barycenter([x, y], [0.3, 0.7], blur=0.3, n=n, seed=seed, steps=10)
        for n, seed in ((20, 0), (20, 0), (20, 1), (75, 0))
    ]
    assert [len(run.points) for run in runs] == [20, 20, 20, 75]
    assert (runs[0].points == runs[1].points).all() and (runs[0].points != runs[2].points).any()
    assert len(np.unique(runs[3].points, axis=0)) == 75  # more than the cloud they are drawn from has
    assert len(barycenter([x, y], [0.3, 0.7], blur=0.3, steps=1).points) == 50  # of the largest weight


def test_other_losses():
    """Any loss of the library; the energy distance's barycentre is the cloud that is nearer in the mixture."""
    random = np.random.default_rng(0)
    x, y = random.random((40, 2)), random.random((40, 2)) + 1.0
    loss = SinkhornDivergence(blur=0.2)
    one, other = (barycenter([x, y], steps=10, **given).points for given in (dict(loss=loss), dict(blur=0.2)))
    np.testing.assert_array_equal(one, other)
    assert loss.report is None  # each cloud has had a copy
    found = barycenter([x, y], loss=MMD(kernel="energy"), lr=0.2, steps=30)
    assert found.history.values[-1] < 0.9 * found.history.values[0]


def test_kinds_of_arrays():
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    found = barycenter([x, x + 1.0], blur=0.5)
    assert isinstance(found.points, torch.Tensor) and found.points.dtype == torch.float32
    assert found.weights.dtype == torch.float32 and not found.points.requires_grad
    assert barycenter([x.numpy(), x.numpy() + 1], blur=0.5).points.dtype == np.float32
    assert barycenter([x.numpy(), x.double().numpy() + 1], blur=0.5).points.dtype == np.float64
    assert isinstance(quantize(x, 3, blur=0.5).weights, torch.Tensor)


X = np.random.default_rng(0).random((6, 2))
W = np.full(6, 1 / 6)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        ((X,), dict(blur=1.0), TypeError, r"^clouds: a ndarray was given, expected a list of arrays"),
        (([X, X[:, :1]],), dict(blur=1.0), ValueError, r"^clouds\[1\]: 1 coordinates a point, but clouds\[0\] has 2"),
        (([X, X * np.nan],), dict(blur=1.0), ValueError, r"^clouds\[1\]: 12 of 12 numbers are NaN"),
        (([X, 1j * X],), dict(blur=1.0), TypeError, r"^clouds\[1\]: dtype is complex128, expected real numbers"),
        (([X, X], [1.0]), dict(blur=1.0), ValueError, r"^weights: shape is \(1,\), expected \(2,\)"),
        (([X, X], "half"), dict(blur=1.0), TypeError, r"^weights: dtype is <U4, expected real numbers"),
        (([X, X], [1.0, -1.0]), dict(blur=1.0), ValueError, r"^weights: \[1.0, -1.0\] given, expected finite numbers"),
        (([X, X],), dict(blur=1.0, masses=[W, 2 * W]), ValueError, "^masses: they sum to 1 to 2, expected the same"),
        (([X, X],), dict(blur=1.0, masses=[W, W[:5]]), ValueError, r"^masses\[1\]: shape is \(5,\), expected \(6,\)"),
        (([X, X],), dict(blur=1.0, masses=W), TypeError, "^masses: a ndarray was given, expected a list"),
        (([X, X],), dict(blur=1.0, n=0), ValueError, "^n: 0 given, expected a whole number of at least 1"),
        (([X, X],), dict(blur=1.0, n=3, init=X), ValueError, "^n: 3 given with init, expected one of the two"),
        (([X, X],), dict(blur=1.0, init=X[:, :1]), ValueError, r"^clouds\[0\]: 2 coordinates a point, but init has 1"),
        (([X, X],), dict(), ValueError, "^loss, blur: neither given, expected one of the two"),
    ],
)
def test_bad_input(arguments, options, error, sentence):
    with pytest.raises(error, match=sentence):
        barycenter(*arguments, **options)


# ------------------------------------------------------------------------- quantisation


@pytest.mark.parametrize("fit_weights", [True, False])
def test_clusters_are_found(fit_weights):
    sizes = (30, 60, 110) if fit_weights else (50, 50, 50)
    centres, x = clusters(sizes)
    found = quantize(x, 3, blur=0.2, fit_weights=fit_weights)
    order = in_order(found.points, centres)
    means = np.array([part.mean(0) for part in np.split(x, np.cumsum(sizes)[:-1])])
    # Each atom is the mean of its cluster: none of another's mass comes from 25 blurs away. Of fitted masses L-BFGS
    # leaves about the square root of its tolerance; of equal ones the solver's is left.
    np.testing.assert_allclose(found.points[order], means, atol=2e-3)
    np.testing.assert_allclose(found.weights[order], np.array(sizes) / sum(sizes), atol=2e-3)
    assert found.history.converged


@pytest.mark.parametrize("fit_weights", [True, False])
def test_one_point_is_the_mean(fit_weights):
    """OT_ε(δ_c, α) = Σ a_i ‖x_i − c‖², at any blur."""
    x = np.random.default_rng(0).random((50, 3))
    a = np.random.default_rng(1).random(50)
    found = quantize(x, 1, a, blur=0.1, fit_weights=fit_weights)
    # Of equal masses the solver's marginal error of 1e-3 is left, times the blur.
    mean = np.average(x, axis=0, weights=a)
    np.testing.assert_allclose(found.points[0], mean, atol=1e-6 if fit_weights else 1e-4)
    assert found.weights == pytest.approx(a.sum())


@pytest.mark.parametrize("blur", [0.05, 0.2])
def test_fitted_masses_minimise_the_divergence(blur):
    """The problem without transport has the divergence as its minimum, and the divergence's own optimality holds."""
    x = torch.from_numpy(np.random.default_rng(0).random((150, 2)))
    found = quantize(x, 6, blur=blur, tol=1e-12, steps=500)
    points, weights = found.points.requires_grad_(), found.weights.requires_grad_()
    b = torch.full((150,), 1 / 150, dtype=torch.float64)
    divergence = sinkhorn_divergence(points, x, weights, b, blur=blur, tol=1e-9)
    constant = -0.5 * divergence.yy.value.item()
    assert found.history.values[-1] + constant == pytest.approx(divergence.value.item(), rel=1e-6)
    in_points, in_weights = torch.autograd.grad(divergence.value, (points, weights))
    scale = 2 * blur**2
    # Gradients of a minimum that is known to 1e-12 of the decrease are known to about its square root.
    assert (in_points / weights[:, None]).abs().max() < 1e-4 * blur
    assert in_weights.max() - in_weights.min() < 1e-4 * scale


def test_fitted_masses_are_better_than_equal_ones():
    x = clusters((20, 60, 120))[1]
    b = np.full(200, 1 / 200)
    values = []
    for fit_weights in (True, False):
        found = quantize(x, 9, blur=0.1, fit_weights=fit_weights)
        values.append(sinkhorn_divergence(found.points, x, found.weights, b, blur=0.1).value)
    assert values[0] < 0.8 * values[1]


def test_points_without_mass_and_twins():
    x = np.repeat([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]], 4, axis=0)
    a = np.repeat([1.0, 3.0, 0.0], 4)
    found = quantize(x, 3, a, blur=0.1)  # more centres than different points
    assert found.weights.sum() == pytest.approx(16.0) and np.isfinite(found.points).all()
    assert found.weights[found.points[:, 0] > 0.5].sum() == pytest.approx(12.0, rel=1e-3)


def test_the_same_seed_is_the_same_answer():
    x = np.random.default_rng(0).random((60, 2))
    one, again, other = (quantize(x, 5, blur=0.1, seed=seed, steps=3) for seed in (0, 0, 1))
    assert (one.points == again.points).all() and (one.weights == again.weights).all()
    assert (one.points != other.points).any()


def test_blocks_of_rows(monkeypatch):
    x = np.random.default_rng(0).random((60, 2))
    whole = quantize(x, 5, blur=0.1, steps=5)
    monkeypatch.setattr("geomsink.transport.barycenters.BLOCK", 5 * 7)
    np.testing.assert_allclose(quantize(x, 5, blur=0.1, steps=5).points, whole.points, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "sentence"),
    [
        ((X, 7), dict(blur=1.0), ValueError, "^k: 7 given, expected a whole number from 1 to 6"),
        ((X, 2.0), dict(blur=1.0), TypeError, "^k: a float was given"),
        ((X, 2), dict(blur=0.0), ValueError, "^blur: 0.0 given, expected a positive length"),
        ((X, 2), dict(blur="wide"), TypeError, "^blur: a str was given, expected a number"),
        ((X, 2), dict(blur=1.0, fit_weights=1), TypeError, "^fit_weights: a int was given, expected True or False"),
        ((X[0], 2), dict(blur=1.0), ValueError, r"^points: shape is \(2,\), expected"),
        ((X, 2, W[:3]), dict(blur=1.0), ValueError, r"^weights: shape is \(3,\), expected \(6,\)"),
        ((X, 2, -W), dict(blur=1.0), ValueError, "^weights: the smallest weight is -0.167"),
        ((X[None], 2), dict(blur=1.0), ValueError, "^points: a batch of 1 clouds was given, expected one cloud"),
    ],
)  # fmt: skip
def test_bad_input_of_quantisation(arguments, options, error, sentence):
    with pytest.raises(error, match=sentence):
        quantize(*arguments, **options)


def test_a_quantisation_reports_values_of_the_mass_that_was_given():
    cloud = np.random.default_rng(0).random((60, 2))
    one, two = (quantize(cloud, 4, blur=0.2, weights=np.full(60, mass / 60.0), steps=60) for mass in (1.0, 2.0))
    np.testing.assert_allclose(two.points, one.points, atol=1e-3)
    assert two.history.values[-1] == pytest.approx(2.0 * one.history.values[-1], rel=1e-3)
    assert two.weights.sum() == pytest.approx(2.0)
