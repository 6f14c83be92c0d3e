"""A dense float64 solution of an entropic transport problem that knows its own error; nothing here is the package's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from soak_dual import FIXED, Array, Dual, Penalty, U, softmin
from soak_newton import follow, newton_direction

COLDEST = 1e-14
"""ε, relative to the largest cost, below which potentials are mostly rounding: values are extrapolated from there."""
NEARLY = 1e-7
"""Relative error up to which a value counts as known."""


@dataclass
class Solved:
    """What is known of OT_ε: all in the caller's units, potentials and plan over all points.

    ``error`` bounds or estimates what ``value`` is off by, ``rounding`` is what float64 does to any solution,
    ``residual`` the marginal error that is left, relative to the mass, and ``loose`` what potentials move by, root mean
    square, if weights change by a rounding error: between clusters that exchange no mass they are hardly determined.
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
    loose: float

    @property
    def known(self) -> bool:
        """Whether the value is."""
        return self.error <= NEARLY * abs(self.value) + self.rounding


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
    C: Array, a: Array, b: Array, epsilon: float, first: Penalty = FIXED, second: Penalty = FIXED, seconds: float = 6.0
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
    value, error, rounding, sharp, sharp_error, f, g, P, residual, gap, decrement, known, loose = found
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
        if epsilon < np.inf:  # the plan's mass
            wide_f, wide_g = wide_f - 0.5 * eps * np.log(mass), wide_g - 0.5 * eps * np.log(mass)
    factor = mass * scale
    return Solved(
        value * factor + constant, error * factor, rounding * factor, sharp * factor, sharp_error * factor,
        wide_f * scale, wide_g * scale, plan, residual, gap * factor, decrement * factor, known,
        loose * scale,
    )  # fmt: skip


def limit(dual: Dual) -> tuple:
    """ε = ∞, where the plan is the product."""
    P = np.outer(dual.a, dual.b)
    value = float((P * dual.C).sum())
    rounding = 8 * U * float((P * np.abs(dual.C)).sum())
    f, g = dual.C @ dual.b - 0.5 * value, dual.a @ dual.C - 0.5 * value
    return value, 0.0, rounding, value, 0.0, f, g, P, 0.0, 0.0, 0.0, True, 0.0


def looseness(dual: Dual, P: Array, f: Array, g: Array, epsilon: float) -> float:
    """What the first potential moves by if weights are rounded."""
    r, share, whole = np.random.default_rng(0), dual.a / dual.masses[0], dual.near[0] + f
    patterns = np.sign(np.stack([whole - share @ whole, *r.normal(size=(3, len(f)))], 1))
    right = 8.0 * U * dual.a[:, None] * (patterns - share @ patterns if dual.fixed else patterns)
    moved = newton_direction(dual, P, f, g, right, np.ones(len(f), bool), epsilon, 1e-14)
    moved = np.clip(moved - share @ moved if dual.fixed else moved, -1e100, 1e100)
    return float(np.sqrt((share @ moved**2).max()))


def solve(dual: Dual, epsilon: float, seconds: float) -> tuple:
    """What `Solved` has, in its order."""
    deadline = time.process_time() + seconds
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
    loose = looseness(dual, P, f, g, coldest)
    f, g = dual.near[0] + f, dual.near[1] + g
    # Potentials are known up to a constant where marginals are fixed: moments about their medians.
    centred = (f - np.median(f), g - np.median(g)) if dual.fixed else (f, g)
    moved = float((a * np.abs(centred[0])).sum() + (b * np.abs(centred[1])).sum())
    rounding = 4 * U * (moved + float((P * np.abs(dual.full)).sum()) + abs(value))
    if dual.fixed:  # constants cancel, in the precision of the base, but for what masses differ by
        rounding += float(np.finfo(np.longdouble).eps) * (a @ np.abs(f) + b @ np.abs(g))
        rounding += 2 * U * float(min(abs(np.median(f)), abs(np.median(g))))
    else:
        rounding += 8 * U * coldest * dual.masses[0] * dual.masses[1]
    converged = state.residual <= 1e-8 and state.decrement <= 1e-9 * coldest * sum(dual.masses)
    error = min(max(gap, 0.0), 4.0 * state.decrement) if converged else max(gap, 0.0)
    if not converged and not gap >= -rounding:  # numbers that are none of a plan and its dual
        error = np.inf
    transported = float((P * dual.full).sum())
    penalties = dual.first.primal(a, P.sum(1)) + dual.second.primal(b, P.sum(0))
    sharp_error = state.residual * (float((P * np.abs(dual.full)).sum()) + 100.0 * coldest)
    if coldest > epsilon:  # OT_ε is concave in ε, with the derivative KL(P | a ⊗ b)
        entropy = (value - transported - penalties) / coldest
        most = dual.masses[0] * (-np.log(min(a.min(), b.min())) + 1.0)
        value -= (coldest - epsilon) * entropy
        error += (coldest - epsilon) * max(most - entropy, 0.0)
        sharp_error += coldest * most
    known = converged and state.ratio <= 1e-2 and coldest == epsilon and U * largest < 1e-3 * epsilon
    sharp = transported + penalties
    return value, error, rounding, sharp, sharp_error, f, g, P, state.residual, gap, state.decrement, known, loose
