"""The dual of an entropic transport problem and the penalties of its marginals, in numpy alone.

max_{f, g} −D₁*(−f) − D₂*(−g) − ε (Σ P_ij − m_a m_b),    P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
U = 2.0**-53


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


def softmin(C: Array, h: Array, w: Array, epsilon: float) -> Array:
    """−ε log Σ_j w_j exp((h_j − C_ij)/ε) over the last axis; accurate relative to the costs where ε is large, too."""
    z = (h - C) / epsilon
    top = z.max(-1, keepdims=True)
    if z.size and top.max() - z.min() < 1.0:
        mass = w.sum()
        middle = z.mean(-1)  # near 0 to log1p, for full accuracy
        inner = np.log1p((np.expm1(z - middle[:, None]) * (w / mass)).sum(-1))
        log_mass = np.log(mass) if abs(mass - 1.0) > 1e-14 else 0.0  # that of one is rounding, which a large ε shows
        return -epsilon * (middle + inner + log_mass)
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
        self.span = float(np.ptp(C) if self.fixed else np.abs(C).max())
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
