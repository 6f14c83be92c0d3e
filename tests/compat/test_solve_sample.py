"""GeomLoss's and POT's `solve_sample`: closed forms, what their results hold, and they themselves where installed."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import geomsink
import geomsink.compat.pot as pot
from geomsink.compat.geomloss import ot

KINDS = [(library, dtype) for library in ("numpy", "torch") for dtype in ("float32", "float64")]


def cast(array, library: str, dtype: str):
    array = np.asarray(array, dtype=dtype)
    return torch.tensor(array) if library == "torch" else array


def clouds(n: int = 12, m: int = 10, seed: int = 0):
    """x, y, a, b."""
    rng = np.random.default_rng(seed)
    x, y, a, b = rng.random((n, 2)), rng.random((m, 2)) + 0.3, rng.random(n) + 0.1, rng.random(m) + 0.1
    return x, y, a / a.sum(), b / b.sum()


def close(found, expected, library: str, dtype: str, atol: float):
    """The same kind, precision, shape and numbers."""
    assert isinstance(found, torch.Tensor) == (library == "torch")
    assert str(found.dtype).removeprefix("torch.") == dtype and tuple(found.shape) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


# ------------------------------------------------------------------------- what GeomLoss's own tests hold


@pytest.mark.parametrize(("library", "dtype"), KINDS)
@pytest.mark.parametrize("interface", [ot.solve_sample, pot.solve_sample], ids=["geomloss", "pot"])
def test_one_point_against_another(interface, library, dtype):
    """Whatever ε and the number of cycles; weights may be left out."""
    rng = np.random.default_rng(0)
    for trial in range(8):
        x, y = rng.uniform(-10, 10, (2, 1, 1 + trial % 5))
        C, reg, one = ((x - y) ** 2).sum(), 10 ** rng.uniform(-2, 1), cast([1.0], library, dtype)
        weights = dict(a=one, b=one) if trial % 2 else {}
        r = interface(cast(x, library, dtype), cast(y, library, dtype), reg=reg, max_iter=1 + trial, **weights)
        atol = 1e-2 if dtype == "float32" else 1e-9
        close(r.value, C, library, dtype, atol)
        close(r.value_linear, C, library, dtype, atol)
        close(r.plan, [[1.0]], library, dtype, 1e-4)
        close(r.marginal_a, [1.0], library, dtype, 1e-4)
        close(r.marginal_b, [1.0], library, dtype, 1e-4)
        unit = 1.0 if interface is ot.solve_sample else reg
        close(r.potential_a * unit + r.potential_b * unit, [C], library, dtype, atol)
        assert np.shape(r.potentials[0]) == (1,)
        close(r.a_to_b, y - x, library, dtype, 1e-3)
        close(r.b_to_a, x - y, library, dtype, 1e-3)


@pytest.mark.parametrize("unbalanced", [None, 0.5])
@pytest.mark.parametrize("debias", [False, True])
def test_symmetry_and_multiples(unbalanced, debias):
    """OT(a, b) = OT(b, a), and costs, ε and ρ times a number give a value times it."""
    x, y, a, b = clouds()
    b = b if unbalanced is None else 0.6 * b
    how = dict(reg=0.1, unbalanced=unbalanced, debias=debias, tol=1e-9)
    one, other = ot.solve_sample(x, y, a, b, **how), ot.solve_sample(y, x, b, a, **how)
    assert one.value == pytest.approx(other.value, rel=1e-8)
    np.testing.assert_allclose(one.plan, other.plan.T, rtol=0, atol=1e-8)
    np.testing.assert_allclose(one.potential_a, other.potential_b, rtol=0, atol=1e-6)
    scaled = how | dict(reg=0.4, unbalanced=unbalanced and 4 * unbalanced)
    twice = ot.solve_sample(2 * x, 2 * y, a, b, **scaled)
    assert twice.value == pytest.approx(4 * one.value, rel=1e-8)
    np.testing.assert_allclose(twice.plan, one.plan, rtol=0, atol=1e-8)
    np.testing.assert_allclose(twice.potential_b, 4 * one.potential_b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("blur", [0.1, 0.5])
def test_normal_distributions_on_a_line(blur):
    """Janati et al. 2020 (arXiv:2006.02572): OT_ε and the plan between two normal distributions, ε = 2σ²."""
    x, y = np.linspace(-1, 2, 120)[:, None], np.linspace(-1, 2, 110)[:, None]
    (m, s), (n, t) = (0.3, 0.12), (0.7, 0.18)
    a, b = (np.exp(-0.5 * ((z[:, 0] - c) / w) ** 2) for z, c, w in ((x, m, s), (y, n, t)))
    r = ot.solve_sample(x, y, a / a.sum(), b / b.sum(), blur=blur, tol=1e-8)
    sigma2 = blur**2
    D = math.sqrt(4 * s**2 * t**2 + sigma2**2)
    expected = (m - n) ** 2 + s**2 + t**2 - D + sigma2 * (1 - math.log(2 * sigma2) + math.log(D + sigma2))
    assert r.value == pytest.approx(expected, abs=1e-6)
    covariance = 0.5 * (D - sigma2)
    moments = [(x[:, 0] - m) @ r.plan @ (y[:, 0] - n), (x[:, 0] - m) @ (r.lazy_plan @ (y[:, 0] - n))]
    assert moments == pytest.approx([covariance] * 2, abs=1e-6)


# ------------------------------------------------------------------------------------------ their results


def test_everything_that_a_result_has():
    x, y, a, b = clouds()
    a, b = 1.7 * a, 0.6 * b
    r = ot.solve_sample(x, y, a, b, reg=0.1, unbalanced=0.5, tol=1e-9, debias=True)
    P, C = r.plan, cdist(x, y, "sqeuclidean")
    f, g = r.potentials
    np.testing.assert_allclose(P, a[:, None] * b * np.exp((f[:, None] + g - C) / 0.1), rtol=1e-9)
    np.testing.assert_allclose(r.density, np.exp((f[:, None] + g - C) / 0.1), rtol=1e-9)
    np.testing.assert_allclose(r.density_operator @ b, r.density @ b, rtol=1e-9)
    np.testing.assert_allclose(r.density_operator.T @ a, r.density.T @ a, rtol=1e-9)
    np.testing.assert_allclose(r.plan_operator @ y, P @ y, rtol=1e-9)
    np.testing.assert_allclose(r.marginals[0], P.sum(1), rtol=1e-9)
    np.testing.assert_allclose(r.marginals[1], P.sum(0), rtol=1e-9)
    np.testing.assert_allclose(r.sparse_plan.toarray(), P, rtol=0, atol=1e-6)
    np.testing.assert_allclose(r.a_to_b, P @ y / P.sum(1)[:, None] - x, rtol=1e-9)
    lazy = r.lazy_plan
    assert lazy.shape == P.shape and lazy.ndim == 2 and lazy.dtype == P.dtype
    np.testing.assert_allclose(lazy[:], P, rtol=1e-12)
    np.testing.assert_allclose(lazy[2:7], P[2:7], rtol=1e-12)
    np.testing.assert_allclose(lazy[::2, 1:3], P[::2, 1:3], rtol=1e-12)
    np.testing.assert_allclose(lazy[3, -1], P[3:4, -1:], rtol=1e-12)
    assert lazy.sum() == pytest.approx(P.sum()) and lazy.sum(axis=0) == pytest.approx(P.sum(0))
    np.testing.assert_allclose(lazy.T.sum(axis=0), P.sum(1), rtol=1e-9)
    with pytest.raises(TypeError, match="^lazy_plan: .* expected one or two slices or whole numbers"):
        lazy[[0, 1]]
    with pytest.raises(IndexError, match="^lazy_plan: 12 given, expected less than 12"):
        lazy[12]
    parts = [r.log[f"res_{name}"].value for name in ("ab", "aa", "bb")]
    mass = 0.5 * 0.1 * (1.7 - 0.6) ** 2
    assert r.value == pytest.approx(parts[0] - 0.5 * parts[1] - 0.5 * parts[2] + mass, rel=1e-6)
    np.testing.assert_allclose(r.potential_aa, r.log["res_aa"].potential_a)
    np.testing.assert_allclose(r.potential_bb, r.log["res_bb"].potential_b)
    assert r.status == "converged" and r.log["report"].converged and repr(r).startswith("OTResult(value=")
    with pytest.raises(ValueError, match="^potential_aa, potential_bb: the problem was solved with debias=False"):
        _ = r.log["res_ab"].potential_aa


@pytest.mark.parametrize("mass", [1.0, 1.7])
def test_densities_and_values_of_any_mass(mass):
    x, y, a, b = clouds()
    a, b = mass * a, mass * b
    r = ot.solve_sample(x, y, a, b, reg=0.1, tol=1e-9)
    np.testing.assert_allclose(r.density * a[:, None] * b, r.plan, rtol=1e-9)
    assert r.value == pytest.approx(a @ r.potential_a + b @ r.potential_b, rel=1e-9)


def test_costs_as_functions_and_names():
    x, y, a, b = clouds()
    given = (
        lambda x, y: ((x[:, None] - y) ** 2).sum(-1), "sqeuclidean", geomsink.costs.get("sqeuclidean")
    )  # fmt: skip
    for debias in (False, True):
        values = [ot.solve_sample(x, y, a, b, cost, debias, reg=0.1, tol=1e-9).value for cost in given]
        assert values == pytest.approx([values[1]] * 3, rel=1e-9)
    tensors = [torch.tensor(t) for t in (x, y, a, b)]
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    value = ot.solve_sample(*tensors, lambda x, y: weight * torch.cdist(x, y), blur=0.1, tol=1e-9).value
    (slope,) = torch.autograd.grad(value, weight)
    r = geomsink.solve(*tensors, cost=geomsink.costs.get("euclidean").scaled(2.0), epsilon=0.1, tol=1e-9)
    assert value.item() == pytest.approx(r.value.item(), rel=1e-9)
    assert slope.item() == pytest.approx(0.5 * r.transport_cost.item(), rel=1e-6)
    reached = ot.solve_sample(x, y, a, b, "euclidean", blur=0.1, reach=0.5)
    assert reached.value == pytest.approx(ot.solve_sample(x, y, a, b, "euclidean", reg=0.1, unbalanced=0.5).value)


# ------------------------------------------------------------------------------------------------- POT's


@pytest.mark.parametrize("reg", [None, 0.1])
def test_points_without_weight_have_no_displacement(reg):
    x, y, a, b = clouds()
    a = np.append(0.0, a[1:] / a[1:].sum())
    result = pot.solve_sample(x, y, a, b, reg=reg)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = result.a_to_b
    assert np.isnan(found[0]).all() and np.isfinite(found[1:]).all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("debias", [False, True])
def test_functions_of_half_precision(library, debias):
    """What comes back is of the points' precision, and it is said where that does not hold it."""
    x, y = (cast(z, library, "float16") for z in clouds()[:2])
    functions = dict(cost=lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1)), dict(cost="sqeuclidean")
    one, other = (ot.solve_sample(x, y, reg=0.5, debias=debias, **options) for options in functions)
    for name in ("value", "value_linear", "potential_a", "potential_b", "plan", "marginal_a", "a_to_b", "density"):
        found, expected = getattr(one, name), getattr(other, name)
        assert found.dtype == expected.dtype == x.dtype, name
        assert np.allclose(np.asarray(found), np.asarray(expected), rtol=4e-3, atol=4e-3), name
    reported = (float(result.log["report"].value) for result in (one, other))
    assert next(reported) == pytest.approx(next(reported), rel=4e-3)
    if debias:
        assert one.potential_aa.dtype == one.log["res_bb"].plan.dtype == x.dtype
    with pytest.raises(ValueError, match="results reach .*, which float16 does not hold; give points in float32"):
        ot.solve_sample(3 * x, y, cost=lambda x, y: 1e6 * ((x[:, None] - y[None]) ** 2).sum(-1), reg=1.0, debias=debias)


def divergence_of(p, q):
    return (p * np.log(p / q) - p + q).sum()


@pytest.mark.parametrize(
    "metric", ["sqeuclidean", "euclidean", "cosine", "cityblock", "chebyshev", "canberra", "of two"]
)
def test_pots_values_are_those_of_the_plan(metric):
    x, y, a, b = clouds()
    of_two = lambda p, q: np.abs(p - q).sum() ** 1.5  # noqa: E731
    given = of_two if metric == "of two" else metric
    C = cdist(x, y, given)
    r = pot.solve_sample(x, y, a, b, given, reg=0.1, tol=1e-9)
    P = r.plan
    np.testing.assert_allclose(np.exp(np.add.outer(*r.potentials) - C / 0.1), P, rtol=1e-7)
    assert r.value_linear == pytest.approx((P * C).sum(), rel=1e-8)
    assert r.value == pytest.approx((P * C).sum() + 0.1 * divergence_of(P, np.outer(a, b)), rel=1e-8)
    entropy = pot.solve_sample(x, y, a, b, given, reg=0.1, reg_type="entropy", tol=1e-9)
    assert entropy.value == pytest.approx((P * C).sum() + 0.1 * (P * np.log(P)).sum(), rel=1e-7)
    assert np.abs(P.sum(1) - a).sum() < 1e-8 and np.abs(P.sum(0) - b).sum() < 1e-8


@pytest.mark.parametrize("unbalanced", [0.5, (0.5, math.inf), (0.3, 0.8), [0.5], np.array([math.inf, 0.5])])
@pytest.mark.parametrize("kind", ["KL", "TV"])
def test_pots_penalties(unbalanced, kind):
    x, y, a, b = clouds()
    b, C = 0.6 * b, cdist(x, y, "sqeuclidean")
    r = pot.solve_sample(x, y, a, b, reg=0.1, unbalanced=unbalanced, unbalanced_type=kind, tol=1e-9)
    rho, P = np.broadcast_to(unbalanced, 2), r.plan
    np.testing.assert_allclose(a[:, None] * b * np.exp(np.add.outer(*r.potentials) - C / 0.1), P, rtol=1e-7)
    expected = (P * C).sum() + 0.1 * divergence_of(P, np.outer(a, b))
    for each, marginal, weights in zip(rho, (P.sum(1), P.sum(0)), (a, b), strict=True):
        if each < math.inf:
            apart = divergence_of(marginal, weights) if kind == "KL" else np.abs(marginal - weights).sum()
            expected += each * apart
        else:
            np.testing.assert_allclose(marginal, weights, rtol=1e-6)
    assert r.value == pytest.approx(expected, rel=1e-6)


def test_pots_penalty_of_squares():
    """For weights that are all alike; the objective's derivative in the plan vanishes."""
    x, y, *_ = clouds()
    a, b = np.full(12, 1 / 12), np.full(10, 0.06)
    r = pot.solve_sample(x, y, a, b, reg=0.1, unbalanced=(0.5, 2.0), unbalanced_type="L2", tol=1e-10)
    P, C = r.plan, cdist(x, y, "sqeuclidean")
    rows, columns = P.sum(1) - a, P.sum(0) - b
    slopes = C + 0.1 * np.log(P / np.outer(a, b)) + 0.5 * rows[:, None] + 2.0 * columns
    value = (P * C).sum() + 0.1 * divergence_of(P, np.outer(a, b)) + 0.25 * (rows**2).sum() + (columns**2).sum()
    assert np.abs(slopes).max() < 1e-7 and r.value == pytest.approx(value, rel=1e-8)
    with pytest.raises(
        ValueError, match=r"^unbalanced_type: 'L2' given with a from 0.1 to 0.9, expected weights that are"
    ):
        pot.solve_sample(x[:2], y, [0.1, 0.9], b, reg=0.1, unbalanced=0.5, unbalanced_type="L2")
    points, weights = torch.rand(6, 2), (torch.ones(6) / 6).requires_grad_()
    with pytest.raises(ValueError, match=r"^unbalanced_type: 'L2' given with a that requires a gradient"):
        pot.solve_sample(points, points, weights, reg=0.1, unbalanced=0.5, unbalanced_type="L2")


@pytest.mark.parametrize("metric", ["sqeuclidean", "canberra"])
@pytest.mark.parametrize(("library", "dtype"), [("numpy", "float64"), ("torch", "float32")])
def test_without_regularisation_it_is_exact(metric, library, dtype):
    x, y, *_ = clouds(9, 9)
    C = cdist(x, y, metric)
    i, j = linear_sum_assignment(C)
    expected = np.zeros((9, 9))
    expected[i, j] = 1 / 9
    for reg in (None, 0):
        r = pot.solve_sample(cast(x, library, dtype), cast(y, library, dtype), metric=metric, reg=reg)
        close(r.value, C[i, j].mean(), library, dtype, 1e-6)
        close(r.plan, expected, library, dtype, 1e-7)
        close(r.marginal_a, np.full(9, 1 / 9), library, dtype, 1e-7)
        close(r.a_to_b, y[j] - x, library, dtype, 1e-6)
        assert r.status == "exact" and r.lazy_plan is None and r.value_linear == r.value
        assert (np.add.outer(*map(np.asarray, r.potentials)) <= C + 1e-6).all()
    debiased = pot.solve_sample(cast(x, library, dtype), cast(y, library, dtype), metric=metric, debias=True)
    assert float(debiased.value) == pytest.approx(float(r.value), rel=1e-6) and debiased.log["res_aa"].value == 0


@pytest.mark.parametrize(
    "how", [dict(reg=0.1), dict(reg=0.1, reg_type="entropy"), dict(), dict(reg=0.1, unbalanced=0.5)]
)
def test_gradients_of_pots_values(how):
    x, y, a, b = (torch.tensor(t) for t in clouds())

    def value(x, a, **more):
        return pot.solve_sample(x, y, a, b, tol=1e-11, **how, **more)

    found = []
    for grad in ("autodiff", "envelope", "last_step"):
        r = value(x.requires_grad_(), a.requires_grad_(), grad=grad)
        assert r.value.requires_grad and ("reg" not in how or r.plan.requires_grad == (grad != "envelope"))
        found.append(torch.autograd.grad(r.value, (x, a)))
    detached = value(x, a, grad="detach")
    assert not (detached.value.requires_grad or detached.plan.requires_grad)
    v, w, h = torch.linspace(-1, 1, 24).double().reshape(12, 2), torch.linspace(-1, 1, 12).double(), 1e-5
    with torch.no_grad():
        ends = [value(x + s * h * v, a + 0.1 * s * h * w).value for s in (-1, 1)]  # of the same mass
    slope = (ends[1] - ends[0]).item() / (2 * h)
    for gx, ga in found:
        assert ((gx * v).sum() + 0.1 * (ga * w).sum()).item() == pytest.approx(slope, rel=1e-5)
    if "reg" in how:
        plan = value(x, a)
        (through,) = torch.autograd.grad((plan.plan**2).sum(), x)
        with torch.no_grad():
            ends = [(value(x + s * h * v, a).plan ** 2).sum() for s in (-1, 1)]
        assert (through * v).sum().item() == pytest.approx((ends[1] - ends[0]).item() / (2 * h), rel=1e-4)


# ------------------------------------------------------------------------------------- bad calls, and peers

X, Y, A, B = clouds()


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (ot, dict(), "reg, blur: neither was given, expected one of them."),
        (ot, dict(reg=0.1, blur=0.1), "reg, blur: both were (0.1 and 0.1) given, expected one of them."),
        (ot, dict(reg=0.1, unbalanced=1, reach=1), "unbalanced, reach: both were (1 and 1) given, expected one"),
        (ot, dict(reg=0), "reg: 0 given, expected a positive number."),
        (ot, dict(reg="small"), "reg: a str was given, expected a number."),
        (ot, dict(reg=0.1, method="online"), "method: unknown name 'online'; expected one of auto."),
        (ot, dict(reg=0.1, unbalanced=1, unbalanced_type="L2"), "unbalanced_type: unknown name 'L2'; expected"),
        (ot, dict(reg=0.1, cost="sqeuclidian"), "cost: unknown name 'sqeuclidian' (did you mean 'sqeuclidean'?)"),
        (ot, dict(reg=0.1, cost=lambda x, y: x), "cost: it returned a tensor of shape (1, 12, 2) for 12 points"),
        (ot, dict(blur=0.1, cost="cosine"), "blur: cost 'cosine' is no power of a length; give epsilon"),
        (ot, dict(reg=0.1, X_a=X[0]), "X_a: shape is (2,), expected (points, coordinates)."),
        (ot, dict(reg=0.1, X_a=X[None], X_b=Y[None]), "X_a: shape is (1, 12, 2), expected (points, coordinates)."),
        (ot, dict(reg=0.1, X_a=[X, X], X_b=[Y, Y]), "X_a: a list of clouds was given, expected (points, coordinates)."),
        (ot, dict(reg=0.1, X_b=Y[:, :1]), "X_b: 1 coordinates a point, but X_a has 2"),
        (ot, dict(reg=0.1, b=2 * B), "a, b: they sum to 1 and 2; expected the same mass, or unbalanced= for others."),
        (ot, dict(reg=1e-300), "reg: 1e-300 given, expected more than 1e-290; scale the points up."),
        (pot, dict(b=2 * B, reg=1), "a, b: they sum to 1 and 2; expected the same mass, or unbalanced= for others."),
        (pot, dict(b=2 * B), "a, b: they sum to 1 and 2; expected the same mass."),
        (pot, dict(reg=1e-300), "reg: 1e-300 given, expected more than 1e-290; scale the points up."),
        (pot, dict(reg=-1), "reg: -1 given, expected a positive number or 0."),
        (pot, dict(unbalanced=1.0), "reg: None given with unbalanced=1.0, expected a positive number."),
        (pot, dict(reg=0.1, unbalanced=-1), "unbalanced: -1 given, expected a positive number."),
        (pot, dict(reg=0.1, unbalanced=(1, 2, 3)), "unbalanced: 3 numbers given, expected one or two."),
        (pot, dict(reg=0.1, reg_type="L2"), "reg_type: unknown name 'l2'; expected one of kl, entropy."),
        (pot, dict(reg=0.1, unbalanced=1, reg_type="entropy"), "reg_type: 'entropy' given with unbalanced"),
        (pot, dict(method="gaussian"), "method: unknown name 'gaussian'; expected one of sinkhorn, sinkhorn_log, "),
        (pot, dict(metric="manhatten"), "metric: 'manhatten' was given, expected one of sqeuclidean, "),
        (pot, dict(metric=3), "metric: 3 was given, expected one of sqeuclidean"),
        (pot, dict(c=np.ones((12, 10))), "c: a ndarray was given, expected None"),
        (pot, dict(debias="split"), "debias: 'split' given, expected True or False."),
        (pot, dict(grad="forward"), "grad: unknown name 'forward'; expected one of autodiff, last_step, "),
    ],
)  # fmt: skip
def test_bad_calls_are_refused(function, change, message):
    with pytest.raises((TypeError, ValueError)) as error:
        function.solve_sample(**(dict(X_a=X, X_b=Y, a=A, b=B) | change))
    assert str(error.value).startswith(message)


def test_a_metric_of_scipys_has_no_derivatives():
    x = torch.tensor(X, requires_grad=True)
    with pytest.raises(ValueError, match="^metric: 'canberra' is computed by SciPy, without derivatives, but points"):
        pot.solve_sample(x, torch.tensor(Y), metric="canberra", reg=0.1)
    assert not pot.solve_sample(x, torch.tensor(Y), metric="canberra", reg=0.1, grad="detach").value.requires_grad


@pytest.mark.parametrize("how", [dict(), dict(unbalanced=0.5), dict(debias=True), dict(unbalanced=0.5, debias=True)])
def test_geomloss_itself(how):
    theirs = pytest.importorskip("geomloss.ot").solve_sample
    for mass in (1.0, 1.7):
        b = 0.6 * B if "unbalanced" in how else mass * B
        one, other = (f(X, Y, mass * A, b, reg=0.1, max_iter=500, **how) for f in (theirs, ot.solve_sample))
        assert one.value == pytest.approx(other.value, rel=3e-4)
        np.testing.assert_allclose(one.plan, other.plan, rtol=0, atol=2e-3)
        np.testing.assert_allclose(one.density, other.density, rtol=0, atol=0.1)


@pytest.mark.parametrize(
    "how",
    [dict(reg=0.1), dict(reg=0.1, reg_type="entropy"), dict(), dict(reg=0.1, unbalanced=(0.5, math.inf)),
     dict(reg=0.1, debias=True), dict(metric="euclidean"), dict(reg=0.1, metric="jensenshannon")],
)  # fmt: skip
def test_pot_itself(how):
    theirs = pytest.importorskip("ot").solve_sample
    one, other = theirs(X, Y, A, B, max_iter=100_000, tol=1e-12, **how), pot.solve_sample(X, Y, A, B, tol=1e-9, **how)
    assert (one.value, one.value_linear) == pytest.approx((other.value, other.value_linear), rel=1e-7)
    np.testing.assert_allclose(one.plan, other.plan, rtol=0, atol=1e-8)
    apart = np.add.outer(*one.potentials) - np.add.outer(*other.potentials)
    assert np.abs(apart[one.plan > 1e-9]).max() < 1e-6
