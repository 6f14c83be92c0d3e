"""Gradients in points, weights, temperature and costs' parameters, to first and second order, in all three modes."""

import functools
import gc
import weakref

import numpy as np
import pytest
import torch
from reference import NAMES, load
from torch import Tensor
from torch.autograd import grad

from geomsink import SinkhornDivergence, costs, sinkhorn_divergence, solve

TIGHT = dict(tol=1e-11, max_iter=20_000)
MODES = {"envelope": {}, "implicit": {}, "unrolled": dict(iterations=7)}
COSTS = {
    **{name: (name, {}) for name in ("sqeuclidean", "euclidean", "power:1.5", "cosine")},
    "mahalanobis": (lambda t: costs.mahalanobis(t + t.T), {"theta": torch.tensor([[0.7, 0.1], [0.2, 0.4]]).double()}),
    "of the user": (
        lambda t: costs.Cost(
            name="mixed", expression=lambda x, y, t: ((x - y) ** 2 * t + (x - y).abs() * t).sum(-1), parameters=(t,)
        ),
        {"theta": torch.tensor([0.7, 0.2]).double()},
    ),
}
MARGINALS = {
    "balanced": {},
    "reach": dict(reach=0.6),
    "tv": dict(rho=0.15, penalty="tv"),
    "l2": dict(rho=0.3, penalty="l2"),
    "semi": dict(reach=(0.6, None)),
}
MARGINALS["other semi"] = dict(rho=(None, 0.2), penalty="tv")


def clouds(n: int = 6, m: int = 5, d: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """x, y, logits of weights, ε."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return dict(x=draw(n, d) + 0.1, y=draw(m, d) + 0.4, a=draw(n), b=draw(m), epsilon=torch.tensor(0.2).double())


def loss_of(kind: str, marginals: str, **options):
    """S_ε as a function of tensors; weights are of mass 1 if both marginals are fixed, and free otherwise."""
    make, _ = COSTS[kind]

    def loss(x, y, a, b, epsilon, *theta):
        cost = make(*theta) if theta else make
        weights = a.softmax(0), b.softmax(0)
        if marginals != "balanced":
            weights = a.exp() / 6, b.exp() / 5
        return sinkhorn_divergence(
            x, y, *weights, epsilon=epsilon, cost=cost, **MARGINALS[marginals], **TIGHT, **options
        ).value

    return loss


def differences(function, tensors: dict[str, Tensor], h: float = 1e-4) -> dict[str, tuple[Tensor, float]]:
    """A random direction of each tensor, and the derivative along it: central differences of fourth order."""
    generator, found = torch.Generator().manual_seed(1), {}
    for name, t in tensors.items():
        direction = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        moved = [float(function(*(tensors | {name: t + s * h * direction}).values()).detach()) for s in (-2, -1, 1, 2)]
        found[name] = direction, (moved[0] - 8 * moved[1] + 8 * moved[2] - moved[3]) / (12 * h)
    return found


def check(function, tensors: dict[str, Tensor], rtol: float = 1e-6, known=None) -> None:
    """Derivatives along a random direction of each tensor, against `differences`."""
    live = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
    gradients = grad(function(*live.values()), list(live.values()))
    known = known or differences(function, tensors)
    for (name, t), gradient in zip(tensors.items(), gradients, strict=True):
        direction, expected = known[name]
        # Converged to 1e-11, the values are right to as much; their differences to 1e-7.
        assert gradient.shape == t.shape
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=rtol, abs=1e-7), name


@functools.cache
def differences_of_solved(kind: str, marginals: str, form: str) -> dict[str, tuple[Tensor, float]]:
    """Of values that are solved for, which are the same in both modes that differentiate them."""
    return differences(loss_of(kind, marginals, form=form), clouds() | COSTS[kind][1])


@pytest.mark.parametrize("form", ["entropic", "sharp"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kind", "marginals"), [*((kind, "balanced") for kind in COSTS), *(("sqeuclidean", m) for m in [*MARGINALS][1:])]
)
def test_first_derivatives(kind, marginals, mode, form):
    """With penalties the masses differ: 1.5 and 1.7 or so."""
    known = None if mode == "unrolled" else differences_of_solved(kind, marginals, form)
    loss = loss_of(kind, marginals, form=form, differentiation=mode, **MODES[mode])
    check(loss, clouds() | COSTS[kind][1], known=known)


@pytest.mark.parametrize("form", ["entropic", "sharp"])
@pytest.mark.parametrize(
    ("kind", "marginals"),
    [("power:1.5", "reach"), *((kind, "balanced") for kind in ("sqeuclidean", "of the user", "cosine")),
     *(("sqeuclidean", marginals) for marginals in ("semi", "l2", "other semi"))],
)  # fmt: skip
def test_second_derivatives(kind, marginals, form):
    """A functional of the whole gradient, the envelope's too, differentiated in everything."""
    loss = loss_of(kind, marginals, form=form)

    def functional(*tensors):
        tensors = [t if t.requires_grad else t.clone().requires_grad_() for t in tensors]
        first = grad(loss(*tensors), tensors, create_graph=True)
        return sum(((k + 1.0) * g + g**2).sum() for k, g in enumerate(first))

    check(functional, clouds() | COSTS[kind][1], rtol=1e-5)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().norm() / expected.detach().norm())


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
def test_solved_problems(name):
    """At the default tolerance 1 %, at 1e-6 to 1e-4; from cells and over all pairs alike."""
    solved = load(name)
    x, y, expected = (torch.tensor(solved[key]) for key in ("x", "y", "grad_x"))
    rs = {False: None, True: None}
    for tol, within in ((1e-3, 1e-2), (1e-6, 1e-4)):
        found = {}
        for multiscale in (False, True):
            x = x.detach().requires_grad_()
            options = dict(multiscale=multiscale, init=rs[multiscale], dtype=None if tol == 1e-3 else "float64")
            r = rs[multiscale] = sinkhorn_divergence(x, y, blur=float(solved["blur"]), tol=tol, **options)
            assert (r.xy.approximation is not None) == multiscale
            (found[multiscale],) = grad(r.value, x)
            assert relative(found[multiscale], expected) < within
        assert relative(found[True], found[False]) < within


@pytest.mark.parametrize("form", ["entropic", "sharp"])
def test_modes_agree(form):
    """At ε = 1/2 on the unit square an update contracts by 0.4 or less: 40 of them are converged to 1e-15."""
    tensors = clouds(200, 190, 2) | {"epsilon": torch.tensor(0.5).double()}
    tensors = {k: t.requires_grad_() for k, t in tensors.items()}
    gradients = {}
    for mode in MODES:
        options = dict(iterations=40) if mode == "unrolled" else {}
        value = loss_of("sqeuclidean", "balanced", form=form, differentiation=mode, **options)(*tensors.values())
        gradients[mode] = grad(value, list(tensors.values()))
    for mode in ("implicit", "unrolled"):
        for found, expected in zip(gradients[mode], gradients["envelope"], strict=True):
            assert relative(found, expected) < 1e-8, mode


def textbook(C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, iterations: int, form: str, itself: bool) -> Tensor:
    """The published algorithm: L log-domain updates of f and g from zero; of a self problem, averaged ones of f."""
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(iterations):
        new = -epsilon * ((g - C) / epsilon + b.log()).logsumexp(1)
        f = 0.5 * (f + new) if itself else new
        g = f if itself else -epsilon * ((f[:, None] - C) / epsilon + a.log()[:, None]).logsumexp(0)
    P = a[:, None] * b * ((f[:, None] + g - C) / epsilon).exp()
    return (P * C).sum() if form == "sharp" else (a * f).sum() + (b * g).sum() - epsilon * (P.sum() - 1)


def dense_loss(x: Tensor, y: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, iterations: int, form: str) -> Tensor:
    a, b = a.softmax(0), b.softmax(0)
    parts = [
        textbook(((p[:, None] - q) ** 2).sum(-1), u, v, epsilon, iterations, form, p is q)
        for p, q, u, v in ((x, y, a, b), (x, x, a, a), (y, y, b, b))
    ]
    return parts[0] - 0.5 * parts[1] - 0.5 * parts[2]


@pytest.mark.parametrize("form", ["entropic", "sharp"])
@pytest.mark.parametrize("iterations", [1, 2, 10, 23])
def test_unrolled_is_the_published_algorithm(iterations, form):
    tensors = [t.requires_grad_() for t in clouds(30, 25, 3).values()]
    expected = dense_loss(*tensors, iterations, form)
    truth = grad(expected, tensors)
    for recompute in (False, True):
        options = dict(iterations=iterations, recompute=recompute, differentiation="unrolled", form=form)
        value = loss_of("sqeuclidean", "balanced", **options)(*tensors)
        assert value.item() == pytest.approx(expected.item(), rel=1e-11)
        for found, exact in zip(grad(value, tensors), truth, strict=True):
            assert relative(found, exact) < 1e-9  # cancellation between the three problems


def held_numbers(iterations: int, recompute: bool, n: int = 100) -> tuple[int, int]:
    """Numbers kept for the gradient, of each memory once, and the most in one tensor."""
    held = []
    pack = lambda t: held.append(weakref.ref(t)) or t  # noqa: E731
    tensors = [t.requires_grad_() for t in clouds(n, n, 2).values()]
    options = dict(differentiation="unrolled", iterations=iterations, recompute=recompute)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        value = loss_of("sqeuclidean", "balanced", **options)(*tensors)
    gc.collect()
    alive = [t for t in (reference() for reference in held) if t is not None]
    assert value.requires_grad
    sizes = {t.untyped_storage().data_ptr(): t.numel() for t in alive}.values()
    return sum(sizes), max(sizes)


def test_memory_of_unrolled_iterations():
    """Linear in points times iterations, without a matrix; with recomputation, in their square root."""
    few, many = held_numbers(9, False), held_numbers(36, False)
    assert max(few[1], many[1]) <= 4 * 100 and 3 < many[0] / few[0] < 4.5
    few, rooted = held_numbers(9, True), held_numbers(36, True)
    assert rooted[0] < many[0] / 4 and rooted[0] < 2.5 * few[0]


@pytest.mark.parametrize("form", ["entropic", "sharp"])
def test_products_with_the_second_derivative(form):
    """Against autograd through 500 updates of a matrix."""
    tensors = list(clouds(40, 35, 2).values())
    x = tensors[0].requires_grad_()
    direction = torch.linspace(0, 40, x.numel()).double().sin().reshape(x.shape)
    products = []
    for value in (
        loss_of("sqeuclidean", "balanced", form=form, differentiation="implicit")(*tensors),
        dense_loss(*tensors, 500, form),
    ):
        (first,) = grad(value, x, create_graph=True)
        products.append(grad((first * direction).sum(), x)[0])
    assert relative(*products) < 1e-8


def test_second_derivatives_of_many_points():
    """More points than coarse columns: few iterations, small residuals, and finite differences of gradients."""
    tensors = clouds(1150, 900, 3)
    x, y = tensors["x"].requires_grad_(), tensors["y"]
    direction = torch.linspace(0, 40, x.numel()).double().sin().reshape(x.shape) / 40

    def first(points, differentiation):
        r = sinkhorn_divergence(points, y, blur=0.1, differentiation=differentiation, tol=1e-10, max_iter=5000)
        return grad(r.value, points, create_graph=True)[0], r

    gradient, r = first(x, "implicit")
    (product,) = grad((gradient * direction).sum(), x)
    moved = [first((x + s * direction).detach().requires_grad_(), "envelope")[0].detach() for s in (-1e-3, 1e-3)]
    assert relative(product, (moved[1] - moved[0]) / 2e-3) < 1e-5
    for solves, most in ((r.xy.linear_solves, 20), (r.xx.linear_solves, 60)):
        assert len(solves) == 1 and solves[0].residual < 1e-10 and 0 < solves[0].iterations <= most
    assert not r.yy.linear_solves


@pytest.mark.parametrize("marginals", ["balanced", "reach", "semi"])
def test_functions_of_the_plan(marginals):
    """Potentials, products with the plan and its transpose, and the transport cost."""

    def function(x, y, a, b, epsilon, v, w):
        weights = (a.softmax(0), b.softmax(0)) if marginals == "balanced" else (a.exp() / 6, b.exp() / 5)
        s = solve(x, y, *weights, epsilon=epsilon, differentiation="implicit", **MARGINALS[marginals], **TIGHT)
        f, g = s.potentials
        products = ((s.plan @ w) ** 2).sum() + ((s.plan.T @ v).sin() * w[:, 0]).sum()
        return (f.cos() * v).sum() + (g**2).sum() + products + s.transport_cost**2

    check(function, clouds() | {"v": clouds()["x"][:, 0], "w": clouds()["y"]})


@pytest.mark.parametrize("kind", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("marginals", ["balanced", "reach"])
def test_the_envelope_is_differentiated_to_any_order(kind, marginals):
    """As implicit differentiation is; nothing is solved before a second derivative is asked for."""
    orders = []
    for mode in ("envelope", "implicit"):
        x, y, a, b, epsilon = (t.requires_grad_() for t in clouds().values())
        weights = (a.softmax(0), b.softmax(0)) if marginals == "balanced" else (a.exp() / 6, b.exp() / 5)
        r = sinkhorn_divergence(
            x, y, *weights, epsilon=epsilon, cost=kind, differentiation=mode, **MARGINALS[marginals], **TIGHT
        )
        first = grad(r.value, (x, y, a, epsilon), create_graph=True)
        assert not r.xy.linear_solves
        second = grad(
            sum((g.sin() * (k + 1.0)).sum() for k, g in enumerate(first)), (x, y, a, epsilon), create_graph=True
        )
        assert r.xy.linear_solves
        third = grad(sum((g**2).sum() for g in second), (x, y, a, epsilon))
        orders.append([*first, *second, *third])
    assert all(relative(one, other) < 1e-9 for one, other in zip(*orders, strict=True))


def test_a_gradient_penalty_of_a_loss():
    """In a batch, in single precision; of the limit, the gradient has none."""
    x, y = (torch.stack((t, 0.5 * t.flip(0))).float() for t in (clouds()["x"], clouds()["y"]))
    loss, x = SinkhornDivergence(blur=0.3, tol=1e-6), x.requires_grad_()
    (first,) = grad(loss(x, y).sum(), x, create_graph=True)
    (found,) = grad((first**2).sum(), x)
    for k in range(2):
        point = x[k].detach().double().requires_grad_()
        value = sinkhorn_divergence(point, y[k].double(), blur=0.3, differentiation="implicit", **TIGHT).value
        (penalty,) = grad((grad(value, point, create_graph=True)[0] ** 2).sum(), point)
        assert relative(found[k].double(), penalty) < 1e-3
    (first,) = grad(sinkhorn_divergence(x[0], y[0], epsilon=1e10).value, x, create_graph=True)
    with pytest.raises(RuntimeError, match="^epsilon: it is so large that the limit is computed, whose gradients"):
        grad((first**2).sum(), x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("marginals", ["balanced", "reach"])
def test_points_without_weight(marginals, mode):
    """They have no gradient and change no other one; in their weight it is the derivative from above."""
    tensors, penalties = clouds(), MARGINALS[marginals]
    x, y = tensors["x"], tensors["y"].requires_grad_()
    a, b = torch.ones(6).double() / 6, torch.ones(5).double() / 5
    silent = torch.cat((x, torch.tensor([[0.2, 1.4], [30.0, 30.0]]).double())).requires_grad_()
    weights = torch.cat((a, torch.zeros(2).double())).requires_grad_()
    options = dict(epsilon=0.2, differentiation=mode, **MODES[mode], **penalties, **TIGHT)
    few = x.clone().requires_grad_()
    of_few, of_y = grad(sinkhorn_divergence(few, y, a, b, **options).value, (few, y))
    value = sinkhorn_divergence(silent, y, weights, b, **options).value
    found = grad(value, (silent, y, weights))
    assert (
        relative(found[0][:6], of_few) < 1e-7 and found[0][6:].abs().max() < 1e-25 and relative(found[1], of_y) < 1e-7
    )
    assert found[2].isfinite().all()
    raised = weights.detach().clone()
    raised[6] += 1e-6
    raised /= raised.sum() if marginals == "balanced" else 1.0
    after = sinkhorn_divergence(silent.detach(), y.detach(), raised, b, **options).value
    change = ((raised - weights.detach()) * found[2]).sum()
    assert change.item() == pytest.approx((after - value).item(), rel=1e-4)


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("weight", [0.0, 1e-20, 1e-3])
@pytest.mark.parametrize("marginals", ["balanced", "reach"])
def test_potentials_where_there_is_no_weight(marginals, weight, batch):
    """They follow those of the other cloud, however little counts on them; a batch has no coarse columns."""
    a, b = torch.ones(6).double() / 6, torch.ones(5).double() / 5
    a = torch.cat((a[:5], torch.tensor([weight]).double(), a[5:] - weight))

    def function(x, y):
        arrays = [t[None] if batch else t for t in (x, y, a, b)]
        s = solve(*arrays, epsilon=0.2, differentiation="implicit", **MARGINALS[marginals], **TIGHT)
        f = s.potentials[0].reshape(-1)
        return f[5] ** 2 + (s.potentials[1] ** 3).sum()

    check(function, {"x": clouds(7)["x"], "y": clouds()["y"]})


def test_numbers_for_numpy():
    x, y, *_, epsilon = clouds().values()
    for mode, options in MODES.items():
        r = sinkhorn_divergence(
            x.numpy(), y.numpy(), epsilon=epsilon.requires_grad_(), differentiation=mode, tol=1e-9, **options
        )
        assert [type(v) for v in (r.value, r.xy.value, r.xy.transport_cost)] == [float] * 3
        assert [type(v) for v in (*r.xy.potentials, r.xy.plan @ y.numpy())] == [np.ndarray] * 3


@pytest.mark.parametrize(
    "cost",
    [
        costs.Cost(name="three tenths", expression=lambda x, y: ((x - y) ** 2).sum(-1) * 0.3, degree=2.0),
        costs.get("power:1.3"),
        costs.get("euclidean").scaled(0.7),
        costs.get("mahalanobis:0.1,0.3"),
    ],
    ids=lambda cost: cost.name,
)
def test_numbers_of_a_cost_are_not_rounded_in_gradients(cost):
    """What an expression multiplies by is a Python number, and float64 on both engines."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 2, dtype=torch.float64, generator=generator) for n in (60, 50))
    found = []
    for engine in ("dense", "keops"):
        z = x.clone().requires_grad_()
        options = dict(epsilon=0.1, cost=cost, engine=engine, tol=1e-10, differentiation="implicit")
        found.append(*grad(solve(z, y, **options).value, z))
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-11)  # rounded in float32: 4e-10
