"""Independent answers: dense float64 Sinkhorn, and the solved problems of the reference folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

FOLDER = Path(__file__).parents[2] / "shared" / "reference"
NAMES = ("bunny-igea-blur0.05", "bunny-igea-blur0.02", "horse-spot-blur0.01")
REFERENCE = 1e-9
"""What the dense solutions are right to, relative: their dual gradients vanish to 1e-12, of which the square counts,
and sums are float64."""


def load(name: str) -> dict[str, np.ndarray]:
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"the solved problem {path.name} is not beside this checkout")
    with np.load(path) as file:
        return dict(file)


def dense_ot(C: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float, n_iter: int = 20_000):
    """OT_ε, ⟨P, C⟩, f and g by textbook log-domain updates in float64 until the marginals are exact to 1e-13."""
    log_a, log_b = np.log(a), np.log(b)
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(n_iter):
        f = -epsilon * logsumexp((g - C) / epsilon + log_b, axis=1)
        g = -epsilon * logsumexp((f[:, None] - C) / epsilon + log_a[:, None], axis=0)
        P = np.exp((f[:, None] + g - C) / epsilon + log_a[:, None] + log_b)
        if np.abs(P.sum(1) - a).sum() < 1e-13 * a.sum():
            break
    kl = (P * ((f[:, None] + g - C) / epsilon)).sum() - P.sum() + a.sum() * b.sum()
    return (P * C).sum() + epsilon * kl, (P * C).sum(), f, g


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None].astype(np.float64) - y) ** 2).sum(-1)


def exponents(C: np.ndarray, a: np.ndarray, b: np.ndarray, epsilon: float, n_iter: int = 100):
    """u and v of the plan exp(u_i + v_j − C_ij/ε) after annealed log-domain updates: its rows are exactly a."""
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a).clip(-1e30), np.log(b).clip(-1e30)
    u, v = log_a, log_b
    warmest = max(np.log2(C.max() / epsilon), 0.0)
    for halvings in [*np.arange(warmest, 0, -1), *np.zeros(n_iter)]:
        cold = C / (epsilon * 2**halvings)
        v = log_b - logsumexp(u[:, None] - cold, axis=0)
        u = log_a - logsumexp(v - cold, axis=1)
    return u, v


def mask(blocks, n: int, m: int) -> np.ndarray:
    """The pairs of a block-sparse pattern, as a dense (n, m) matrix of booleans."""
    pairs = np.zeros((n, m), dtype=bool)
    for k, (begin, end) in enumerate(zip(blocks.row_begin.tolist(), blocks.row_end.tolist(), strict=True)):
        for r in range(int(blocks.first[k]), int(blocks.first[k + 1])):
            pairs[begin:end, int(blocks.begin[r]) : int(blocks.end[r])] = True
    return pairs


def dual(C, a, b, epsilon, penalties, start):
    """The optimal dual value: by Newton's method, or by L-BFGS where potentials have a range."""
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
    if any(p.kinked for p in penalties):
        ranges = [(p.low, p.high) for p in penalties]
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
        soft = [p.softness(torch.tensor(part)).numpy() for p, part in ((first, h[:n]), (second, h[n:]))]
        soft = np.concatenate(soft) * wanted
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
