"""The losses as modules: the same numbers as the functions, memory between calls, and torch's transformations."""

import copy
import pickle
import warnings

import pytest
import torch

import geomsink
from geomsink import MMD, EntropicOT, SinkhornDivergence, hausdorff_divergence, mmd, sinkhorn_divergence, solve
from geomsink.divergences import comparison


def clouds(n=60, m=50, dtype=torch.float64, seed=0):
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(k, 3, generator=random, dtype=dtype) for k in (n, m))
    a, b = (torch.rand(k, generator=random, dtype=dtype) + 0.5 for k in (n, m))
    return x, y * 0.8 + 0.1, a / a.sum(), b / b.sum()


CASES = {
    "divergence": (SinkhornDivergence, dict(blur=0.1), lambda *c, **o: sinkhorn_divergence(*c, **o).value),
    "sharp": (
        SinkhornDivergence,
        dict(epsilon=0.05, form="sharp", differentiation="implicit", tol=1e-8),  # of first order in the error
        lambda *c, **o: sinkhorn_divergence(*c, **o).value,
    ),
    "unbalanced": (SinkhornDivergence, dict(blur=0.1, reach=0.5), lambda *c, **o: sinkhorn_divergence(*c, **o).value),
    "transport": (EntropicOT, dict(blur=0.1, cost="euclidean"), lambda *c, **o: solve(*c, **o).value),
    "mmd": (MMD, dict(kernel="laplacian", blur=(0.1, 0.3)), lambda *c, **o: mmd(*c, **o).value),
}


@pytest.mark.parametrize("name", CASES)
def test_modules_are_the_functions(name):
    module, options, function = CASES[name]
    x, y, a, b = clouds()
    loss = module(**options)
    for given, plain in (((x, y), (x, y)), ((a, x, b, y), (x, y, a, b))):
        points = [p.clone().requires_grad_() for p in (x, y)]
        ours = loss(*(points[0] if p is x else points[1] if p is y else p for p in given))
        again = [p.clone().requires_grad_() for p in (x, y)]
        theirs = function(*again, *plain[2:], **options)
        # Warm starts end elsewhere within the tolerance of 1e-3.
        assert ours.shape == () and ours.item() == pytest.approx(theirs.item(), rel=2e-5)
        for one, other in zip(torch.autograd.grad(ours, points), torch.autograd.grad(theirs, again), strict=True):
            assert (one - other).norm() < 1e-2 * other.norm()
        assert loss.report.value is ours
    for option, value in options.items():
        assert f"{option}={value!r}" in repr(loss)


def test_the_sharp_form_of_transport_is_its_cost():
    x, y, a, b = clouds()
    loss = EntropicOT(blur=0.1, form="sharp")
    expected = solve(x, y, a, b, blur=0.1, tol=1e-9).transport_cost.item()
    assert loss(a, x, b, y).item() == pytest.approx(expected, rel=1e-5)


def test_batches():
    x, y = [clouds(n, 40, seed=n)[0] for n in (20, 30)], [clouds(20, m, seed=m)[1] for m in (25, 35)]
    for loss in (SinkhornDivergence(blur=0.2), EntropicOT(blur=0.2), MMD(kernel="energy")):
        values = loss(x, y)
        index = [torch.cat([torch.full((len(p),), k) for k, p in enumerate(side)]) for side in (x, y)]
        same = loss(torch.cat(x), torch.cat(y), x_batch=index[0], y_batch=index[1])
        assert values.shape == (2,)
        torch.testing.assert_close(same, values, rtol=1e-5, atol=0)
        torch.testing.assert_close(values[1], loss(x[1], y[1]), rtol=1e-4, atol=0)


def test_a_call_of_another_kind_is_refused():
    x, y, a, _ = clouds()
    for loss in (SinkhornDivergence(blur=0.1), EntropicOT(blur=0.1), MMD(blur=0.1)):
        with pytest.raises(TypeError, match=r"^loss: 3 arguments were given, expected \(x, y\) or \(a, x, b, y\)"):
            loss(x, y, a)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(), "^blur, epsilon: neither was given"),
        (dict(blur=0.1, form="blunt"), "^form: unknown name 'blunt'"),
        (dict(blur=0.1, differentiation="guess"), "^differentiation: unknown name 'guess'"),
        (dict(blur=0.1, differentiation="unrolled"), "^iterations: none given with differentiation='unrolled'"),
        (dict(blur=0.1, iterations=3), "^iterations: 3 given with differentiation='envelope'"),
        (dict(blur=0.1, recompute=True), "^recompute: True given, which is for"),
        (dict(blur=torch.ones(2)), "^blur: a tensor of shape"),
        (dict(blur=0.1, penalty="tv"), "^penalty: 'tv' is given without reach or rho"),
    ],
)
def test_bad_options_are_refused_at_once(options, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        SinkhornDivergence(**options)


def test_a_warning_once():
    x, y, *_ = clouds()
    loss = SinkhornDivergence(epsilon=1e-3, max_iter=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss(x, y)
    assert [str(w.message).partition(",")[0] for w in caught] == [f"{k}: not converged" for k in ("xy", "xx", "yy")]
    assert {(w.category, w.filename) for w in caught} == {(geomsink.ConvergenceWarning, __file__)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(x, y)
    assert not loss.report.converged


# ----------------------------------------------------------------------- memory


@pytest.mark.parametrize("options", [dict(blur=0.1), dict(blur=0.1, reach=0.5), dict(blur=0.1, cost="euclidean")])
def test_memory_changes_no_result(options):
    """Descent with and without: the same to the tolerance, and fewer cycles."""
    x, y, *_ = clouds()
    values, cycles = {}, {}
    for kept in (True, False):
        loss, points = SinkhornDivergence(**options, tol=1e-8, warm_start=kept, reuse=kept), x.clone()
        values[kept], cycles[kept] = [], 0
        for _ in range(8):
            points.requires_grad_()
            value = loss(points, y)
            (gradient,) = torch.autograd.grad(value, points)
            points = (points - 2.0 * gradient).detach()
            values[kept].append(value.item())
            cycles[kept] += loss.report.n_iter
    assert values[True] == pytest.approx(values[False], rel=1e-7)
    assert cycles[True] < 0.9 * cycles[False]


def test_the_self_problem_of_a_fixed_target_is_solved_once(monkeypatch):
    x, y, a, b = clouds()
    solved = []
    original = comparison.Problems.solve

    def noted(self, name, *rest, **options):
        solved.append(name[:2])
        return original(self, name, *rest, **options)

    monkeypatch.setattr(comparison.Problems, "solve", noted)
    loss = SinkhornDivergence(blur=0.1)
    loss(x, y)
    assert solved == ["xx", "yy", "xy"]
    loss(x + 0.01, y.clone())
    assert solved[3:] == ["xx", "xy"]
    moved = y.clone()
    moved[0] += 0.1
    expected = sinkhorn_divergence(x + 0.01, moved, blur=0.1).value.item()
    solved.clear()
    assert loss(x + 0.01, moved).item() == pytest.approx(expected, rel=1e-5)
    assert solved == ["yy", "xy"]
    solved.clear()
    loss(a, x, b, moved)  # other weights
    assert solved == ["xx", "yy", "xy"]
    solved.clear()
    SinkhornDivergence(blur=0.1, reuse=False)(x, y)
    assert len(solved) == 3


def test_a_cloud_that_stays_the_same_has_its_gradient():
    """What is kept of it are numbers, not history."""
    x, y, *_ = clouds()
    loss, points = SinkhornDivergence(blur=0.1, tol=1e-8), x.clone().requires_grad_()
    gradients = [torch.autograd.grad(loss(points, y), points)[0] for _ in range(3)]
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-9)


def test_a_learned_temperature_is_followed():
    x, y, *_ = clouds()
    blur = torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64))
    loss = SinkhornDivergence(blur=blur)
    assert list(loss.parameters()) == [blur]
    optimiser = torch.optim.SGD([blur], lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        value = loss(x, y)
        value.backward()
        optimiser.step()
    with torch.no_grad():
        expected = sinkhorn_divergence(x, y, blur=float(blur)).value
        assert loss(x, y).item() == pytest.approx(expected.item(), rel=1e-5) and float(blur) != 0.2


def test_attributes_set_between_calls():
    x, y, *_ = clouds()
    loss = SinkhornDivergence(blur=0.2)
    loss(x, y)
    loss.blur = 0.1
    assert "blur=0.1" in repr(loss)
    assert loss(x, y).item() == pytest.approx(sinkhorn_divergence(x, y, blur=0.1).value.item(), rel=2e-5)


@pytest.mark.parametrize("options", [dict(cost="euclidean"), dict(reach=0.5), dict(cost="cosine", epsilon=0.05)])
def test_tensors_changed_in_place(options):
    """What is remembered are copies: a step of an optimiser is noticed."""
    x, y, a, b = clouds()
    options = {"blur": 0.1} | options if "epsilon" not in options else options
    loss = SinkhornDivergence(**options, tol=1e-8)
    loss(a, x, b, y)
    before = loss.report
    x.mul_(1.5)
    if "reach" in options:
        b.mul_(2.0)
    expected = sinkhorn_divergence(x, y, a, b, **options, tol=1e-8).value.item()
    assert loss(a, x, b, y).item() == pytest.approx(expected, rel=1e-6)
    (cost,) = (before.xy.transport_cost,)  # of the points as they were
    assert cost.item() == pytest.approx(
        solve(x / 1.5, y, a, clouds()[3], **options, tol=1e-8).transport_cost.item(), rel=1e-6
    )


def test_parameters_of_a_cost_changed_in_place():
    x, y, *_ = clouds()
    theta = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    cost = geomsink.costs.Cost(
        name="stretched", expression=lambda x, y, t: (((x - y) ** 2) * t).sum(-1), degree=2.0, parameters=(theta,)
    )
    loss = SinkhornDivergence(blur=0.1, cost=cost, tol=1e-8)
    loss(x, y)
    with torch.no_grad():
        theta.mul_(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64))
    expected = sinkhorn_divergence(x, y, blur=0.1, cost=cost, tol=1e-8).value
    found = loss(x, y)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = [torch.autograd.grad(value, theta)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=0)


def test_evaluation_between_training_steps():
    x, y, *_ = clouds()
    loss = SinkhornDivergence(blur=0.1)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert not loss(x, y).requires_grad
        points = x.clone().requires_grad_()
        loss(points, y).backward()
        assert points.grad.norm() > 0


def test_a_self_problem_that_did_not_converge_is_tried_again():
    x, y, *_ = clouds()
    loss, errors = SinkhornDivergence(blur=0.2, max_iter=2), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(4):
            loss(x, y)
            errors.append(loss.report.yy.marginal_error)
    assert errors[-1] < 0.5 * errors[0]


def test_temperatures_far_above_the_cost():
    """Gradients are those of the limit, a kernel distance; where there is none, a sentence."""
    x, y, *_ = clouds()
    points, again = x.clone().requires_grad_(), x.clone().requires_grad_()
    (found,) = torch.autograd.grad(SinkhornDivergence(epsilon=1e10)(points, y), points)
    (expected,) = torch.autograd.grad(mmd(again, y, kernel="-sqeuclidean").value, again)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    for options in (dict(differentiation="implicit"), dict(form="sharp"), dict(rho=1.0)):
        with pytest.raises(ValueError, match=r"^epsilon: 1e\+10 is more than 1e\+08 times the largest cost"):
            SinkhornDivergence(epsilon=1e10, **options)(points, y)


def test_clouds_far_from_the_origin():
    """Coordinates are relative to a centre, which is that of the first call as long as it will do."""
    x, y, *_ = clouds()
    loss = SinkhornDivergence(blur=0.1, tol=1e-8)
    expected = loss(x, y).item()
    for shift in (0.1, 1e3, 1e6):
        assert loss(x + shift, y + shift).item() == pytest.approx(expected, rel=1e-6)


def test_other_sizes_follow_each_other():
    loss = SinkhornDivergence(blur=0.1)
    for n in (30, 50, 30):
        x, y, *_ = clouds(n)
        assert loss(x, y).item() == pytest.approx(sinkhorn_divergence(x, y, blur=0.1).value.item(), rel=2e-5)


def test_copies_and_pickles_start_afresh():
    x, y, *_ = clouds()
    for loss in (SinkhornDivergence(blur=0.1), EntropicOT(blur=0.1), MMD(blur=0.1)):
        value = loss(x.clone().requires_grad_(), y)
        for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert twin.report is None and repr(twin) == repr(loss)
            assert twin(x, y).item() == pytest.approx(value.item(), rel=1e-5)


# ------------------------------------------------------------- torch's transformations


def test_compiled():
    """The compiler breaks its graph at the loss, and goes on after it."""
    x, y, *_ = clouds(dtype=torch.float32)
    points = x.clone().requires_grad_()
    loss = SinkhornDivergence(blur=0.1)

    def step(p):
        return 2.0 * loss(p * 1.0, y)

    (expected,) = torch.autograd.grad(step(points), points)
    (found,) = torch.autograd.grad(torch.compile(step, backend="eager")(points), points)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "loss",
    [
        SinkhornDivergence(blur=0.1),
        EntropicOT(blur=0.1),
        MMD(blur=0.1),
        lambda x, y: hausdorff_divergence(x, y, blur=0.1),
    ],
)
def test_functional_transforms_are_refused(loss):
    x, y, *_ = clouds()
    with pytest.raises(RuntimeError, match=r"within a torch\.func transform .* expected a plain call"):
        torch.func.grad(lambda p: loss(p, y))(x)
    with pytest.raises(RuntimeError, match=r"within a torch\.func transform"):
        torch.func.vmap(lambda p: loss(p, y))(x[None])
    with torch.autograd.forward_ad.dual_level(), pytest.raises(RuntimeError, match="has no forward-mode derivatives"):
        loss(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)), y)


def test_autocast():
    x, y, *_ = clouds(dtype=torch.float32)
    layer, loss = torch.nn.Linear(3, 3), SinkhornDivergence(blur=0.3, tol=1e-6)
    points = x.clone().requires_grad_()
    plain = loss(points, y)
    (expected,) = torch.autograd.grad(plain, points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(points, y)
        (gradient,) = torch.autograd.grad(value, points)
        features = layer(points)
        assert features.dtype == torch.bfloat16
        from_half = loss(features, y)
        from_half.backward()
    assert value.dtype == torch.float32 and value.item() == pytest.approx(plain.item(), rel=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
    assert from_half.item() == pytest.approx(loss(features.float(), y).item(), rel=1e-5)
    assert layer.weight.grad.isfinite().all()
    assert loss(features, y).dtype == torch.float32  # bfloat16 beside float32


def test_data_parallel():
    x, y, *_ = clouds()
    loss = SinkhornDivergence(blur=0.1)
    assert torch.nn.DataParallel(loss)(x, y).item() == pytest.approx(loss(x, y).item(), rel=1e-5)


def test_a_loss_says_what_a_function_says(monkeypatch):
    """A divergence that is not as exact as it should be although its problems are solved: losses were silent."""
    monkeypatch.setattr(comparison, "inexact", lambda *_, **__: "as an example")
    x, y = torch.rand(30, 2), torch.rand(30, 2)
    with pytest.warns(geomsink.ConvergenceWarning, match="not converged, as an example"):
        geomsink.sinkhorn_divergence(x, y, blur=0.3)
    for loss in (geomsink.SinkhornDivergence(blur=0.3), geomsink.compat.geomloss.SamplesLoss("sinkhorn", blur=0.3)):
        with pytest.warns(geomsink.ConvergenceWarning, match="not converged, as an example"):
            loss(x, y)
        assert not loss.report.converged
