"""Partial transport of a fixed mass, against Dykstra's projections, convex programs and limits."""

import warnings

import numpy as np
import pytest
import torch
from reference import squared_distances
from scipy.optimize import linprog
from scipy.special import logsumexp

from geomsink import ConvergenceWarning, MatrixCost, partial_transport
from geomsink.solver.penalties import Partial

TIGHT = {"tol": 1e-9, "max_iter": 5000}


def clouds(n=14, m=11, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.random(n) + 0.1, rng.random(m) + 0.1
    return rng.random((n, 2)), rng.random((m, 2)) + 0.3, a / a.sum(), 1.3 * b / b.sum()


def projected(C, a, b, epsilon, mass, n_iter=20_000):
    """The plan by cyclic projections onto P1 ≤ a, Pᵀ1 ≤ b and ΣP = mass (Benamou et al. 2015, section 5): with factors
    that are kept from one cycle to the next, in logarithms."""
    u, v, t = np.zeros(len(a)), np.zeros(len(b)), 0.0
    kernel = np.log(a)[:, None] + np.log(b) - C / epsilon
    for _ in range(n_iter):
        before = t
        u = np.minimum(np.log(a) - logsumexp(kernel + v + t, axis=1), 0.0)
        v = np.minimum(np.log(b) - logsumexp(kernel + u[:, None] + t, axis=0), 0.0)
        t = np.log(mass) - logsumexp(kernel + u[:, None] + v)
        if abs(t - before) < 1e-13:
            break
    return np.exp(kernel + u[:, None] + v + t)


def value_of(P, C, a, b, epsilon):
    reference = np.outer(a, b)
    return (P * C).sum() + epsilon * ((P * np.log(P / reference)).sum() - P.sum() + reference.sum())


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("mass", [0.05, 0.5, 0.9])
def test_plans_and_values(mass, engine):
    x, y, a, b = clouds()
    C, epsilon = squared_distances(x, y), 0.02
    P = projected(C, a, b, epsilon, mass)
    s = partial_transport(x, y, a, b, mass=mass, epsilon=epsilon, engine=engine, **TIGHT)
    assert s.converged and s.engine == engine
    assert s.value == pytest.approx(value_of(P, C, a, b, epsilon), rel=1e-8)
    np.testing.assert_allclose(s.plan.to_dense(), P, rtol=0, atol=1e-8)
    assert s.plan.mass == pytest.approx(mass, rel=1e-8)
    assert (P.sum(1) < 0.99 * a).any() and s.potentials[0].max() == s.potentials[1].max()  # mass is left at the price


def test_a_matrix_and_single_precision():
    x, y, a, b = (torch.tensor(t).float() for t in clouds())
    cost = MatrixCost(torch.cdist(x, y) ** 2)
    found = [partial_transport(*points, a, b, mass=0.4, epsilon=0.02, cost=c) for points, c in
             (((x, y), "sqeuclidean"), ((cost.rows, cost.columns), cost))]  # fmt: skip
    assert found[0].value.dtype == torch.float32
    torch.testing.assert_close(found[0].value, found[1].value, rtol=1e-4, atol=1e-6)
    assert float(found[0].plan.mass) == pytest.approx(0.4, rel=1e-3)


def test_as_epsilon_falls():
    x, y, a, b = clouds()
    C, mass = squared_distances(x, y), 0.6
    rows, columns = np.kron(np.eye(14), np.ones(11)), np.kron(np.ones(14), np.eye(11))
    program = linprog(C.ravel(), np.vstack((rows, columns)), np.concatenate((a, b)), np.ones((1, 154)), [mass])
    s = partial_transport(x, y, a, b, mass=mass, epsilon=1e-3, tol=1e-6)
    assert s.transport_cost == pytest.approx(program.fun, rel=2e-2)


def test_gradients_at_a_fixed_mass():
    """In points, weights and ε, against differences; the price that is found has no part in them."""
    tensors = [torch.tensor(t) for t in clouds(6, 5)] + [torch.tensor(0.05, dtype=torch.float64)]
    live = [t.clone().requires_grad_() for t in tensors]

    def value(x, y, a, b, epsilon):
        return partial_transport(x, y, a, b, mass=0.7, epsilon=epsilon, tol=1e-11, max_iter=5000).value

    found, generator = torch.autograd.grad(value(*live), live), torch.Generator().manual_seed(0)
    directions = [torch.randn(t.shape, generator=generator, dtype=torch.float64) for t in tensors]
    for chosen in ((0, 1, 2, 3), (4,)):
        moved = [[t + h * d if k in chosen else t for k, (t, d) in enumerate(zip(tensors, directions, strict=True))]
                 for h in (1e-5, -1e-5)]  # fmt: skip
        slope = float(value(*moved[0]) - value(*moved[1])) / 2e-5
        assert float(sum((found[k] * directions[k]).sum() for k in chosen)) == pytest.approx(slope, rel=1e-5)


def test_items_of_a_batch_have_their_own_mass():
    x, y, a, b = (torch.tensor(np.stack(t)) for t in zip(clouds(seed=1), clouds(seed=2), strict=True))
    x.requires_grad_()
    masses = [0.2, 0.9]
    for engine in ("dense", "keops"):
        s = partial_transport(x, y, a, b, mass=masses, epsilon=0.02, engine=engine, tol=1e-7)
        alone = [
            partial_transport(*t, mass=m, epsilon=0.02, tol=1e-7) for *t, m in zip(x, y, a, b, masses, strict=True)
        ]
        torch.testing.assert_close(s.value, torch.stack([one.value for one in alone]), rtol=1e-7, atol=1e-9)
        (found,) = torch.autograd.grad(s.value.sum(), x)
        (expected,) = torch.autograd.grad(sum(one.value for one in alone), x)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(s.plan.mass, torch.tensor(masses).double(), rtol=1e-7, atol=0)


def test_a_price_for_each_item():
    penalty = Partial(torch.tensor([[0.1], [-0.2]]))
    assert penalty.update(torch.tensor([[0.3, -1.0], [0.3, -1.0]]), 1.0).tolist() == [
        pytest.approx([0.1, -1.0]), pytest.approx([-0.2, -1.0])
    ]  # fmt: skip
    assert penalty.primal(torch.ones(2, 2), torch.full((2, 2), 0.5)).tolist() == pytest.approx([0.1, -0.2])


@pytest.mark.parametrize(
    ("mass", "error", "sentence"),
    [
        (0.0, ValueError, r"^mass: 0 given, expected more than 0 and less than the smaller mass, 1;"),
        (1.0, ValueError, r"^mass: 1 given, expected more than 0"),
        (float("nan"), ValueError, r"^mass: nan given"),
        ([0.1, 0.2], ValueError, r"^mass: shape is \(2,\), expected one number, or \(\) of a batch"),
        ("half", TypeError, r"^mass: a str was given"),
    ],
)
def test_refusals(mass, error, sentence):
    with pytest.raises(error, match=sentence):
        partial_transport(*clouds(), mass=mass, epsilon=0.1)


@pytest.mark.parametrize(("mass", "tol"), [(0.99999, 1e-6), (0.999998, 1e-9)])
def test_masses_near_the_whole_are_right_or_said_not_to_be(mass, tol):
    """Prices rise without end there, and the mass hardly follows."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((3, 8, 2)), rng.random((3, 7, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        s = partial_transport(X[1], Y[1], mass=mass, epsilon=0.01, tol=tol)
    off = abs(s.plan.to_dense().sum() / mass - 1.0)
    assert off <= 2 * tol if s.converged else "the mass that is transported is off by" in s.status
    assert s.converged or tol < 1e-8
