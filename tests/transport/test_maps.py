"""Maps and transfers of plans: against dense NumPy, Gaussians in closed form, SciPy's assignment, and autograd."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, softmax
from torch.autograd import grad, gradcheck

import geomsink
from geomsink import costs, sinkhorn_divergence, solve
from geomsink.transport import barycentric_map, displacement, entropic_map, transfer

A = np.array([[2.0, 0.3], [0.3, 0.7]])
COSTS = {
    "sqeuclidean": ("sqeuclidean", lambda x, y: cdist(x, y, "sqeuclidean")),
    "euclidean": ("euclidean", cdist),
    "power:1.5": ("power:1.5", lambda x, y: cdist(x, y) ** 1.5),
    "cosine": ("cosine", lambda x, y: cdist(x, y, "cosine")),
    "geodesic": ("geodesic", lambda x, y: np.arccos(1.0 - cdist(x, y, "cosine"))),
    "mahalanobis": (costs.mahalanobis(A), lambda x, y: cdist(x, y, "mahalanobis", VI=A) ** 2),
    "asymmetric": (
        costs.Cost(name="uphill", expression=lambda x, y: ((y - x).exp() + (x - y) ** 2).sum(-1), symmetric=False),
        lambda x, y: (np.exp(y[None] - x[:, None]) + (x[:, None] - y) ** 2).sum(-1),
    ),
}
MARGINALS = {
    "balanced": ({}, (np.inf, np.inf)),
    "kl": (dict(rho=0.5), (0.5, 0.5)),
    "semi": (dict(rho=(None, 0.2)), (np.inf, 0.2)),
}
TIGHT = dict(tol=1e-11, max_iter=20_000)


def problem(n=24, m=19, d=2, seed=0):
    random = np.random.default_rng(seed)
    x, y = random.random((n, d)) + 0.1, 0.7 * random.random((m, d)) + 0.4
    return x, y, random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m))


def potentials(C, a, b, epsilon, rho=(np.inf, np.inf), n_iter=1000):
    """Textbook updates, in float64."""
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(n_iter):
        f = -epsilon / (1 + epsilon / rho[0]) * logsumexp((g - C) / epsilon + np.log(b), axis=1)
        g = -epsilon / (1 + epsilon / rho[1]) * logsumexp((f[:, None] - C) / epsilon + np.log(a)[:, None], axis=0)
    return f, g


def conditional(C, h, weights, epsilon):
    """Rows of probabilities, from the other side's potential."""
    return softmax((h - C) / epsilon + np.log(weights), axis=1)


@pytest.mark.parametrize("marginals", MARGINALS)
@pytest.mark.parametrize("cost", COSTS)
def test_against_dense_algebra(cost, marginals):
    """Maps and labels, both ways, of old points and new ones."""
    (ground, dense), (options, rho) = COSTS[cost], MARGINALS[marginals]
    x, y, a, b = problem()
    z, random = np.array([[0.3, 0.4], [1.9, 0.2], [0.6, 5.0]]), np.random.default_rng(1)
    f, g = potentials(dense(x, y), a, b, 0.1, rho)
    s = solve(x, y, a, b, epsilon=0.1, cost=ground, **options, **TIGHT)
    P, Q = conditional(dense(x, y), g, b, 0.1), conditional(dense(x, y).T, f, a, 0.1)
    at_z = conditional(dense(z, y), g, b, 0.1), conditional(dense(x, z).T, f, a, 0.1)
    # Potentials are right to about 1e-11; the probabilities to that over epsilon, at z a little less.
    tight, loose = dict(rtol=0, atol=1e-9), dict(rtol=0, atol=1e-8)
    np.testing.assert_allclose(barycentric_map(s), P @ y, **tight)
    np.testing.assert_allclose(barycentric_map(s, reverse=True), Q @ x, **tight)
    np.testing.assert_allclose(entropic_map(s, z), at_z[0] @ y, **loose)
    np.testing.assert_allclose(entropic_map(s, z, reverse=True), at_z[1] @ x, **loose)
    # f cancels, whatever it is: old points are no exception.
    np.testing.assert_allclose(entropic_map(s, x), barycentric_map(s), **tight)
    np.testing.assert_allclose(entropic_map(s, y, reverse=True), barycentric_map(s, reverse=True), **tight)

    colours, heights = random.random((len(y), 5)) * 255.0, random.random(len(x))
    np.testing.assert_allclose(transfer(s, colours), P @ colours, rtol=0, atol=1e-7)
    np.testing.assert_allclose(transfer(s, heights, reverse=True), Q @ heights, **tight)
    np.testing.assert_allclose(transfer(s, colours, points=z), at_z[0] @ colours, rtol=0, atol=1e-6)
    names = np.array(["pear", "apple", "fig"])[random.integers(3, size=len(y))]
    votes = transfer(s, names, probabilities=True)
    shares = np.stack([P @ (names == name) for name in ("apple", "fig", "pear")], axis=1)
    assert votes.classes.tolist() == ["apple", "fig", "pear"]
    np.testing.assert_allclose(votes.probabilities, shares, **tight)
    np.testing.assert_array_equal(votes.labels, votes.classes[shares.argmax(1)])
    np.testing.assert_array_equal(transfer(s, names), votes.labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("marginals", ["balanced", "kl"])
def test_engines_agree(marginals, dtype):
    x, y, a, b = (t.astype(dtype) for t in problem(60, 50))
    options = dict(epsilon=0.05, dtype=dtype, tol=1e-4 if dtype == "float32" else 1e-10, **MARGINALS[marginals][0])
    found = []
    for engine in ("dense", "keops"):
        s = solve(x, y, a, b, engine=engine, **options)
        assert s.engine == engine
        outputs = barycentric_map(s), entropic_map(s, 3 * x, reverse=True), transfer(s, y[:, 0] > 0.7)
        assert [out.dtype for out in outputs] == [dtype, dtype, bool]
        found.append(outputs)
    # At 1e-4 the engines stop at potentials that differ by about as much; the tighter ones, by rounding.
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 if dtype == "float32" else 1e-8)


def test_derivatives_on_the_compiled_engine():
    x, y, a, b = (torch.tensor(t) for t in problem())
    found = []
    for engine in ("dense", "keops"):
        x.requires_grad_()
        s = solve(x, y, a, b, epsilon=0.2, engine=engine, differentiation="implicit", **TIGHT)
        found.append(grad((barycentric_map(s) ** 3).sum() + entropic_map(s, 2 * x).sin().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-9)


def test_gaussians_in_closed_form():
    """Janati et al. 2020 (arXiv:2006.02572), with 2σ² there our ε: between Gaussians the map is affine.

    On grids sums are integrals, to rounding, where they are finer than all widths and reach 7 deviations far.
    """
    epsilon, grid = 0.5, np.linspace(-1.0, 1.0, 34)
    means, covariances = np.array([[0.2, -0.4], [1.0, 0.5]]), [np.array([[0.5, 0.2], [0.2, 0.4]]), np.diag([0.3, 0.8])]
    clouds, weights = [], []
    for mean, covariance in zip(means, covariances, strict=True):
        side = 7.0 * np.sqrt(covariance.diagonal().max())
        points = side * np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
        weights.append(np.exp(-0.5 * (points * np.linalg.solve(covariance, points.T).T).sum(1)))
        clouds.append(mean + points)
        weights[-1] /= weights[-1].sum()

    def slope(S, T):
        R = sqrtm(S).real
        joint = 0.5 * R @ sqrtm(4.0 * R @ T @ R + 0.25 * epsilon**2 * np.eye(2)).real @ np.linalg.inv(R)
        return np.linalg.solve(S, joint - 0.25 * epsilon * np.eye(2)).T

    r = sinkhorn_divergence(*clouds, *weights, epsilon=epsilon, tol=1e-10)
    z = np.array([[0.3, 0.1], [-1.0, 0.8], [1.2, -1.3]])
    S, T = covariances
    forth, back = slope(S, T), slope(T, S)
    expected = means[1] + (z - means[0]) @ forth.T
    np.testing.assert_allclose(entropic_map(r.xy, z), expected, rtol=0, atol=1e-7)
    np.testing.assert_allclose(entropic_map(r.xy, z, reverse=True), means[0] + (z - means[1]) @ back.T, atol=1e-7)
    debiased = z + expected - (means[0] + (z - means[0]) @ slope(S, S).T)
    np.testing.assert_allclose(entropic_map(r, z), debiased, rtol=0, atol=1e-7)


def test_assignment_at_low_temperatures():
    random = np.random.default_rng(0)
    x = np.stack(np.meshgrid(np.arange(6.0), np.arange(5.0)), -1).reshape(-1, 2) + random.uniform(-0.2, 0.2, (30, 2))
    y = random.permutation(x + 0.4) + random.uniform(-0.2, 0.2, (30, 2))
    rows, matched = linear_sum_assignment(cdist(x, y, "sqeuclidean"))
    s = solve(x, y, epsilon=0.01, tol=1e-9)
    # Other assignments are worse by 0.8 or more, and weigh e⁻⁸⁰; fewer than half of the points have their nearest one.
    assert (cdist(x, y).argmin(1) == matched).mean() < 0.5
    np.testing.assert_allclose(barycentric_map(s), y[matched], atol=1e-8)
    np.testing.assert_array_equal(transfer(s, np.arange(30)), matched)
    np.testing.assert_array_equal(transfer(s, rows, reverse=True)[matched], rows)


@pytest.mark.parametrize("weights", [False, True])
def test_displacement_is_the_gradient(weights):
    x, y, *ab = (torch.tensor(t) for t in problem())
    a, b = ab if weights else (torch.ones(24).double() / 24, torch.ones(19).double() / 19)
    x.requires_grad_(), y.requires_grad_()
    r = sinkhorn_divergence(x, y, a, b, epsilon=0.1, **TIGHT)
    of_x, of_y = grad(r.value, (x, y))
    torch.testing.assert_close(displacement(r), -of_x / (2 * a[:, None]), rtol=0, atol=1e-8)
    torch.testing.assert_close(displacement(r, reverse=True), -of_y / (2 * b[:, None]), rtol=0, atol=1e-8)
    torch.testing.assert_close(entropic_map(r, x.detach()), x + displacement(r), rtol=0, atol=1e-12)
    assert not displacement(r).requires_grad  # with the envelope, plans are constants


@pytest.mark.parametrize("marginals", ["balanced", "kl"])
def test_no_displacement_of_a_cloud_to_itself(marginals):
    x, _, a, _ = problem()
    r = sinkhorn_divergence(x, x, a, a, epsilon=0.05, **MARGINALS[marginals][0], **TIGHT)
    np.testing.assert_allclose(displacement(r), 0.0, atol=1e-9)
    assert np.abs(barycentric_map(r.xy) - x).max() > 0.01  # which shrinks
    z = x[:3] + 5.0
    np.testing.assert_allclose(entropic_map(r, z), z, atol=1e-7)


@pytest.mark.parametrize(
    "mode", [dict(differentiation="implicit", **TIGHT), dict(differentiation="unrolled", iterations=9)]
)
def test_derivatives(mode):
    x, y, a, b = (torch.tensor(t) for t in problem(6, 5))
    z, w = torch.tensor([[0.3, 0.4], [1.5, 0.9]]).double(), torch.linspace(-1, 1, 5).double()

    def function(x, y, b, epsilon, z, w):
        r = sinkhorn_divergence(x, y, a, b.softmax(0), epsilon=epsilon, **mode)
        s = r.xy
        both = barycentric_map(s), barycentric_map(s, reverse=True), displacement(r), entropic_map(r, z)
        return *both, transfer(s, w), transfer(s, w, points=z)

    inputs = (x, y, b.log(), torch.tensor(0.2).double(), z, w)
    assert gradcheck(function, tuple(t.requires_grad_() for t in inputs), rtol=1e-4, atol=1e-6, fast_mode=True)


def test_new_points_of_other_precisions():
    x, y, *_ = problem()
    s, z = solve(x.astype("float32"), y.astype("float32"), epsilon=0.1), np.array([[0, 1], [1, 2]])
    assert entropic_map(s, z.astype("float16")).dtype == np.float32
    assert entropic_map(s, z).dtype == np.float64
    np.testing.assert_allclose(entropic_map(s, z), entropic_map(s, z.astype("float32")), rtol=1e-6)


def test_the_map_of_a_constant_plan_is_differentiated_in_new_points_and_labels():
    x, y, a, b = problem(8, 7)
    s = solve(*(torch.tensor(t) for t in (x, y, a, b)), epsilon=0.2)
    z, w = torch.rand(3, 2, dtype=torch.float64), torch.rand(7, 2, dtype=torch.float64)
    assert gradcheck(
        lambda z, w: (entropic_map(s, z), transfer(s, w, points=z)), (z.requires_grad_(), w.requires_grad_())
    )
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    enveloped = solve(torch.tensor(x), torch.tensor(y), epsilon=0.2, cost=costs.mahalanobis(weights))
    assert not entropic_map(enveloped, z.detach()).requires_grad
    endless = solve(torch.tensor(x), torch.tensor(y), epsilon=float("inf"))
    mapped = entropic_map(endless, z)
    torch.testing.assert_close(mapped, torch.tensor(y).mean(0).expand(3, 2))
    assert not grad(mapped.sum(), z)[0].any()


def test_points_without_mass():
    """They go where points of little weight would, and are seen by nobody."""
    x, y, a, b = problem()
    silent, vanishing = a.copy(), a.copy()
    silent[3], vanishing[3] = 0.0, 1e-12
    silent, vanishing = silent / silent.sum(), vanishing / vanishing.sum()
    b = np.append(b, 0.0)
    y = np.append(y, [[40.0, 40.0]], axis=0)
    s = solve(x, y, silent, b, epsilon=0.05, **TIGHT)
    np.testing.assert_allclose(
        barycentric_map(s), barycentric_map(solve(x, y, vanishing, b, epsilon=0.05, **TIGHT)), atol=1e-8
    )
    assert np.isfinite(barycentric_map(s, reverse=True)).all() and barycentric_map(s).max() < y[:-1].max()
    votes = transfer(s, np.arange(len(y)) == len(y) - 1, probabilities=True)
    assert votes.classes.tolist() == [False, True] and not votes.labels.any() and votes.probabilities[:, 1].max() == 0.0


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_points_that_an_unbalanced_plan_leaves_behind(engine):
    """Rows of mass e⁻⁵⁰⁰⁰⁰, in float32, near which the plan is what it is for points at infinity."""
    x, y, *_ = (t.astype("float32") for t in problem())
    x[5] = 50.0
    s = solve(x, y, epsilon=0.1, reach=0.15, engine=engine, dtype="float32", tol=1e-2)
    assert (s.plan @ np.ones(len(y), "float32"))[5] < 1e-30
    mapped = barycentric_map(s)
    nearest = y[(y.sum(1)).argmax()]  # differences of costs are hundreds of epsilon there
    np.testing.assert_allclose(mapped[5], nearest, atol=1e-3)
    np.testing.assert_allclose(entropic_map(s, x[5:6]), mapped[5:6], atol=1e-3)


def test_far_from_the_clouds_float32_is_not_enough():
    """Exponents at points 3,000 to the side of clouds on a line are of size 1e8, which float32 rounds by 8."""
    x, y, a, b = (t.astype("float32") for t in problem())
    x[:, 0] = y[:, 0] = 0.0
    s = solve(x, y, a, b, epsilon=0.05, dtype="float32", tol=1e-4)
    z = np.array([[3000.0, 0.4], [-3000.0, 0.9]], dtype="float32")
    at_z = conditional(cdist(z, y, "sqeuclidean"), s.potentials[1].astype(float), b.astype(float), 0.05)
    assert at_z.max() < 0.5
    # The potentials that were looked at are rounded to float32, as the result is.
    np.testing.assert_allclose(entropic_map(s, z), at_z @ y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("form", ["tensor", "list", "index"])
def test_batches(form, engine):
    sizes = [(9, 7), (9, 7)] if form == "tensor" else [(9, 7), (5, 11)]
    items = [[torch.tensor(t) for t in problem(n, m, seed=k)] for k, (n, m) in enumerate(sizes)]
    labels = [torch.tensor([0, 1, 5, 5, 0, 5, 1, 1, 1, 0, 9][:m]) for _, m in sizes]
    z = [item[0][:4] + 0.1 for item in items]
    together = {"tensor": torch.stack, "list": list, "index": torch.cat}[form]
    given = [together([item[k] for item in items]) for k in range(4)]
    index = {}
    if form == "index":
        index = {f"{'xy'[k]}_batch": torch.repeat_interleave(torch.tensor([s[k] for s in sizes])) for k in (0, 1)}
    s = solve(*given, epsilon=0.1, engine=engine, **index, **TIGHT)
    votes = transfer(s, together(labels), probabilities=True)
    found = [
        barycentric_map(s), barycentric_map(s, reverse=True), transfer(s, together([item[1][:, 0] for item in items])),
        *votes[:2], entropic_map(s, torch.stack(z) if form == "tensor" else z), transfer(s, together(labels), points=z),
    ]  # fmt: skip
    shares = []
    for k, (item, (n, m)) in enumerate(zip(items, sizes, strict=True)):
        one = solve(*item, epsilon=0.1, **TIGHT)
        of_one = transfer(one, labels[k], probabilities=True)
        shares.append(torch.zeros(n, len(votes.classes)).double())
        shares[-1][:, torch.isin(votes.classes, of_one.classes)] = of_one.probabilities
        expected = [
            barycentric_map(one), barycentric_map(one, reverse=True), transfer(one, item[1][:, 0]),
            of_one.labels, shares[-1], entropic_map(one, z[k]), transfer(one, labels[k], points=z[k]),
        ]  # fmt: skip
        starts = [sum(size[side] for size in sizes[:k]) for side in (0, 1)]
        for j, (whole, single) in enumerate(zip(found, expected, strict=True)):
            if form == "index" and j < 5:
                side = int(j == 1)
                part = whole[starts[side] : starts[side] + (n, m)[side]]
            else:
                part = whole[k]
            torch.testing.assert_close(part, single, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="^points: 1 arrays were given, expected 2, one a pair of clouds.$"):
        entropic_map(s, z[:1])


def test_kinds_of_labels():
    x, y, *_ = problem(12, 12)
    y = x + 0.01
    s = solve(x, y, epsilon=1e-3, tol=1e-6)
    for given in (
        np.arange(12, dtype="uint8"), torch.arange(12, dtype=torch.int32), [f"k{k:02}" for k in range(12)],
        np.array(list("abcdefghijkl"), dtype=object), np.arange(12) % 2 == 0, np.arange(12)[::-1].astype("int16"),
    ):  # fmt: skip
        found = transfer(s, given)
        assert type(found) is (torch.Tensor if isinstance(given, torch.Tensor) else np.ndarray)
        assert list(found) == list(given) and (not hasattr(given, "dtype") or given.dtype in (object, found.dtype))
    for number in (torch.arange(12.0), np.arange(12).astype("float16"), np.arange(12).astype(">f4")):
        found = transfer(s, number)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, transfer(s, np.arange(12.0)), rtol=0, atol=1e-12)
    tensors = solve(torch.tensor(x), torch.tensor(y), epsilon=1e-3, tol=1e-6)
    assert transfer(tensors, [0.5] * 12).dtype == torch.float64
    assert transfer(tensors, ["a"] * 11 + ["b"])[-1] == "b"


def test_many_classes():
    """More than are voted on at a time."""
    x, y, a, b = problem(40, 200)
    s = solve(x, y, a, b, epsilon=0.05, **TIGHT)
    labels = np.arange(200) // 2 * 3
    votes = transfer(s, labels, probabilities=True)
    P = s.plan @ (labels[:, None] == np.unique(labels)).astype(float) / a[:, None]
    np.testing.assert_allclose(votes.probabilities, P, atol=1e-10)
    np.testing.assert_allclose(votes.probabilities.sum(1), 1.0, atol=1e-12)
    np.testing.assert_array_equal(votes.labels, 3 * P.argmax(1))


def test_large_numbers_keep_their_digits():
    """float32 rounds what numbers differ by."""
    x, y, *_ = (t.astype("float32") for t in problem())
    far = solve(x.astype(float) + 1e6, y.astype(float) + 1e6, epsilon=0.1, dtype="float32", tol=1e-4)
    near = solve(x.astype(float), y.astype(float), epsilon=0.1, dtype="float32", tol=1e-4)
    np.testing.assert_allclose(barycentric_map(far) - 1e6, barycentric_map(near), atol=1e-5)


def test_errors_are_sentences():
    x, y, *_ = problem()
    r = sinkhorn_divergence(x, y, blur=0.3)
    s, z, flat = r.xy, x.copy(), torch.tensor(x)
    z[2, 1] = np.nan
    for wrong, kind, sentence in [
        (lambda: barycentric_map(r), TypeError, "solution: a Divergence was given, expected a Solution, such as .*"),
        (lambda: barycentric_map(s.plan), TypeError, "solution: a Plan was given, expected a Solution of .*"),
        (lambda: displacement(s), TypeError, "divergence: a Solution was given, expected a Divergence of geomsink.*"),
        (lambda: entropic_map(3, x), TypeError, "solution: a int was given, expected a Solution of geomsink.solve."),
        (lambda: entropic_map(s, x[:, :1]), ValueError, r"points: shape is \(24, 1\), expected \(points, 2\)."),
        (lambda: entropic_map(s, x[0]), ValueError, r"points: shape is \(2,\), expected \(points, 2\)."),
        (lambda: entropic_map(s, x[:0]), ValueError, r"points: shape is \(0, 2\), expected \(points, 2\)."),
        (lambda: entropic_map(r, z), ValueError, "points: 1 of 48 numbers are NaN or infinite; expected finite .*"),
        (lambda: entropic_map(s, 1e200 * x), ValueError, "points: costs reach inf, expected less than 1e.290."),
        (lambda: entropic_map(s, flat), TypeError, "points: a Tensor was given, but the clouds are NumPy arrays; .*"),
        (lambda: entropic_map(s, 1j * x), TypeError, "points: dtype is complex128, expected real numbers of .*"),
        (lambda: transfer(s, y[:-1, 0]), ValueError,
         r"labels: numbers of shape \(18,\) were given, expected shape \(19,\) or \(19, E\)."),
        (lambda: transfer(s, np.arange(24)), ValueError,
         r"labels: integers of shape \(24,\) were given, expected shape \(19,\)."),
        (lambda: transfer(s, np.ones((19, 3), "uint8")), ValueError, r"labels: integers of shape \(19, 3\) were .*"),
        (lambda: transfer(s, y[:, 0] / 0), ValueError, "labels: 19 of 19 numbers are NaN or infinite; .*"),
        (lambda: transfer(s, y * 1j), TypeError, "labels: dtype is complex128, expected numbers, integers, .*"),
        (lambda: transfer(s, [None] * 19), TypeError, "labels: dtype is object, expected numbers, integers, .*"),
        (lambda: transfer(s, "word"), ValueError, "labels: 'word' was given, expected an array, with a label a point."),
        (lambda: transfer(s, y, probabilities=True), ValueError, "probabilities: True given with labels that are .*"),
    ]:  # fmt: skip
        with np.errstate(divide="ignore"), pytest.raises(kind, match=f"^{sentence}$"):
            wrong()
    batch = solve([x, x[:9]], [y, y], blur=0.3)
    with pytest.raises(TypeError, match="^labels: a ndarray was given, expected a list of arrays, as the clouds are.$"):
        transfer(batch, np.ones((2, 19)))
    with pytest.raises(TypeError, match="^labels: integers and numbers are mixed, expected one kind.$"):
        transfer(batch, [np.ones(19), np.arange(19)])
    with pytest.raises(TypeError, match="^labels: booleans and integers are mixed, expected one kind.$"):
        transfer(batch, [torch.ones(19).bool(), np.arange(19)])
    with pytest.raises(ValueError, match="^labels: 0 arrays were given, expected 2, one a cloud.$"):
        transfer(batch, [])
    with pytest.raises(ValueError, match=r"^labels: items of \(19, 18\) rows were given, expected \(19, 19\)"):
        transfer(batch, [np.ones(19), np.ones(18)])
    with pytest.raises(ValueError, match=r"^points: shape is \(24, 2\), expected \(2, points, 2\).$"):
        entropic_map(batch, x)
    assert geomsink.transport.transfer is transfer
