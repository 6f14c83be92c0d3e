"""What the drop-in for GeomLoss takes and what it refuses: call forms, options, costs and kernels, errors."""

import copy
import math
import pickle

import pytest
import torch

# Options, and masses of a and b; for the three problems the value and the first entries of its gradients in x and in a
# (for fixed marginals, centred), as a dense solver finds them that stops at residuals of 1e-14.
from geomloss_cases import (
    differentiated,
    gaussian,
    half_squares,
    problem,
)
from torch import Tensor
from torch.autograd import gradcheck

import geomsink
from geomsink.compat.formulas import cost_of
from geomsink.compat.geomloss import SamplesLoss
from geomsink.compat.geomloss.samples import OPTIONS

# ------------------------------------------------------------------------------------- call forms, options


def test_call_forms_agree():
    a, x, b, y = problem(1)
    loss, labels = SamplesLoss(blur=0.1), torch.arange(12)
    expected = loss(a, x, b, y)
    assert loss(a[:, None], x, b[:, None], y) == expected
    assert loss(labels, a, x, labels[:10, None], b, y).item() == pytest.approx(expected.item(), rel=1e-9)
    assert loss(None, a, x, None, b, y) == expected
    uniform = [torch.full((n,), 1 / n, dtype=torch.float64) for n in (12, 10)]
    assert loss(x, y).item() == pytest.approx(loss(uniform[0], x, uniform[1], y).item(), rel=1e-9)
    assert SamplesLoss("sinkhorn", 2, 0.1, None, None, 0.5, 5, None, None, None, True, False, False, "auto")(
        a, x, b, y
    ) == expected  # fmt: skip


def test_precisions_are_promoted():
    a, x, b, y = problem(1)
    mixed = SamplesLoss()(a.float(), x, b.float(), y)
    assert mixed.dtype == torch.float64 and mixed.item() == pytest.approx(0.103506728, rel=1e-5)
    with pytest.raises(ValueError, match="^a, b: they sum to"):
        SamplesLoss()(a.float(), x, 1.01 * b.float(), y)
    assert SamplesLoss()(a.float(), x.float(), b.float(), y.float()).dtype == torch.float32


@pytest.mark.parametrize("backend", ["tensorized", "online", "multiscale"])
@pytest.mark.parametrize("loss", ["sinkhorn", "gaussian", "laplacian", "energy", "hausdorff"])
def test_backends_agree(backend, loss):
    value = SamplesLoss(loss, blur=0.1, backend=backend)(*problem(2)).item()
    assert value == pytest.approx(SamplesLoss(loss, blur=0.1)(*problem(2)).item(), rel=1e-6)


def test_multiscale_solves_between_cells():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(600, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    loss = SamplesLoss(blur=0.1, backend="multiscale")
    value = loss(x, y + 0.1).item()
    assert loss.report.xy.approximation is not None
    assert value == pytest.approx(SamplesLoss(blur=0.1, backend="tensorized")(x, y + 0.1).item(), rel=1e-5)


def test_attributes_may_be_set_later():
    loss = SamplesLoss(blur=0.3)
    loss.blur = 0.1
    assert loss(*problem(1)).item() == pytest.approx(0.100872229, rel=1e-7)
    loss.blur = 0
    with pytest.raises(ValueError, match="^blur: 0 given"):
        loss(*problem(1))


def test_hausdorff_is_below_the_divergence():
    a, x, b, y = problem(1)
    value, gx, _ = differentiated(SamplesLoss("hausdorff", blur=0.1), a, x, b, y)
    assert value == geomsink.hausdorff_divergence(x, y, a, b, blur=0.1, cost=cost_of("SqDist(X,Y)/2"), tol=1e-4).value
    assert 0 < value < 0.100872229 and gx.norm() > 0
    kernel = SamplesLoss("hausdorff", blur=0.3, kernel=gaussian)(a, x, b, y)
    assert kernel.item() == pytest.approx(0.147273444, abs=1e-9)


def test_verbose_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    SamplesLoss(verbose=True)(*problem(1))
    assert "xy, 3 of 3, error " in capsys.readouterr().err


def test_a_module_shows_its_options_and_can_be_copied():
    loss = SamplesLoss(blur=0.1, reach=0.3)
    loss(*(t.requires_grad_() for t in problem(1)))
    shown = repr(loss)
    assert "blur=0.1, reach=0.3" in shown and all(f"{name}=" in shown for name in OPTIONS)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other.report is None and other(*problem(1)) == loss(*problem(1))
    assert loss.state_dict() == {}


def test_grad_mode_is_left_alone():
    with torch.no_grad():
        assert not SamplesLoss()(*(t.requires_grad_() for t in problem(1))).requires_grad
        assert not torch.is_grad_enabled()
    with pytest.raises(ValueError):
        SamplesLoss()(torch.full((2, 2), math.nan), torch.zeros(2, 2))
    assert torch.is_grad_enabled()


def test_in_torchs_transformations():
    a, x, b, y = problem(1)
    with pytest.raises(RuntimeError, match="^SamplesLoss: it was called within a torch.func transform"):
        torch.func.grad(lambda x: SamplesLoss()(a, x, b, y))(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SamplesLoss()(a.float(), x.float(), b.float(), y.float())
    assert value.dtype == torch.float32 and value.item() == pytest.approx(0.103506728, rel=1e-5)


# ------------------------------------------------------------------------------------- costs and kernels


@pytest.mark.parametrize(
    "cost", [half_squares, ("(SqDist(X,Y) / IntCst(2))", half_squares), "(SqDist(X,Y) / IntCst(2))"]
)
@pytest.mark.parametrize("options", [dict(), dict(reach=0.3), dict(debias=False)])
def test_a_cost_in_each_of_the_forms(cost, options):
    found = differentiated(SamplesLoss(blur=0.1, cost=cost, tol=1e-9, **options), *problem(1))
    expected = differentiated(SamplesLoss(blur=0.1, tol=1e-9, **options), *problem(1))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)


def test_p_sets_the_temperature_of_a_cost_of_ones_own():
    a, x, b, y = problem(1)
    loss = SamplesLoss(p=1, blur=0.1, reach=0.3, cost=half_squares)
    expected = geomsink.sinkhorn_divergence(x, y, a, b, epsilon=0.2, rho=0.6, tol=1e-6).value / 2
    assert loss(a, x, b, y).item() == pytest.approx(expected.item(), rel=1e-6)


def manhattan(x: Tensor, y: Tensor) -> Tensor:
    return (x[..., :, None, :] - y[..., None, :, :]).abs().sum(-1)


@pytest.mark.parametrize("cost", [manhattan, ("Sum(Abs(X-Y))", manhattan)])
def test_a_cost_of_ones_own_where_newtons_steps_look_at_single_pairs(cost):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(200, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    value = SamplesLoss(p=1, blur=0.01, cost=cost)(x, y).item()
    own = geomsink.costs.Cost(name="manhattan", expression=lambda x, y: (x - y).abs().sum(-1), degree=1)
    assert value == pytest.approx(geomsink.sinkhorn_divergence(x, y, blur=0.01, cost=own).value.item(), rel=1e-3)


@pytest.mark.parametrize("loss", ["gaussian", "hausdorff"])
def test_a_kernel_of_ones_own(loss):
    options = dict(loss=loss, blur=0.3, kernel=gaussian)
    expected = differentiated(SamplesLoss("gaussian", blur=0.3), *problem(2, (1.7, 0.6)))
    for one, other in zip(differentiated(SamplesLoss(**options), *problem(2, (1.7, 0.6))), expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    a, x, b, y = (t.requires_grad_() for t in problem(3))
    assert gradcheck(SamplesLoss(**options), (a, x, b, y))
    ours, named = (SamplesLoss(potentials=True, **o)(a, x, b, y) for o in (options, dict(loss="gaussian", blur=0.3)))
    assert all(torch.allclose(one, other) for one, other in zip(ours, named, strict=True))


# ------------------------------------------------------------------------------------------------- errors

X, Y = torch.rand(5, 2), torch.rand(4, 2)
A, B = torch.full((5,), 0.2), torch.full((4,), 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(loss="sinkhom"), "loss: unknown name 'sinkhom'; expected one of sinkhorn, hausdorff, energy"),
        (dict(backend="keops"), "backend: unknown name 'keops'; expected one of auto, tensorized, online, multiscale."),
        (dict(blur=0), "blur: 0 given, expected a positive number."),
        (dict(blur=-1, loss="gaussian"), "blur: -1 given, expected a positive number."),
        (dict(blur=math.inf), "blur: inf given, expected a positive number."),
        (dict(blur=None), "blur: a NoneType was given, expected a number."),
        (dict(reach=0), "reach: 0 given, expected a positive number."),
        (dict(reach=-0.3), "reach: -0.3 given, expected a positive number."),
        (dict(reach=(0.3, None)), "reach: a tuple was given, expected a number."),
        (dict(p=3), "p: 3 given, expected 0 < p <= 2, or a cost."),
        (dict(p=0), "p: 0 given, expected a positive number."),
        (dict(scaling=1), "scaling: 1 given, expected a factor between 0 and 1."),
        (dict(truncate=-1), "truncate: -1 given, expected a positive number."),
        (dict(diameter="1"), "diameter: a str was given, expected a number."),
        (dict(cluster_scale=math.nan), "cluster_scale: nan given, expected a positive number or 0."),
        (dict(tol=0), "tol: 0 given, expected a positive marginal error."),
        (dict(max_iter=0), "max_iter: 0 given, expected a whole number of at least 1."),
        (dict(cost=3), "cost: 3 was given, expected a callable, a formula, or a pair (formula, callable)."),
        (dict(cost="Norm3(X-Y)"), "cost: formula 'Norm3(X-Y)' has Norm3(X - Y); expected X, Y, numbers, + - * / | **"),
        (dict(cost="Norm2(X"), "cost: 'Norm2(X' is no formula ('(' was never closed"),
        (dict(cost="Norm2(X,Y)"), "cost: formula 'Norm2(X,Y)' has Norm2 with 2 arguments, expected 1."),
        (dict(loss="energy", kernel="gaussian"), "kernel: a str was given, expected a callable or None."),
        (dict(loss="hausdorff", reach=1.0), "reach: 1.0 given with loss='hausdorff', which has fixed marginals"),
        (dict(loss="hausdorff", potentials=True), "potentials: True given with loss='hausdorff', which has none"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((TypeError, ValueError)) as error:
        SamplesLoss(**options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("loss", ["sinkhorn", "gaussian"])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((X,), "SamplesLoss: 1 arguments were given, expected (x, y), (a, x, b, y) or (l_x, a, x, l_y, b, y)."),
        ((X.numpy(), Y), "x: a ndarray was given, expected a torch tensor."),
        ((A.tolist(), X, B, Y), "a: a list was given, expected a torch tensor."),
        ((X, None), "y: a NoneType was given, expected a torch tensor."),
        ((X[0], Y), "x: shape is (2,), expected (N, D) or (B, N, D)."),
        ((X, Y[None]), "x, y: batches of none and 1 clouds, expected as many of each."),
        ((X, Y[:, :1]), "y: 1 coordinates a point, but x has 2"),
        ((X[:0], Y), "x: shape is (0, 2), expected at least one point"),
        ((X * math.nan, Y), "x: 10 of 10 numbers are NaN or infinite"),
        ((1j * X, Y), "x: dtype is complex64, expected real numbers of at most 64 bits."),
        ((B, X, A, Y), "a: shape is (4,), expected (5,), one weight a point of x."),
        ((torch.stack((A, A), 1), X, B, Y), "a: shape is (5, 2), expected (5,)"),
        ((-A, X, B, Y), "a: the smallest weight is -0.2, expected none below zero."),
        ((0 * A, X, B, Y), "a: all weights are zero"),
        ((A.long(), A, X, B.long(), B, Y[None]), "l_y: labels of shape (4,) and dtype int64 are given with a batch"),
        (
            (B.long(), A, X, None, B, Y),
            "l_x: labels of shape (4,) and dtype int64 are given, expected one whole number",
        ),
        ((A, A, X, None, B, Y), "l_x: labels of shape (5,) and dtype float32 are given, expected one whole number"),
    ],
)
def test_bad_arguments_are_refused(loss, args, message):
    with pytest.raises((TypeError, ValueError)) as error:
        SamplesLoss(loss)(*args)
    assert str(error.value).startswith(message)


def test_what_only_some_losses_refuse():
    with pytest.raises(
        ValueError, match="^a, b: they sum to 2.* and 1; expected the same mass, or reach= for others.$"
    ):
        SamplesLoss()(2 * A, X, B, Y)
    with pytest.raises(ValueError, match="^a, b: they sum to 2.* and 1; expected the same mass.$"):
        SamplesLoss("hausdorff")(2 * A, X, B, Y)
    with pytest.raises(ValueError, match="^l_x, l_y: labels are given with backend='online', expected auto or"):
        SamplesLoss(backend="online")(A.long(), A, X, None, B, Y)
    for cost, message in [
        (lambda x, y: x @ y, r"cost: it fails on \(1, 5, 2\) and \(1, 4, 2\): "),
        (lambda x, y: x[..., 0], r"cost: it returned a tensor of shape \(1, 5\) for 5 points against 4, expected"),
        (lambda x, y: half_squares(x, y) / 0, "cost: it is NaN or infinite between some of the points"),
        (lambda x, y: (x[:, :, None] - 2 * y[:, None]).abs().sum(-1), r"cost: c\(x, y\) and c\(y, x\) differ by"),
        ("Sum(Abs(X - 2*Y))", r"cost: c\(x, y\) and c\(y, x\) differ by .*; expected a symmetric cost"),
        ("X - Y", "cost: formula 'X - Y' has 2 numbers a pair, expected one"),
        ("Log(-SqNorm2(X)) + SqDist(X,Y)", "cost: 'Log.* is NaN or infinite between some of the points"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            SamplesLoss(cost=cost)(X - 0.5, Y)
    with pytest.raises(TypeError, match=r"^kernel: it returned a tensor of shape \(1, 5\), expected .* \(1, 5, 4\)"):
        SamplesLoss("energy", kernel=lambda x, y, **_: torch.ones(1, 5))(X, Y)
