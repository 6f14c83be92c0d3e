"""The Hausdorff divergence: against dense NumPy, its place between 0 and S_ε, derivatives, batches."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

import geomsink
from geomsink import costs
from geomsink.divergences.hausdorff import hausdorff_divergence
from geomsink.divergences.mmd import mmd

FORMS = {"sqeuclidean": lambda x, y: cdist(x, y, "sqeuclidean"), "euclidean": cdist}


def problem(n=40, m=30, seed=0, d=2):
    random = np.random.default_rng(seed)
    x, y = random.random((n, d)), 0.7 * random.random((m, d)) + 0.2
    return x, y, random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m))


def dense(c, x, y, a, b, epsilon):
    """By the definition: self potentials to their fixed point, extended."""

    def potential(z, w):
        p = np.zeros(len(z))
        for _ in range(300):
            p = 0.5 * (p - epsilon * logsumexp((p - c(z, z)) / epsilon + np.log(w), axis=1))
        return lambda at: -epsilon * logsumexp((p - c(at, z)) / epsilon + np.log(w), axis=1)

    p, q = potential(x, a), potential(y, b)
    return 0.5 * (a @ (q(x) - p(x)) - b @ (q(y) - p(y)))


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("epsilon", [0.002, 0.1, 5.0])
@pytest.mark.parametrize("cost", FORMS)
def test_against_dense_algebra(cost, epsilon, engine):
    x, y, a, b = problem()
    h = hausdorff_divergence(x, y, a, b, epsilon=epsilon, cost=cost, tol=1e-10, engine=engine)
    # Its error is of first order in the marginal error, times epsilon.
    assert h.value == pytest.approx(dense(FORMS[cost], x, y, a, b, epsilon), rel=1e-10, abs=1e-11 * epsilon)
    assert h.converged and h.status == "converged" and h.marginal_error <= h.tol == 1e-10
    assert (h.engine, h.dtype, h.epsilon) == (engine, "float64", epsilon)
    assert h.n_iter == h.xx.n_iter + h.yy.n_iter > 2


@pytest.mark.parametrize("blur", [0.02, 0.1, 0.5])
def test_the_default_tolerance(blur):
    x, y, a, b = problem(150, 120, d=3)
    exact = hausdorff_divergence(x, y, a, b, blur=blur, tol=1e-12).value
    assert hausdorff_divergence(x, y, a, b, blur=blur).value == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("epsilon", [0.001, 0.05, 50.0])
@pytest.mark.parametrize("cost", FORMS)
def test_between_zero_and_the_sinkhorn_divergence(cost, epsilon, shift):
    x, y, a, b = problem()
    tight = dict(epsilon=epsilon, cost=cost, tol=1e-9)
    H = hausdorff_divergence(x, y + shift, a, b, **tight).value
    S = geomsink.sinkhorn_divergence(x, y + shift, a, b, **tight).value
    assert 0 < H < S
    assert hausdorff_divergence(x, x, a, a, **tight).value == pytest.approx(0.0, abs=1e-12 * epsilon)


def test_limit_of_high_temperatures():
    x, y, a, b = problem()
    # It differs from the limit by about C²/ε.
    found = hausdorff_divergence(x, y, a, b, epsilon=1e5, tol=1e-9).value
    assert found == pytest.approx(mmd(x, y, a, b, kernel="-sqeuclidean").value, rel=1e-4)
    for epsilon in (float("inf"), 1e12):
        with pytest.raises(ValueError, match=r"^blur, epsilon: epsilon .* is endless beside costs of .*geomsink.mmd"):
            hausdorff_divergence(x, y, a, b, epsilon=epsilon)


def test_masses_are_a_factor():
    x, y, a, b = problem()
    one = hausdorff_divergence(x, y, a, b, blur=0.1).value
    assert hausdorff_divergence(x, y, 3 * a, 3 * b, blur=0.1).value == pytest.approx(3 * one, rel=1e-12)


@pytest.mark.parametrize("cost", FORMS)
def test_derivatives_of_both_orders(cost):
    x, y, a, b = problem(4, 3)
    inputs = [torch.tensor(t, requires_grad=True) for t in (x, y, np.log(a), np.log(b), np.array(0.4))]

    def value(x, y, a, b, blur):
        return hausdorff_divergence(x, y, a.softmax(0), b.softmax(0), blur=blur, cost=cost, tol=1e-13).value

    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


def test_derivatives_in_a_learned_cost():
    x, y, a, b = (torch.tensor(t) for t in problem(6, 5))
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def value(w):
        cost = costs.Cost(name="learned", expression=lambda x, y, w: ((x - y) ** 2).sum(-1) * w, parameters=(w,))
        return hausdorff_divergence(x, y, a, b, epsilon=0.1, cost=cost, tol=1e-13).value

    assert torch.autograd.gradcheck(value, (weight,))


def gradients(engine, **options):
    inputs = [torch.tensor(t, requires_grad=True) for t in problem()]
    value = hausdorff_divergence(*inputs, blur=0.2, tol=1e-12, engine=engine, **options).value
    return torch.autograd.grad(value, inputs)


def test_gradients_of_the_compiled_engine():
    for found, expected in zip(gradients("keops"), gradients("dense"), strict=True):
        assert float(expected.abs().max()) > 1e-4
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_gradients_at_the_default_tolerance():
    x, y, a, b = (torch.tensor(t) for t in problem(150, 120, d=3))
    found = []
    for tol in (1e-3, 1e-12):
        moved = x.clone().requires_grad_()
        found.append(torch.autograd.grad(hausdorff_divergence(moved, y, a, b, blur=0.1, tol=tol).value, moved)[0])
    assert float((found[0] - found[1]).norm()) < 1e-3 * float(found[1].norm())


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_batches_in_three_forms(engine):
    items = [problem(n, m, seed) for n, m, seed in ((30, 25, 1), (41, 20, 2))]
    options = dict(blur=0.15, tol=1e-11, engine=engine)
    singles = [hausdorff_divergence(*item, **options).value for item in items]
    xs, ys, as_, bs = (list(part) for part in zip(*items, strict=True))
    index = [np.repeat(np.arange(2), [len(p) for p in part]) for part in (xs, ys)]
    flat = (np.concatenate(part) for part in (xs, ys, as_, bs))
    listed = hausdorff_divergence(xs, ys, as_, bs, **options)
    np.testing.assert_allclose(listed.value, singles, rtol=1e-9)
    indexed = hausdorff_divergence(*flat, **options, x_batch=index[0], y_batch=index[1])
    np.testing.assert_allclose(indexed.value, singles, rtol=1e-9)
    alike = hausdorff_divergence(*(np.stack([p[:20] for p in part]) for part in (xs, ys)), **options)
    cut = [hausdorff_divergence(item[0][:20], item[1][:20], **options).value for item in items]
    np.testing.assert_allclose(alike.value, cut, rtol=1e-9)


def test_far_clouds_whose_kernels_underflow():
    x, y, a, b = problem()
    found = hausdorff_divergence(x, y + 5.0, a, b, epsilon=0.002, tol=1e-10).value
    expected = dense(FORMS["sqeuclidean"], x, y + 5.0, a, b, 0.002)
    assert found == pytest.approx(expected, rel=1e-10) and expected > 20


def test_numpy_points_have_numpy_answers_whatever_the_blur_is():
    x, y, a, b = problem()
    found = hausdorff_divergence(x, y, a, b, blur=torch.tensor(0.1, dtype=torch.float64, requires_grad=True)).value
    assert type(found) is float and found == hausdorff_divergence(x, y, a, b, blur=0.1).value


def test_points_without_weight_do_not_count():
    x, y, a, b = problem()
    one = hausdorff_divergence(x, y, a, b, blur=0.1, tol=1e-10).value
    more = np.concatenate((x, x + 0.5)), y, np.concatenate((a, 0 * a)), b
    assert hausdorff_divergence(*more, blur=0.1, tol=1e-10).value == pytest.approx(one, rel=1e-10)


def test_large_clouds_on_several_levels():
    random = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2100, 2, generator=random) for _ in range(2))
    y = 0.9 * y
    single = hausdorff_divergence(x, y, blur=0.1)
    exact = hausdorff_divergence(x.double(), y.double(), blur=0.1, tol=1e-6).value
    assert (single.dtype, single.engine) == ("float32", "keops")
    assert float(single.value) == pytest.approx(float(exact), rel=1e-3)


def test_refusals_and_warnings():
    x, y, a, b = problem()
    with pytest.raises(ValueError, match=r"^blur, epsilon: neither was given"):
        hausdorff_divergence(x, y)
    with pytest.raises(ValueError, match=r"^a, b: they sum to 1 and 2; expected the same mass\.$"):
        hausdorff_divergence(x, y, a, 2 * b, blur=0.1)
    downhill = costs.Cost(
        name="downhill", expression=lambda x, y: ((x - y) ** 2).sum(-1) + (x - y).sum(-1), symmetric=False
    )
    with pytest.raises(ValueError, match=r"^cost: 'downhill' is not symmetric"):
        hausdorff_divergence(x, y, epsilon=0.1, cost=downhill)
    with pytest.warns(geomsink.ConvergenceWarning, match=r"^(xx|yy): not converged, max_iter=1 is reached"):
        h = hausdorff_divergence(x, y, a, b, blur=0.05, tol=1e-9, max_iter=1)
    assert not h.converged and h.status.startswith("xx: max_iter=1 is reached; yy: ")
