"""Clouds at one place, or nearly: with penalties, masses alone decide, and there are closed forms."""

import math

import pytest
import torch

from geomsink import sinkhorn_divergence, solve

generator = torch.Generator().manual_seed(0)
X, Y = (torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (5, 4))
EPSILON = 0.1


def optimum(m_a, m_b, epsilon, rho, penalty):
    """min over the mass M of P = M a ⊗ b/(m_a m_b) of ε KL(P | a ⊗ b) + D₁(M | m_a) + D₂(M | m_b), and M; a side
    whose ρ is None has M = m.

    With KL that is ε log(M/(m_a m_b)) + ρ₁ log(M/m_a) + ρ₂ log(M/m_b) = 0.
    """
    first, second = rho
    if penalty == "kl":
        if None in rho:
            M = m_a if first is None else m_b
        else:
            total = first + second
            weighted = first * math.log(m_a) + second * math.log(m_b)
            M = math.exp((epsilon * math.log(m_a * m_b) + weighted) / (epsilon + total))
    else:
        fixed = m_a if first is None else m_b if second is None else None
        M = fixed if fixed is not None else _least(m_a, m_b, epsilon, rho)
    value = epsilon * (M * math.log(M / (m_a * m_b)) - M + m_a * m_b)
    for m, r in ((m_a, first), (m_b, second)):
        if r is not None:
            value += r * (M * math.log(M / m) - M + m) if penalty == "kl" else r * abs(M - m)
    return value, M


def _least(m_a, m_b, epsilon, rho):
    """By golden section: the primal value is convex in M."""

    def value(M):
        return epsilon * (M * math.log(M / (m_a * m_b)) - M) + rho[0] * abs(M - m_a) + rho[1] * abs(M - m_b)

    low, high = 1e-9, 10.0
    for _ in range(200):
        one, other = low + 0.382 * (high - low), high - 0.382 * (high - low)
        low, high = (low, other) if value(one) < value(other) else (one, high)
    return 0.5 * (low + high)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-9, 1e-6])
@pytest.mark.parametrize("masses", [(1.0, 1.0), (0.5, 2.0), (3.0, 3.0)])
@pytest.mark.parametrize("penalty", ["kl", "tv"])
@pytest.mark.parametrize("rho", [(1.0, 1.0), (0.2, 3.0), (1.0, None), (None, 1.0)])
def test_values_are_those_of_the_masses(rho, penalty, masses, size):
    x, y = (size * X).requires_grad_(), size * Y
    a, b = (torch.full((len(p),), m / len(p), dtype=torch.float64) for p, m in zip((x, y), masses, strict=True))
    a.requires_grad_()
    how = {"epsilon": EPSILON, "rho": rho, "penalty": penalty, "tol": 1e-10}
    expected, mass = optimum(*masses, EPSILON, rho, penalty)
    for differentiation in ("envelope", "implicit"):
        s = solve(x, y, a, b, differentiation=differentiation, certify=True, **how)
        assert s.converged
        assert float(s.value.detach()) == pytest.approx(expected, rel=1e-9, abs=1e-11)
        assert s.lower <= expected + 1e-9 and s.upper >= expected - 1e-11
        assert float(s.plan.row_marginal().sum()) == pytest.approx(mass, rel=1e-6)
        # ⟨P, ∂C⟩ with P = M/(m_a m_b) a ⊗ b.
        (gradient,) = torch.autograd.grad(s.value, x)
        share = mass / masses[0] * a.detach()[:, None]
        torch.testing.assert_close(gradient, 2.0 * share * (x - y.mean(0)).detach(), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("size", [0.0, 1e-9])
@pytest.mark.parametrize("masses", [(1.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("penalty", ["kl", "tv"])
def test_divergences_are_those_of_the_masses(penalty, masses, size):
    a, b = (torch.full((len(p),), m / len(p), dtype=torch.float64) for p, m in zip((X, Y), masses, strict=True))
    rho = (1.0, 1.0)
    values = [optimum(*pair, EPSILON, rho, penalty)[0] for pair in (masses, masses[:1] * 2, masses[1:] * 2)]
    # With ½ ε (m_a − m_b)² it is one (Séjourné et al. 2019).
    expected = values[0] - 0.5 * (values[1] + values[2]) + 0.5 * EPSILON * (masses[0] - masses[1]) ** 2
    r = sinkhorn_divergence(size * X, size * Y, a, b, epsilon=EPSILON, rho=1.0, penalty=penalty, tol=1e-10)
    assert r.converged and float(r.value) == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_a_reach_is_the_same():
    a = torch.full((5,), 0.5, dtype=torch.float64)
    by_reach = solve(1e-9 * X, 1e-9 * Y, a, epsilon=0.1, reach=0.5, tol=1e-10)
    by_rho = solve(1e-9 * X, 1e-9 * Y, a, epsilon=0.1, rho=0.5, tol=1e-10)
    assert by_reach.value == by_rho.value


def test_temperatures_beyond_all_are_refused():
    sentence = r"^epsilon: 1e\+12 is more than 1e\+08 times .*, and than rho, 1; expected less"
    for size in (0.0, 1e-9, 1.0):
        with pytest.raises(ValueError, match=sentence):
            solve(size * X, size * Y, epsilon=1e12, rho=1.0)
