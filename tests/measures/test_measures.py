"""Bad input is refused with one sentence; good input of any kind gives the same answer in the caller's kind."""

import numpy as np
import pytest
import torch
from pretend import pretend

import geomsink
from geomsink.measures import pair_of_measures

X = np.random.default_rng(0).random((20, 3))
Y = np.random.default_rng(1).random((30, 3))
A = np.full(20, 1 / 20)
NAN = X.copy()
NAN[3, 1] = np.nan
INF = Y.copy()
INF[0, 0] = np.inf

BAD = [
    (dict(x=X[0]), ValueError, r"^x: shape is \(3,\), expected \(points, coordinates\)\.$"),
    (dict(y=Y[None]), ValueError, r"^x, y: batches of none and 1 clouds, expected as many of each"),
    (dict(y=Y[None, None]), ValueError, r"^y: shape is \(1, 1, 30, 3\), expected"),
    (dict(y=Y[:, :2]), ValueError, r"^y: 2 coordinates a point, but x has 3"),
    (dict(x=X[:0]), ValueError, r"^x: shape is \(0, 3\), expected at least one point"),
    (dict(x=NAN), ValueError, r"^x: 1 of 60 numbers are NaN or infinite"),
    (dict(y=INF), ValueError, r"^y: 1 of 90 numbers are NaN or infinite"),
    (dict(a=np.where(np.arange(20) == 0, np.nan, A)), ValueError, r"^a: 1 of 20 numbers are NaN"),
    (dict(a=A - 0.06), ValueError, r"^a: the smallest weight is -0.01, expected none below zero"),
    (dict(a=0 * A), ValueError, r"^a: all weights are zero"),
    (dict(a=2 * A), ValueError, r"^a, b: they sum to 2 and 1; expected the same mass"),
    (dict(a=A[:7]), ValueError, r"^a: shape is \(7,\), expected \(20,\)"),
    (dict(x=torch.tensor(X)), TypeError, r"^x, y, a, b: torch tensors and other arrays are mixed"),
    (dict(x=1j * X), TypeError, r"^x: dtype is complex128, expected real numbers of at most 64 bits"),
    (dict(x=X.astype(object)), TypeError, r"^x: dtype is object, expected real numbers"),
    (dict(x=[[2**62, 0, 0]]), ValueError, r"^x: integers reach 4.61e\+18, and float64 holds all of them up to 2\^53"),
    (dict(x=torch.full((2, 3), 2**60), y=torch.ones(2, 3)), ValueError, r"^x: integers reach 1.15e\+18"),
    (dict(a=A.astype(np.float32) * 1.001, b=None), ValueError, r"^a, b: they sum to 1.001"),
    (dict(a=A * (1 + 3e-6)), ValueError, r"^a, b: they sum to 1.000003 and 1"),
    (dict(y=None), TypeError, r"^y: None was given"),
    (
        dict(x_batch=np.r_[np.zeros(19, int), 10**13], y_batch=np.zeros(30, int)),
        ValueError,
        r"^x_batch: item 1 has no points",
    ),
    (dict(x_batch=np.ones(20, int), y_batch=np.zeros(30, int)), ValueError, r"^x_batch: item 0 has no points"),
    (dict(reach=0.1, penalty=["kl"]), TypeError, r"^penalty: a list was given, expected one of kl, tv"),
    (dict(x=torch.eye(3).to_sparse(), y=torch.ones(2, 3)), TypeError, r"^x: a tensor of layout torch.sparse_coo"),
    (dict(x=np.float64(3.0)), ValueError, r"^x: shape is \(\), expected"),
    (dict(x=1e200 * X), ValueError, r"^x, y: coordinates, or features, extend over 9.97e\+199, expected"),
    (
        dict(x=1e30 * X, dtype="float32", blur=1e29),
        ValueError,
        r"^dtype: costs of .* and epsilon .* leave the range of float32",
    ),
    (dict(blur=1e-200), ValueError, r"^blur: 1e-200 given, for which epsilon is outside of the range"),
    (dict(blur=1e200), ValueError, r"^blur: 1e\+200 given, for which epsilon is outside of the range"),
    (dict(tol="small"), TypeError, r"^tol: a str was given, expected a number"),
    (dict(scaling="half"), TypeError, r"^scaling: a str was given, expected a number"),
    (dict(blur="0.1"), TypeError, r"^blur: a str was given"),
    (dict(max_iter=2.5), TypeError, r"^max_iter: a float was given, expected a whole number"),
    (dict(x=[[1.0, 2.0], [3.0]]), ValueError, r"^x: NumPy cannot read it"),
    (dict(x="points.ply"), TypeError, r"^x: dtype is <U10, expected"),
    (dict(epsilon=0.1), ValueError, r"^blur, epsilon: both were \(0.1 and 0.1\) given, expected one"),
    (dict(blur=None), ValueError, r"^blur, epsilon: neither was given"),
    (dict(blur=0.0), ValueError, r"^blur: 0.0 given, expected a positive number"),
    (dict(blur=None, epsilon=-1), ValueError, r"^epsilon: -1.0 given, expected a positive number"),
    (dict(blur=float("nan")), ValueError, r"^blur: nan given"),
    (dict(blur="wide"), TypeError, r"^blur: a str was given"),
    (dict(cost="sqeuclidian"), ValueError, r"^cost: unknown name 'sqeuclidian' \(did you mean 'sqeuclidean'\?\)"),
    (dict(cost="power:3"), ValueError, r"^cost: 'power:3' is none that there is; p: 3.0 given, expected 0 < p <= 2"),
    (dict(cost=7), TypeError, r"^cost: a int was given"),
    (dict(cost="cosine"), ValueError, r"^blur: cost 'cosine' is no power of a length; give epsilon"),
    (dict(x=0 * X, cost="geodesic"), ValueError, r"a point at the origin has no direction"),
    (dict(engine="cuda"), ValueError, r"^engine: unknown name 'cuda'; expected one of auto, keops, dense"),
    (dict(form="sharpe"), ValueError, r"^form: unknown name 'sharpe'; expected one of entropic, sharp"),
    (dict(tol=0), ValueError, r"^tol: 0 given, expected a positive"),
    (dict(max_iter=0), ValueError, r"^max_iter: 0 given, expected a whole number"),
    (dict(scaling=1.0), ValueError, r"^scaling: 1.0 given, expected a factor between 0 and 1"),
    (dict(dtype="float16"), ValueError, r"^dtype: 'float16' given, expected None"),
    (
        dict(blur=None, epsilon=float("inf"), a=2 * A, b=np.full(30, 2 / 30)),
        ValueError,
        r"^epsilon: inf is given with weights",
    ),
]


@pytest.mark.parametrize(
    ("change", "error", "sentence"), BAD, ids=[f"{next(iter(c))}-{i}" for i, (c, *_) in enumerate(BAD)]
)
def test_bad_input_is_refused(change, error, sentence, monkeypatch):
    def no_work(*_, **__):
        raise AssertionError("work had started")

    monkeypatch.setattr("geomsink.divergences.problems.Problems.solve", no_work)
    arguments = dict(x=X, y=Y, blur=0.1) | change
    with pytest.raises(error, match=sentence) as caught:
        geomsink.sinkhorn_divergence(**arguments)
    assert str(caught.value).count("\n") == 0


def test_an_asymmetric_cost_is_for_solve_alone():
    downhill = geomsink.costs.Cost(
        name="downhill", expression=lambda x, y: ((x - y) ** 2).sum(-1) + (x - y).sum(-1) * 0.5, symmetric=False
    )
    with pytest.raises(ValueError, match="^cost: 'downhill' is not symmetric"):
        geomsink.sinkhorn_divergence(X, Y, epsilon=0.1, cost=downhill)
    plain = geomsink.solve(X, Y, epsilon=0.1, tol=1e-10)
    tilted = geomsink.solve(X, Y, epsilon=0.1, tol=1e-10, cost=downhill)
    # The added term separates, so that it shifts the value by its mean.
    assert tilted.value - plain.value == pytest.approx(0.5 * (X.mean(0) - Y.mean(0)).sum(), abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kinds_of_arrays(dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    numpy = geomsink.sinkhorn_divergence(x, y, blur=0.1)
    assert isinstance(numpy.value, float)
    assert all(isinstance(p, np.ndarray) and p.dtype == dtype for p in numpy.xy.potentials)
    tensors = geomsink.sinkhorn_divergence(torch.tensor(x), torch.tensor(y), blur=0.1)
    assert tensors.value.shape == () and tensors.value.dtype == getattr(torch, dtype)
    assert tensors.value.item() == pytest.approx(numpy.value, rel=1e-6)
    assert [p.dtype for p in tensors.xy.potentials] == [getattr(torch, dtype)] * 2
    assert isinstance(tensors.xy.transport_cost, torch.Tensor) and isinstance(numpy.xy.transport_cost, float)
    lists = geomsink.sinkhorn_divergence(x.tolist(), y.tolist(), blur=0.1)
    assert lists.value == pytest.approx(numpy.value, rel=1e-6)


def numpys(*arrays):
    """What NumPy promotes arrays and float16 to."""
    return np.result_type(*arrays, np.float16)


WHOLE = np.round(100 * X).astype(np.int64)  # pixels


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (WHOLE, WHOLE[::-1] + 3),
        (WHOLE.tolist(), (WHOLE + 3).tolist()),
        (WHOLE.astype(np.uint8), 40 * Y.astype(np.float16)),
        (WHOLE.astype(np.int16), 40 * Y.astype(np.float16)),
        (WHOLE.astype(np.int32), 40 * Y.astype(np.float32)),
        (WHOLE.astype(np.uint16), 40 * Y.astype(np.float32)),
        (40 * X.astype(np.float32), 40 * Y),
        (40 * X.astype(np.float16), 40 * Y.astype(np.float16)),
        (X > 0.5, WHOLE.astype(np.int8)),
    ],
    ids=lambda t: str(np.asarray(t).dtype),
)
def test_precisions_are_promoted_as_numpy_does(x, y):
    x_, y_ = np.asarray(x), np.asarray(y)
    whole = x_.dtype.kind in "iub" and y_.dtype.kind in "iub"
    dtype = np.dtype(np.float64) if whole else numpys(x_, y_)
    expected = geomsink.sinkhorn_divergence(x_.astype(float), y_.astype(float), blur=5.0)
    found = geomsink.sinkhorn_divergence(x, y, blur=5.0)
    assert found.value == pytest.approx(expected.value, rel=1e-5)
    assert all(f.dtype == dtype for f in found.xy.potentials)
    assert np.abs(found.xy.potentials[0] - expected.xy.potentials[0]).max() < 6e4 * float(np.finfo(dtype).eps)
    if not isinstance(x, list):
        tensors = geomsink.sinkhorn_divergence(torch.tensor(x_.copy()), torch.tensor(y_.copy()), blur=5.0)
        assert tensors.value.dtype == getattr(torch, dtype.name)
        assert tensors.value.item() == pytest.approx(expected.value, rel=float(2 * np.finfo(dtype).eps) + 1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_and_given_back(dtype):
    x = torch.tensor(X).to(dtype).requires_grad_()
    a = torch.full((20,), 0.05, dtype=dtype)  # their masses differ by rounding
    y, b = torch.tensor(Y).to(dtype), torch.full((30,), 1 / 30, dtype=dtype)
    r = geomsink.sinkhorn_divergence(x, y, a, b, blur=0.1)
    (gradient,) = torch.autograd.grad(r.value, x)
    exact = x.detach().double().requires_grad_()
    expected = geomsink.sinkhorn_divergence(exact, y.double(), blur=0.1)
    (slope,) = torch.autograd.grad(expected.value, exact)
    tolerance = 2 * torch.finfo(dtype).eps
    assert r.value.dtype == gradient.dtype == r.xy.potentials[0].dtype == dtype
    assert r.value.item() == pytest.approx(expected.value.item(), rel=tolerance)
    assert torch.allclose(gradient.double(), slope, atol=0.01 * slope.abs().max().item())
    assert (r.xy.plan @ y).dtype == dtype and r.xy.plan.top_k(1).matrix.dtype == dtype
    assert geomsink.mmd(x, y, blur=0.3).value.dtype == dtype
    assert geomsink.transport.barycentric_map(r.xy).dtype == dtype
    with pytest.raises(ValueError, match=f"does not hold; give points in float{32 if dtype == torch.float16 else 64}"):
        far = 1e5 if dtype == torch.float16 else 1e38
        geomsink.sinkhorn_divergence(x, far**0.5 * 100 * y, epsilon=far)


@pytest.mark.parametrize("clouds", [2, 20])
def test_a_gpu_is_waited_for_as_often_for_many_clouds(clouds):
    """Twice for each of them and of their weights, it was."""
    drawn = torch.Generator().manual_seed(0)
    lists = [[torch.rand(n, 2, generator=drawn) for _ in range(clouds)] for n in (5, 4)]
    masses = [[torch.full((n,), 1 / n, dtype=torch.float64) for _ in range(clouds)] for n in (5, 4)]
    with pretend() as log:
        given = [[t.cuda() for t in side] for side in (*lists, *masses)]
        before = log.waits
        pair_of_measures(*given)
        assert log.waits - before <= 4


def test_one_bad_cloud_of_many_is_named():
    good, weights = [X, X], [A, A]
    for points, of, sentence in (
        ([X, NAN], weights, r"^x\[1\]: 1 of 60 numbers are NaN or infinite"),
        (good, [A, -A], r"^a\[1\]: the smallest weight is -0.05"),
        (good, [A, 0 * A], r"^a\[1\]: all weights are zero"),
        (good, [A, A[1:]], r"^a\[1\]: shape is \(19,\), expected \(20,\), one weight a point of x\[1\]"),
        ([X, X[:, 1:]], weights, r"^x\[1\]: 2 coordinates a point, but x\[0\] has 3"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pair_of_measures(points, [Y, Y], of)


def test_masses_that_differ_by_rounding_are_the_same():
    narrow = np.linspace(1.0, 2.0, 20, dtype=np.float32)
    narrow /= narrow.sum()
    assert narrow.sum(dtype=float) != 1.0
    expected = geomsink.sinkhorn_divergence(X, Y, narrow / narrow.sum(dtype=float), blur=0.1).value
    for a in (narrow, narrow.astype(float), np.float32(1.00005) * narrow):
        assert geomsink.sinkhorn_divergence(X, Y, a, blur=0.1).value == pytest.approx(expected, rel=1e-4)


def test_unusual_memory_layouts():
    expected = geomsink.sinkhorn_divergence(X, Y, blur=0.1).value
    wide = np.zeros((20, 6))
    wide[:, ::2] = X
    assert geomsink.sinkhorn_divergence(wide[:, ::2], np.asfortranarray(Y), blur=0.1).value == expected
    backwards = torch.tensor(X.T.copy()).T
    assert geomsink.sinkhorn_divergence(backwards, torch.tensor(Y), blur=0.1).value.item() == pytest.approx(
        expected, rel=1e-12
    )


def test_anything_that_numpy_reads():
    expected = geomsink.sinkhorn_divergence(X, Y, blur=0.1).value
    frozen = X.copy()
    frozen.flags.writeable = False
    assert geomsink.sinkhorn_divergence(frozen, Y.astype(">f8"), blur=0.1).value == expected
    scalars = dict(tol=np.float64(1e-3), max_iter=np.int64(50), blur=np.float32(0.5))
    assert geomsink.sinkhorn_divergence(X, Y, **scalars, dtype=np.float64).converged


@pytest.mark.parametrize("change", [lambda v: v[::-1].copy()[::-1], lambda v: v.astype(v.dtype.newbyteorder(">"))])
def test_arrays_beside_the_points_of_any_memory(change):
    """What torch has no words for: reversed, and in the other byte order."""
    weights, g, batch = np.linspace(1.0, 2.0, 30), np.linspace(0.0, 1.0, 30), np.repeat([0, 1], 15)

    def everything(change):
        solution = geomsink.solve(X, Y, epsilon=0.1)
        yield solution.plan @ change(weights)
        yield geomsink.transport.transfer(solution, change(np.arange(30) % 3))
        yield geomsink.c_transform(X, Y, change(g), epsilon=0.1)
        index = dict(x_batch=np.repeat([0, 1], 10), y_batch=change(batch))
        yield geomsink.c_transform(X, Y, change(g), epsilon=0.1, **index)
        yield geomsink.sinkhorn_divergence(X, Y, blur=0.5, **index).value
        yield geomsink.costs.mahalanobis(change(weights[:3]))(torch.tensor(X), torch.tensor(Y))
        yield geomsink.partial_transport(X, Y, mass=change(np.array([0.5]))[0:1].reshape(()), epsilon=0.5).value

    for found, expected in zip(everything(change), everything(np.array), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_integers_that_float64_does_not_hold_are_refused_beside_the_points():
    large = np.full(30, 2**53 + 1)
    assert geomsink.c_transform(X, Y, large - 1, epsilon=0.1).max() < 0
    with pytest.raises(ValueError, match=r"^g: integers reach 9.01e\+15, and float64 holds all of them up to 2\^53"):
        geomsink.c_transform(X, Y, large, epsilon=0.1)
    with pytest.raises(ValueError, match=r"^plan: integers reach 9.01e\+15"):
        geomsink.solve(X, Y, epsilon=0.1).plan @ large
    with pytest.raises(TypeError, match=r"^x_batch: dtype is <U1|^x_batch: dtype is str"):
        geomsink.solve(X, Y, epsilon=0.1, x_batch=list("a" * 20), y_batch=np.zeros(30, int))


def test_history_is_there_where_it_is_asked_for():
    x, y = torch.tensor(X, requires_grad=True), torch.tensor(Y)
    assert geomsink.sinkhorn_divergence(x, y, blur=0.1).value.requires_grad
    assert not geomsink.sinkhorn_divergence(x.detach(), y, blur=0.1).value.requires_grad
    with torch.no_grad():
        assert not geomsink.sinkhorn_divergence(x, y, blur=0.1).value.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_devices():
    x, y = torch.tensor(X), torch.tensor(Y)
    with pytest.raises(ValueError, match="^y: device is cuda:0, but that of x is cpu"):
        geomsink.sinkhorn_divergence(x, y.cuda(), blur=0.1)
    r = geomsink.sinkhorn_divergence(x.cuda(), y.cuda(), blur=0.1)
    assert r.value.is_cuda and r.xy.potentials[0].is_cuda
    assert r.value.item() == pytest.approx(geomsink.sinkhorn_divergence(x, y, blur=0.1).value.item(), rel=1e-9)
