"""Clouds and weights of the soak: random, degenerate, far apart, nearly the same, on scales from 1e-20 to 1e20."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from soak_costs import Ground

Array = np.ndarray


@dataclass(frozen=True)
class Item:
    """Two clouds and their weights; None are equal ones."""

    x: Array
    y: Array
    a: Array | None
    b: Array | None


def cast(t: Array | None, dtype: str) -> Array | None:
    return None if t is None else np.ascontiguousarray(t.astype(dtype))


def items_of(
    r: np.random.Generator, kind: str, dimension: int, ground: Ground, dtype: str, container: str, unbalanced: bool
) -> tuple[list[Item], dict[str, Any]]:
    """Of a problem, and what is to be said of them."""
    many = 1 if container == "single" else int(r.integers(1, 6))
    sizes = [size(r, kind) for _ in range(many)]
    if container == "tensor":
        n, m = sizes[0]
        sizes = [(n, n if r.random() < 0.4 else m)] * many
    traits: dict[str, Any] = {}
    weighted = str(r.choice(["equal", "random", "zeros", "dominant", "decades", "light"]))
    if kind in ("plain", "near", "large") and r.random() < 0.5:
        weighted = "equal"
    if container != "single" and weighted == "equal":
        weighted = "random"
    equal = container == "single" and weighted == "equal"
    mass = 1.0 if kind == "temperatures" or r.random() < 0.8 or equal else float(10.0 ** r.uniform(-3, 3))
    low, high = (-20.0, 20.0) if dtype == "float64" else (-14.0, 14.0)
    exponent = r.uniform(low, high) if kind == "extremes" else (r.uniform(-3, 3) if r.random() < 0.2 else 0.0)
    far = 10.0 ** r.uniform(0, 8 if dtype == "float64" else 4) if kind == "extremes" and r.random() < 0.5 else 0.0
    if not ground.scales or ground.kind == "features":
        exponent = float(np.clip(exponent, -3, 3))
    if not ground.shifts:
        far = min(far, 1.0)
    shape = str(r.choice(["normal", "cube", "line", "grid", "shells"], p=[0.35, 0.35, 0.1, 0.1, 0.1]))
    made = []
    for n, m in sizes:
        x, y, a, b = clouds(r, kind, shape, n, m, dimension)
        if weighted != "equal" or a is not None:
            a = weights(r, weighted, len(x), a)
            b = a.copy() if kind == "near" and len(x) == len(y) else weights(r, weighted, len(y), b)
            masses = mass, mass * (float(10.0 ** r.uniform(-1.5, 1.5)) if unbalanced and r.random() < 0.7 else 1.0)
            a, b = a * (masses[0] / a.sum()), b * (masses[1] / b.sum())
        extent = float(np.ptp(np.concatenate((x, y)), axis=0).max()) or 1.0
        shift = far * extent * r.normal(size=dimension)
        x, y = (x + shift) * 10.0**exponent, (y + shift) * 10.0**exponent
        if dtype == "float32" and a is not None and b is not None:
            a, b = a.astype(np.float32), b.astype(np.float32)
        fixed = [cast(t, dtype) for t in (x, y, a, b)]
        assert fixed[0] is not None and fixed[1] is not None
        made.append(Item(fixed[0], fixed[1], fixed[2], fixed[3]))
    traits["shape"], traits["weights"] = shape, weighted
    traits |= {} if mass == 1.0 else {"mass": mass}
    traits |= {} if exponent == 0.0 else {"scale": 10.0**exponent}
    traits |= {} if far == 0.0 else {"offset": far}
    return made, traits


def size(r: np.random.Generator, kind: str) -> tuple[int, int]:
    """Points of the two clouds."""
    if kind == "large":
        n, m = (int(v) for v in r.integers(1030, 2500, size=2))
        return n, m
    most = 300 if r.random() < 0.15 else 80
    least = 20 if kind == "levels" else 1
    n, m = (int(np.exp(r.uniform(np.log(least), np.log(most)))) for _ in range(2))
    if kind != "batches" and r.random() < 0.5:
        n, m = max(n, int(r.integers(8, 40))), max(m, int(r.integers(8, 40)))
    return n, m


def points(r: np.random.Generator, shape: str, n: int, dimension: int) -> Array:
    if shape == "normal":
        return r.normal(size=(n, dimension))
    if shape == "cube":
        return r.random((n, dimension))
    if shape == "line":
        return r.random((n, 1)) * np.linspace(1.0, 2.0, dimension) + 0.1
    if shape == "grid":
        return np.round(r.random((n, dimension)) * 4.0) / 4.0 + 0.125
    v = r.normal(size=(n, dimension))
    return v / np.linalg.norm(v, axis=1, keepdims=True) * r.choice([0.5, 1.0], size=(n, 1))


def clouds(
    r: np.random.Generator, kind: str, shape: str, n: int, m: int, dimension: int
) -> tuple[Array, Array, Array | None, Array | None]:
    """Two clouds, and weights where these matter."""
    if kind == "clusters":
        return clusters(r, shape, n, m, dimension)
    x = points(r, shape, n, dimension)
    often = kind in ("sharp", "levels", "penalties", "large") or (kind == "batches" and n == m)
    if kind == "near" or (often and r.random() < 0.2):
        if kind == "near" and r.random() < 0.15:
            return x, x.copy(), None, None
        y = x + 10.0 ** r.uniform(-9, -0.5) * r.normal(size=x.shape)
        return x, y, None, None
    y = points(r, shape, m, dimension)
    if r.random() < 0.6:
        y = y * r.uniform(0.5, 1.5) + 0.3 * r.normal(size=dimension)
    if kind == "degenerate":
        which = r.random()
        if which < 0.4:  # duplicated, within the clouds and between
            x = x[r.integers(0, max(1, n // 3), size=n)]
            y = np.concatenate((x[: m // 2], y))[:m]
        elif which < 0.6:
            y = np.repeat(y[:1], m, 0)
        elif which < 0.8:
            x, y = x * np.array([1.0] + [1e-12] * (dimension - 1)), y * np.array([1.0] + [1e-12] * (dimension - 1))
        else:
            y = np.concatenate((x, y))[:m]
    if kind == "weights" and r.random() < 0.6:  # light outliers
        x[: max(1, n // 8)] += 10.0 ** r.uniform(0, 3) * r.normal(size=dimension)
        return x, y, outliers(r, n), None
    return x, y, None, None


def outliers(r: np.random.Generator, n: int) -> Array:
    a = r.exponential(size=n) + 1e-3
    a[: max(1, n // 8)] *= 10.0 ** r.uniform(-12, -2)
    return a


def clusters(
    r: np.random.Generator, shape: str, n: int, m: int, dimension: int
) -> tuple[Array, Array, Array | None, Array | None]:
    """Far apart, of masses that differ a little between the clouds."""
    k = int(r.integers(2, 5))
    n, m = max(n, 2 * k), max(m, 2 * k)
    centres = 10.0 ** r.uniform(0.3, 4) * r.normal(size=(k, dimension))
    clouds_, labels = [], []
    for size_ in (n, m):
        label = np.concatenate((np.arange(k), r.integers(0, k, size=size_ - k)))
        clouds_.append(points(r, shape, size_, dimension) + centres[label])
        labels.append(label)
    masses = r.dirichlet(np.full(k, 3.0)) + 0.02
    moved = masses * (1.0 + 10.0 ** r.uniform(-6, -1) * r.normal(size=k).clip(-1, 1) * (r.random() < 0.85))
    weights_ = []
    for label, total in zip(labels, (masses, np.abs(moved)), strict=True):
        w = r.exponential(size=len(label)) + 0.05
        sums = np.bincount(label, w, minlength=k)
        weights_.append(w * (total / sums)[label])
    return clouds_[0], clouds_[1], weights_[0], weights_[1]


def weights(r: np.random.Generator, kind: str, n: int, given: Array | None) -> Array:
    """Positive somewhere."""
    if given is not None:
        return given.copy()
    w = r.exponential(size=n) + 1e-3
    if kind == "equal":
        return np.ones(n)
    if kind == "zeros":
        w[r.random(n) < r.uniform(0.1, 0.8)] = 0.0
        w[r.integers(0, n)] = 1.0
    if kind == "dominant":
        w *= 10.0 ** r.uniform(-10, -2) / w.sum()
        w[r.integers(0, n)] = 1.0
    if kind == "decades":
        w = 10.0 ** r.uniform(-8, 0, size=n)
    if kind == "light":
        w[: max(1, n // 6)] *= 10.0 ** r.uniform(-9, -3)
    return w
