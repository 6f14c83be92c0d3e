"""Costs that are looked up in a matrix: the same problems as between the points that the matrix is of."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import geomsink
from geomsink import MatrixCost, costs, kernels, sinkhorn_divergence, solve
from geomsink.choose import PAYS, choose
from geomsink.facts import Facts

TIGHT = {"tol": 1e-10, "max_iter": 5000}


def clouds(n=12, m=9, items=()):
    rng = np.random.default_rng(0)
    return rng.random((*items, n, 2)), rng.random((*items, m, 2))


def squares(x, y):
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.05},
        {"blur": 0.02},
        {"epsilon": 0.05, "rho": 0.3},
        {"epsilon": 0.05, "rho": (None, 0.1), "penalty": "tv"},
        {"epsilon": 0.05, "certify": True},
        {"epsilon": 0.05, "differentiation": "unrolled", "iterations": 7},
        {"epsilon": math.inf},
    ],
)
def test_solves_are_those_of_the_points(options):
    x, y = clouds()
    cost = MatrixCost(squares(x, y), degree=2)
    found, expected = solve(cost.rows, cost.columns, cost=cost, **TIGHT, **options), solve(x, y, **TIGHT, **options)
    assert found.engine == "dense" and found.converged == expected.converged
    assert found.value == pytest.approx(expected.value, rel=1e-10)
    assert found.transport_cost == pytest.approx(expected.transport_cost, rel=1e-8)
    np.testing.assert_allclose(found.plan.to_dense(), expected.plan.to_dense(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.plan.T @ np.ones(12), expected.plan.T @ np.ones(12), rtol=0, atol=1e-9)
    if found.lower is not None:
        assert found.lower <= expected.value <= found.upper


def test_rows_are_taken_from_a_space_that_both_measures_are_on():
    x = clouds(20)[0]
    cost, rng = MatrixCost(torch.tensor(cdist(x, x)), degree=1), np.random.default_rng(1)
    some, others = rng.permutation(20)[:8], rng.permutation(20)[:6]
    a, b = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(6))
    expected = sinkhorn_divergence(x[some], x[others], a, b, cost="euclidean", blur=0.1, **TIGHT).value
    rows, a, b = cost.rows, torch.tensor(a), torch.tensor(b)
    found = sinkhorn_divergence(rows[some], rows[others], a, b, cost=cost, blur=0.1, **TIGHT)
    assert float(found.value) == pytest.approx(expected, rel=1e-9) and expected > 1e-3
    energy = geomsink.mmd(rows[some], rows[others], a, b, kernel=kernels.negative(cost)).value
    torch.testing.assert_close(
        energy, geomsink.mmd(*(torch.tensor(x[k]) for k in (some, others)), a, b, kernel="energy").value
    )


@pytest.mark.parametrize("differentiation", ["envelope", "implicit"])
@pytest.mark.parametrize("options", [{}, {"rho": 0.2}])
def test_gradients_in_the_matrix(options, differentiation):
    """The plan, and with it gradients of the points that a matrix was made of."""
    x, y = (torch.tensor(t, requires_grad=True) for t in clouds())
    C = squares(x, y)
    cost = MatrixCost(C)
    how = {"epsilon": 0.05, "differentiation": differentiation} | options | TIGHT
    s = solve(cost.rows, cost.columns, cost=cost, **how)
    (plan,) = torch.autograd.grad(s.value, C, retain_graph=True)
    torch.testing.assert_close(plan, s.plan.to_dense().detach(), rtol=1e-9, atol=1e-12)
    found = torch.autograd.grad(s.value, (x, y))
    expected = torch.autograd.grad(solve(x, y, **how).value, (x, y))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_second_derivatives_in_the_matrix():
    C = torch.tensor(squares(*clouds(4, 3)), requires_grad=True)

    def value(C):
        cost = MatrixCost(C)
        how = {"epsilon": 0.3, "differentiation": "implicit"} | TIGHT
        return solve(cost.rows, cost.columns, cost=cost, **how).value

    assert torch.autograd.gradgradcheck(value, (C,), atol=1e-6)


def test_losses_of_a_matrix():
    x = torch.tensor(clouds(10)[0])
    C, logits = torch.cdist(x, x).requires_grad_(), torch.arange(10.0, dtype=torch.float64, requires_grad=True)
    b, turn = torch.ones(10).double() / 10, torch.randn(10, 10, generator=torch.Generator().manual_seed(0)).double()

    def loss(C, logits):
        cost = MatrixCost(C)
        module = geomsink.SinkhornDivergence(epsilon=0.1, cost=cost, tol=1e-9)
        return module(logits.softmax(0), cost.rows, b, cost.rows)

    of_matrix, of_logits = torch.autograd.grad(loss(C, logits), (C, logits))
    with torch.no_grad():
        for moved, slope in (
            (lambda t: loss(C + t * (turn + turn.mT), logits), (of_matrix * (turn + turn.mT)).sum()),
            (lambda t: loss(C, logits + t * turn[0]), (of_logits * turn[0]).sum()),
        ):
            assert float((moved(1e-5) - moved(-1e-5)) / 2e-5) == pytest.approx(float(slope), rel=1e-5)


def test_batches_of_matrices():
    x, y = clouds(7, 5, (3,))
    cost = MatrixCost(squares(x, y))
    found = solve(cost.rows, cost.columns, cost=cost, epsilon=0.05, **TIGHT)
    assert found.plan.shape == (3, 7, 5)
    for k in range(3):
        single = MatrixCost(squares(x[k], y[k]))
        expected = solve(single.rows, single.columns, cost=single, epsilon=0.05, **TIGHT)
        assert found.value[k] == pytest.approx(expected.value, rel=1e-9)
        np.testing.assert_allclose(found.potentials[1][k], expected.potentials[1], rtol=0, atol=1e-9)
    ground = MatrixCost(squares(x, x))
    both = sinkhorn_divergence(ground.rows, ground.rows[:, ::2], cost=ground, epsilon=0.05, **TIGHT)
    np.testing.assert_allclose(both.value, sinkhorn_divergence(x, x[:, ::2], epsilon=0.05, **TIGHT).value, rtol=1e-8)


def test_a_function_of_positions():
    x, y = (torch.tensor(t) for t in clouds())
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    largest = []

    def entries(i, j, scale):
        largest.append(torch.broadcast_shapes(i.shape, j.shape).numel())
        return scale * ((x[i] - y[j]) ** 2).sum(-1)

    cost = MatrixCost(entries, shape=(12, 9), parameters=(scale,))
    s = solve(cost.rows, cost.columns, cost=cost, epsilon=0.05, **TIGHT)
    expected = solve(x, y, cost=costs.get("sqeuclidean").scaled(1.5), epsilon=0.05, **TIGHT)
    assert float(s.value.detach()) == pytest.approx(float(expected.value), rel=1e-9) and max(largest) == 12 * 9
    (slope,) = torch.autograd.grad(s.value, scale)
    assert float(slope) == pytest.approx(float(expected.transport_cost) / 1.5, rel=1e-7)


def test_matchings():
    C = np.random.default_rng(3).random((60, 60))  # of no points
    cost = MatrixCost(C)
    found = geomsink.transport.matching(cost.rows, cost.columns, cost=cost)
    i, j = linear_sum_assignment(C)
    assert found.exact and found.cost == pytest.approx(C[i, j].mean(), rel=1e-9)
    np.testing.assert_array_equal(found.columns, j)


def test_numbers_of_all_kinds_and_copies():
    whole = [[0, 1, 4], [1, 0, 1]]
    expected = solve(*(np.array(t)[:, None] for t in ([0.0, 1.0], [0.0, 1.0, 2.0])), epsilon=0.3, **TIGHT).value
    for matrix in (
        whole,
        np.array(whole),
        torch.tensor(whole),
        np.array(whole, dtype=np.float32),
        torch.tensor(whole).half(),
        np.array(whole, dtype=">f8"),
        np.array(whole, dtype=">i4")[::-1, ::-1][::-1, ::-1],
    ):
        cost = copy.deepcopy(pickle.loads(pickle.dumps(MatrixCost(matrix))))
        s = solve(cost.rows, cost.columns, cost=cost, epsilon=0.3, **TIGHT)
        assert isinstance(s.value, torch.Tensor) == isinstance(matrix, torch.Tensor)
        assert float(s.value) == pytest.approx(expected, rel=1e-6)
    assert not cost.symmetric and cost.transpose().rows.shape == (3, 1)


def test_there_are_no_cells_between_positions():
    class Auto:
        iterations = multiscale = working_dtype = None

    def facts(looked_up):
        return Facts(4 * PAYS, 1, 0.01, 1.0, 1e-3, torch.float32, False, False, lambda: cells, looked_up=looked_up)

    cells = type("Cells", (), {"width": 0.1})()
    assert choose(facts(False), Auto(), torch.device("cpu")).strategy == "coarse-to-fine"
    choice = choose(facts(True), Auto(), torch.device("cpu"))
    assert choice.strategy == "one-level" and not choice.newton


SQUARE = MatrixCost(np.array([[0.0, 1.0], [1.0, 0.0]]))
WIDE = MatrixCost(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: MatrixCost(np.zeros(3)), r"matrix: shape is \(3,\), expected \(N, M\)"),
        (lambda: MatrixCost([[1.0, math.inf]]), "matrix: 1 of 2 costs are NaN or infinite"),
        (lambda: MatrixCost([["a"]]), "matrix: dtype is <U1, expected real numbers"),
        (lambda: MatrixCost(np.array([[2**53 + 1, 0]])), "matrix: integers reach 9.01e\\+15"),
        (lambda: MatrixCost([[1j]]), "matrix: dtype is complex128"),
        (lambda: MatrixCost([[0.0, 1.0], [2.0, 0.0]], symmetric=True), "matrix: C_ij differs from C_ji"),
        (lambda: MatrixCost(lambda i, j: i), "shape: None given"),
        (lambda: MatrixCost([[0.0]], shape=(1, 1)), "shape, parameters: given with a matrix"),
        (lambda: MatrixCost(np.broadcast_to(0.0, (1, 2**24 + 1))), "matrix: it has 16777217 positions"),
        (lambda: solve(np.zeros((2, 3)), np.zeros((2, 3)), cost=SQUARE, epsilon=1.0), "points have 3 coordinates"),
        (lambda: solve(SQUARE.rows + 0.5, SQUARE.rows, cost=SQUARE, epsilon=1.0), "no whole numbers from 0 to 1"),
        (lambda: solve(WIDE.columns, WIDE.columns, cost=WIDE, epsilon=1.0), "position 2 given, but .* has 2 rows"),
        (lambda: solve(SQUARE.rows, SQUARE.rows, cost=SQUARE, epsilon=1.0, engine="keops"), "engine: 'keops' given"),
        (lambda: solve(SQUARE.rows, SQUARE.rows, cost=SQUARE, epsilon=1.0, multiscale=True), "multiscale: True given"),
        (lambda: solve(SQUARE.rows, SQUARE.rows, cost=SQUARE, blur=1.0), "blur: cost 'matrix' is no power"),
        (lambda: sinkhorn_divergence(WIDE.rows, WIDE.rows, cost=WIDE, epsilon=1.0), "cost: 'matrix' is not symmetric"),
        (
            lambda: solve(torch.zeros(1, 1, requires_grad=True), torch.zeros(1, 1), cost=SQUARE, epsilon=1.0),
            "positions require gradients",
        ),
    ],
)  # fmt: skip
def test_refusals(call, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()
