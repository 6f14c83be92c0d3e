"""Random problems of every kind, each determined by a seed and an index alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from soak_clouds import Item, items_of
from soak_costs import Ground
from soak_dual import FIXED, Penalty

KINDS = {
    "plain": 3.0,
    "degenerate": 2.0,
    "clusters": 2.0,
    "weights": 2.0,
    "near": 2.0,
    "extremes": 2.0,
    "costs": 3.0,
    "penalties": 3.0,
    "batches": 1.5,
    "sharp": 1.5,
    "temperatures": 2.0,
    "levels": 1.0,
    "large": 0.4,
}
"""How often each is drawn."""


@dataclass(frozen=True)
class Drawn:
    """One problem.

    Attributes
    ----------
    items : list of Item
        Clouds and weights as they are given, in the caller's precision: one, or those of a batch.
    container : {"single", "tensor", "list"}
    function : {"solve", "sinkhorn_divergence"}
    options : dict
        Of the call, without the cost.
    penalties : pair of Penalty
    live : tuple of str
        Of "x", "y", "a", "b", those that gradients are taken in.
    """

    seed: int
    index: int
    kind: str
    items: list[Item]
    container: str
    torch: bool
    dtype: str
    function: str
    ground: Ground
    cost: str | None
    epsilon: float
    options: dict[str, Any]
    penalties: tuple[Penalty, Penalty] = (FIXED, FIXED)
    live: tuple[str, ...] = ()
    traits: dict[str, Any] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        return all(p.kind == "fixed" for p in self.penalties)

    @property
    def tol(self) -> float:
        return float(self.options.get("tol", 1e-3))

    @property
    def sharp(self) -> bool:
        return self.options.get("form") == "sharp"

    def describe(self) -> str:
        sizes = " ".join(f"{len(i.x)}x{len(i.y)}" for i in self.items[:3]) + (" ..." if len(self.items) > 3 else "")
        told = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in (self.options | self.traits).items()}
        about = ", ".join(f"{k} {v}" for k, v in told.items())
        kind = f"{self.ground.kind}{self.ground.numbers[0]:g}" if self.ground.kind == "power" else self.ground.kind
        where = f"{'torch' if self.torch else 'numpy'} {self.dtype} {self.container}"
        return f"{self.function} {sizes} D={self.items[0].x.shape[1]} {kind}, {where}, {about}"


def kind_of(seed: int, index: int) -> str:
    r = np.random.default_rng([seed, index])
    shares = np.array(list(KINDS.values()))
    return str(r.choice(list(KINDS), p=shares / shares.sum()))


def problem(seed: int, index: int) -> Drawn:
    """The one with that number."""
    kind, r = kind_of(seed, index), np.random.default_rng([seed, index, 1])
    function = "solve" if r.random() < 0.35 else "sinkhorn_divergence"
    dimension = int(r.choice([1, 2, 2, 3, 3, 4, 5, 8, 16, 31, 32, 50]))
    if kind == "levels" or (kind == "large" and r.random() < 0.7):
        dimension = int(r.integers(1, 5))
    ground, cost = costs(r, kind, dimension)
    if not ground.symmetric:
        function = "solve"
    dtype = "float32" if r.random() < (0.5 if kind == "large" else 0.25) else "float64"
    container = str(r.choice(["tensor", "list"])) if kind == "batches" else "single"
    unbalanced = kind == "penalties" or (kind in ("plain", "batches", "costs", "large") and r.random() < 0.1)
    items, traits = items_of(r, kind, dimension, ground, dtype, container, unbalanced)
    scale = scale_of(items, ground)
    epsilon, options = temperature(r, kind, ground, scale, unbalanced)
    penalties = (FIXED, FIXED)
    if unbalanced:
        penalties, given = marginals(r, ground, scale)
        options |= given
    if kind == "sharp":
        function, options["form"] = "sinkhorn_divergence", "sharp"
    if r.random() < 0.12:
        options["tol"] = 1e-6
    if kind == "levels":
        options["multiscale"] = True
    if r.random() < 0.2 and "form" not in options:
        options["certify"] = True
    as_torch = bool(r.random() < 0.65)
    wanted = as_torch and r.random() < 0.75 and epsilon < math.inf
    live = tuple(name for name in ("x", "y", "a", "b") if r.random() < 0.7) if wanted else ()
    if any(i.a is None for i in items):
        live = tuple(n for n in live if n != "a")
    if any(i.b is None for i in items):
        live = tuple(n for n in live if n != "b")
    return Drawn(
        seed, index, kind, items, container, as_torch, dtype, function, ground, cost, epsilon, options, penalties, live,
        traits,
    )  # fmt: skip


def costs(r: np.random.Generator, kind: str, dimension: int) -> tuple[Ground, str | None]:
    """A cost, and its name if it has one."""
    common = kind != "costs"
    pick = r.random()
    if common and pick < 0.65:
        return Ground("power", (2.0,), 2.0), "sqeuclidean"
    if common and pick < 0.85:
        return Ground("power", (1.0,), 1.0), "euclidean"
    if kind in ("large", "levels") and pick < 0.95:
        return Ground("power", (1.5,), 1.5), "power:1.5"
    which = r.choice(["power", "mahalanobis", "cosine", "geodesic", "features", "manhattan", "dot", "sloped", "matrix"])
    if which == "power":
        p = float(r.choice([0.3, 0.5, 1.2, 1.5, 1.9]))
        return Ground("power", (p,), p), f"power:{p:g}"
    if which == "mahalanobis":
        w = np.round(np.exp(r.normal(size=dimension)), 3) + 0.01
        return Ground("mahalanobis", (w,), 2.0), "mahalanobis:" + ",".join(repr(float(v)) for v in w)
    if which == "matrix":
        B = r.normal(size=(dimension, dimension))
        return Ground("mahalanobis", (B @ B.T / dimension + 0.1 * np.eye(dimension),), 2.0), None
    if which in ("cosine", "geodesic"):
        return Ground(str(which), (), 1.0 if which == "geodesic" else None), str(which)
    if which == "features":
        return Ground("features", (r.normal(size=(int(r.integers(1, 9)), dimension)), r.normal()), 2.0), None
    if which == "sloped":
        return Ground("sloped", (1.0, float(r.choice([0.2, 0.5]))), None), None
    return Ground(str(which), (), 1.0 if which == "manhattan" else None), None


def scale_of(items: list[Item], ground: Ground) -> float:
    """About the cost between two points."""
    x, y = (np.asarray(c[:200], np.float64) for c in (items[0].x, items[0].y))
    C = ground.matrix(x, y)
    spread = float(np.median(np.abs(C - np.median(C)))) or float(np.ptp(C)) or float(np.abs(C).max())
    return spread or 1.0


def temperature(
    r: np.random.Generator, kind: str, ground: Ground, scale: float, unbalanced: bool
) -> tuple[float, dict[str, Any]]:
    """ε, and how it is given."""
    low, high = {"temperatures": (-9.0, 9.5), "large": (-3.5, 1.0), "levels": (-4.0, 2.0)}.get(kind, (-5.0, 2.5))
    if unbalanced:
        low, high = max(low, -4.0), min(high, 2.5)
    middle = kind != "temperatures" and r.random() < 0.6
    exponent = r.uniform(max(low, -3.0), min(high, 1.0)) if middle else r.uniform(low, high)
    if kind == "temperatures" and r.random() < 0.05:
        return math.inf, {"epsilon": math.inf}
    epsilon = float(scale * 10.0**exponent)
    if ground.degree is None or r.random() < 0.3:
        return epsilon, {"epsilon": epsilon}
    blur = float((epsilon / ground.degree) ** (1.0 / ground.degree))
    if not (0 < blur < math.inf) or not 0 < ground.degree * blur**ground.degree < math.inf:
        return epsilon, {"epsilon": epsilon}
    return float(ground.degree * blur**ground.degree), {"blur": blur}


def marginals(r: np.random.Generator, ground: Ground, scale: float) -> tuple[tuple[Penalty, Penalty], dict[str, Any]]:
    """Penalties, and how they are given."""
    kind = "kl" if r.random() < 0.7 else "tv"
    rhos = [float(scale * 10.0 ** r.uniform(-1.5, 2.5)) for _ in range(2)]
    if r.random() < 0.6:
        rhos[1] = rhos[0]
    by_length = ground.degree is not None and r.random() < 0.5
    given = rhos
    if by_length and ground.degree is not None:
        given = [float((rho / ground.degree) ** (1.0 / ground.degree)) for rho in rhos]
        rhos = [float(ground.degree * reach**ground.degree) for reach in given]
    made: list[Penalty] = [Penalty(kind, rho) for rho in rhos]
    argument: Any = tuple(given)
    if given[0] == given[1]:
        argument = given[0]
    sided = r.random()
    if sided < 0.12:
        made[0], argument = FIXED, (None, given[1])
    elif sided < 0.24:
        made[1], argument = FIXED, (given[0], None)
    options: dict[str, Any] = {"reach" if by_length else "rho": argument}
    if kind == "tv":
        options["penalty"] = "tv"
    return (made[0], made[1]), options
