"""Sums with a kernel in memory, and Newton's method on its scalings, against dense float64 algebra."""

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from soak_dual import Penalty
from soak_reference import transport

import geomsink
from geomsink import costs, engine, solve
from geomsink.choose import KEPT, engine_of, kernel_is_kept
from geomsink.engine import Gibbs, matrix
from geomsink.measures import Measure
from geomsink.solver.kept import NEAR, KeptSums
from geomsink.solver.scalings import Between, Within, narrowed, steps, to_tensor


def problem(n=30, m=40, seed=0, zeros=False):
    r = default_rng(seed)
    x, y, a, b = r.random((n, 2)), r.random((m, 2)), r.random(n), r.random(m)
    if zeros:
        a[3] = b[5] = b[6] = 0.0
    return tuple(torch.from_numpy(t) for t in (x, y, a / a.sum(), b / b.sum()))


def kept(x, y, a, b):
    pair = engine.pair(x, y, costs.get("sqeuclidean"), "dense")
    return KeptSums(pair, Measure(x, a), Measure(y, b))


def exact(x, y, a, b, f, g, epsilon):
    """log row and column sums, by logarithms of sums of exponentials."""
    z = (f[:, None] + g - (x[:, None] - y).square().sum(-1)) / epsilon
    return (z + b.log()).logsumexp(1), (z + a.log()[:, None]).logsumexp(0)


@pytest.mark.parametrize("zeros", [False, True])
def test_sums_and_products_wherever_potentials_go(zeros):
    x, y, a, b = problem(zeros=zeros)
    sums, epsilon, r = kept(x, y, a, b), 0.01, default_rng(1)
    f, g = (torch.from_numpy(r.random(n)) for n in (30, 40))
    for moved in (0.0, 1e-3, 1.0, 30.0, 60.0, 300.0, 3000.0):  # in units of epsilon, from the last kernel's potentials
        f, g = f + moved * epsilon, g - 0.9 * moved * epsilon * torch.from_numpy(r.random(40))
        rows, columns = exact(x, y, a, b, f, g, epsilon)
        assert torch.allclose(sums.log_rows(f, g, epsilon), rows, rtol=1e-12, atol=1e-10)
        assert torch.allclose(sums.log_columns(f, g, epsilon), columns, rtol=1e-12, atol=1e-10)
    f, g = f - epsilon * sums.log_rows(f, g, epsilon), g
    P = a[:, None] * ((f[:, None] + g - (x[:, None] - y).square().sum(-1)) / epsilon).exp() * b
    w = torch.from_numpy(r.random((40, 3)))
    positive = a > 0
    assert torch.allclose((a[:, None] * sums.row_products(f, g, epsilon, w))[positive], (P @ w)[positive], rtol=1e-10)
    w = torch.from_numpy(r.random((30, 2)))
    found = b[:, None] * sums.column_products(f, g, epsilon, w)
    assert torch.allclose(found, P.T @ w, rtol=1e-10, atol=1e-300)


def test_the_kernel_is_made_again_only_where_it_has_to_be():
    x, y, a, b = problem()
    sums = kept(x, y, a, b)
    f, g = torch.zeros(30).double(), torch.zeros(40).double()
    first = sums.kernel(f, g, 0.1)
    assert sums.kernel(f + 0.1 * (NEAR - 1.0), g, 0.1) is first
    assert sums.kernel(f + 0.1 * (NEAR - 1.0), g, 0.1, near=1.0) is not first
    assert sums.kernel(f, g, 0.05).epsilon == 0.05


def test_sums_that_underflow_are_made_without_the_kernel():
    x, y, a, b = problem()
    f, g = torch.zeros(30).double(), torch.zeros(40).double()
    rows, columns = exact(x, y + 3.0, a, b, f, g, 1e-3)
    sums = kept(x, y + 3.0, a, b)
    assert torch.allclose(sums.log_rows(f, g, 1e-3), rows, rtol=1e-10)
    assert torch.allclose(sums.log_columns(f, g, 1e-3), columns, rtol=1e-10)


def entries(x, y, epsilon):
    zeros = torch.zeros(len(x)).double(), torch.zeros(len(y)).double()
    return matrix(Gibbs(engine.pair(x, y, costs.get("sqeuclidean"), "dense"), *zeros, epsilon)).numpy()


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("given", ["arrays", "tensors"])
def test_newtons_method_on_scalings(single, zeros, given):
    x, y, a, b = problem(zeros=zeros)
    of = torch.as_tensor if given == "tensors" else np.asarray  # of a GPU, or of a CPU
    K, a, b = entries(x, y, 0.02), a.numpy(), b.numpy()
    between = Between(of(K), narrowed(of(K)) if single else of(K), of(a), of(b))
    *_, last = steps(between, between.at(of(np.zeros(40))), lambda _: 1e-12)
    u, v = (to_tensor(h).exp().numpy() for h in last.exponents)
    P = (a * u)[:, None] * K * (b * v)
    assert np.abs(P.sum(1) - a).sum() < 1e-13 and np.abs(P.sum(0) - b).sum() < 2e-12
    right = transport(-0.02 * np.log(K), a, b, 0.02, Penalty(), Penalty())
    assert 0.02 * last.gain == pytest.approx(right.value, rel=1e-10)
    K = entries(x, x, 0.02)
    within = Within(of(K), narrowed(of(K)) if single else of(K), of(a))
    *_, last = steps(within, within.at(of(np.zeros(30))), lambda _: 1e-12)
    u = to_tensor(last.exponents[0]).exp().numpy()
    assert np.abs(a * u * (K @ (a * u)) - a).sum() < 1e-12


@pytest.mark.parametrize("of", [np.asarray, torch.as_tensor])
def test_a_matrix_that_is_not_positive_definite(of):
    """Newton's matrix of a self problem may be indefinite: updates go on, or the steps end; no number is lost."""
    K = of(np.exp(-np.array([[4.0, 0.0], [0.0, 4.0]])))
    points = list(steps(within := Within(K, K, of(np.full(2, 0.5))), within.at(of(np.zeros(2))), lambda _: 1e-10))
    assert all(np.isfinite(p.error) for p in points)


@pytest.mark.parametrize("blur", [0.3, 0.1, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_values_against_another_method(seed, blur):
    r = default_rng(seed)
    x, y, a, b = r.random((60, 2)), r.random((50, 2)), r.random(60), r.random(50)
    a, b = a / a.sum(), b / b.sum()
    s = solve(x, y, a, b, blur=blur)
    exact = transport(((x[:, None] - y) ** 2).sum(-1), a, b, s.epsilon, Penalty(), Penalty())
    assert s.converged and s.strategy == "one-level"
    assert abs(s.value - exact.value) <= s.value_error + exact.error + exact.rounding
    assert abs(s.value - exact.value) <= 1e-5 * exact.value


def test_potentials_of_points_without_weight():
    """They follow from the others': a softmin."""
    x, y, a, b = problem(zeros=True)
    for clouds in ((x, y, a, b), (x, x, a, a)):
        s = solve(*clouds, epsilon=0.02, tol=1e-9)
        rows, columns = exact(*clouds, *s.potentials, 0.02)
        assert s.converged and float(rows.abs().max()) < 1e-7 and float(columns.abs().max()) < 1e-7


def test_starts():
    """A good one is gone on from, a useless one is not; all lead to the same value."""
    x, y = default_rng(0).random((2, 100, 2))
    cold = solve(x, y, blur=0.05)
    warm = solve(x + 1e-3, y, blur=0.05, init=cold)
    assert warm.converged and warm.n_iter < 0.6 * cold.n_iter
    for size in (1.0, 1e3):
        useless = tuple(size * h for h in default_rng(1).standard_normal((2, 100)))
        again = solve(x, y, blur=0.05, init=useless)
        assert again.converged and again.value == pytest.approx(cold.value, rel=2e-5)


def test_batches_and_penalties_have_kernels_in_memory_too():
    x, y = default_rng(0).random((2, 3, 50, 2))
    batch = geomsink.sinkhorn_divergence(x, y, blur=0.1)
    alone = [geomsink.sinkhorn_divergence(p, q, blur=0.1).value for p, q in zip(x, y, strict=True)]
    assert batch.converged and np.allclose(batch.value, alone, rtol=2e-5)
    s = solve(x[0], y[0], blur=0.1, reach=0.5)
    C, penalties = ((x[0][:, None] - y[0]) ** 2).sum(-1), [Penalty("kl", 0.5)] * 2
    exact = transport(C, *np.full((2, 50), 0.02), s.epsilon, *penalties)
    assert s.converged and s.value == pytest.approx(exact.value, rel=1e-5)


def test_where_kernels_are_kept():
    assert kernel_is_kept(KEPT, "dense", torch.float64) and not kernel_is_kept(KEPT + 1, "dense", torch.float64)
    assert not kernel_is_kept(100, "keops", torch.float64) and not kernel_is_kept(100, "dense", torch.float32)
    assert engine_of(KEPT, 3, True, torch.float64) == "dense" and engine_of(KEPT, 3, True, torch.float32) == "keops"
