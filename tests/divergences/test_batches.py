"""Batches of clouds, in all three forms, against one solve for each item."""

import numpy as np
import pytest
import torch
from torch.autograd import grad

from geomsink import sinkhorn_divergence, solve

TIGHT = dict(tol=1e-10, max_iter=20_000)
SIZES = ((1, 17, 60, 5, 33), (8, 1, 44, 60, 20))
FORMS = ("list", "index", "tensor")
ENGINES = ("dense", "keops")


def items(sizes=SIZES, dtype=torch.float64, seed: int = 0, masses: bool = False, zeros: bool = False):
    """Lists x, y, a, b of clouds and weights, the second cloud shifted; some weights are zero."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    lists = [[], [], [], []]
    for k, (n, m) in enumerate(zip(*sizes, strict=True)):
        for side, size in enumerate((n, m)):
            weights = draw(size) + 0.1
            if zeros and size > 4:
                weights[::4] = 0.0
            mass = 1.0 + 0.5 * (masses and (side + k) % 3)
            lists[side].append((draw(size, 2) + 0.3 * side).to(dtype))
            lists[2 + side].append((mass * weights / weights.sum()).to(dtype))
    return lists


def given(form: str, lists) -> tuple[list, dict]:
    """Positional arguments and options for clouds in this form; ``tensor`` needs equal sizes."""
    if form == "list":
        return list(lists), {}
    if form == "tensor":
        return [torch.stack(side) for side in lists], {}
    index = [torch.repeat_interleave(torch.tensor([len(p) for p in side])) for side in lists[:2]]
    return [torch.cat(side) for side in lists], dict(x_batch=index[0], y_batch=index[1])


def apart(form: str, whole, sizes) -> list:
    """What came back, item by item."""
    if form == "index":
        return list(whole.split(list(sizes)))
    assert isinstance(whole, list) == (form == "list")
    return list(whole)


def example(form: str, **options):
    sizes = SIZES if form != "tensor" else ((23,) * 5, (31,) * 5)
    return sizes, items(sizes, **options)


def relative(found, expected) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


@pytest.mark.parametrize(
    "penalties", [{}, dict(reach=0.5), dict(rho=(0.2, None), penalty="tv"), dict(rho=0.3, penalty="l2")]
)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", FORMS)
def test_single_solves(form, engine, penalties):
    """Values, potentials, transport costs, and products with the plan and its transpose."""
    sizes, lists = example(form, masses=bool(penalties), zeros=True)
    arguments, index = given(form, lists)
    options = dict(epsilon=0.1, **penalties, **TIGHT)
    s = solve(*arguments, engine=engine, **index, **options)
    # Weights of zero and one more column: what goes through the plan has the form of the points.
    wide = [torch.cat((y, y[:, :1] ** 2), 1) for y in lists[1]]
    w = given(form, (lists[0], wide))[0][1]
    v = given(form, (lists[2], lists[3]))[0][0]
    assert s.engine == engine and s.converged and s.value.shape == (5,) and s.plan.shape[0] == 5
    assert s.marginal_errors.shape == (5,) and s.marginal_error == s.marginal_errors.max() <= 1e-10
    results = [apart(form, r, sizes[k]) for r, k in (
        (s.potentials[0], 0), (s.potentials[1], 1), (s.plan @ w, 0), (s.plan.T @ v, 1)
    )]  # fmt: skip
    for k, item in enumerate(zip(*lists, strict=True)):
        one = solve(*item, **options)
        assert s.value[k].item() == pytest.approx(one.value.item(), rel=1e-9)
        assert s.transport_cost[k].item() == pytest.approx(one.transport_cost.item(), rel=1e-8)
        expected = (*one.potentials, one.plan @ wide[k], one.plan.T @ lists[2][k])
        for found, truth in zip(results, expected, strict=True):
            # Slow modes amplify the marginal error, most where a TV leaves potentials free: a thousandfold and more.
            assert found[k].shape == truth.shape and relative(found[k], truth) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", FORMS)
def test_divergences_and_gradients(form, engine):
    """Of each item's value its own gradient, in points, weights and the shared ε, in all modes and both kinds."""
    _, lists = example(form)
    lists = [[t.requires_grad_() for t in side] for side in lists]
    flat = [t for side in lists for t in side]
    factors = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5]).double()
    for mode, kind in (("envelope", "entropic"), ("implicit", "sharp"), ("unrolled", "entropic")):
        iterations = dict(iterations=6) if mode == "unrolled" else {}
        epsilon = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        options = dict(epsilon=epsilon, differentiation=mode, form=kind, **iterations, **TIGHT)
        arguments, index = given(form, lists)
        values = sinkhorn_divergence(*arguments, engine=engine, **index, **options).value
        singles = torch.stack([sinkhorn_divergence(*item, **options).value for item in zip(*lists, strict=True)])
        torch.testing.assert_close(values, singles, rtol=1e-7, atol=1e-11)
        found, truth = (grad((factors * v).sum(), [*flat, epsilon]) for v in (values, singles))
        for k, (mine, theirs) in enumerate(zip(found, truth, strict=True)):
            assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-9), (mode, k)


@pytest.mark.parametrize("engine", ENGINES)
def test_second_derivatives(engine):
    lists = [[t.requires_grad_() for t in side] for side in items()]
    results = []
    for together in (True, False):
        options = dict(epsilon=0.2, differentiation="implicit", **TIGHT)
        if together:
            values = sinkhorn_divergence(*lists, engine=engine, **options).value
        else:
            values = torch.stack([sinkhorn_divergence(*item, **options).value for item in zip(*lists, strict=True)])
        first = grad((values**2).sum(), lists[0], create_graph=True)
        results.append(grad(sum((g**2).sum() for g in first), [*lists[0], *lists[1]]))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_single_precision(engine):
    """The caller's kind comes back, and a working precision of float32 is kept to."""
    lists = items(dtype=torch.float32)
    r = sinkhorn_divergence(*lists, epsilon=0.1, tol=1e-4, dtype="float32", engine=engine)
    exact = sinkhorn_divergence(*[[t.double() for t in side] for side in lists[:2]], lists_double(lists[2]),
                                lists_double(lists[3]), epsilon=0.1, **TIGHT)  # fmt: skip
    assert r.dtype == "float32" and r.value.dtype == torch.float32 and r.xy.potentials[0][2].dtype == torch.float32
    torch.testing.assert_close(r.value.double(), exact.value, rtol=1e-4, atol=1e-6)


def lists_double(side):
    return [t.double() / t.double().sum() for t in side]


@pytest.mark.parametrize("form", FORMS)
def test_numpy(form):
    _, lists = example(form)
    arguments, index = given(form, lists)
    numpy = [[t.numpy() for t in side] if form == "list" else side.numpy() for side in arguments]
    index = {name: item.numpy() for name, item in index.items()}
    r = sinkhorn_divergence(*numpy, epsilon=0.1, **index, **TIGHT)
    expected = sinkhorn_divergence(*arguments, epsilon=0.1, **{k: torch.tensor(v) for k, v in index.items()}, **TIGHT)
    assert type(r.value) is np.ndarray and r.value == pytest.approx(expected.value.numpy(), rel=1e-12)
    f = r.xy.potentials[0]
    assert type(f[0] if form == "list" else f) is np.ndarray


@pytest.mark.parametrize("form", FORMS)
def test_warm_starts(form):
    """From an earlier divergence, an earlier solution, or its potentials."""
    _, lists = example(form)
    arguments, index = given(form, lists)
    options = dict(epsilon=0.05, tol=1e-8, max_iter=20_000, **index)
    cold = sinkhorn_divergence(*arguments, **options)
    warm = sinkhorn_divergence(*arguments, init=cold, **options)
    assert warm.n_iter < 0.2 * cold.n_iter
    torch.testing.assert_close(warm.value, cold.value, rtol=1e-9, atol=1e-12)
    for init in (cold.xy, cold.xy.potentials):
        assert solve(*arguments, init=init, **options).n_iter <= 2


def test_a_batch_of_one_and_weights_of_none():
    lists = items(((7,), (9,)))
    one = sinkhorn_divergence(lists[0][0], lists[1][0], epsilon=0.1, **TIGHT).value.item()
    for form in FORMS:
        arguments, index = given(form, lists[:2])
        value = sinkhorn_divergence(*arguments, epsilon=0.1, **index, **TIGHT).value
        assert value.shape == (1,) and value.item() == pytest.approx(one, rel=1e-9)


X, Y = (torch.rand(6, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (0, 1))
TWO = torch.tensor([0, 0, 0, 1, 1, 1])
BAD = [
    (dict(x_batch=TWO.flip(0), y_batch=TWO), ValueError, r"^x_batch: it decreases or is negative somewhere"),
    (dict(x_batch=TWO - 1, y_batch=TWO), ValueError, r"^x_batch: it decreases or is negative somewhere"),
    (dict(x_batch=2 * TWO, y_batch=TWO), ValueError, r"^x_batch: item 1 has no points, expected one at least"),
    (dict(x_batch=TWO, y_batch=TWO + 1), ValueError, r"^y_batch: item 0 has no points"),
    (dict(x_batch=TWO, y_batch=TWO[:4]), ValueError, r"^y_batch: shape is \(4,\), expected \(6,\)"),
    (dict(x_batch=TWO, y_batch=TWO.double()), TypeError, r"^y_batch: dtype is float64, expected int64"),
    (dict(x_batch=TWO, y_batch=0 * TWO), ValueError, r"^x, y: batches of 2 and 1 clouds, expected as many of each"),
    (dict(x_batch=TWO), ValueError, r"^x, y: batches of 2 and none clouds"),
    (dict(x=[X, X], y=Y), ValueError, r"^x, y: batches of 2 and none clouds"),
    (dict(x=[X, X], y=[Y, Y, Y]), ValueError, r"^x, y: batches of 2 and 3 clouds"),
    (dict(x=X.expand(2, 6, 2), y=Y.expand(3, 6, 2)), ValueError, r"^x, y: batches of 2 and 3 clouds"),
    (dict(x=[X, X[0]], y=[Y, Y]), ValueError, r"^x\[1\]: shape is \(2,\), expected"),
    (dict(x=[X, X / 0.0], y=[Y, Y]), ValueError, r"^x\[1\]: 1?\d of 12 numbers are NaN or infinite"),
    (dict(x=[X, X], y=[Y, Y[:, :1]]), ValueError, r"^y\[1\]: 1 coordinates a point, but y\[0\] has 2"),
    (dict(x=[X, X], y=[Y, Y[:0]]), ValueError, r"^y\[1\]: shape is \(0, 2\), expected at least one point"),
    (dict(x=[X, 1j * X], y=[Y, Y]), TypeError, r"^x\[1\]: dtype is complex128, expected real numbers"),
    (dict(x=[X, X], y=[Y, Y], a=[X[:, 0]]), ValueError, r"^a: 1 weights for 2 clouds"),
    (dict(x=[X, X], y=[Y, Y], a=[X[:, 0], X[:5, 0]]), ValueError, r"^a\[1\]: shape is \(5,\), expected \(6,\)"),
    (dict(x=[X, X], y=[Y, Y], a=[None, -X[:, 0]]), ValueError, r"^a\[1\]: the smallest weight is"),
    (dict(x=[X, X], y=[Y, Y], b=[None, torch.ones(6).double()]), ValueError, r"^a, b: they sum to 1 and 6"),
    (dict(x=[X, X], y=[Y, Y], multiscale=True), ValueError, r"^multiscale: True given with a batch"),
    (dict(x=[X, X.numpy()], y=[Y, Y]), TypeError, r"^x, y, a, b: torch tensors and other arrays are mixed"),
]


@pytest.mark.parametrize(("change", "error", "sentence"), BAD, ids=range(len(BAD)))
def test_bad_batches_are_refused(change, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        sinkhorn_divergence(**(dict(x=X, y=Y, epsilon=0.1) | change))
    assert str(caught.value).count("\n") == 0


def test_forms_may_differ_between_the_two():
    """A tensor against a list of as many."""
    lists = items(((6, 6), (4, 9)))
    expected = sinkhorn_divergence(*lists[:2], epsilon=0.1, **TIGHT)
    mixed = sinkhorn_divergence(torch.stack(lists[0]), lists[1], epsilon=0.1, **TIGHT)
    torch.testing.assert_close(mixed.value, expected.value, rtol=1e-9, atol=0)
    assert mixed.xy.potentials[0].shape == (2, 6) and [len(g) for g in mixed.xy.potentials[1]] == [4, 9]


def test_potentials_of_the_wrong_length_are_refused():
    lists = items()
    f, g = solve(*lists, epsilon=0.1).potentials
    with pytest.raises(ValueError, match=r"^init"):
        solve(*lists, epsilon=0.1, init=(f, [g[1], g[0], *g[2:]]))
    with pytest.raises(ValueError, match=r"^init"):
        solve(*lists, epsilon=0.1, init=(f[:-1], g))
    with pytest.raises(ValueError, match=r"^init"):  # longer, of which too much would be taken
        solve(*lists, epsilon=0.1, init=(f, [*g[:-1], torch.cat((g[-1], g[-1]))]))
    with pytest.raises(ValueError, match=r"^plan: "):
        _ = solve(*lists, epsilon=0.1).plan @ [g[0], *g[:-1]]
