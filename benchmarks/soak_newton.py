"""Newton's method on the dual of an entropic transport problem, down a path of temperatures.

The potential g of the second measure is eliminated by its own update. Newton's method with damping and a line search
climbs in f, each step after a Sinkhorn cycle, and the stride of the path is chosen by how well the last one went:
potentials are extrapolated linearly in ε, which is exact in the limit of linear programming.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from soak_dual import Array, Dual, U

DIRECT = 700
"""Points of the first cloud up to which Newton's systems are factored on the path; above, and before the last
temperature, they are solved roughly by conjugate gradients."""


@dataclass
class State:
    """Potentials, what they miss of the first marginal, of the dual's maximum, and of the worst point's weight."""

    f: Array
    residual: float = np.inf
    decrement: float = np.inf
    ratio: float = np.inf
    steps: int = 0


def newton(dual: Dual, f: Array, epsilon: float, wanted: float, most: int, deadline: float) -> State:
    """Potentials whose row marginal is right to ``wanted``, relative to the mass, or as near as can be had."""
    mass, damping, best, since = 0.5 * sum(dual.masses), 1e-14, State(f), 0
    for step in range(most):
        g, _ = dual.columns(f, epsilon)
        f, _ = dual.rows(g, epsilon)
        g, soft = dual.columns(f, epsilon)
        gradient = dual.gradient(f, dual.rows(g, epsilon)[1], epsilon)
        free = np.ones(len(f), bool)
        if dual.first.kind == "tv":  # potentials at an end of their range that would leave it stay there
            rho = dual.first.rho - dual.near[0], dual.first.rho + dual.near[0]
            free = ~(((f >= rho[0]) & (gradient > 0)) | ((f <= -rho[1]) & (gradient < 0)))
        residual = float(np.abs(gradient[free]).sum()) / mass
        direction = np.zeros_like(f)
        if free.any():
            P = dual.plan(f, g, epsilon)[free]
            direction[free] = newton_direction(dual, P, f, g, gradient[free], free, epsilon, damping, wanted < 1e-3)
        decrement = 0.5 * float(gradient @ direction)
        asked = dual.first.asked(dual.a, dual.near[0] + f)
        ratio = float(np.abs(gradient[free] / np.maximum(asked[free], 1e-280)).max(initial=0.0))
        if max(residual, ratio * wanted**0.5) <= max(best.residual, best.ratio * wanted**0.5):
            best, since = State(f, residual, max(decrement, 0.0), ratio), step
        best.steps = step + 1
        done = residual <= wanted and decrement <= wanted * epsilon * mass and ratio <= wanted**0.5
        stuck = best.residual < 1e-9 and step > since + 4
        if done or stuck or time.process_time() > deadline:
            break
        now, size = dual.value(f, g, soft, epsilon), float((dual.a * np.abs(f)).sum() + (dual.b * np.abs(g)).sum())
        noise = 16.0 * U * (size + (0.0 if dual.fixed else abs(now)))
        stride = min(1.0, (dual.span + epsilon) / max(float(np.abs(direction).max()), 1e-300))
        while stride > 1e-4:
            new = dual.within(f + stride * direction)
            better = dual.climb(new, epsilon) - 8.0 * U * float((dual.a * np.abs(new)).sum())
            if better >= now + 1e-4 * float(gradient @ (new - f)) - noise:
                break
            stride *= 0.5
        if stride > 1e-4:
            f, damping = new, max(damping * 0.1, 1e-14)
        else:
            damping = max(damping * 100.0, 1e-10)
            if damping > 1.0:
                break
    return best


def newton_direction(
    dual: Dual,
    P: Array,
    f: Array,
    g: Array,
    gradient: Array,
    free: Array,
    epsilon: float,
    damping: float,
    exact: bool = True,
) -> Array:
    """(−F″)⁻¹ ∇F, for one gradient or, as columns, for some.

    The matrix is scaled to a unit diagonal, so that weights over many decades do not hurt.
    """
    first, second = dual.first, dual.second
    diagonal = P.sum(1) / epsilon
    if first.kind == "kl":
        diagonal = diagonal + first.asked(dual.a[free], (dual.near[0] + f)[free]) / first.rho
    columns = P.sum(0)
    kappa = 1.0 + epsilon / second.rho if second.kind == "kl" else np.ones_like(g)
    if second.kind == "tv":
        kappa = np.where(np.abs(dual.near[1] + g) < second.rho * (1.0 - 8 * U), 1.0, np.inf)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-300))
    M = scale[:, None] * P / np.sqrt(np.maximum(columns, 1e-300) * epsilon * kappa)
    right = (scale * gradient.T).T
    if exact or len(right) <= DIRECT:
        S = -M @ M.T
        for extra in (0.0, 1e-13, 1e-11, 1e-9):  # rounding may have made it indefinite
            try:
                factor = cho_factor(S + (1.0 + damping + extra) * np.eye(len(right)), check_finite=False)
            except LinAlgError:
                continue
            return (scale * cho_solve(factor, right, check_finite=False).T).T
        return (scale * right.T).T
    return scale * conjugate_gradients(M, right, damping)


def conjugate_gradients(M: Array, right: Array, damping: float) -> Array:
    x, r = np.zeros_like(right), right.copy()
    p, rr = r.copy(), float(r @ r)
    stop = 1e-6 * rr
    for _ in range(60):
        q = (1.0 + damping) * p - M @ (M.T @ p)
        curvature = float(p @ q)
        if rr <= stop or curvature <= 0.0:
            break
        alpha = rr / curvature
        x += alpha * p
        r -= alpha * q
        new = float(r @ r)
        p, rr = r + (new / rr) * p, new
    return x


def follow(dual: Dual, epsilon: float, deadline: float) -> State:
    """Down the temperatures to ε; the base is where the path stands, and potentials are relative to it."""
    now = max(epsilon, dual.span)
    state = newton(dual, np.zeros(len(dual.a)), now, 1e-3, 60, deadline)
    dual.recentre(state.f, now)
    before: tuple[float, Array] | None = None
    factor = 0.5
    while now > epsilon:
        following = max(epsilon, now * factor)
        if following < 1.2 * epsilon:
            following = epsilon
        start, base = np.zeros(len(dual.a)), dual.base[0]
        if before is not None:
            start = (base - before[1]).astype(np.float64) * ((following - now) / (now - before[0]))
            if dual.fixed:  # a constant moves nothing, and grows
                start -= dual.a @ start / dual.masses[0]
        found = newton(dual, dual.within(start), following, 1e-3, 16, deadline)
        near = found.residual <= 1e-2 and found.ratio <= 0.3 and found.decrement <= 0.1 * following * min(dual.masses)
        if not near and factor < 0.97:
            if time.process_time() > deadline:
                break
            factor = np.sqrt(factor)
            continue
        factor = max(factor**2, 1e-3) if found.steps <= 3 else (factor if found.steps <= 7 else np.sqrt(factor))
        before, now = (now, base), following
        dual.recentre(found.f, now)
    zero = np.zeros(len(dual.a))
    if now > epsilon:
        return State(zero)
    for wanted in (1e-8, 1e-14):
        state = newton(dual, zero, epsilon, wanted, 30, deadline)
        dual.recentre(state.f, epsilon)
        if max(state.residual, state.ratio) < 1e-10 and len(dual.a) > DIRECT:  # a step takes seconds
            break
    return State(zero, state.residual, state.decrement, state.ratio, state.steps)
