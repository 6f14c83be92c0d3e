"""Entropic transport by the textbook: float64, on the CPU, with matrices; what the checks of a device compare with.

Nothing here is the library's: costs, updates and dual value are written out, and derivatives are torch autograd's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Penalty = tuple[str, float] | None
"""("kl" or "tv", ρ), or None for a fixed marginal."""
CONVERGED = 1e-14
TINY = 1e-300


def cost(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The matrix of costs of a name of `geomsink.costs`; distances have derivative 0 at 0."""
    family, _, listed = name.partition(":")
    difference = x[:, None] - y
    if family == "mahalanobis":
        weights = torch.tensor([float(number) for number in listed.split(",")], dtype=torch.float64)
        return (difference**2 * weights).sum(-1)
    squared = (difference**2).sum(-1)
    if family == "sqeuclidean":
        return squared
    if family == "euclidean":
        return squared.clamp_min(TINY).sqrt()
    if family == "power":
        return squared.clamp_min(TINY) ** (float(listed) / 2)
    p, q = (t / t.norm(dim=1, keepdim=True) for t in (x, y))
    if family == "cosine":
        return 1.0 - p @ q.T
    if family == "geodesic":
        return 2.0 * (0.5 * ((p[:, None] - q) ** 2).sum(-1).clamp_min(TINY).sqrt()).asin()
    raise ValueError(f"cost: no textbook formula for {name!r}.")


def potentials(
    C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, penalties: tuple[Penalty, Penalty], iterations: int, itself: bool
) -> tuple[Tensor, Tensor]:
    """f and g after log-domain updates from zero, averaged ones for a self problem."""
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(iterations):
        new = _relaxed(-epsilon * ((g - C) / epsilon + b.log()).logsumexp(1), penalties[0], epsilon)
        new = 0.5 * (f + new) if itself else new
        change = float((new - f).detach().abs().max())
        f = new
        if itself:
            g = f
        else:
            g = _relaxed(-epsilon * ((f[:, None] - C) / epsilon + a.log()[:, None]).logsumexp(0), penalties[1], epsilon)
        if change < CONVERGED:
            break
    return f, g


def _relaxed(f: Tensor, penalty: Penalty, epsilon: Tensor) -> Tensor:
    if penalty is None:
        return f
    kind, rho = penalty
    return f * (rho / (rho + epsilon)) if kind == "kl" else f.clamp(-rho, rho)


def plan(C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, f: Tensor, g: Tensor) -> Tensor:
    return a[:, None] * b * ((f[:, None] + g - C) / epsilon).exp()


def dual(
    C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, f: Tensor, g: Tensor, penalties: tuple[Penalty, Penalty]
) -> Tensor:
    """What f and g maximise."""

    def gain(weights: Tensor, potential: Tensor, penalty: Penalty) -> Tensor:
        if penalty is not None and penalty[0] == "kl":
            potential = -penalty[1] * torch.expm1(-potential / penalty[1])
        return (weights * potential).sum()

    mass = plan(C, a, b, epsilon, f, g).sum() - a.sum() * b.sum()
    return gain(a, f, penalties[0]) + gain(b, g, penalties[1]) - epsilon * mass


def divergence(
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: Tensor,
    name: str = "sqeuclidean",
    penalties: tuple[Penalty, Penalty] = (None, None),
    sharp: bool = False,
    iterations: int = 2000,
    through: bool = False,
) -> Tensor:
    """S_ε, of which autograd finds the derivatives: through all updates, or with the potentials as they are."""

    def problem(p: Tensor, q: Tensor, u: Tensor, v: Tensor, relaxed: tuple[Penalty, Penalty]) -> Tensor:
        C = cost(name, p, q)
        with torch.set_grad_enabled(through):
            f, g = potentials(C, u, v, epsilon, relaxed, iterations, p is q)
        if sharp:
            return (plan(C, u, v, epsilon, f, g) * C).sum()
        return dual(C, u, v, epsilon, f, g, relaxed)

    first, second = penalties
    value = problem(x, y, a, b, penalties)
    value = value - 0.5 * problem(x, x, a, a, (first, first)) - 0.5 * problem(y, y, b, b, (second, second))
    return value if sharp else value + 0.5 * epsilon * (a.sum() - b.sum()) ** 2


def discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """½ ⟨α − β, k(α − β)⟩ with uniform weights."""
    return 0.5 * (kernel(x, x).mean() + kernel(y, y).mean()) - kernel(x, y).mean()


def kernel(name: str, sigma: float) -> Callable[[Tensor, Tensor], Tensor]:
    """k of a name of `geomsink.kernels`."""
    if name.startswith("-"):
        return lambda x, y: -cost(name[1:], x, y)
    return {
        "gaussian": lambda x, y: (-cost("sqeuclidean", x, y) / (2 * sigma**2)).exp(),
        "laplacian": lambda x, y: (-cost("euclidean", x, y) / sigma).exp(),
        "energy": lambda x, y: -cost("euclidean", x, y),
    }[name]
