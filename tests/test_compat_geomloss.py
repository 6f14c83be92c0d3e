"""GeomLoss's SamplesLoss, converged: against an independent dense solver, and GeomLoss itself if it is installed."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck

import geomsink
import geomsink.compat.geomloss as compat
from geomsink.compat.geomloss import OPTIONS, SamplesLoss
from geomsink.compat.pairwise import ground_cost

# Options, and masses of a and b; for the three problems the value and the first entries of its gradients in x and in a
# (for fixed marginals, centred), as a dense solver finds them that stops at residuals of 1e-14.
CASES = [
    (dict(p=2, blur=0.1), (1, 1)),
    (dict(p=1, blur=0.1), (1, 1)),
    (dict(p=2, blur=0.1), (1.7, 1.7)),
    (dict(p=2, blur=0.1, debias=False), (1, 1)),
    (dict(p=1, blur=0.1, debias=False), (1, 1)),
    (dict(p=2, blur=0.1, reach=0.3), (1, 1)),
    (dict(p=1, blur=0.1, reach=0.3), (1, 1)),
    (dict(p=2, blur=0.1, reach=0.3), (1.7, 0.6)),
    (dict(p=1, blur=0.1, reach=0.3), (1.7, 0.6)),
    (dict(p=2, blur=0.1, reach=0.3, debias=False), (1.7, 0.6)),
    (dict(loss="gaussian", blur=0.3), (1, 1)),
    (dict(loss="laplacian", blur=0.3), (1, 1)),
    (dict(loss="energy"), (1, 1)),
    (dict(loss="energy"), (1.7, 0.6)),
]
NUMBERS = """
0.100872229 -0.029928962 0.190740731 0.083851791 -0.033328371 0.014424452 0.026148458 -0.014320889 0.086680585
0.320136291 -0.044781110 0.368135062 0.286995386 -0.053356675 0.032896237 0.127368161 -0.036982954 0.309118105
0.171482790 -0.050879236 0.190740731 0.142548045 -0.056658230 0.014424452 0.044452378 -0.024345512 0.086680585
0.119948159 -0.031915914 0.191738434 0.105390472 -0.028781423 0.013315409 0.038414803 -0.016866060 0.093828264
0.514652840 -0.056417268 0.380861098 0.500329204 -0.030461151 0.023857590 0.259764290 -0.053132980 0.374885348
0.048370335 -0.005164459 0.060454993 0.042607784 -0.013807141 0.038208487 0.015315176 -0.004527297 0.043255031
0.164128096 -0.005622177 0.196068077 0.155979336 -0.025211698 0.132940516 0.068213635 -0.005580074 0.147181186
0.075353428 -0.003919495 0.074664684 0.070510589 -0.017012874 0.062327718 0.043563412 -0.002895645 0.063590032
0.260863346 0.001174321 0.256702187 0.261524363 -0.040147409 0.229355596 0.179792684 0.004043245 0.221993552
0.093694477 -0.006998064 0.077880607 0.090102879 -0.009758663 0.063443226 0.053923502 -0.006874778 0.068822735
0.147273444 0.031670384 0.218969983 0.114034933 -0.076465041 0.215206243 0.032149963 0.006057418 0.161236662
0.128787679 0.017975393 0.174733610 0.104535756 -0.056236793 0.179033966 0.063216111 0.012610946 0.124337039
0.126950049 -0.005313276 0.356814747 0.090814385 -0.047001111 0.136099159 0.041976304 -0.002823114 0.183134300
-0.156074550 0.099398391 -0.443292031 -0.270258433 -0.215078812 -0.540652943 -0.107261772 0.091199874 -0.449353007
"""
CONVERGED = [
    (*case, [[float(word) for word in line.split()[k : k + 3]] for k in (0, 3, 6)])
    for case, line in zip(CASES, NUMBERS.split("\n")[1:-1], strict=True)
]
DEFAULTS = {
    "p2": (dict(), 0.10350672814641385),
    "p1": (dict(p=1), 0.36830331601806915),
    "reach": (dict(reach=0.3), 0.052101113891051154),
}
IDS = ["-".join(str(v) for v in (*kw.values(), *masses)) for kw, masses, _ in CONVERGED]


def problem(seed: int, masses: tuple[float, float] = (1, 1)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, x, b, y."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    n, m, d = {1: (12, 10, 2), 2: (9, 14, 3), 3: (8, 8, 1)}[seed]
    x, y, a, b = draw(n, d), draw(m, d) + 0.2, draw(n) + 0.1, draw(m) + 0.1
    return masses[0] * a / a.sum(), x, masses[1] * b / b.sum(), y


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, x, b, y of two items."""
    generator = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, y, a, b = draw(2, 6, 2), draw(2, 5, 2) + 0.2, draw(2, 6) + 0.1, draw(2, 5) + 0.1
    return a / a.sum(1, keepdim=True), x, b / b.sum(1, keepdim=True), y


def fixed(options: dict) -> bool:
    return options.get("loss", "sinkhorn") == "sinkhorn" and "reach" not in options


def differentiated(loss, a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The value, and its gradients in x and in a."""
    x, a = x.clone().requires_grad_(), a.clone().requires_grad_()
    value = loss(a, x, b, y)
    return value.detach(), *grad(value.sum(), (x, a))


def centred(gradient: Tensor, a: Tensor) -> Tensor:
    return gradient - (a @ gradient) / a.sum()


def half_squares(x: Tensor, y: Tensor) -> Tensor:
    """GeomLoss's cost, from (..., N, D) and (..., M, D)."""
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1) / 2


def gaussian(x, y, blur, use_keops, ranges):
    assert not use_keops and ranges is None and x.ndim == 3
    return (-half_squares(x, y) / blur**2).exp()


# ----------------------------------------------------------------------------------- values and gradients


@pytest.mark.parametrize(("options", "masses", "expected"), CONVERGED, ids=IDS)
def test_values_and_gradients_are_the_converged_ones(options, masses, expected):
    for seed, (value, dx, da) in enumerate(expected, 1):
        a, x, b, y = problem(seed, masses)
        loss = SamplesLoss(**options)
        found, gx, ga = differentiated(loss, a, x, b, y)
        assert found.shape == () and (options.get("debias") is False or loss.report.value == found)
        assert found.item() == pytest.approx(value, rel=1e-7)
        share = 1e-3 if "loss" not in options else 1e-7
        assert gx[0, 0].item() == pytest.approx(dx, abs=share * gx.abs().max().item())
        ga = centred(ga, a) if fixed(options) else ga
        assert ga[0].item() == pytest.approx(da, abs=share * ga.abs().max().item())


@pytest.mark.parametrize(("options", "value"), DEFAULTS.values(), ids=DEFAULTS)
def test_defaults(options, value):
    assert SamplesLoss(**options)(*problem(1)).item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("scaling", [0.3, 0.9, 0.99])
def test_the_result_does_not_depend_on_the_scaling(scaling):
    value, gx, _ = differentiated(SamplesLoss(blur=0.1, scaling=scaling), *problem(1))
    assert value.item() == pytest.approx(0.100872229, rel=1e-7)
    assert gx[0, 0].item() == pytest.approx(-0.029928962, rel=1e-3)


@pytest.mark.parametrize("p", [0.5, 1.5])
def test_any_power(p):
    a, x, b, y = problem(1)
    expected = geomsink.sinkhorn_divergence(
        x, y, a, b, epsilon=p * 0.1**p, rho=p * 0.3**p, cost=f"power:{p}", tol=1e-6
    ).value
    assert SamplesLoss(p=p, blur=0.1, reach=0.3)(a, x, b, y).item() == pytest.approx(expected.item() / p, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (dict(p=2, blur=0.1), [0.104069996, 0.324696831]),
        (dict(p=1, blur=0.1, reach=0.3), [0.201816661, 0.314919453]),
        (dict(loss="energy"), [0.184423539, 0.457643059]),
        (dict(loss="gaussian", blur=0.3), [0.247392273, 0.406948309]),
        (dict(loss="gaussian", blur=0.3, kernel=gaussian), [0.247392273, 0.406948309]),
        (dict(p=2, blur=0.1, cost=half_squares), [0.104069996, 0.324696831]),
        (dict(p=2, blur=0.1, backend="multiscale"), [0.104069996, 0.324696831]),
    ],
)
def test_batches_are_their_items(options, values):
    a, x, b, y = batch()
    loss = SamplesLoss(**options)
    assert loss(a, x, b, y).tolist() == pytest.approx(values, rel=1e-6)
    assert loss(a[..., None], x, b[..., None], y).tolist() == pytest.approx(values, rel=1e-6)
    one = loss(a[:1], x[:1], b[:1], y[:1])
    assert one.shape == (1,) and one.item() == pytest.approx(values[0], rel=1e-6)
    F, G = SamplesLoss(potentials=True, **options)(a, x, b, y)
    assert F.shape == a.shape and G.shape == b.shape


def test_a_common_mass_is_a_factor_of_the_gradient_in_the_points():
    a, x, b, y = problem(1)
    _, gx, _ = differentiated(SamplesLoss(blur=0.1), a, x, b, y)
    _, gx_m, _ = differentiated(SamplesLoss(blur=0.1), 1.7 * a, x, 1.7 * b, y)
    assert torch.allclose(gx_m, 1.7 * gx, rtol=1e-9)


def test_infinite_reach_is_none():
    assert SamplesLoss(reach=math.inf)(*problem(1)) == SamplesLoss()(*problem(1))


# --------------------------------------------------------------------------------------------- potentials


POTENTIALS = [dict(loss="gaussian", blur=0.3), dict(loss="energy"), dict(blur=0.1), dict(p=1, blur=0.1, debias=False)]


@pytest.mark.parametrize("options", POTENTIALS)
def test_potentials_are_derivatives_in_the_weights(options):
    a, x, b, y = problem(1)
    F, G = SamplesLoss(potentials=True, **options)(a, x, b, y)
    value = SamplesLoss(**options)(a.requires_grad_(), x, b.requires_grad_(), y)
    half = 1.0 if fixed(options) else 0.5
    assert (half * (F @ a + G @ b)).item() == pytest.approx(value.item(), rel=1e-6)
    for h, w, gradient in zip((F[0], G[0]), (a.detach(), b.detach()), grad(value, (a, b)), strict=True):
        h, gradient = (centred(t, w) if fixed(options) else t for t in (h, gradient))
        assert (h - gradient).norm() < 1e-3 * gradient.norm()


def test_potentials_with_reach_are_geomlosses():
    F, G = SamplesLoss(blur=0.1, reach=0.3, potentials=True)(*problem(1))
    assert F[0, :2].tolist() == pytest.approx([0.101701912, 0.073090982], abs=2e-4)  # at scaling 0.99
    assert G[0, :2].tolist() == pytest.approx([0.047565554, 0.088816105], abs=2e-4)


@pytest.mark.parametrize("options", [dict(), dict(reach=0.3), dict(debias=False), dict(reach=0.3, debias=False, p=1)])
def test_potentials_have_their_true_gradients(options, monkeypatch):
    monkeypatch.setattr(compat, "TOL", 1e-11)
    a, x, b, y = problem(1)
    weights = torch.linspace(-1, 1, len(a) + len(b)).double()
    loss = SamplesLoss(blur=0.2, potentials=True, **options)

    def functional(x, a):
        F, G = loss(a, x, b, y)
        F, G = F[0], G[0]
        if fixed(options):  # without the free constant
            F, G = F - (F * a).sum() / a.sum(), G - (b @ G) / b.sum()
        return torch.cat((F, G)) @ weights

    x, a = x.requires_grad_(), a.requires_grad_()
    gx, ga = grad(functional(x, a), (x, a))
    v, h = torch.linspace(-1, 1, 12).double(), 1e-4
    moved = v[:, None] * torch.tensor([1.0, -0.5]).double()
    with torch.no_grad():
        along_a = (functional(x, a + h * v) - functional(x, a - h * v)) / (2 * h)
        along_x = (functional(x + h * moved, a) - functional(x - h * moved, a)) / (2 * h)
    assert (ga @ v).item() == pytest.approx(along_a.item(), rel=1e-5)
    assert (gx * moved).sum().item() == pytest.approx(along_x.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("backend", "labels", "batched", "shape"),
    [
        ("auto", False, False, (1, 12)),
        ("tensorized", False, False, (1, 12)),
        ("online", False, True, (1, 12)),
        ("multiscale", False, False, (12,)),
        ("multiscale", False, True, (12,)),
        ("auto", True, False, (12,)),
    ],
)
def test_shapes_of_potentials_are_geomlosses(backend, labels, batched, shape):
    a, x, b, y = (t[None] if batched else t for t in problem(1))
    l_x = torch.zeros(12, dtype=torch.int32) if labels else None
    F, _ = SamplesLoss(potentials=True, backend=backend)(l_x, a, x, None, b, y)
    assert F.shape == shape


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
    assert (
        value
        == geomsink.hausdorff.hausdorff_divergence(x, y, a, b, blur=0.1, cost=ground_cost(None, 2), tol=1e-4).value
    )
    assert 0 < value < 0.100872229 and gx.norm() > 0
    kernel = SamplesLoss("hausdorff", blur=0.3, kernel=gaussian)(a, x, b, y)
    assert kernel.item() == pytest.approx(0.147273444, abs=1e-9)


def test_verbose_shows_a_bar(capsys):
    pytest.importorskip("tqdm")
    SamplesLoss(verbose=True)(*problem(1))
    assert "marginal error" in capsys.readouterr().err


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
    found = differentiated(SamplesLoss(blur=0.1, cost=cost, **options), *problem(1))
    expected = differentiated(SamplesLoss(blur=0.1, **options), *problem(1))
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
    ground = ground_cost(cost, 1)
    x, y = torch.rand(7, 2), torch.rand(7, 2)
    assert torch.allclose(ground.between(x, y), manhattan(x, y).diagonal())
    assert torch.equal(ground(x, y[:5]), manhattan(x, y[:5]))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(200, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    value = SamplesLoss(p=1, blur=0.01, cost=cost)(x, y).item()
    own = geomsink.costs.Cost("manhattan", lambda x, y: (x - y).abs().sum(-1), degree=1)
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
        (dict(cluster_scale=math.nan), "cluster_scale: nan given, expected a positive number."),
        (dict(cost=3), "cost: 3 was given, expected a callable, a formula, or a pair (formula, callable)."),
        (dict(cost="Sum(Abs(X-Y))"), "cost: formula 'Sum(Abs(X-Y))' is not one of Norm2(X-Y), SqDist(X,Y), "),
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
        ((X.half(), Y.half()), "x: dtype is float16, expected float32 or float64."),
        ((X.long(), Y.long()), "x: dtype is int64, expected float32 or float64."),
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
    with pytest.raises(ValueError, match="^a, b: they sum to 2.* and 1; expected the same mass, or reach= for others."):
        SamplesLoss()(2 * A, X, B, Y)
    with pytest.raises(ValueError, match="^l_x, l_y: labels are given with backend='online', expected auto or"):
        SamplesLoss(backend="online")(A.long(), A, X, None, B, Y)
    with pytest.raises(ValueError, match=r"^cost: it fails on 5 points against 4, as float64 tensors: "):
        SamplesLoss(cost=lambda x, y: x @ y)(X, Y)
    with pytest.raises(ValueError, match=r"^cost: it is not finite, or c\(x, y\) differs from c\(y, x\)"):
        SamplesLoss(cost=lambda x, y: (x[:, :, None] - 2 * y[:, None]).abs().sum(-1))(X, Y)
    net = torch.nn.Linear(2, 3).double()
    with pytest.raises(ValueError, match="^cost: it depends on tensors that require gradients"):
        SamplesLoss(cost=lambda x, y: half_squares(net(x), net(y)))(X.double(), Y.double())
    with pytest.raises(TypeError, match=r"^kernel: it returned a tensor of shape \(1, 5\), expected .* \(1, 5, 4\)"):
        SamplesLoss("energy", kernel=lambda x, y, **_: torch.ones(1, 5))(X, Y)


# -------------------------------------------------------------------------------------- GeomLoss itself


@pytest.mark.parametrize(("options", "masses", "expected"), CONVERGED, ids=IDS)
def test_geomloss_tends_to_the_same(options, masses, expected):
    geomloss = pytest.importorskip("geomloss")
    for seed in (1, 2, 3):
        clouds = problem(seed, masses)
        value, gx, ga = differentiated(SamplesLoss(**options), *clouds)
        theirs = differentiated(geomloss.SamplesLoss(scaling=0.99, **options), *clouds)
        assert value.item() == pytest.approx(theirs[0].item(), rel=1e-3)
        in_weights = [centred(g, clouds[0]) if fixed(options) else g for g in (ga, theirs[2])]
        for ours, other in ((gx, theirs[1]), in_weights):
            if "reach" not in options:
                assert (ours - other).norm() < 0.06 * other.norm()
            elif options.get("debias", True) or ours is gx:  # the others of theirs are not even proportional
                epsilon, rho = (options[name] ** options["p"] for name in ("blur", "reach"))
                factor = (rho + epsilon / 2) / (rho + epsilon)
                assert (factor * ours - other).norm() < min(0.03 * other.norm(), 0.5 * (ours - other).norm())


# Relative errors of GeomLoss's value and gradient in x, in per cent, by scaling: those of docs/geomloss.md.
ERRORS = {
    "p2": {0.5: (8.0, 56), 0.9: (2.2, 50), 0.99: (0.11, 4.3)},
    "p1": {0.5: (0.83, 14), 0.9: (0.12, 5.5), 0.99: (0.026, 0.62)},
    "reach": {0.5: (4.0, 55), 0.9: (0.65, 13), 0.99: (0.016, 4.6)},
}


@pytest.mark.parametrize("scaling", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", DEFAULTS)
def test_how_far_geomloss_is_off(name, scaling):
    geomloss = pytest.importorskip("geomloss")
    ours, theirs = (
        differentiated(module.SamplesLoss(scaling=scaling, **DEFAULTS[name][0]), *problem(1))
        for module in (compat, geomloss)
    )
    found = [100 * ((u - v).norm() / u.norm()).item() for u, v in zip(ours[:2], theirs[:2], strict=True)]
    assert found == pytest.approx(ERRORS[name][scaling], rel=0.05)


@pytest.mark.parametrize("potentials", [False, True])
def test_shapes_are_geomlosses(potentials):
    geomloss = pytest.importorskip("geomloss")
    a, x, b, y = problem(1)
    calls = [(x, y), (a, x, b, y), (a[:, None], x, b[:, None], y), tuple(t[None] for t in (a, x, b, y)), batch()]
    for loss in ("sinkhorn", "gaussian", "energy"):
        for args in calls:
            theirs, ours = (module.SamplesLoss(loss, potentials=potentials)(*args) for module in (geomloss, compat))
            pairs = zip(ours, theirs, strict=True) if potentials else [(ours, theirs)]
            assert all(one.shape == other.shape and one.dtype == other.dtype for one, other in pairs)
