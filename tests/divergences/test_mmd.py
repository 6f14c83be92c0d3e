"""Maximum mean discrepancies: values and derivatives against dense float64, batches, truncation."""

import numpy as np
import pytest
import torch
from reference import mask
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance

import geomsink
from geomsink import costs, kernels
from geomsink.divergences.mmd import _Cells, mmd
from geomsink.kernels import Kernel

BLUR = 0.4
FORMS = {
    "gaussian": lambda x, y: np.exp(-(cdist(x, y) ** 2) / (2 * BLUR**2)),
    "laplacian": lambda x, y: np.exp(-cdist(x, y) / BLUR),
    "energy": lambda x, y: -cdist(x, y),
    "-sqeuclidean": lambda x, y: -(cdist(x, y) ** 2),
}


def blur_of(kernel):
    return BLUR if kernels.get(kernel).takes_blur else None


def problem(n=60, m=45, seed=0, d=3):
    """Two clouds that share a point, and weights."""
    random = np.random.default_rng(seed)
    x, y = random.random((n, d)), 0.7 * random.random((m, d)) + 0.2
    y[0] = x[0]
    return x, y, random.dirichlet(np.ones(n)), random.dirichlet(np.ones(m))


def tensors(*arrays):
    return tuple(torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays)


def dense(K, x, y, a, b):
    """Value and potentials."""
    F = K(x, x) @ a - K(x, y) @ b
    G = K(y, y) @ b - K(y, x) @ a
    return 0.5 * (a @ F + b @ G), F, G


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("kernel", FORMS)
def test_against_dense_algebra(kernel, engine):
    x, y, a, b = problem()
    value, F, G = dense(FORMS[kernel], x, y, a, b)
    r = mmd(x, y, a, b, kernel=kernel, blur=blur_of(kernel), engine=engine)
    # Sums of numbers of size 1 in float64, a hundred of them.
    assert r.value == pytest.approx(value, rel=0, abs=1e-14) and value > 1e-3
    np.testing.assert_allclose(r.potentials[0], F, rtol=0, atol=1e-14)
    np.testing.assert_allclose(r.potentials[1], G, rtol=0, atol=1e-14)
    assert (r.engine, r.dtype, r.share, r.skipped) == (engine, "float64", 1.0, 0.0)
    assert r.blur == (() if blur_of(kernel) is None else (BLUR,))


def test_energy_is_half_of_the_squared_energy_distance():
    random = np.random.default_rng(0)
    x, y, a, b = (
        random.random(50),
        random.random(40) + 0.1,
        random.dirichlet(np.ones(50)),
        random.dirichlet(np.ones(40)),
    )
    found = mmd(x[:, None], y[:, None], a, b, kernel="energy").value
    assert found == pytest.approx(0.5 * energy_distance(x, y, a, b) ** 2, rel=1e-10)


def test_negative_squared_distances_compare_means():
    x, y, a, b = problem()
    found = mmd(x, y, a, b, kernel="-sqeuclidean").value
    assert found == pytest.approx(((a @ x - b @ y) ** 2).sum(), rel=1e-12)


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", "cosine"])
def test_limit_of_sinkhorn_divergences(cost):
    x, y, a, b = problem()
    limit = geomsink.sinkhorn_divergence(x, y, a, b, epsilon=float("inf"), cost=cost).value
    assert mmd(x, y, a, b, kernel=f"-{cost}").value == pytest.approx(limit, rel=1e-11)


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_several_scales_are_the_sum(engine):
    x, y, a, b = problem()
    parts = [mmd(x, y, a, b, blur=blur, engine=engine) for blur in (0.1, BLUR)]
    for blur in (
        [0.1, BLUR],
        torch.tensor([0.1, BLUR], dtype=torch.float64),
        (torch.tensor(0.1, dtype=torch.float64), BLUR),
    ):
        r = mmd(x, y, a, b, blur=blur, engine=engine)
        assert r.value == pytest.approx(sum(p.value for p in parts), rel=1e-12)
        assert r.blur == (0.1, BLUR)
        np.testing.assert_allclose(r.potentials[1], sum(p.potentials[1] for p in parts), rtol=0, atol=1e-14)


def loss(kernel, engine="dense"):
    """Value and potentials, as a function of all there is to differentiate in."""

    def function(x, y, a, b, *scales):
        r = mmd(x, y, a.exp(), b.exp(), kernel=kernel, blur=scales or None, engine=engine)
        return r.value, *r.potentials

    return function


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "energy", "-sqeuclidean"])
def test_derivatives_of_both_orders(kernel):
    x, y, a, b = problem(5, 4, d=2)
    y[0] += 0.1  # distances have no second derivative at 0
    inputs = tensors(x, y, np.log(a), np.log(b), *([0.3, 0.8] if blur_of(kernel) else []))
    assert torch.autograd.gradcheck(loss(kernel), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: loss(kernel)(*t)[0], inputs)


def derivatives(kernel, engine, arrays):
    """The gradient of a value, and of a number made of it."""
    inputs = tensors(*arrays)
    value, F, _ = loss(kernel, engine)(*inputs)
    first = torch.autograd.grad(value + (F**2).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in first), inputs)
    return [*first, *second]


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_derivatives_of_the_compiled_engine(kernel):
    x, y, a, b = problem()
    arrays = x, y, np.log(a), np.log(b), 0.3
    for found, expected in zip(derivatives(kernel, "keops", arrays), derivatives(kernel, "dense", arrays), strict=True):
        assert bool(expected.isfinite().all()) and float(expected.detach().abs().max()) > 1e-4
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_derivatives_in_a_learned_cost():
    x, y, a, b = problem(6, 5)
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    learned = costs.Cost(name="learned", expression=lambda x, y, w: ((x - y) ** 2).sum(-1) * w, parameters=(weight,))
    value = mmd(*tensors(x, y, a, b), kernel=kernels.negative(learned)).value
    (gradient,) = torch.autograd.grad(value, weight)
    assert float(gradient) == pytest.approx(float(value.detach()) / 2.0, rel=1e-12)


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_batches_in_three_forms(engine):
    items = [problem(n, m, seed) for n, m, seed in ((30, 25, 1), (41, 20, 2), (30, 38, 3))]
    singles = [mmd(*item, blur=BLUR, engine=engine) for item in items]
    xs, ys, as_, bs = (list(part) for part in zip(*items, strict=True))
    index = [np.repeat(np.arange(3), [len(p) for p in part]) for part in (xs, ys)]
    listed = mmd(xs, ys, as_, bs, blur=BLUR, engine=engine)
    flat = mmd(
        *(np.concatenate(part) for part in (xs, ys, as_, bs)), blur=BLUR, engine=engine, x_batch=index[0],
        y_batch=index[1],
    )  # fmt: skip
    alike = mmd(*(np.stack([p[:20] for p in part]) for part in (xs, ys, as_, bs)), blur=BLUR, engine=engine)
    cut = [mmd(*(p[:20] for p in item), blur=BLUR, engine=engine) for item in items]
    for found, expected in ((listed, singles), (flat, singles), (alike, cut)):
        np.testing.assert_allclose(found.value, [s.value for s in expected], rtol=1e-11)
    for k, single in enumerate(singles):
        np.testing.assert_allclose(listed.potentials[1][k], single.potentials[1], rtol=0, atol=1e-14)
    expected = np.concatenate([s.potentials[0] for s in singles])
    np.testing.assert_allclose(flat.potentials[0], expected, rtol=0, atol=1e-14)
    assert flat.engine == engine and alike.potentials[0].shape == (3, 20)


def clouds(n=3000):
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 3, dtype=torch.float64, generator=random) for _ in range(2))
    return x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True) + 0.05


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_truncation_stays_within_its_bound(kernel):
    x, y = clouds()
    full = mmd(x, y, kernel=kernel, blur=[0.02, 0.1], truncate=0.0)
    assert (full.share, full.skipped, full.engine) == (1.0, 0.0, "keops")
    for truncate in (1e-2, 1e-4):
        r = mmd(x, y, kernel=kernel, blur=[0.02, 0.1], truncate=truncate)
        off = abs(float(r.value - full.value))
        # Much above rounding, and each of two scales leaves out at most the share of ½ (1 + 1)².
        assert 1e-12 < off <= r.skipped <= 2 * 2.0 * truncate
        assert r.share < 0.6
        worst = max(float((p - q).abs().max()) for p, q in zip(r.potentials, full.potentials, strict=True))
        assert 1e-12 < worst <= 2 * 2.0 * truncate


@pytest.mark.parametrize("share", [1e-2, 1e-6])
def test_what_is_left_out(share):
    """On a line, boxes are as far apart as their nearest points, so that the pattern and its bound are known."""
    random = np.random.default_rng(0)
    z, w = random.random((1280, 1)), random.standard_normal(1280)
    cells = _Cells.of(torch.tensor(z), torch.tensor(w))
    blocks, found, lost = cells.near(kernels.get("gaussian"), 0.1, share)
    order = cells.tree.order.numpy()
    largest = FORMS["gaussian"](z[order] * (BLUR / 0.1), z[order] * (BLUR / 0.1)).reshape(20, 64, 20, 64).max((1, 3))
    kept, mass = largest > share, np.abs(w[order]).reshape(20, 64).sum(1)
    assert np.array_equal(mask(blocks, 1280, 1280), kept.repeat(64, 0).repeat(64, 1))
    assert found == pytest.approx(kept.mean(), rel=1e-12) and found < 0.9
    assert lost == pytest.approx(0.5 * mass @ np.where(kept, 0.0, largest) @ mass, rel=1e-9)


def test_truncated_gradients():
    x, y = clouds()
    gradients = []
    for truncate in (0.0, 1e-9):
        inputs = x.clone().requires_grad_(), y.clone().requires_grad_()
        r = mmd(*inputs, blur=0.05, truncate=truncate)
        gradients.append(torch.cat(torch.autograd.grad(r.value, inputs)))
    assert 0.0 < r.skipped <= 2e-9 and r.share < 0.4
    # A kernel below 1e-9 has slopes of less than 7e-9/blur; gradients are of size 1e-3 times the weights.
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-7 / len(x))
    assert float(gradients[0].abs().max()) > 1e-2 / len(x)


def test_far_clouds_and_precisions():
    x, y, a, b = problem()
    exact = mmd(x, y, a, b, blur=BLUR).value
    # Centred before they are rounded, points far from the origin lose nothing: float32 has 6e-5 there.
    assert mmd(x + 1000.0, y + 1000.0, a, b, blur=BLUR, dtype="float32").value == pytest.approx(exact, rel=1e-5)
    single = mmd(*(torch.tensor(t, dtype=torch.float32) for t in (x, y, a, b)), blur=BLUR)
    assert single.dtype == "float64" and single.value.dtype == single.potentials[0].dtype == torch.float32
    assert float(single.value) == pytest.approx(exact, rel=1e-5)


def test_large_clouds_in_single_precision():
    x, y = clouds(1500)
    exact = float(mmd(x, y, blur=0.2).value)
    r = mmd(x.float(), y.float(), blur=0.2)
    assert (r.dtype, r.engine) == ("float32", "keops")
    assert float(r.value) == pytest.approx(exact, rel=1e-5)


def cauchy(x, y):
    return 1 / (1 + ((x - y) ** 2).sum(-1))


@pytest.mark.parametrize("engine", ["dense", "keops"])
def test_a_kernel_of_ones_own(engine):
    x, y, a, b = problem()
    kernels.register("cauchy", cauchy)
    try:
        found = mmd(x, y, a, b, kernel="cauchy", blur=BLUR, engine=engine)
    finally:
        kernels.unregister("cauchy")
    value, *_ = dense(lambda x, y: 1 / (1 + (cdist(x, y) / BLUR) ** 2), x, y, a, b)
    assert found.value == pytest.approx(value, rel=0, abs=1e-14)


def test_kernels_that_the_engines_disagree_on():
    x, y, a, b = problem()
    two_faced = Kernel(
        name="two-faced", expression=lambda x, y: cauchy(x, y) * (1.0 if isinstance(x, torch.Tensor) else 1.01)
    )
    with pytest.raises(ValueError, match=r"^kernel: 'two-faced' differs between the engines: on 16 of the points"):
        mmd(x, y, a, b, kernel=two_faced, blur=BLUR, engine="keops")
    unwritable = Kernel(name="sorted", expression=lambda x, y: -(x - y).abs().sort(-1).values[..., 0])
    with pytest.raises(ValueError, match=r"^kernel: 'sorted' cannot be written with KeOps LazyTensors"):
        mmd(x, y, a, b, kernel=unwritable, blur=BLUR, engine="keops")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (dict(kernel="energy", blur=0.1), ValueError, r"^blur: 0.1 given, but kernel 'energy' has no length scale"),
        (dict(), ValueError, r"^blur: None given, expected a length \(or several\) for kernel 'gaussian'"),
        (dict(blur=-1.0), ValueError, r"^blur: -1.0 given, expected a positive number"),
        (dict(blur=[0.1, float("nan")]), ValueError, r"^blur: nan given, expected a positive number"),
        (dict(blur=[]), ValueError, r"^blur: a sequence without numbers was given"),
        (dict(blur="0.1"), TypeError, r"^blur: a str was given, expected a number or a sequence of numbers"),
        (dict(blur=torch.ones(2, 2)), TypeError, r"^blur: a Tensor was given"),
        (dict(blur=1e-160), ValueError, r"^x, y, blur: coordinates reach .* in units of the blur"),
        (dict(blur=0.1, truncate=1.0), ValueError, r"^truncate: 1.0 given, expected a share from 0 up to 1"),
        (dict(blur=0.1, truncate="a"), TypeError, r"^truncate: a str was given, expected a share from 0 up to 1"),
        (dict(blur=0.1, truncate=False), TypeError, r"^truncate: a bool was given, expected a share from 0 up to 1"),
        (dict(blur=0.1, engine="cuda"), ValueError, r"^engine: unknown name 'cuda'"),
        (dict(blur=0.1, dtype="float16"), ValueError, r"^dtype: 'float16' given"),
        (dict(blur=0.1, kernel="gauss"), ValueError, r"^kernel: unknown name 'gauss'"),
    ],
)
def test_refusals(options, error, sentence):
    x, y, *_ = problem()
    with pytest.raises(error, match=sentence):
        mmd(x, y, **options)


def test_masses_may_differ():
    x, y, a, b = problem()
    value, *_ = dense(FORMS["gaussian"], x, y, a, 2 * b)
    assert mmd(x, y, a, 2 * b, blur=BLUR).value == pytest.approx(value, rel=1e-13)


def test_numpy_points_have_numpy_answers_whatever_the_blur_is():
    x, y, a, b = problem()
    r = mmd(x, y, a, b, blur=torch.tensor(BLUR, dtype=torch.float64, requires_grad=True))
    assert type(r.value) is float and type(r.potentials[0]) is np.ndarray
    assert r.value == mmd(x, y, a, b, blur=BLUR).value
