"""What is true of a problem of the soak: value and gradients, and what they can be known to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp
from soak_costs import Ground
from soak_dual import FIXED, Penalty, U
from soak_reference import NEARLY, Solved, transport

Array = np.ndarray
Pair = tuple[Penalty, Penalty]
SLACK = 1e-13
"""Rounding that any float64 solution may have, relative to the sizes of the transport costs that a value is made of."""


@dataclass
class Truth:
    """Of one pair of clouds.

    Attributes
    ----------
    value, error : float
        And what it may be off by.
    rounding : float
        What float64 does to the value, of whoever computes it.
    size : float
        Of the numbers that the value is a difference of.
    gradients : dict
        In "x", "y", "a" and "b".
    sizes : dict
        Norms of what the gradients are differences of.
    exact : bool
        Whether the plans, and so the gradients, are known.
    costs : dict
        Matrices of the problems "xy", "xx" and "yy".
    """

    value: float
    error: float
    rounding: float
    size: float
    exact: bool
    seconds: float
    gradients: dict[str, Array] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    costs: dict[str, Array] = field(default_factory=dict, repr=False)
    parts: dict[str, Solved] = field(default_factory=dict, repr=False)

    @property
    def known(self) -> bool:
        return self.error <= NEARLY * abs(self.value) + self.rounding


@dataclass(frozen=True)
class Asked:
    """A problem in float64, whoever is to solve it."""

    x: Array
    y: Array
    a: Array
    b: Array
    ground: Ground
    epsilon: float
    penalties: Pair
    divergence: bool
    sharp: bool


def truth(asked: Asked, seconds: float = 6.0) -> Truth:
    """Of OT_ε or S_ε; each transport problem may take so long."""
    began = time.monotonic()
    x, y, a, b, (first, second) = asked.x, asked.y, asked.a, asked.b, asked.penalties
    problems = {"xy": (x, y, a, b, first, second, 1.0)}
    if asked.divergence:
        problems |= {"xx": (x, x, a, a, first, first, -0.5), "yy": (y, y, b, b, second, second, -0.5)}
    costs = {name: asked.ground.matrix(p[0], p[1]) for name, p in problems.items()}
    parts = {
        name: transport(costs[name], p[2], p[3], asked.epsilon, p[4], p[5], seconds) for name, p in problems.items()
    }
    value = error = rounding = size = 0.0
    for name, solved in parts.items():
        share = problems[name][-1]
        one, off = (solved.sharp, solved.sharp_error) if asked.sharp else (solved.value, solved.error)
        value, error, rounding = value + share * one, error + abs(share) * off, rounding + abs(share) * solved.rounding
        size += abs(share) * (abs(solved.sharp) + abs(solved.value if np.isfinite(asked.epsilon) else 0.0))
        rounding += (
            abs(share) * solved.plan.sum() * asked.ground.rounding(float(np.abs(costs[name]).max()), asked.x, asked.y)
        )
    balanced = first.kind == second.kind == "fixed"
    masses = float(a.sum()), float(b.sum())
    if asked.divergence and not asked.sharp and not balanced:
        mass_term = 0.5 * asked.epsilon * (masses[0] - masses[1]) ** 2
        value, rounding = value + mass_term, rounding + 4 * U * mass_term
    exact = all(s.plan_known and s.known for s in parts.values())
    found = Truth(value, error, rounding, size, exact, 0.0, costs=costs, parts=parts)
    if np.isfinite(asked.epsilon) and not asked.sharp:
        differentiate(found, asked)
    found.seconds = time.monotonic() - began
    return found


def differentiate(found: Truth, asked: Asked) -> None:
    """By the envelope theorem: gradients at fixed potentials."""
    ground, xy = asked.ground, found.parts["xy"]
    first = ground.pull(xy.plan, asked.x, asked.y)
    second = ground.transposed().pull(xy.plan.T, asked.y, asked.x)
    of_a, of_b = of_weights(found, "xy", asked)
    # Where the plan is diagonal and clouds are the same nothing but rounding is left: a hundredth of all pairs' pull.
    loose = np.outer(asked.a, asked.b) / max(float(asked.a.sum()), float(asked.b.sum()))
    sizes = {
        "x": norm(first) + 0.01 * norm(ground.pull(loose, asked.x, asked.y)),
        "y": norm(second) + 0.01 * norm(ground.transposed().pull(loose.T, asked.y, asked.x)),
        "a": largest(of_a),
        "b": largest(of_b),
    }
    if asked.divergence:
        balanced = all(p.kind == "fixed" for p in asked.penalties)
        apart = 0.0 if balanced else asked.epsilon * float(asked.a.sum() - asked.b.sum())
        for name, points in (("xx", asked.x), ("yy", asked.y)):
            P = found.parts[name].plan
            own, sides = ground.pull(0.5 * (P + P.T), points, points), of_weights(found, name, asked)
            weight = 0.5 * (sides[0] + sides[1])
            if name == "xx":
                first, of_a = first - own, of_a - weight + apart
                sizes["x"], sizes["a"] = sizes["x"] + norm(own), sizes["a"] + largest(weight)
            else:
                second, of_b = second - own, of_b - weight - apart
                sizes["y"], sizes["b"] = sizes["y"] + norm(own), sizes["b"] + largest(weight)
    found.gradients, found.sizes = {"x": first, "y": second, "a": of_a, "b": of_b}, sizes


def of_weights(found: Truth, name: str, asked: Asked) -> tuple[Array, Array]:
    """Gradients of one transport problem in its two weights; up to a constant where all marginals are fixed."""
    solved, (first, second) = found.parts[name], asked.penalties
    a, b, p, q = {
        "xy": (asked.a, asked.b, first, second),
        "xx": (asked.a, asked.a, first, first),
        "yy": (asked.b, asked.b, second, second),
    }[name]
    if asked.penalties == (FIXED, FIXED):
        return solved.f, solved.g
    sides = []
    P = solved.plan
    for penalty, w, h, sums, other in ((p, a, solved.f, P.sum(1), b), (q, b, solved.g, P.sum(0), a)):
        ratio = np.divide(sums, w, out=np.ones_like(w), where=w > 0)
        if penalty.kind == "tv" and not (w > 0).all():  # what mass would come with any weight
            C, potential = (found.costs[name], solved.g) if h is solved.f else (found.costs[name].T, solved.f)
            with np.errstate(divide="ignore", over="ignore"):
                softmins = -asked.epsilon * logsumexp((potential - C) / asked.epsilon + np.log(other), axis=1)
                ratio = np.where(w > 0, ratio, np.exp((h - softmins) / asked.epsilon))
        dual = -penalty.rho * np.expm1(-h / penalty.rho) if penalty.kind == "kl" else h
        sides.append(dual - asked.epsilon * (ratio - other.sum()))
    return sides[0], sides[1]


def marginal_error(C: Array, a: Array, b: Array, f: Array, g: Array, epsilon: float, penalties: Pair) -> float:
    """What the plan of potentials misses of the marginals that these ask for, relative to the mass transported."""
    rows, columns = a > 0, b > 0
    a, b, f, g, C = a[rows], b[columns], f[rows], g[columns], C[np.ix_(rows, columns)]
    with np.errstate(all="ignore"):
        P = a[:, None] * b * np.exp(np.minimum((f[:, None] + g - C) / epsilon, 700.0))
        total = 0.0
        for penalty, w, h, sums in ((penalties[0], a, f, P.sum(1)), (penalties[1], b, g, P.sum(0))):
            log_sums = np.log(sums / w)
            if penalty.kind == "kl":
                wanted = w * np.exp(-h / penalty.rho)
            elif penalty.kind == "tv":
                left = (h - penalty.within(h - epsilon * log_sums)) / epsilon
                wanted = w * np.exp(log_sums - left)
            else:
                wanted = w
            total += float(np.abs(wanted - sums).sum())
    fixed = all(penalty.kind == "fixed" for penalty in penalties)
    whole = 0.5 * float(a.sum() + b.sum())
    # Next to nothing is as good as nothing: its shares are rounding.
    return total / (whole if fixed or float(P.sum()) < 1e-9 * whole else float(P.sum()))


def norm(t: Array) -> float:
    return float(np.linalg.norm(t))


def largest(t: Array) -> float:
    return float(np.abs(t).max())
