"""Certified intervals contain the solutions that dense float64 algebra finds, whatever the solve was like."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from geomsink import costs, engine, solve
from geomsink.certificates import brackets
from geomsink.certificates.intervals import certify
from geomsink.certificates.sides import Sides
from geomsink.measures.measures import Measure
from geomsink.multiscale.cellsums import Cloud
from geomsink.solver.penalties import KL, TV, Balanced
from geomsink.solver.problem import Problem

COSTS = ("sqeuclidean", "euclidean", "power:1.5", "geodesic", "cosine", "mahalanobis:1,4,0.5")
REFERENCE = 1e-9
"""What the dense solutions are right to, relative: their dual gradients vanish to 1e-12, of which the square counts,
and sums are float64."""


def dual(C, a, b, epsilon, penalties, start):
    """The optimal dual value: by Newton's method, or by L-BFGS where potentials of a TV penalty have a range."""
    n = len(a)
    first, second = penalties

    def parts(h):
        f, g = torch.tensor(h[:n]), torch.tensor(h[n:])
        P = a[:, None] * b * np.exp(np.minimum((h[:n, None] + h[n:] - C) / epsilon, 300.0))
        value = float(first.dual(torch.tensor(a), f) + second.dual(torch.tensor(b), g))
        wanted = np.concatenate((a * first.density(f).numpy(), b * second.density(g).numpy()))
        gradient = wanted - np.concatenate((P.sum(1), P.sum(0)))
        return value - epsilon * (P.sum() - a.sum() * b.sum()), gradient, P, wanted

    h = np.concatenate(start)
    if any(isinstance(p, TV) for p in penalties):
        ranges = [(-p.rho, p.rho) if isinstance(p, TV) else (None, None) for p in penalties]
        scale = max(np.abs(C).max(), epsilon)
        return -scale * minimize(
            lambda h: tuple(-part / scale for part in parts(h)[:2]), h, jac=True, method="L-BFGS-B",
            bounds=[ranges[0]] * n + [ranges[1]] * len(b),
            options=dict(maxiter=2000, ftol=1e-15, gtol=1e-10, maxcor=30),
        ).fun  # fmt: skip
    ridge = 1e-14
    for _ in range(200):
        value, gradient, P, wanted = parts(h)
        if np.abs(gradient).sum() < 1e-12:
            break
        soft = np.concatenate((first.softness * wanted[:n], second.softness * wanted[n:]))
        H = np.block([[np.diag(P.sum(1)), P], [P.T, np.diag(P.sum(0))]]) / epsilon + np.diag(soft)
        step = np.linalg.solve(H + ridge * np.abs(H).max() * np.eye(len(H)), gradient)
        better = np.isfinite(step).all() and parts(h + step)[0] >= value
        h, ridge = (h + step, max(0.1 * ridge, 1e-14)) if better else (h, 10.0 * ridge)
    value, gradient, _, _ = parts(h)
    assert np.abs(gradient).sum() < 1e-5 * a.sum()
    return value


def annealed(C, a, b, epsilon, penalties):
    """Potentials that dense methods can start from."""
    f, g = torch.zeros(len(a), dtype=torch.float64), torch.zeros(len(b), dtype=torch.float64)
    C, log_a, log_b = torch.tensor(C), torch.tensor(a).log(), torch.tensor(b).log()
    warmest = max(np.log2(max(float(C.abs().max()), 1e-300) / epsilon), 0.0)
    for halvings in [*np.arange(warmest, 0, -0.5), *np.zeros(100)]:
        t = epsilon * 2**halvings
        f = penalties[0].update(-t * torch.logsumexp((g - C) / t + log_b, 1), t)
        g = penalties[1].update(-t * torch.logsumexp((f[:, None] - C) / t + log_a[:, None], 0), t)
    return f.numpy(), g.numpy()


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
            (KL(rho), Balanced()),
            (Balanced(), KL(rho)),
            (KL(rho), TV(rho)),
        ]
        penalties = kinds[int(rng.integers(2 if is_self else len(kinds)))]
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
    monkeypatch.setattr("geomsink.multiscale.truncation.Boxes.of.__func__.__defaults__", (4,))
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
