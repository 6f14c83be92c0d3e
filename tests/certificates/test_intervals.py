"""Certified intervals contain the solutions that dense float64 algebra finds, whatever the solve was like."""

import math

import numpy as np
import pytest
import torch
from reference import REFERENCE, annealed, dual

from geomsink import costs, engine, solve
from geomsink.certificates import brackets
from geomsink.certificates.intervals import certify
from geomsink.certificates.sides import Sides
from geomsink.measures.measures import Measure
from geomsink.multiscale.clouds import Cloud
from geomsink.solver.penalties import KL, L2, TV, Balanced, Partial
from geomsink.solver.problem import Problem

COSTS = ("sqeuclidean", "euclidean", "power:1.5", "geodesic", "cosine", "mahalanobis:1,4,0.5")


def problem_of(rng, k, long):
    """A random problem and its solution; along a line, at a low temperature, many pairs count for nothing."""
    n, m, d = int(rng.integers(1, 33)), int(rng.integers(1, 33)), 3
    cost = costs.get(COSTS[k % len(COSTS)])
    x, y = torch.tensor(rng.normal(size=(n, d))), torch.tensor(rng.normal(size=(m, d)) + rng.normal(size=d))
    if long:
        n, m = n + 24, m + 24
        x, y = (torch.tensor(rng.random((size, d)) * [12.0, 0.5, 0.5] + 1.0) for size in (n, m))
    x, y = cost.map(x), cost.map(y)
    is_self = k % 5 == 0
    if is_self:
        y, m = x, n
    C = cost.between(x[:, None], y[None]).numpy()
    a, b = rng.uniform(0.05, 1.0, n), rng.uniform(0.05, 1.0, m)
    penalties = (Balanced(), Balanced())
    unbalanced = k % 4 == 3
    if unbalanced:
        rho = float(np.exp(rng.uniform(-2, 2)))
        kinds = [
            (KL(rho), KL(rho)),
            (TV(rho), TV(rho)),
            (L2(rho), L2(rho)),
            (Partial(rho), Partial(0.5 * rho)),
            (KL(rho), Balanced()),
            (Balanced(), KL(rho)),
            (KL(rho), TV(rho)),
            (L2(rho), Balanced()),
        ]
        penalties = kinds[int(rng.integers(3 if is_self else len(kinds)))]
    if is_self:
        b = a
    if not unbalanced:
        mass = 1.0 if k % 3 else float(np.exp(rng.normal()))
        a, b = mass * a / a.sum(), mass * b / b.sum()
    warmest = 1e-2 if long else 30.0
    epsilon = float(max(C.max(), 0.1) * np.exp(rng.uniform(np.log(3e-3), np.log(warmest))))
    dtype = torch.float32 if k % 2 and cost.modulus is not None else torch.float64
    alpha = Measure(x, torch.tensor(a))
    beta = alpha if is_self else Measure(y, torch.tensor(b))
    pair = engine.pair(x.to(dtype), x.to(dtype) if is_self else y.to(dtype), cost, "dense")
    problem = Problem(alpha, beta, pair, (epsilon,), float(C.max()), penalties)
    value = dual(C, a, b, epsilon, penalties, annealed(C, a, b, epsilon, penalties))
    return problem, pair, value


def iterates(problem, count):
    """Potentials after so many plain cycles at the target from zero; none is zero itself."""
    C = problem.pair.cost.between(problem.alpha.points[:, None], problem.beta.points[None])
    f, g = torch.zeros(len(C), dtype=torch.float64), torch.zeros(C.shape[1], dtype=torch.float64)
    first, second = problem.penalties
    log_a, log_b, epsilon = problem.alpha.weights.log(), problem.beta.weights.log(), problem.epsilon
    for _ in range(count):
        new = first.update(-epsilon * torch.logsumexp((g - C) / epsilon + log_b, 1), epsilon)
        if problem.is_self:
            f = g = 0.5 * (f + new)
            continue
        f = new
        g = second.update(-epsilon * torch.logsumexp((f[:, None] - C) / epsilon + log_a[:, None], 0), epsilon)
    return f, g


def sides_of(problem, pair, truncated):
    if not truncated:
        return Sides.full(problem, pair)
    first = Cloud(problem.alpha, pair.cost, problem.epsilon)
    second = first if problem.is_self else Cloud(problem.beta, pair.cost, problem.epsilon)
    return Sides.truncated(problem, pair, (first, second), 1e-3, "dense")


@pytest.mark.parametrize("part", range(10))
def test_intervals_contain_the_solution_of_500_random_problems(part, monkeypatch):
    """Sizes, weights, costs, ε, iteration counts, both precisions, truncated or not, unbalanced or not."""
    monkeypatch.setattr("geomsink.multiscale.clouds.BLOCK", 4)
    patterns, whole = [], brackets.pattern
    monkeypatch.setattr(brackets, "pattern", lambda *args: patterns.append(whole(*args)) or patterns[-1])
    for k in range(50 * part, 50 * part + 50):
        rng = np.random.default_rng(k)
        truncated = bool(k // 2 % 2)
        problem, pair, value = problem_of(rng, k, truncated)
        count = (0, 1, 3, 10, 100)[int(rng.integers(5))]
        interval = certify(sides_of(problem, pair, truncated), *iterates(problem, count))
        slack = REFERENCE * max(abs(value), problem.epsilon, problem.cost_scale)
        assert float(interval.lower) <= value + slack, (k, problem.penalties, problem.epsilon, count)
        assert float(interval.upper) >= value - slack, k
    shares = [pattern.share for pattern in patterns]
    assert np.mean([share < 0.9 for share in shares]) > 0.5  # truncation leaves pairs out
    assert any(float(pattern.bound.max()) > 0.0 for pattern in patterns)


@pytest.mark.parametrize("weights", [(0.1, 0.3), (1 / 3, 1e-3, 7.7)])
@pytest.mark.parametrize("form", ["name", "list", "tuple", "array", "tensor"])
def test_weights_of_mahalanobis_are_not_rounded(weights, form):
    """One point against one: the cost itself, to the last digits, is what the interval has to contain."""
    made = {
        "name": f"mahalanobis:{','.join(map(repr, weights))}",
        "list": costs.mahalanobis(list(weights)),
        "tuple": costs.mahalanobis(weights),
        "array": costs.mahalanobis(np.array(weights)),
        "tensor": costs.mahalanobis(torch.tensor(weights, dtype=torch.float64)),
    }
    y = np.arange(1.0, 1.0 + len(weights))
    exact = math.fsum(w * t * t for w, t in zip(weights, y, strict=True))
    s = solve(np.zeros((1, len(y))), y[None], epsilon=1.0, cost=made[form], certify=True)
    assert s.lower <= exact <= s.upper and s.upper - s.lower <= 1e-10 * exact
    assert s.value == pytest.approx(exact, rel=1e-14)
