"""Problems whose answer is known: closed forms, dense algebra, assignments, limits and symmetries."""

import warnings

import numpy as np
import pytest
import torch
from reference import dense_ot, squared_distances
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import geomsink
from geomsink import sinkhorn_divergence, solve


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def clouds(n: int = 150, m: int = 120, d: int = 3, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = rng(seed)
    a, b = random.random(n) + 0.1, random.random(m) + 0.1
    return random.random((n, d)), random.random((m, d)) + 0.2, a / a.sum(), b / b.sum()


@pytest.mark.parametrize("epsilon", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("mass", [1.0, 3.7])
def test_dense_algebra(epsilon, mass):
    x, y, a, b = clouds()
    s = solve(x, y, mass * a, mass * b, epsilon=epsilon, tol=1e-11, max_iter=5000)
    value, cost, f, g = dense_ot(squared_distances(x, y), mass * a, mass * b, epsilon)
    assert s.value == pytest.approx(value, rel=1e-9)
    assert s.transport_cost == pytest.approx(cost, rel=1e-9)
    for mine, theirs in ((s.potentials[0], f), (s.potentials[1], g)):
        assert np.ptp(mine - theirs) < 1e-8 * epsilon
    assert a @ s.potentials[0] == pytest.approx(b @ s.potentials[1], abs=1e-12)


@pytest.mark.parametrize(
    ("cost", "metric"),
    [("euclidean", "euclidean"), ("cosine", "cosine"), ("power:1.5", lambda p, q: np.linalg.norm(p - q) ** 1.5)],
)
def test_dense_algebra_with_other_costs(cost, metric):
    x, y, a, b = clouds()
    s = solve(x, y, a, b, epsilon=0.1, cost=cost, tol=1e-11, max_iter=5000)
    value, transport, *_ = dense_ot(cdist(x, y, metric), a, b, 0.1)
    assert (s.value, s.transport_cost) == pytest.approx((value, transport), rel=1e-9)


def gaussian_ot(mean, A, B, epsilon: float) -> float:
    """OT_ε between Gaussians for ‖x−y‖² and KL relative to α ⊗ β (Janati et al. 2020, arXiv:2006.02572, thm 1).

    Their regularisation is 2σ² with the same reference measure, hence ε = 2σ².
    """
    d, s2 = len(mean), epsilon / 2
    root = np.real(sqrtm(A))
    D = np.real(sqrtm(4 * root @ B @ root + s2**2 * np.eye(d)))
    blur = (
        np.trace(A)
        + np.trace(B)
        - np.trace(D)
        + d * s2 * (1 - np.log(2 * s2))
        + s2 * np.linalg.slogdet(D + s2 * np.eye(d))[1]
    )
    return float(mean @ mean + blur)


def test_gaussians():
    """Large samples against the closed form, within four standard deviations of ten samples' mean."""
    random, d, n = rng(3), 2, 1500
    A, B = np.array([[0.5, 0.2], [0.2, 0.3]]), np.array([[0.4, -0.1], [-0.1, 0.7]])
    mean, epsilon = np.array([0.8, -0.5]), 0.5
    values, divergences = [], []
    for _ in range(10):
        x = random.multivariate_normal(np.zeros(d), A, n)
        y = random.multivariate_normal(mean, B, n)
        r = sinkhorn_divergence(x, y, epsilon=epsilon)
        values.append(r.xy.value)
        divergences.append(r.value)
    zero = np.zeros(d)
    expected = gaussian_ot(mean, A, B, epsilon)
    debiased = expected - 0.5 * gaussian_ot(zero, A, A, epsilon) - 0.5 * gaussian_ot(zero, B, B, epsilon)
    for found, truth in ((values, expected), (divergences, debiased)):
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert error < 0.03 * truth
        assert abs(np.mean(found) - truth) < 4 * error


@pytest.mark.parametrize("blur", [0.3, 0.05])
def test_translation(blur):
    x, _, a, _ = clouds()
    t = np.array([0.4, -0.2, 0.1])
    r = sinkhorn_divergence(x, x + t, a, a, blur=blur)
    assert r.value == pytest.approx(t @ t, rel=1e-5)


def test_translation_of_both_clouds_far_away():
    """Rounding follows the size of the clouds, not their distance from the origin."""
    x, y, *_ = clouds()
    near = sinkhorn_divergence(x, y, blur=0.1)
    far = sinkhorn_divergence(x + 1e6, y + 1e6, blur=0.1)
    assert far.value == pytest.approx(near.value, rel=1e-7)


def test_diracs():
    x, y = np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])
    for cost, value in (("sqeuclidean", 25.0), ("euclidean", 5.0), ("power:0.5", 5**0.5)):
        r = sinkhorn_divergence(x, y, epsilon=0.01, cost=cost)
        assert (r.value, r.xy.transport_cost) == pytest.approx((value, value), rel=1e-12)
    assert sinkhorn_divergence(x, x, epsilon=0.01).value == 0.0


def test_a_dirac_against_a_cloud():
    """The plan is the product: OT_ε = ⟨a, C⟩ at any ε."""
    x, _, a, _ = clouds()
    s = solve(x, np.zeros((1, 3)), a, None, epsilon=0.01, tol=1e-10)
    assert s.value == pytest.approx(a @ (x**2).sum(1), rel=1e-9)


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_assignment_as_epsilon_falls(engine):
    """Random points, where the assignment is not that of nearest neighbours: 0 ≤ ⟨P, C⟩ − optimum ≤ ε log n."""
    random = rng(5)
    x, y = random.random((60, 2)), random.random((60, 2))
    C = squared_distances(x, y)
    rows, columns = linear_sum_assignment(C)
    assert (columns != C.argmin(1)).sum() > 10
    exact = C[rows, columns].mean()
    solutions = [solve(x, y, epsilon=e, tol=1e-5, max_iter=5000, engine=engine) for e in (1e-1, 1e-2, 1e-3)]
    costs = [s.transport_cost for s in solutions]
    assert costs == sorted(costs, reverse=True)
    for s in solutions:
        assert exact * (1 - 1e-5) <= s.transport_cost <= exact + s.epsilon * np.log(60)
    assert costs[-1] == pytest.approx(exact, rel=0.02)


def test_permutation_as_epsilon_falls():
    """Points moved by less than their spacing, in another order: the plan is the permutation."""
    random = rng(6)
    x = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), -1).reshape(-1, 2) / 8
    order = random.permutation(64)
    y = (x + random.uniform(-0.03, 0.03, x.shape))[order]
    exact = ((x[order] - y) ** 2).sum(1).mean()
    s = solve(x, y, epsilon=2e-4, tol=1e-4)
    assert (linear_sum_assignment(squared_distances(x, y))[1] == np.argsort(order)).all()
    assert s.transport_cost == pytest.approx(exact, rel=1e-3)
    f, g = s.potentials
    assert ((f[:, None] + g - squared_distances(x, y)).argmax(1) == np.argsort(order)).all()


def test_kernel_limit():
    """ε → ∞: S is half the squared MMD of the kernel −C, reached at rate 1/ε and exactly at ε = ∞."""
    x, y, a, b = clouds()
    C = [cdist(p, q) for p, q in ((x, y), (x, x), (y, y))]
    mmd = a @ C[0] @ b - 0.5 * a @ C[1] @ a - 0.5 * b @ C[2] @ b
    limit = sinkhorn_divergence(x, y, a, b, epsilon=float("inf"), cost="euclidean")
    assert limit.converged and limit.value == pytest.approx(mmd, rel=1e-12)
    assert limit.xy.transport_cost == pytest.approx(a @ C[0] @ b, rel=1e-12)
    gaps = [
        abs(sinkhorn_divergence(x, y, a, b, epsilon=e, cost="euclidean", tol=1e-12).value - mmd)
        for e in (1e2, 1e3, 1e4)
    ]
    assert gaps[1] == pytest.approx(gaps[0] / 10, rel=0.05) and gaps[2] == pytest.approx(gaps[1] / 10, rel=0.05)
    # Beyond ε = 10⁸ times the cost the limit itself is computed: rounding of potentials of size ε would be more.
    for e in (1e7, 1e9, 1e12, 1e300):
        assert sinkhorn_divergence(x, y, a, b, epsilon=e, cost="euclidean").value == pytest.approx(mmd, rel=1e-6)
    assert sinkhorn_divergence(x, y, a, b, epsilon=1e6, cost="euclidean", tol=1e-12).value == pytest.approx(
        mmd, rel=1e-5
    )


@pytest.mark.parametrize("form", ["entropic", "sharp"])
def test_symmetry(form):
    x, y, a, b = clouds()
    there = sinkhorn_divergence(x, y, a, b, blur=0.1, form=form, tol=1e-9).value
    back = sinkhorn_divergence(y, x, b, a, blur=0.1, form=form, tol=1e-9).value
    assert there == pytest.approx(back, rel=1e-8)


def test_sharp_form():
    x, y, a, b = clouds()
    r = sinkhorn_divergence(x, y, a, b, blur=0.1, form="sharp", tol=1e-10)
    costs = [
        dense_ot(squared_distances(p, q), u, v, r.epsilon)[1]
        for p, q, u, v in ((x, y, a, b), (x, x, a, a), (y, y, b, b))
    ]
    assert r.value == pytest.approx(costs[0] - 0.5 * costs[1] - 0.5 * costs[2], rel=1e-8)


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", "power:0.5"])
@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
def test_never_negative(cost, scale):
    """Also for clouds far closer than the blur, where three numbers of order one cancel."""
    random = rng(7)
    x = random.random((40, 3))
    for _ in range(3):
        y = x + scale * random.normal(size=x.shape)
        assert sinkhorn_divergence(x, y, epsilon=0.1, cost=cost).value >= -1e-15
    assert abs(sinkhorn_divergence(x, x, epsilon=0.1, cost=cost).value) < 1e-15


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_splitting_and_permuting_points(engine):
    x, y, a, b = clouds()
    options = dict(blur=0.1, tol=1e-10, engine=engine)
    expected = sinkhorn_divergence(x, y, a, b, **options).value
    halves = np.concatenate((a[:50] / 2, a[50:], a[:50] / 2))
    assert sinkhorn_divergence(np.concatenate((x, x[:50])), y, halves, b, **options).value == pytest.approx(
        expected, rel=1e-9
    )
    order, other = rng(1).permutation(len(x)), rng(2).permutation(len(y))
    shuffled = sinkhorn_divergence(x[order], y[other], a[order], b[other], **options)
    assert shuffled.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_points_without_weight(engine):
    """They change nothing, and their potentials are the softmin that extends f to any point."""
    x, y, a, b = clouds()
    silent = np.concatenate((x, rng(9).random((30, 3)) * 2))
    weights = np.concatenate((a, np.zeros(30)))
    options = dict(blur=0.1, tol=1e-10, engine=engine)
    expected, found = solve(x, y, a, b, **options), solve(silent, y, weights, b, **options)
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    f, g = found.potentials
    epsilon = found.epsilon
    softmin = -epsilon * np.log(np.exp((g - squared_distances(silent, y)) / epsilon) @ b)
    assert np.abs(f - softmin).max() < 1e-6 * epsilon


def test_masses():
    """For masses m, KL is taken relative to a ⊗ b: S scales with m."""
    x, y, a, b = clouds()
    one = sinkhorn_divergence(x, y, a, b, blur=0.2, tol=1e-10)
    for mass in (1e-9, 40.0, 1e12):
        many = sinkhorn_divergence(x, y, mass * a, mass * b, blur=0.2, tol=1e-10)
        assert many.value == pytest.approx(mass * one.value, rel=1e-12)
        assert many.xy.transport_cost == pytest.approx(mass * one.xy.transport_cost, rel=1e-12)
    close = [sinkhorn_divergence(x, x + 1e-3, m * a, m * a, blur=0.5).value / m for m in (1.0, 1e-6, 1e6)]
    assert close == pytest.approx([3e-6] * 3, rel=1e-5)


@pytest.mark.parametrize("form", ["entropic", "sharp"])
def test_close_clouds_are_refined(form):
    """S(α, α + t) = ‖t‖² in both forms, to digits that the three problems' default tolerance would not give."""
    x = clouds(200)[0].astype(np.float32)
    t = np.float32([1e-2, 0.0, 0.0])
    r = sinkhorn_divergence(x, x + t, blur=0.3, form=form)
    assert r.value == pytest.approx(1e-4, rel=2e-5)  # float32 points are moved by t to 6e-6 of it
    assert r.converged and r.xy.history[0].epsilon == r.xy.temperatures[0] and len(r.xy.temperatures) > 1
    assert r.xy.n_iter == (r.xy.history[-1].evaluations + 1) // 2
    assert r.xy.seconds + r.xx.seconds + r.yy.seconds < r.seconds


def test_a_cost_of_the_users_own():
    name = "manhattan-of-a-test"
    geomsink.costs.register(name, lambda x, y: (x - y).abs().sum(-1), degree=1)
    try:
        x, y, a, b = clouds()
        expected = dense_ot(cdist(x, y, "cityblock"), a, b, 0.1)[0]
        for engine in ("dense", "keops"):
            assert solve(x, y, a, b, blur=0.1, cost=name, engine=engine, tol=1e-10).value == pytest.approx(
                expected, rel=1e-9
            )
    finally:
        geomsink.costs.unregister(name)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2100, 1), {}), ((2100, 1), {"form": "sharp"}), ((2100, 1), {"reach": 0.3}), ((2100, 1), {"certify": True}),
        ((3, 40, 2), {}), ((3, 40, 2), {"form": "sharp"}), ((3, 40, 2), {"reach": 0.3}),
    ],
    ids=str,
)  # fmt: skip
def test_equal_measures_are_0_apart(shape, options):
    """A small difference of three numbers elsewhere, and here one of three that are the same: nothing is off."""
    x = rng(0).random(shape)
    a = rng(1).random(shape[:-1])
    a /= a.sum(-1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = sinkhorn_divergence(x, x.copy(), a, a.copy(), blur=0.05, **options)
    assert r.converged and np.all(r.value == 0.0) and np.all(r.value_error == 0.0)
    if options.get("certify"):
        assert r.lower <= 0.0 <= r.upper
    other = sinkhorn_divergence(x, x.copy(), a, blur=0.05, **(options | {"certify": False}))
    assert np.all(other.value > 0.0)


def test_gradients_between_equal_measures_are_those_of_close_ones():
    x, a = torch.tensor(rng(2).random((60, 2))), torch.full((60,), 1 / 60, dtype=torch.float64)
    y = x.clone()

    def gradient(x):
        x, w = x.clone().requires_grad_(), a.clone().requires_grad_()
        return torch.autograd.grad(sinkhorn_divergence(x, y, w, a, blur=0.2, tol=1e-10).value, (x, w))

    assert all(float(part.abs().max()) < 1e-12 for part in gradient(x))
    step = 1e-5 * torch.tensor(rng(3).standard_normal((60, 2)))
    (ahead, _), (behind, _) = gradient(x + step), gradient(x - step)
    torch.testing.assert_close(ahead, -behind, rtol=1e-2, atol=1e-9)
