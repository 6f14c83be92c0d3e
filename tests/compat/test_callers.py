"""SamplesLoss as people call it: costs of every kind, second derivatives, precisions, options of other interfaces."""

import copy
import math
import pickle

import pytest
import torch
from geomloss_cases import half_squares, problem
from torch import Tensor, nn
from torch.autograd import grad

import geomsink
from geomsink import engine
from geomsink.compat.formulas import FUNCTIONS, cost_of
from geomsink.compat.geomloss import SamplesLoss

COSINE = "(IntCst(1) - (X | Y) / (Norm2(X) * Norm2(Y)))"


# ---------------------------------------------------------------------------------------------- formulas


def test_a_formula_of_any_kind():
    a, x, b, y = problem(1)
    loss = SamplesLoss(cost=COSINE, blur=0.3, tol=1e-9)
    expected = geomsink.sinkhorn_divergence(x, y, a, b, cost="cosine", epsilon=0.09, tol=1e-9).value
    for module in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert module(a, x, b, y).item() == pytest.approx(expected.item(), rel=1e-9)
    manhattan = geomsink.costs.Cost(name="manhattan", expression=lambda x, y: (x - y).abs().sum(-1), degree=1)
    expected = geomsink.sinkhorn_divergence(x, y, a, b, cost=manhattan, blur=0.2, tol=1e-9).value
    found = SamplesLoss(p=1, blur=0.2, cost="Sum(Abs(X-Y))", tol=1e-9)(a, x, b, y)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize(
    ("text", "by_hand"),
    [
        (COSINE, lambda x, y: 1 - (x @ y) / (x.norm() * y.norm())),
        ("Norm2(X-Y)", lambda x, y: (x - y).norm()),
        ("SqDist(X,Y)*RatCst(3,2)", lambda x, y: 1.5 * (x - y).square().sum()),
        ("Sqrt(4)*SqDist(X,Y)", lambda x, y: 2 * (x - y).square().sum()),
        ("Sum(X*Y)*Exp(-1)/Norm2(-2) + (2|3) + Max(5) + XLogX(2) + Elem(7,0)",
         lambda x, y: (x @ y) * math.exp(-1) / 2 + 18 + 2 * math.log(2)),
        ("Pow(SqDist(X,Y), 4-2) + Clamp(2,Elem(X,0),3)*IfElse(-1,X|Y,4)",
         lambda x, y: (x - y).square().sum() ** 2 + 4 * max(2, x[0])),
        ("SqNorm2(Concat(Atan2(2,Abs(Elem(X,0))), Atan2(X,3))) + Norm2(Concat(4,Y))",
         lambda x, y: (2 / x[0].abs()).atan() ** 2 + (x / 3).atan().square().sum() + (16 + y @ y).sqrt()),
        ("X | Y + 1", lambda x, y: x @ (y + 1)),  # as Python and KeOps group it
        ("-Exp(-SqNorm2(X - Y)) ** 2 / 4.0", lambda x, y: -((-(x - y).square().sum()).exp() ** 2) / 4),
        ("Powf(SqDist(X,Y), RatCst(3,4)) + Pow(Norm2(X), 3)", lambda x, y: (x - y).norm() ** 1.5 + x.norm() ** 3),
        ("Elem(X,0) * Elem(Y,1) + Sum(Extract(X,1,2))", lambda x, y: x[0] * y[1] + x[1] + x[2]),
        ("SqNorm2(Concat(X,Y))", lambda x, y: x @ x + y @ y),
        ("Max(Abs(X-Y)) + Min(X*Y)", lambda x, y: (x - y).abs().max() + (x * y).min()),
        ("WeightedSqDist(X*X,X,Y)", lambda x, y: (x * x * (x - y).square()).sum()),
        ("IfElse(Elem(X,0)-Elem(Y,0), Norm2(X), IntCst(7))", lambda x, y: x.norm() if x[0] >= y[0] else 7.0),
        ("Sum(Clamp(X-Y,-1,RatCst(1,2)))", lambda x, y: (x - y).clamp(-1, 0.5).sum()),
        ("Sum(ReLU(X-Y) + Step(Y-X) + Sign(X))", lambda x, y: ((x - y).relu() + (y >= x) + x.sign()).sum()),
        ("Sqrt(SqDist(X,Y))*Rsqrt(SqNorm2(Y)) + Inv(Norm2(Y))", lambda x, y: ((x - y).norm() + 1) / y.norm()),
        ("Norm2(Normalize(X) - Normalize(Y))", lambda x, y: (x / x.norm() - y / y.norm()).norm()),
        ("Acos((X|Y)*Rsqrt(SqNorm2(X)*SqNorm2(Y)))", lambda x, y: ((x @ y) / (x.norm() * y.norm())).acos()),
        ("Sum(Atan2(X,Y) + Sin(X)*Cos(Y) + Atan(X) + XLogX(Square(Y)) + Log(Abs(X)))",
         lambda x, y: (x.atan2(y) + x.sin() * y.cos() + x.atan() + y**2 * (y**2).log() + x.abs().log()).sum()),
    ],
)  # fmt: skip
def test_formulas_are_what_they_say(text, by_hand):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (5, 4))
    expected = torch.stack([torch.stack([torch.as_tensor(by_hand(p, q), dtype=x.dtype) for q in y]) for p in x])
    cost = cost_of(text)
    assert torch.allclose(cost(x, y), expected, rtol=1e-12)
    assert torch.allclose(cost.transpose()(y, x), expected.T, rtol=1e-12)
    pairs = cost.between(cost.map(x[:4]), cost.map(y))
    assert torch.allclose(pairs, expected.diagonal(), rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SqDist(Extract(X,5,2),Extract(Y,5,2))", "Extract is given 5, 2, expected coordinates from 0 to 2."),
        ("Sum(Extract(X-Y,2,2))", "Extract is given 2, 2, expected coordinates from 0 to 2."),
        ("Extract(X,1,0)", "Extract is given 1, 0, expected coordinates from 0 to 2."),
        ("Extract(X,0,X)", "Extract is given what is no whole number, expected coordinates from 0 to 2."),
        ("Elem(X,9)", "Elem is given 9, expected coordinates from 0 to 2."),
        ("Elem(X,-1)", "Elem is given -1, expected coordinates from 0 to 2."),
        ("Elem(X,1.0)", "Elem is given what is no whole number, expected coordinates from 0 to 2."),
        ("SqDist(X,Y)*IntInv(0)", "IntInv(0) is inf, expected a finite constant."),
        ("SqDist(X,Y)*(1/0)", "1 / 0 is inf, expected a finite constant."),
        ("SqDist(X,Y)+(-1)**0.5", "(-1) ** 0.5 is nan, expected a finite constant."),
        ("Sum(Concat(1,2)*X)", "Concat(1, 2) is 2 numbers, expected a finite constant."),
    ],
)
def test_what_formulas_cannot_be_of_is_refused(text, sentence):
    x = torch.rand(4, 3)
    with pytest.raises(ValueError) as error:
        SamplesLoss(cost=text, debias=False)(x, x)
    assert str(error.value).endswith(f"cost: {sentence}")


def test_every_function_of_formulas_is_keops_too():
    """That the engines agree is checked before the first use of each formula; here of one with many functions."""
    import keopscore.formulas  # which looks for a compiler

    assert set(FUNCTIONS) <= set(vars(keopscore.formulas))
    text = (
        "Norm2(Normalize(X)-Y) + Max(Abs(X-Y)) + Sum(Clamp(X,-1,RatCst(1,2))*Step(Y)) + Elem(X,0)*Elem(Y,1) + "
        "IfElse(Elem(X,1), SqNorm2(Concat(X,Y)), IntCst(2)) + Sum(Extract(Y,1,2)+IntCst(1)) + Pow(Norm2(X),2) + "
        "Atan2(2,Norm2(X)) + Norm2(Concat(Y,Sqrt(4))) + Clamp(0,Elem(X,0),3)"
    )
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(10, 3)
    cost, y = cost_of(text), x.flip(0).cos()
    compiled = engine.pair(x, y, cost, "keops")
    u, v = torch.zeros(10).double(), torch.zeros(10).double()
    assert torch.allclose(compiled.row_sums(u, v, 2.0), (-cost(x, y) / 2).exp().sum(1), rtol=1e-12)


# --------------------------------------------------------------------------------- functions of the clouds


def test_a_precomputed_matrix():
    a, x, b, y = problem(3)  # as many points
    C = half_squares(x, y)
    plain = SamplesLoss(blur=0.2, debias=False, tol=1e-9)
    found = SamplesLoss(blur=0.2, debias=False, tol=1e-9, cost=lambda x, y: C[None])
    assert found(a, x, b, y).item() == pytest.approx(plain(a, x, b, y).item(), rel=1e-9)
    # Whatever the clouds, there is one matrix: two measures on one space, as GeomLoss has it.
    within = half_squares(x, x)
    found = SamplesLoss(blur=0.2, tol=1e-9, cost=lambda x, y: within[None])(a, x, b, y)
    assert found.item() == pytest.approx(SamplesLoss(blur=0.2, tol=1e-9)(a, x, b, x).item(), rel=1e-9)
    a, x, b, y = problem(1)  # 12 points against 10
    C = half_squares(x, y)
    found = SamplesLoss(blur=0.2, debias=False, tol=1e-9, cost=lambda x, y: C[None])
    assert found(a, x, b, y).item() == pytest.approx(plain(a, x, b, y).item(), rel=1e-9)
    with pytest.raises(
        ValueError, match=r"^cost: it returned a tensor of shape \(1, 12, 10\) for 12 points against 12"
    ):
        SamplesLoss(blur=0.2, cost=lambda x, y: C[None])(a, x, b, y)


def test_a_function_that_looks_things_up_by_position():
    a, x, b, y = problem(2)
    z = torch.cat((x, y))
    table = half_squares(z, z)
    place = {9: slice(0, 9), 14: slice(9, 23)}
    loss = SamplesLoss(blur=0.2, cost=lambda x, y: table[None, place[x.shape[1]], place[y.shape[1]]], tol=1e-9)
    assert loss(a, x, b, y).item() == pytest.approx(SamplesLoss(blur=0.2, tol=1e-9)(a, x, b, y).item(), rel=1e-9)


def test_a_network_in_the_cost_and_its_gradients():
    """It is called in the caller's precision, and trained through the plan, as GeomLoss does."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh())
    _, x, _, y = (t.float() for t in problem(1))
    loss = SamplesLoss(blur=0.3, cost=lambda x, y: half_squares(net(x), net(y)), tol=1e-6)
    found = grad(loss(x.requires_grad_(), y), (x, *net.parameters()))
    assert found[0].dtype == torch.float32
    double = copy.deepcopy(net).double()
    z = x.detach().double().requires_grad_()
    value = SamplesLoss(blur=0.3, tol=1e-9)(double(z), double(y.double()))
    for one, other in zip(found, grad(value, (z, *double.parameters())), strict=True):
        assert (one - other).norm() < 1e-4 * other.norm()


def test_an_asymmetric_cost_without_debiasing():
    a, x, b, y = problem(1)
    uphill = lambda x, y: ((x - y) ** 2).sum(-1) + (x - y).sum(-1).clamp(min=0)  # noqa: E731
    cost = geomsink.costs.Cost(name="uphill", expression=uphill, symmetric=False)
    value = geomsink.solve(x, y, a, b, cost=cost, epsilon=0.04, tol=1e-9).value
    for given in (
        lambda x, y: uphill(x[:, :, None], y[:, None]),
        ("", lambda x, y: uphill(x[:, None], y[None])),
        "SqDist(X,Y) + ReLU(Sum(X - Y))",
    ):
        loss = SamplesLoss(blur=0.2, debias=False, cost=given, tol=1e-9)
        assert loss(a, x, b, y).item() == pytest.approx(value.item(), rel=1e-9)
        with pytest.raises(ValueError, match=r"^cost: c\(x, y\) and c\(y, x\) differ by .*, or debias=False"):
            SamplesLoss(blur=0.2, cost=given)(a, x, b, y)


# ------------------------------------------------------------------------------------ second derivatives


@pytest.mark.parametrize("cost", [None, half_squares])
def test_a_gradient_penalty_needs_no_option(cost):
    a, x, b, y = problem(1)
    loss, x = SamplesLoss(blur=0.3, cost=cost, tol=1e-10), x.requires_grad_()
    (first,) = grad(loss(a, x, b, y), x, create_graph=True)
    direction = torch.linspace(-1, 1, 24).double().reshape(12, 2)
    (product,) = grad((first * direction).sum(), x)
    h, ends = 1e-4, []
    for sign in (-1, 1):
        moved = (x.detach() + sign * h * direction).requires_grad_()
        ends.append(grad(loss(a, moved, b, y), moved)[0])
    assert (product - (ends[1] - ends[0]) / (2 * h)).norm() < 1e-5 * product.norm()


# ---------------------------------------------------------------------------------- precisions and options


@pytest.mark.parametrize("loss", ["sinkhorn", "energy", "hausdorff"])
def test_precisions_and_integers(loss):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 9, (n, 2), generator=generator) for n in (8, 7))
    module = SamplesLoss(loss, blur=0.5)
    expected = module(x.double(), y.double())
    assert module(x, y) == expected and module(x, y).dtype == torch.float64
    half = module(x.half(), y.half())
    assert half.dtype == torch.float16 and half.item() == pytest.approx(expected.item(), rel=2e-3)
    assert module(x.float(), y.double()).dtype == torch.float64
    if loss == "sinkhorn":  # a function is called in the caller's precision
        given = SamplesLoss(blur=0.5, cost=lambda x, y: half_squares(x, y) * torch.ones((), dtype=x.dtype))
        assert given(x.half(), y.half()).dtype == torch.float16 and given(x, y).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_functions_of_integers_are_called_on_floats(dtype):
    """Differences of unsigned bytes are modulo 256."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 256, (n, 2), generator=generator).to(dtype) for n in (8, 7))

    def kernel(x, y, blur, **_):
        return (-half_squares(x / blur, y / blur)).exp()

    for module in (
        SamplesLoss(blur=10.0, cost=half_squares),
        SamplesLoss(blur=10.0, cost=("SqDist(X,Y)/2", lambda x, y: half_squares(x[None], y[None])[0])),
        SamplesLoss("gaussian", blur=90.0, kernel=kernel),
    ):
        expected = module(x.double(), y.double()).item()
        for pair in ((x, y), (x, y.float()), (x.double(), y)):
            assert module(*pair).item() == pytest.approx(expected, rel=1e-4)


def test_functions_of_half_precision_give_it_back_or_say_that_it_does_not_hold_the_value():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, n, 2, generator=generator).half() for n in (8, 7))
    for potentials in (False, True):
        loss = SamplesLoss(
            blur=300.0, cost=lambda x, y: 1e6 * half_squares(x.float(), y.float()), potentials=potentials
        )
        with pytest.raises(
            ValueError, match=r"^x, y: results reach .*, which float16 does not hold; give points in fl"
        ):
            loss(3 * x, y)
    f, g = SamplesLoss(blur=0.5, cost=half_squares, potentials=True)(x, y)
    assert f.dtype == g.dtype == torch.float16 and f.shape == (3, 8)


def test_weights_of_one_precision_beside_points_of_another():
    a, x, b, y = problem(1)
    expected = SamplesLoss(blur=0.1)(a, x, b, y).item()
    uniform = torch.full((10,), 0.1).double()
    one, other = SamplesLoss(blur=0.1)(a.float(), x, uniform, y), SamplesLoss(blur=0.1)(a, x, uniform, y)
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    assert SamplesLoss(blur=0.1)(a.float(), x, b.float(), y).item() == pytest.approx(expected, rel=1e-5)


def test_pixels_at_the_default_blur_whatever_the_scaling():
    """A blur of a hundredth of the spacing: the assignment. GeomLoss is a quarter off at its default scaling."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 256, (200, 2), generator=generator) for _ in range(2))
    assignment = 0.5 * geomsink.transport.matching(x, y).cost
    for scaling in (0.5, 0.9):
        loss = SamplesLoss(scaling=scaling)
        assert loss(x, y).item() == pytest.approx(assignment, rel=1e-6) and loss.report.converged
    sentence = r"The blur, 0.05, is far below the spacing of the points, about \d+(\.\d)?: try blur=\d+(\.\d)?\.$"
    with pytest.warns(geomsink.ConvergenceWarning, match=sentence):
        SamplesLoss(max_iter=1)(x, y)


def test_tolerance_and_cycles_may_be_chosen():
    a, x, b, y = problem(1)
    loss = SamplesLoss(blur=0.1, tol=1e-10, cluster_scale=0.0)
    value: Tensor = loss(a, x, b, y)
    assert loss.report.marginal_error < 1e-10 and "tol=1e-10, max_iter=1000" in repr(loss)
    expected = geomsink.sinkhorn_divergence(x, y, a, b, epsilon=0.02, tol=1e-10).value / 2
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
