"""Sums over pairs whose derivatives are sums over pairs again, on both engines, against plain torch matrices."""

import gc
import math
import weakref

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from geomsink import costs, engine, memory
from geomsink.engine import differentiable
from geomsink.engine.differentiable import Pairs, weighted_sums

ENGINES = ("dense", "keops")
EXPRESSIONS = {
    **{name: costs.get(name).expression for name in ("sqeuclidean", "euclidean", "power:1.5", "power:0.5")},
    "cosine": costs.get("cosine").expression,
    "geodesic": costs.get("geodesic").expression,
    "manhattan": lambda x, y: (x - y).abs().sum(-1),
    "of the user": lambda x, y, scale, shift: (((x - y) ** 2).sum(-1) * scale + shift).sqrt(),
}
THETA = {"of the user": (torch.tensor([1.3]).double(), torch.tensor([0.4]).double())}


def kernel(name: str, with_costs: bool = False):
    """k(x, y, u, v, 1/ε, *θ) = exp(u + v − C/ε), or C times that: the two functions that problems are made of."""
    expression = EXPRESSIONS[name]

    def function(x, y, u, v, inverse, *theta):
        C = expression(x, y, *theta)
        K = (u + v - C * inverse).exp()
        return K * C if with_costs else K

    return function


def variables(name: str, n: int = 4, m: int = 3, columns: int = 2, d: int = 2) -> tuple[torch.Tensor, ...]:
    """x, y, w, u, v, parameters, which require gradients; no two points coincide."""
    generator = torch.Generator().manual_seed(3)
    x, y = (torch.rand(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    y = y + 1.5
    if costs.get("geodesic").expression is EXPRESSIONS[name]:
        x, y = x / x.norm(dim=-1, keepdim=True), torch.stack((-y[:, 1], y[:, 0]), 1) / y.norm(dim=-1, keepdim=True)
    w, u, v = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((m, columns), (n,), (m,)))
    parameters = (torch.tensor([0.7]).double(), *THETA.get(name, ()))
    return tuple(t.clone().requires_grad_() for t in (x, y, w, u, v, *parameters))


def sums(function, on: str):
    return lambda x, y, w, u, v, *parameters: weighted_sums(function, x, y, w, u, v, parameters, on)


def plain(function):
    """The same by a matrix."""

    def product(x, y, w, u, v, *parameters):
        return function(x[:, None], y[None], u[:, None], v[None], *parameters) @ w

    return product


def derivatives(function, tensors, wanted=None) -> list[torch.Tensor]:
    """Of a nonlinear function of the sums: value, gradients and second derivatives along a fixed direction.

    Each new pair of variables is some formulas to compile on KeOps, hence those ``wanted``.
    """
    value, chosen = function(*tensors), [tensors[k] for k in wanted or range(len(tensors))]
    first = grad((value**2).sum() + value.sin().sum(), chosen, create_graph=True)
    second = grad(sum((g * (1.0 + k + g)).sum() for k, g in enumerate(first)), chosen)
    return [value, *first, *second]


def agree(found, expected, rtol=1e-11) -> None:
    for k, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        scale = theirs.abs().max()
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() <= rtol * scale + 1e-14, k


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_dense_derivatives_by_finite_differences(name):
    for with_costs in (False, True):
        function = sums(kernel(name, with_costs), "dense")
        assert gradcheck(function, variables(name))
        assert gradgradcheck(function, variables(name))


@pytest.mark.parametrize("on", ENGINES)
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_first_derivatives(name, on):
    """Against autograd through a matrix: rounding alone."""
    # Derivatives of K C have those of K in them, of which there are then less to compile.
    for with_costs in (False, True) if on == "dense" or name == "sqeuclidean" else (True,):
        function, tensors = kernel(name, with_costs), variables(name)
        mine, theirs = sums(function, on)(*tensors), plain(function)(*tensors)
        cotangent = torch.linspace(-1, 1, mine.numel()).double().reshape(mine.shape)
        agree((mine, *grad(mine, tensors, cotangent)), (theirs, *grad(theirs, tensors, cotangent)))


@pytest.mark.parametrize("name", ["geodesic", "of the user"])
def test_second_derivatives_on_keops(name):
    """In one cloud and the parameters; `test_all_second_derivatives_on_keops` has all variables."""
    function, tensors = kernel(name), variables(name)
    wanted = (0, *range(5, len(tensors)))
    agree(derivatives(sums(function, "keops"), tensors, wanted), derivatives(plain(function), tensors, wanted))


def test_all_second_derivatives_on_keops():
    function, tensors = kernel("sqeuclidean"), variables("sqeuclidean")
    agree(derivatives(sums(function, "keops"), tensors), derivatives(plain(function), tensors))
    assert gradcheck(sums(function, "keops"), variables("sqeuclidean", 3, 2))


@pytest.mark.parametrize("on", ENGINES)
def test_single_precision(on):
    function, tensors = kernel("sqeuclidean"), variables("sqeuclidean", 30, 20)
    single = [t.detach().float().requires_grad_() for t in tensors]
    found = derivatives(sums(function, on), single, (1, 2))
    assert all(t.dtype == torch.float32 for t in found)
    agree([t.double() for t in found], derivatives(plain(function), tensors, (1, 2)), rtol=2e-5)


@pytest.mark.parametrize("on", ENGINES)
@pytest.mark.parametrize("name", ["euclidean", "power:1.5", "power:0.5"])
def test_coincident_points(name, on):
    """A point against itself has the cost 0 and the (sub)gradient 0 there: as if that cost were a constant."""
    p = costs.get(name).degree
    x = torch.tensor([[0.0, 0.0], [0.3, 0.1], [0.3, 0.1], [1.0, -0.4]]).double().requires_grad_()
    y = x.detach().clone().requires_grad_()
    w = torch.tensor([[1.0], [-0.5], [2.0], [0.7]]).double()
    u = torch.zeros(4).double()
    inverse = torch.tensor([0.8]).double().requires_grad_()
    apart = ~torch.eye(4, dtype=torch.bool)
    apart[1, 2] = apart[2, 1] = False

    def by_hand(x, y, inverse):
        squares = ((x[:, None] - y[None]) ** 2).sum(-1)
        C = torch.where(apart, torch.where(apart, squares, 1.0) ** (p / 2), 0.0)
        return (-C * inverse).exp() @ w

    def mine(x, y, inverse):
        return weighted_sums(lambda a, b, u, v, s: (u + v - EXPRESSIONS[name](a, b) * s).exp(), x, y, w, u, u,
                             (inverse,), on)  # fmt: skip

    for tensors in ((x, y, inverse), (x, x, inverse)):
        agree([mine(*tensors)], [by_hand(*tensors)])
        first = [grad((f(*tensors) ** 2).sum(), (x, inverse), create_graph=True) for f in (mine, by_hand)]
        agree(*first)
        assert first[0][0].abs().max() > 0.1
        # In 1/ε derivatives go on through the points' gradient; in the points themselves the second is not defined.
        agree(*(grad(g[0].sum(0)[0] + g[1].sum(), inverse) for g in first))


def test_some_columns_at_a_time(monkeypatch):
    """Where even one row has more pairs than are worked on at a time."""
    function, tensors = kernel("power:1.5"), variables("power:1.5", 4, 5)
    expected, largest = derivatives(plain(function), tensors), []

    def watched(x, y, *rest):
        largest.append((x.shape[-3], y.shape[-2]))
        return function(x, y, *rest)

    monkeypatch.setattr(memory, "CHUNK", 2 * tensors[1].shape[-1])
    agree(derivatives(sums(watched, "dense"), tensors), expected)
    assert max(n * m for n, m in largest) == 2 and len({m for _, m in largest}) > 1


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_some_rows_at_a_time(rows, monkeypatch):
    """Up to second derivatives, with outputs along the rows and outputs summed over them."""
    function, tensors = kernel("power:1.5"), variables("power:1.5", 7, 5)
    expected = derivatives(plain(function), tensors)
    largest = []

    def watched(x, y, *rest):
        largest.append(x.shape[-3])
        return function(x, y, *rest)

    monkeypatch.setattr(memory, "CHUNK", rows * tensors[1].numel())
    agree(derivatives(sums(watched, "dense"), tensors), expected)
    assert max(largest) == rows


@pytest.mark.parametrize("on", ENGINES)
@pytest.mark.parametrize("columns", [1, 5, 21])
def test_wide_products(columns, on):
    function, tensors = kernel("sqeuclidean"), variables("sqeuclidean", columns=columns)
    agree(derivatives(sums(function, on), tensors, (0, 2)), derivatives(plain(function), tensors, (0, 2)))


def test_leading_dimensions():
    """Any number on the dense engine; parameters are shared, and their gradient is summed."""
    function, (x, y, w, u, v, inverse) = kernel("euclidean"), variables("euclidean")
    batch = [torch.stack([torch.stack([t * (1.0 + 0.1 * (3 * i + j)) for j in range(3)]) for i in range(2)])
             for t in (x, y, w, u, v)]  # fmt: skip
    found = weighted_sums(function, *batch, (inverse,))
    assert found.shape == (2, 3, 4, 2)
    gradients = grad((found**2).sum(), (*batch, inverse), create_graph=True)
    total = 0.0
    for i in range(2):
        for j in range(3):
            items = [t[i, j].detach().requires_grad_() for t in batch]
            single = plain(function)(*items, inverse)
            of_item = grad((single**2).sum(), (*items, inverse))
            agree([found[i, j], *(g[i, j] for g in gradients[:-1])], [single, *of_item[:-1]])
            total = total + of_item[-1]
    agree(gradients[-1:], [total])


@pytest.mark.parametrize("sizes", [((5, 2, 9), (4, 7, 1)), ((300, 1, 280), (3, 290, 5))])
def test_batches_on_both_engines(sizes):
    """Items of different sizes, some of more rows than one block: padding has no weight, and no influence."""
    function, tensors = kernel("sqeuclidean"), []
    for k, lengths in enumerate(sizes):
        shape = (len(lengths), max(lengths))
        generator = torch.Generator().manual_seed(k)
        points = torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
        weights = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).double() / torch.tensor(lengths)[:, None]
        tensors.append((points.requires_grad_(), weights))
    (x, a), (y, b) = tensors
    u = torch.zeros_like(a, requires_grad=True)
    v = torch.zeros_like(b, requires_grad=True)
    inverse = torch.tensor([2.0]).double().requires_grad_()
    lengths = tuple(torch.tensor(side) for side in sizes)
    results = []
    for on in ENGINES:
        pairs = Pairs.of(engine.pair(x.detach(), y.detach(), costs.get("sqeuclidean"), on, lengths))
        there = pairs.sums(function, x, y, b[..., None], u, v, (inverse,))[..., 0]
        back = pairs.T.sums(function, y, x, a[..., None], v, u, (inverse,))[..., 0]
        torch.testing.assert_close((a * there).sum(-1), (b * back).sum(-1), rtol=1e-12, atol=0)
        value = (a * there**2).sum() + (b * back.sin()).sum()
        first = grad(value, (x, y, u, v, inverse), create_graph=True)
        second = grad(sum((g * (1 + g)).sum() for g in first), (x, y, u, v, inverse))
        results.append([value, *first, *second])
    agree(*results)


@pytest.mark.parametrize("on", ENGINES)
def test_third_derivatives(on):
    """e^{−(x−y)²}, one pair: the third derivative is (12 z − 8 z³) e^{−z²} with z = x − y."""
    x, y = (torch.tensor([[c]], dtype=torch.float64, requires_grad=True) for c in (0.9, 0.2))
    w = torch.ones(1, 1).double()
    value = weighted_sums(lambda x, y, u, v: (-((x - y) ** 2).sum(-1)).exp(), x, y, w, engine=on).sum()
    for _ in range(3):
        (value,) = grad(value.sum(), x, create_graph=True)
    z = 0.7
    assert value.item() == pytest.approx((12 * z - 8 * z**3) * math.exp(-(z**2)), rel=1e-12)
    (mixed,) = grad(value.sum(), y)  # the fourth, in y: −(12 − 48 z² + 16 z⁴) e^{−z²}
    assert mixed.item() == pytest.approx(-(12 - 48 * z**2 + 16 * z**4) * math.exp(-(z**2)), rel=1e-12)


@pytest.mark.parametrize("on", ENGINES)
def test_derivatives_that_vanish(on, monkeypatch):
    """Of something linear in w and quadratic in x: zeros of the right shape, and no reduction of a zero is compiled."""
    zeros = []
    original = differentiable._vanishes

    def watched(text):
        zeros.append(original(text))
        return zeros[-1]

    monkeypatch.setattr(differentiable, "_vanishes", watched)
    x, y, w, u, v, _ = variables("sqeuclidean")
    value = weighted_sums(lambda x, y, u, v: ((x - y) ** 2).sum(-1) * v, x, y, w, u, v, (), on)
    of_w, of_x = grad(value.sum(), (w, x), create_graph=True)
    again = grad(of_w.sum(), (w, u, x), create_graph=True, allow_unused=True)
    assert again[0] is None or (again[0].shape == w.shape and not again[0].any())
    assert again[1] is None or not again[1].any()
    agree([again[2]], [2 * (x * v.sum() - (v[:, None] * y).sum(0)).expand(4, 2) * w.shape[1]])
    (second,) = grad(of_x.sum(), x, create_graph=True)
    agree([second], [(2 * (v[:, None] * w).sum()).expand(4, 2)])
    third = grad(second.sum(), x, allow_unused=True)[0]
    assert third is None or not third.any()
    assert (True in zeros) == (on == "keops")


@pytest.mark.parametrize("on", ENGINES)
def test_nothing_is_kept_but_arguments(on):
    """No matrix of pairs is held for a gradient, nor for the gradient's gradient."""

    held = []
    pack = lambda t: held.append(weakref.ref(t)) or t  # noqa: E731
    tensors = variables("sqeuclidean", 200, 150)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        value = sums(kernel("sqeuclidean"), on)(*tensors)
        gradients = grad((value**2).sum(), tensors, create_graph=True)
    gc.collect()
    alive = [t.numel() for t in (reference() for reference in held) if t is not None]
    assert len(alive) > 5 and max(alive) <= 4 * 200
    assert all(g.requires_grad for g in gradients)
