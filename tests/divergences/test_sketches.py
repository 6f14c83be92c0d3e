"""Sketches in the place of clouds: against divergences of all points, sums over all pairs, and finite differences."""

import copy
import pickle
from functools import cache

import numpy as np
import pytest
import torch

import geomsink
from geomsink import sinkhorn_divergence, sketch, solve

BLUR, N, MANY = 0.1, 6_000, 40_000
ALL = dict(blur=BLUR, tol=1e-4)


@cache
def clouds():
    """Two surfaces in the unit cube, in float64."""
    return tuple(
        geomsink.shapes.sample(name, N, seed=k, normalize=True).astype(np.float64)
        for k, name in enumerate(("shape:knot", "shape:star"))
    )


@cache
def sketches():
    return tuple(sketch(cloud, blur=BLUR) for cloud in clouds())


@cache
def whole():
    return sinkhorn_divergence(*clouds(), **ALL)


def kernel_means(points, weights, targets, blur=BLUR):
    squared = ((targets[:, None] - points[None]) ** 2).sum(-1)
    return np.exp(-squared / (2.0 * blur**2)) @ weights


@pytest.fixture
def targets():
    return clouds()[0][:: N // 100] + np.random.default_rng(0).normal(scale=0.5 * BLUR, size=(100, 3))


def test_kernel_means_are_those_of_all_points(targets):
    x, small = clouds()[0], sketches()[0]
    exact = kernel_means(x, np.full(N, 1.0 / N), targets)
    for blur, most in ((BLUR, 1e-5), (2.0 * BLUR, 2e-6)):
        exact = kernel_means(x, np.full(N, 1.0 / N), targets, blur)
        found = kernel_means(small.points, small.weights, targets, blur)
        assert abs(found - exact).max() < most * exact.max()


def test_what_a_sketch_is():
    x, small = clouds()[0], sketches()[0]
    assert len(small) < N / 2 and small.points.shape == (len(small), 3) and small.points.dtype == np.float64
    assert {tuple(p) for p in small.points} <= {tuple(p) for p in x}
    assert (small.weights < 0.0).any() and 0.0 < small.negative < 0.2
    assert (small.nearby >= 0.0).all() and small.mass == pytest.approx(1.0, abs=1e-12)
    assert (small.blur, small.count, small.weighted, small.accuracy) == (pytest.approx(BLUR), N, False, 3e-4)
    assert repr(small).startswith(f"Sketch({len(small):,} points for 6,000, dimension 3, blur=0.1, cost='sqeuclidean'")


@pytest.mark.parametrize(("reach", "penalty"), [(None, "kl"), ((0.3, None), "kl"), (0.3, "l2")])
def test_divergences_are_those_of_all_points(reach, penalty):
    (x, y), (sx, sy) = clouds(), sketches()
    expected = whole() if reach is None else sinkhorn_divergence(x, y, reach=reach, penalty=penalty, **ALL)
    for one, other in ((sx, sy), (sx, y), (x, sy))[0 if reach is None else 2 :]:
        found = sinkhorn_divergence(one, other, blur=BLUR, reach=reach, penalty=penalty)
        assert found.converged and found.value == pytest.approx(expected.value, rel=1e-5)
    assert found.xy.strategy == "sketched" and found.yy.strategy == "sketched"
    assert found.xy.approximation.nodes[1] == len(sy) and found.xy.approximation.audited == (True, False)
    assert found.xy.approximation.accuracy >= sy.accuracy


def test_larger_blurs_are_served():
    (x, y), (sx, sy) = clouds(), sketches()
    expected = sinkhorn_divergence(x, y, blur=2.0 * BLUR, tol=1e-4).value
    assert sinkhorn_divergence(sx, sy, blur=2.0 * BLUR).value == pytest.approx(expected, rel=1e-5)


def test_few_points_against_a_sketch():
    """However small the other cloud: strategies for all pairs know nothing of negative weights."""
    x, sy = clouds()[0][:50], sketches()[1]
    expected = sinkhorn_divergence(x, clouds()[1], **ALL).value
    assert sinkhorn_divergence(x, sy, blur=BLUR).value == pytest.approx(expected, rel=1e-5)
    tiny = sketch(x, blur=BLUR)
    assert sinkhorn_divergence(tiny, sy, blur=BLUR).value == pytest.approx(expected, rel=1e-5)
    assert sinkhorn_divergence(tiny, tiny, blur=BLUR).value == 0.0


def test_gradients_at_points_are_those_of_all_points():
    x, y = (torch.from_numpy(cloud) for cloud in clouds())
    generated = x[:2000].clone().requires_grad_()
    loss = geomsink.SinkhornDivergence(**ALL)
    loss(generated, y).backward()
    expected, generated.grad = generated.grad, None
    target = sketches()[1]  # NumPy's: it follows the points
    loss = geomsink.SinkhornDivergence(blur=BLUR)
    loss(generated, target).backward()
    assert float((generated.grad - expected).norm() / expected.norm()) < 1e-3
    before = loss.report.yy
    loss(generated, target)
    assert loss.report.yy.seconds == before.seconds  # the target's self problem is kept


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 3, dtype=torch.float64, generator=generator).requires_grad_()
    a = (torch.rand(40, dtype=torch.float64, generator=generator) + 0.1).requires_grad_()
    direction = torch.randn(40, 3, dtype=torch.float64, generator=generator)
    blur = torch.tensor(1.1 * BLUR, dtype=torch.float64, requires_grad=True)
    given, target = (x, a, blur), sketches()[1]
    directions = direction, direction[:, 0].abs(), torch.ones((), dtype=torch.float64)

    def value(points, weights, length):
        return sinkhorn_divergence(points, target, weights, blur=length, tol=1e-7, reach=0.5).value

    gradients = torch.autograd.grad(value(*given), given)
    h = 1e-4
    for k, gradient in enumerate(gradients):
        with torch.no_grad():
            ends = [
                float(value(*(t + step * directions[k] if j == k else t for j, t in enumerate(given))))
                for step in (h, -h)
            ]
        expected = (ends[0] - ends[1]) / (2.0 * h)
        assert float((gradient * directions[k]).sum()) == pytest.approx(expected, rel=2e-4)


def test_a_solve_and_its_plan():
    (x, y), sx = clouds(), sketches()[0]
    s, exact = solve(sx, y, blur=BLUR), solve(x, y, **ALL)
    assert s.value == pytest.approx(exact.value, rel=1e-5)
    assert s.transport_cost == pytest.approx(exact.transport_cost, rel=1e-4)
    assert s.plan.mass == pytest.approx(1.0, abs=1e-3)
    assert abs(s.plan.row_marginal() - sx.weights).sum() < 5e-3
    assert abs(s.plan.column_marginal() - 1.0 / N).sum() < 1e-3
    coordinates = y[:, :1]
    some = slice(0, 20)
    assert s.plan.to_dense(some) @ coordinates == pytest.approx((s.plan @ coordinates)[some], abs=1e-9)
    assert s.plan.linear_operator() @ coordinates == pytest.approx(s.plan @ coordinates, abs=1e-9)
    for refused in (lambda: s.plan.top_k(1), lambda: s.plan.to_sparse(0.1), lambda: s.plan.sample(3)):
        with pytest.raises(ValueError, match="negative entries"):
            refused()


def test_sharp_values():
    x, y = (cloud[:1500] for cloud in clouds())
    expected = sinkhorn_divergence(x, y, form="sharp", **ALL).value
    found = sinkhorn_divergence(sketch(x, blur=BLUR), sketch(y, blur=BLUR), blur=BLUR, form="sharp").value
    assert found == pytest.approx(expected, rel=1e-4)


def test_discrepancies_are_those_of_all_points():
    (x, y), (sx, sy) = clouds(), sketches()
    expected = geomsink.mmd(x, y, blur=[BLUR, 0.3]).value
    assert geomsink.mmd(sx, sy, blur=[BLUR, 0.3]).value == pytest.approx(expected, rel=1e-5)
    assert geomsink.mmd(sx, y, blur=[BLUR, 0.3]).value == pytest.approx(expected, rel=1e-5)
    points = torch.from_numpy(x[:500]).requires_grad_()
    geomsink.MMD(blur=BLUR)(points, sy).backward()
    found, points.grad = points.grad, None
    geomsink.MMD(blur=BLUR)(points, torch.from_numpy(y)).backward()
    assert float((found - points.grad).norm() / points.grad.norm()) < 1e-4


@cache
def many():
    """Enough points for each of 64 parts to have a sketch; their divergence, and that of their sketches."""
    found = tuple(
        geomsink.shapes.sample(name, MANY, seed=k, normalize=True)
        for k, name in enumerate(("shape:knot", "shape:star"))
    )
    direct = [sketch(cloud, blur=BLUR) for cloud in found]
    values = (sinkhorn_divergence(*pair, blur=BLUR).value for pair in (found, direct))
    return found, *values, len(direct[0])


@pytest.mark.parametrize(("k", "how"), [(4, "at random"), (64, "in slabs")])
def test_merged_sketches_are_the_direct_one(k, how):
    both, of_all, direct, size = many()
    drawn = np.random.default_rng(k).permutation(MANY)
    orders = [drawn if how == "at random" else cloud[:, 0].argsort() for cloud in both]
    parts = [
        [sketch(cloud[part], blur=BLUR) for part in np.array_split(order, k)]
        for cloud, order in zip(both, orders, strict=True)
    ]
    assert sum(map(len, parts[0])) < 0.5 * MANY
    for turned in (slice(None), slice(None, None, -1)):
        merged = [some[turned][0].merge(some[turned][1:]) for some in parts]
        assert [one.count for one in merged] == [MANY] * 2 and len(merged[0]) < 1.1 * size
        value = sinkhorn_divergence(*merged, blur=BLUR).value
        assert value == pytest.approx(direct, rel=1e-5) and value == pytest.approx(of_all, rel=1e-5)


def test_merging_keeps_the_weights_of_clouds(targets):
    x = clouds()[0]
    uniform = sketch(x[:5000], blur=BLUR).merge(sketch(x[5000:6000], blur=BLUR))
    assert uniform.mass == pytest.approx(1.0) and uniform.count == 6000
    exact = kernel_means(x[:6000], np.full(6000, 1.0 / 6000), targets)
    assert abs(kernel_means(uniform.points, uniform.weights, targets) - exact).max() < 1e-5 * exact.max()
    a = np.random.default_rng(0).random(6000)
    weighted = sketch(x[:5000], a[:5000], blur=BLUR).merge([sketch(x[5000:6000], a[5000:], blur=BLUR)])
    assert weighted.mass == pytest.approx(a.sum())
    exact = kernel_means(x[:6000], a, targets)
    assert abs(kernel_means(weighted.points, weighted.weights, targets) - exact).max() < 1e-5 * exact.max()


def test_what_cannot_be_merged():
    x = clouds()[0][:500]
    one = sketch(x, blur=BLUR)
    for other, said in (
        (sketch(x, blur=0.2), "epsilon 0.08, expected 0.02"),
        (sketch(x, epsilon=one.epsilon, cost="cosine"), "its cost is 'cosine', expected 'sqeuclidean'"),
        (sketch(x[:, :2], blur=BLUR), "2 coordinates a point, expected 3"),
        (sketch(x, np.ones(500), blur=BLUR), "of a cloud with weights, expected one without weights"),
    ):
        with pytest.raises(ValueError, match=said):
            one.merge([one, other])
    with pytest.raises(TypeError, match=r"others\[0\]: a int was given, expected a Sketch"):
        one.merge([3])


def test_points_are_those_before_the_features_of_a_cost():
    x, y = (cloud[:5000] + 1.0 for cloud in clouds())
    small = sketch(x, epsilon=0.02, cost="cosine")
    assert {tuple(p) for p in small.points} <= {tuple(p) for p in x} and len(small) < 1000
    expected = sinkhorn_divergence(x, y, epsilon=0.02, cost="cosine", tol=1e-4).value
    found = sinkhorn_divergence(small, y, epsilon=0.02, cost="cosine")  # 0.03 epsilon, of which a sketch loses 6e-6
    assert found.converged and found.value == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize("kind", ["arrays", "pairs", "memmap", "folder", "files", "tensors", "array"])
def test_streams_are_the_cloud(kind, tmp_path, targets, monkeypatch):
    monkeypatch.setattr("geomsink.divergences.streams.PIECE", 3000)
    monkeypatch.setattr("geomsink.divergences.streams.TOGETHER", 3)
    x = clouds()[0]
    parts, a = np.array_split(x, 7), np.full(N, 1.0 / N)
    for k, part in enumerate(parts):
        geomsink.shapes.write(tmp_path / f"{k}.npz", part)
    mapped = np.lib.format.open_memmap(tmp_path / "all.npy", mode="w+", dtype=x.dtype, shape=x.shape)
    mapped[:] = x
    mapped.flush()
    chunks = {
        "arrays": iter(parts),
        "pairs": zip(parts, np.array_split(2.0 * a, 7), strict=True),
        "memmap": np.load(tmp_path / "all.npy", mmap_mode="r"),
        "folder": tmp_path,
        "files": [tmp_path / f"{k}.npz" for k in range(7)],
        "tensors": (torch.from_numpy(part) for part in parts),
        "array": x,
    }[kind]
    if kind == "folder":
        (tmp_path / "all.npy").unlink()
    small = sketch(chunks=chunks, blur=BLUR)
    assert (
        small.count == N
        and len(small) < 1.1 * len(sketches()[0])
        and isinstance(small.points, type(torch.zeros(0) if kind == "tensors" else x))
    )
    exact = (2.0 if kind == "pairs" else 1.0) * kernel_means(x, a, targets)
    found = kernel_means(np.asarray(small.points), np.asarray(small.weights), targets)
    assert abs(found - exact).max() < 1e-5 * exact.max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(), "x, chunks: neither was given"),
        (dict(x=np.zeros((3, 2)), chunks=[np.zeros((3, 2))]), "x, chunks: both were given"),
        (dict(chunks=[np.zeros((3, 2))], a=np.ones(3)), "a: given with chunks"),
        (dict(chunks=[]), "there are no points in them"),
        (dict(chunks=3), "chunks: a int was given"),
        (dict(chunks=np.zeros(3)), r"chunks: shape is \(3,\)"),
        (dict(chunks=[np.zeros((3, 2)), np.full((2, 2), np.nan)]), r"chunks\[1\]: 4 of 4 numbers are NaN"),
        (dict(chunks=[np.zeros((3, 2)), np.zeros((3, 3))]), "points of 3 coordinates come after some of 2"),
        (dict(chunks=[np.zeros((3, 2)), (np.zeros((3, 2)), np.ones(3))]), "some have weights and others none"),
        (dict(chunks=[(np.zeros((3, 2)), np.ones(2))]), r"chunks\[0\]: 2 weights for 3 points"),
        (dict(chunks=[np.zeros((3, 2)), torch.zeros(3, 2)]), "torch tensors and other arrays are mixed"),
        (dict(x=np.zeros((2, 3, 2))), "expected one cloud"),
        (dict(x=np.zeros((3, 2)), accuracy=0.0), "accuracy: 0.0 given"),
        (dict(x=np.zeros((3, 2)), accuracy="low"), "accuracy: a str was given"),
        (dict(x=np.zeros((3, 2)), cost="euclidean"), "'euclidean' given, whose kernel .* is not smooth at 0"),
        (dict(x=np.zeros((3, 2)), blur=None), "blur, epsilon: neither was given"),
        (dict(x=np.zeros((3, 2)), blur=None, epsilon=np.inf), "expected a finite temperature"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        sketch(**{"blur": BLUR, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, x: sinkhorn_divergence(s, x, blur=0.05), r"x: a sketch for a blur of 0.1 .* at epsilon 0.005"),
        (lambda s, x: sinkhorn_divergence(x, s, epsilon=0.02, cost="cosine"), "y: a sketch for the cost 'sqeuclidean'"),
        (lambda s, x: sinkhorn_divergence(s, x, np.ones(len(s)), blur=BLUR), "a: given with a Sketch"),
        (lambda s, x: sinkhorn_divergence(x, s, blur=BLUR, y_batch=np.zeros(3)), "y_batch: given with a Sketch"),
        (lambda s, x: sinkhorn_divergence(x[None], s, blur=BLUR), "batches of 1 and none clouds"),
        (lambda s, x: sinkhorn_divergence(s, x, blur=BLUR, certify=True), "certify: given with a Sketch"),
        (lambda s, x: solve(s, x, blur=BLUR, tol_gap=0.1), "tol_gap: given with a Sketch"),
        (lambda s, x: solve(s, x, blur=BLUR, differentiation="implicit"), "differentiation: 'implicit' given"),
        (lambda s, x: solve(s, x, blur=BLUR, differentiation="unrolled", iterations=3), "'unrolled' given with"),
        (lambda s, x: solve(s, x, blur=BLUR, reach=1.0, penalty="tv"), "penalty: 'tv' given with a Sketch"),
        (lambda s, x: solve(s, x, epsilon=np.inf), "epsilon: inf, or so much that the limit is computed"),
        (lambda s, x: solve(s, x, epsilon=1e20), "epsilon: inf, or so much that the limit is computed"),
        (lambda s, x: solve(s, x, x[:, 0], blur=BLUR), "a: given with a Sketch"),
        (lambda s, x: solve(s, x, b=2.0 + 0.0 * x[:, 0], blur=BLUR), "they sum to 1 and 1000"),
        (lambda s, x: geomsink.mmd(s, x, kernel="laplacian", blur=BLUR), "kernel: 'laplacian' given with a Sketch"),
        (lambda s, x: geomsink.mmd(x, s, blur=[0.2, 0.05]), "y: a sketch for a blur of 0.1 was given at blur 0.05"),
        (lambda s, x: geomsink.mmd(x, s, b=x[:, 0], blur=BLUR), "b: given with a Sketch"),
        (lambda s, x: geomsink.hausdorff_divergence(x, s, blur=BLUR), "a Sketch was given, expected points"),
        (lambda s, x: geomsink.wasserstein_bounds(s, x), "a Sketch was given, expected points"),
        (lambda s, x: geomsink.partial_transport(s, x, mass=0.5, blur=BLUR), "a Sketch was given, expected points"),
        (lambda s, x: sketch(s, blur=BLUR), "a Sketch was given, expected points"),
    ],
)
def test_what_a_sketch_does_not_serve(call, said):
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        call(sketches()[0], clouds()[1][:500])
    assert "\n" not in str(caught.value)


def test_second_derivatives_are_refused():
    x = torch.from_numpy(clouds()[0][:50]).requires_grad_()
    value = sinkhorn_divergence(x, sketches()[1], blur=BLUR).value
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    with pytest.raises(ValueError, match="second ones of a value, were asked for with a Sketch"):
        gradient.sum().backward()
    with pytest.raises(ValueError, match="form: 'sharp' given with a Sketch and what requires gradients"):
        sinkhorn_divergence(x, sketches()[1], blur=BLUR, form="sharp")


def test_tensors_and_copies():
    x = torch.from_numpy(clouds()[0][:3000].astype(np.float32))
    small = sketch(x, blur=BLUR)
    assert small.points.dtype == torch.float32 and small.weights.dtype == torch.float64
    value = sinkhorn_divergence(small, sketches()[1], blur=BLUR).value
    assert isinstance(value, torch.Tensor)
    for again in (copy.copy(small), copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(again.points, small.points) and torch.equal(again.weights, small.weights)
        assert (repr(again), len(again)) == (repr(small), len(small))
    assert not sketch(x.requires_grad_(), blur=BLUR).points.requires_grad


def test_features_that_are_learned_are_refused():
    phi = torch.nn.Linear(3, 4)
    cost, x = geomsink.FeatureCost(phi), torch.from_numpy(clouds()[0][:500])
    with pytest.raises(ValueError, match="features of cost .* require gradients, expected constant ones"):
        sketch(x, blur=BLUR, cost=cost)
    assert len(sketch(x, blur=BLUR, cost=geomsink.FeatureCost(phi.requires_grad_(False)))) <= 500
