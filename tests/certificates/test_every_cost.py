"""Certified intervals of every registered cost contain dense float64 optima, through the public interface."""

import numpy as np
import pytest
import torch
from reference import REFERENCE, annealed, dual

from geomsink import costs, sinkhorn_divergence, solve
from geomsink.solver.penalties import KL, TV, Balanced

BLURS = (0.05, 0.3, 2.0)
RHO = 0.7
PENALTIES = {"balanced": {}, "kl": {"rho": RHO}, "tv": {"rho": RHO, "penalty": "tv"}, "one": {"rho": (None, RHO)}}


def named(name, rng):
    """A cost of that name, with numbers of its own where it has any."""
    family, _, numbers = name.partition(":")
    if not numbers:
        return name
    if family == "power":
        return f"power:{rng.uniform(0.3, 1.9):.3f}"
    assert family == "mahalanobis", f"no numbers are known for {name}"
    return "mahalanobis:" + ",".join(f"{w:.3f}" for w in rng.uniform(0.2, 4.0, size=3))


def penalties_of(kind):
    both = {"balanced": Balanced(), "kl": KL(RHO), "tv": TV(RHO)}
    return (Balanced(), KL(RHO)) if kind == "one" else (both[kind], both[kind])


def optimum(cost, x, y, a, b, epsilon, penalties):
    C = costs.get(cost)(x.double(), y.double()).numpy()
    a, b = a.numpy(), b.numpy()
    return dual(C, a, b, epsilon, penalties, annealed(C, a, b, epsilon, penalties))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("name", costs.names())
def test_intervals_contain_the_optimum(name, kind, dtype):
    rng = np.random.default_rng([costs.names().index(name), list(PENALTIES).index(kind), dtype == torch.float32])
    for blur in BLURS:
        cost = named(name, rng)
        n, m = (int(k) for k in rng.integers(2, 13, size=2))
        x, y = (torch.tensor(rng.normal(size=(k, 3))).to(dtype) for k in (n, m))
        a, b = (torch.tensor(rng.dirichlet(np.ones(k))) for k in (n, m))
        if kind in ("kl", "tv"):
            b = 1.5 * b
        epsilon = costs.get(cost).epsilon(blur) if costs.get(cost).degree else blur
        # The optimum is that of the weights as they are given, in the points' precision.
        a, b = a.to(dtype).double(), b.to(dtype).double()
        if kind in ("balanced", "one"):
            b = b * (a.sum() / b.sum())
        expected = optimum(cost, x, y, a, b, epsilon, penalties_of(kind))
        given = (x, y, a.to(dtype), b.to(dtype))
        for tol in (1e-2, 1e-8):
            s = solve(*given, epsilon=epsilon, cost=cost, tol=tol, max_iter=3000, certify=True, **PENALTIES[kind])
            # float32 weights sum to 1 but for rounding, by which the problem is another one.
            slack = (REFERENCE if dtype == torch.float64 else 3e-7) * max(abs(expected), epsilon)
            assert float(s.lower) <= expected + slack and expected - slack <= float(s.upper), (cost, blur, tol)
        # Where a penalty leaves next to nothing of a point, the interval is true, but may be infinite.
        if kind not in ("kl", "one") or max(float(h.max()) for h in s.potentials) < 40.0 * RHO:
            assert float(s.gap) <= 1e-4 * max(abs(expected), epsilon)


@pytest.mark.parametrize("name", costs.names())
def test_intervals_of_divergences_contain_theirs(name):
    rng = np.random.default_rng(costs.names().index(name))
    cost = named(name, rng)
    x, y = (torch.tensor(rng.normal(size=(k, 3))) for k in (8, 11))
    a, b = (torch.full((k,), 1.0 / k, dtype=torch.float64) for k in (8, 11))
    parts = [optimum(cost, *pair, 0.3, (Balanced(),) * 2) for pair in ((x, y, a, b), (x, x, a, a), (y, y, b, b))]
    expected = parts[0] - 0.5 * (parts[1] + parts[2])
    r = sinkhorn_divergence(x, y, epsilon=0.3, cost=cost, certify=True)
    slack = REFERENCE * max(np.abs(parts))
    assert r.lower - slack <= expected <= r.upper + slack
