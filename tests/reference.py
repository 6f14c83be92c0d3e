"""Independent answers: dense float64 Sinkhorn, and the solved problems of the reference folder."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

FOLDER = Path(__file__).parents[2] / "shared" / "reference"
NAMES = ("bunny-igea-blur0.05", "bunny-igea-blur0.02", "horse-spot-blur0.01")


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
