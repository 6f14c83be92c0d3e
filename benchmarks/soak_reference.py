"""A dense float64 solution of an entropic transport problem that knows its own error; not a line of it is the package's.

    max_{f, g} −D₁*(−f) − D₂*(−g) − ε (Σ P_ij − m_a m_b),    P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε)

The potential g of the second measure is eliminated by its own update, and Newton's method with damping and a line search
climbs in f, each step after a Sinkhorn cycle, along a path of temperatures whose stride is chosen by how well the last one
went: potentials are extrapolated linearly in ε, which is exact in the limit of linear programming.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

Array = np.ndarray
U = 2.0**-53
COLDEST = 1e-14
"""ε, relative to the largest cost, below which exponents are mostly rounding: values are extrapolated from there."""
DIRECT = 700
"""Points of the smaller cloud up to which Newton's systems are factored; conjugate gradients above."""
NEARLY = 1e-7
"""Relative error up to which a value counts as known."""


@dataclass(frozen=True)
class Penalty:
    """Of one marginal: ``"fixed"``, or ``"kl"`` and ``"tv"`` with a factor ρ."""

    kind: str = "fixed"
    rho: float = np.inf

    def update(self, softmin: Array, epsilon: float, base: Array | float = 0.0) -> Array:
        """The best potential, less its ``base``, from a softmin less the same."""
        if self.kind == "kl":
            return (softmin - epsilon / self.rho * base) / (1.0 + epsilon / self.rho)
        return self.within(softmin, base)

    def within(self, f: Array, base: Array | float = 0.0) -> Array:
        return np.clip(f, -self.rho - base, self.rho - base) if self.kind == "tv" else f

    def dual(self, w: Array, f: Array) -> float:
        """−D*(−f)."""
        return float(-self.rho * (w * np.expm1(-f / self.rho)).sum() if self.kind == "kl" else (w * f).sum())

    def asked(self, w: Array, f: Array) -> Array:
        """The marginal that the potential asks for: the derivative of `dual`."""
        return w * np.exp(-f / self.rho) if self.kind == "kl" else w

    def log_asked(self, f: Array) -> Array:
        return -f / self.rho if self.kind == "kl" else np.zeros_like(f)

    def primal(self, w: Array, p: Array) -> float:
        if self.kind == "fixed":
            return 0.0
        if self.kind == "tv":
            return float(self.rho * np.abs(p - w).sum())
        ratio = p / w
        logs = np.log(np.where(ratio > 0, ratio, 1.0))
        return float(self.rho * (w * (ratio * logs - ratio + 1.0)).sum())

    def gap(self, w: Array, p: Array, f: Array) -> float:
        """⟨p, f⟩ + D(p) + D*(−f) ≥ 0, without what cancels; 0 for fixed marginals, which must be right."""
        if self.kind == "tv":
            return float(((p - w) * f + self.rho * np.abs(p - w)).sum())
        if self.kind == "kl":
            asked = self.asked(w, f)
            t = p / np.where(asked > 0, asked, 1.0)
            return float(self.rho * (asked * (t * np.log(np.where(t > 0, t, 1.0)) - t + 1.0)).sum())
        return 0.0

    def scaled(self, factor: float) -> Penalty:
        return Penalty(self.kind, self.rho * factor)


FIXED = Penalty()


@dataclass
class Solved:
    """What is known of OT_ε: all in the caller's units, potentials and plan over all points.

    ``error`` bounds or estimates what ``value`` is off by, ``rounding`` is what float64 does to any solution, and
    ``residual`` the marginal error that is left, relative to the mass.
    """

    value: float
    error: float
    rounding: float
    sharp: float
    sharp_error: float
    f: Array
    g: Array
    plan: Array = field(repr=False)
    residual: float
    gap: float
    decrement: float
    plan_known: bool

    @property
    def known(self) -> bool:
        return self.error <= NEARLY * abs(self.value) + self.rounding


def softmin(C: Array, h: Array, w: Array, epsilon: float) -> Array:
    """−ε log Σ_j w_j exp((h_j − C_ij)/ε) over the last axis; accurate relative to the costs where ε is large, too."""
    z = (h - C) / epsilon
    top = z.max(-1, keepdims=True)
    if z.size and top.max() - z.min() < 1.0:
        mass = w.sum()
        middle = z.mean(-1)  # near 0 to log1p, for full accuracy
        inner = np.log1p((np.expm1(z - middle[:, None]) * (w / mass)).sum(-1))
        return -epsilon * (middle + inner + np.log(mass))
    z += np.log(w)
    top = z.max(-1, keepdims=True)
    z -= top
    np.exp(z, out=z)
    return -epsilon * (top[:, 0] + np.log(z.sum(-1)))


class Dual:
    """The dual of one problem with positive weights, g eliminated.

    Potentials are relative to a base, and costs less it: exponents near the optimum are then of the size of ε, however
    large the costs are. The base is kept in extended precision.
    """

    def __init__(self, C: Array, a: Array, b: Array, first: Penalty, second: Penalty):
        self.full, self.a, self.b, self.first, self.second = C, a, b, first, second
        self.masses = float(a.sum()), float(b.sum())
        self.fixed = first.kind == second.kind == "fixed"
        self.base: tuple[Array, Array] = np.zeros(len(a), np.longdouble), np.zeros(len(b), np.longdouble)
        self.rebase(*self.base)

    def rebase(self, f: Array, g: Array) -> None:
        """Take these as the base."""
        self.base = f, g
        self.C = np.ascontiguousarray((self.full - f[:, None] - g).astype(np.float64))
        self.transposed = np.ascontiguousarray(self.C.T)
        self.near = f.astype(np.float64), g.astype(np.float64)

    def recentre(self, f: Array, epsilon: float) -> None:
        """Take potentials as the base: they are zero then."""
        g, _ = self.columns(f, epsilon)
        self.rebase(self.base[0] + f, self.base[1] + g)

    def columns(self, f: Array, epsilon: float) -> tuple[Array, Array]:
        """The best g, and the softmin that it is made of."""
        soft = softmin(self.transposed, f, self.a, epsilon)
        return self.second.update(soft, epsilon, self.near[1]), soft

    def rows(self, g: Array, epsilon: float) -> tuple[Array, Array]:
        soft = softmin(self.C, g, self.b, epsilon)
        return self.first.update(soft, epsilon, self.near[0]), soft

    def within(self, f: Array) -> Array:
        return self.first.within(f, self.near[0])

    def offset(self) -> float:
        """What the base of fixed marginals adds to `value`."""
        return float(self.a @ self.base[0] + self.b @ self.base[1]) if self.fixed else 0.0

    def value(self, f: Array, g: Array, soft: Array, epsilon: float) -> float:
        if self.fixed:  # columns are right
            return float(self.a @ f + self.b @ g)
        total = self.first.dual(self.a, self.near[0] + f) + self.second.dual(self.b, self.near[1] + g)
        excess = float((self.b * np.expm1(np.minimum((g - soft) / epsilon, 700.0))).sum())
        return total - epsilon * (excess + self.masses[1] * (1.0 - self.masses[0]))

    def climb(self, f: Array, epsilon: float) -> float:
        """The value after g's update."""
        g, soft = self.columns(f, epsilon)
        return self.value(f, g, soft, epsilon)

    def plan(self, f: Array, g: Array, epsilon: float) -> Array:
        z = (f[:, None] + g - self.C) / epsilon
        z += np.log(self.a)[:, None]
        z += np.log(self.b)
        np.minimum(z, 700.0, out=z)
        return np.exp(z, out=z)

    def gradient(self, f: Array, soft: Array, epsilon: float) -> Array:
        """What the row marginal has too little of."""
        whole = self.near[0] + f
        left = (f - soft) / epsilon - self.first.log_asked(whole)
        found = -self.first.asked(self.a, whole) * np.expm1(np.minimum(left, 700.0))
        return found - self.a * (found.sum() / self.masses[0]) if self.fixed else found


@dataclass
class State:
    f: Array
    residual: float = np.inf
    decrement: float = np.inf
    steps: int = 0


def newton(dual: Dual, f: Array, epsilon: float, wanted: float, most: int, deadline: float) -> State:
    """Potentials whose row marginal is right to ``wanted``, relative to the mass, or as near as can be had."""
    mass, damping, best = 0.5 * sum(dual.masses), 1e-14, State(f)
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
            direction[free] = newton_direction(dual, P, f, g, gradient[free], free, epsilon, damping)
        decrement = 0.5 * float(gradient @ direction)
        if residual <= best.residual:
            best = State(f, residual, max(decrement, 0.0), step)
        best.steps = step + 1
        if (residual <= wanted and decrement <= wanted * epsilon * mass) or time.monotonic() > deadline:
            break
        now, size = dual.value(f, g, soft, epsilon), float((dual.a * np.abs(f)).sum() + (dual.b * np.abs(g)).sum())
        stride, noise = 1.0, 8.0 * U * (size + (0.0 if dual.fixed else abs(now)))
        while stride > 1e-4:
            new = dual.within(f + stride * direction)
            if dual.climb(new, epsilon) >= now + 1e-4 * float(gradient @ (new - f)) - noise:
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
    dual: Dual, P: Array, f: Array, g: Array, gradient: Array, free: Array, epsilon: float, damping: float
) -> Array:
    """(−F″)⁻¹ ∇F, of the matrix with a unit diagonal: weights over many decades do not hurt."""
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
    right = scale * gradient
    if len(right) <= DIRECT:
        S = np.eye(len(right)) * (1.0 + damping) - M @ M.T
        for extra in (0.0, 1e-13, 1e-11, 1e-9):  # rounding may have made it indefinite
            try:
                factor = cho_factor(S + extra * np.eye(len(right)), check_finite=False)
            except LinAlgError:
                continue
            return scale * cho_solve(factor, right, check_finite=False)
        return scale * right
    return scale * conjugate_gradients(M, right, damping)


def conjugate_gradients(M: Array, right: Array, damping: float) -> Array:
    x, r = np.zeros_like(right), right.copy()
    p, rr = r.copy(), float(r @ r)
    stop = 1e-12 * rr
    for _ in range(300):
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
    now = max(epsilon, float(np.ptp(dual.C)))
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
        found = newton(dual, dual.within(start), following, 1e-3, 16, deadline)
        near = found.residual <= 1e-2 and found.decrement <= 0.1 * following * min(dual.masses)
        if not near and factor < 0.97:
            if time.monotonic() > deadline:
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
    return State(zero, state.residual, state.decrement, state.steps)


def rounded(P: Array, a: Array, b: Array) -> Array:
    """A plan with the marginals a and b near P (Altschuler, Weed, Rigollet 2017)."""
    P = P * np.minimum(1.0, a / np.maximum(P.sum(1), 1e-300))[:, None]
    P = P * np.minimum(1.0, b / np.maximum(P.sum(0), 1e-300))
    left, right = np.maximum(a - P.sum(1), 0.0), np.maximum(b - P.sum(0), 0.0)
    mass = 0.5 * (left.sum() + right.sum())
    return P + np.outer(left, right) / mass if mass > 0 else P


def entropic_cost(P: Array, C: Array, a: Array, b: Array, epsilon: float) -> float:
    """⟨P, C⟩ + ε KL(P | a ⊗ b)."""
    logs = np.log(np.where(P > 0, P, 1.0)) - np.where(P > 0, np.log(a)[:, None] + np.log(b), 0.0)
    return float((P * (C + epsilon * logs)).sum() - epsilon * (P.sum() - a.sum() * b.sum()))


def transport(
    C: Array, a: Array, b: Array, epsilon: float, first: Penalty = FIXED, second: Penalty = FIXED, seconds: float = 8.0
) -> Solved:
    """OT_ε from costs and weights; fixed marginals of masses that differ by rounding are each made their mean."""
    C, a, b = np.asarray(C, np.float64), np.asarray(a, np.float64), np.asarray(b, np.float64)
    if np.count_nonzero(a) > np.count_nonzero(b):  # Newton's systems are as large as the first cloud
        solved = transport(C.T, b, a, epsilon, second, first, seconds)
        solved.f, solved.g, solved.plan = solved.g, solved.f, solved.plan.T
        return solved
    mass = 1.0
    if first.kind == second.kind == "fixed":
        mass = 0.5 * (a.sum() + b.sum())
        a, b = a / a.sum(), b / b.sum()
    rows, columns = a > 0, b > 0
    scale = 2.0 ** np.round(np.log2(np.abs(C).max())) if C.any() else 1.0
    part = np.ascontiguousarray(C[np.ix_(rows, columns)]) / scale
    dual = Dual(part, a[rows], b[columns], first.scaled(1 / scale), second.scaled(1 / scale))
    found = limit(dual) if epsilon == np.inf else solve(dual, epsilon / scale, seconds)
    value, error, rounding, sharp, sharp_error, f, g, P, residual, gap, decrement, known = found
    eps = epsilon / scale
    if epsilon < np.inf:  # of points without weight
        full = C / scale
        wide_f, wide_g = np.zeros(len(a)), np.zeros(len(b))
        wide_f[rows], wide_g[columns] = f, g
        wide_f[~rows] = dual.first.update(softmin(full[np.ix_(~rows, columns)], g, dual.b, eps), eps)
        wide_g[~columns] = dual.second.update(softmin(full[np.ix_(rows, ~columns)].T, f, dual.a, eps), eps)
    else:
        full = C / scale
        middle = 0.5 * float(a @ full @ b)
        wide_f, wide_g = full @ b - middle, a @ full - middle
    plan = np.zeros(C.shape)
    plan[np.ix_(rows, columns)] = mass * P
    constant = 0.0
    if mass != 1.0:
        constant = epsilon * (mass**2 - mass - mass * np.log(mass)) if epsilon < np.inf else 0.0
        rounding = rounding + 4 * U * abs(constant) / scale / mass
    factor = mass * scale
    return Solved(
        value * factor + constant, error * factor, rounding * factor, sharp * factor, sharp_error * factor,
        wide_f * scale, wide_g * scale, plan, residual, gap * factor, decrement * factor, known,
    )  # fmt: skip


def limit(dual: Dual) -> tuple:
    """ε = ∞, where the plan is the product."""
    P = np.outer(dual.a, dual.b)
    value = float((P * dual.C).sum())
    rounding = 8 * U * float((P * np.abs(dual.C)).sum())
    f, g = dual.C @ dual.b - 0.5 * value, dual.a @ dual.C - 0.5 * value
    return value, 0.0, rounding, value, 0.0, f, g, P, 0.0, 0.0, 0.0, True


def solve(dual: Dual, epsilon: float, seconds: float) -> tuple:
    """Value, its error, what rounding does, the sharp value and its error, potentials, plan, and what they are off by."""
    deadline = time.monotonic() + seconds
    largest = float(np.abs(dual.full).max())
    coldest = max(epsilon, COLDEST * largest)
    state = follow(dual, coldest, deadline)
    f, a, b = state.f, dual.a, dual.b
    g, soft = dual.columns(f, coldest)
    if dual.first.kind == "fixed" != dual.second.kind:  # rows, which must be right, come last
        f, _ = dual.rows(g, coldest)
        _, soft = dual.columns(f, coldest)
    value, P = dual.value(f, g, soft, coldest), dual.plan(f, g, coldest)
    if dual.fixed:
        gap = entropic_cost(rounded(P, a, b), dual.C, a, b, coldest) - value
        value += dual.offset()
    elif dual.first.kind == "fixed":
        gap = dual.second.gap(b, P.sum(0), dual.near[1] + g)
    else:
        gap = dual.first.gap(a, P.sum(1), dual.near[0] + f)
    f, g = dual.near[0] + f, dual.near[1] + g
    # Potentials are known up to a constant where marginals are fixed: moments about their medians.
    centred = (f - np.median(f), g - np.median(g)) if dual.fixed else (f, g)
    moved = float((a * np.abs(centred[0])).sum() + (b * np.abs(centred[1])).sum())
    rounding = 4 * U * (moved + float((P * np.abs(dual.full)).sum()) + abs(value))
    if not dual.fixed:
        rounding += 8 * U * coldest * dual.masses[0] * dual.masses[1]
    converged = state.residual <= 1e-8 and state.decrement <= 1e-9 * coldest * sum(dual.masses)
    error = min(max(gap, 0.0), 4.0 * state.decrement) if converged else max(gap, 0.0)
    transported = float((P * dual.full).sum())
    penalties = dual.first.primal(a, P.sum(1)) + dual.second.primal(b, P.sum(0))
    sharp_error = state.residual * (float((P * np.abs(dual.full)).sum()) + 100.0 * coldest)
    if coldest > epsilon:  # OT_ε is concave in ε, with the derivative KL(P | a ⊗ b)
        entropy = (value - transported - penalties) / coldest
        most = dual.masses[0] * (-np.log(min(a.min(), b.min())) + 1.0)
        value -= (coldest - epsilon) * entropy
        error += (coldest - epsilon) * max(most - entropy, 0.0)
        sharp_error += coldest * most
    known = converged and coldest == epsilon and U * largest < 1e-3 * epsilon
    sharp = transported + penalties
    return value, error, rounding, sharp, sharp_error, f, g, P, state.residual, gap, state.decrement, known
