"""Clouds drawn by hypothesis: few points, many of them degenerate on purpose, and what is compared with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.special import logsumexp

SCALES = (1.0, 1e-6, 1e-3, 1e3, 1e6)
BLURS = (1.0, 0.3, 0.1, 3.0)
SHAPES = ("random", "same", "collinear", "repeated", "clusters", "grid")
WEIGHTS = ("none", "equal", "decades", "zeros", "random")


@dataclass(frozen=True)
class Clouds:
    """Two weighted clouds in float64, and a blur in units of their size."""

    x: np.ndarray
    y: np.ndarray
    a: np.ndarray | None
    b: np.ndarray | None
    blur: float
    scale: float
    seed: int

    @property
    def all(self) -> tuple[Any, ...]:
        return self.x, self.y, self.a, self.b

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Those that are meant."""
        return tuple(np.full(len(p), 1.0 / len(p)) if w is None else w for p, w in ((self.x, self.a), (self.y, self.b)))

    @property
    def size(self) -> float:
        """ε and the largest squared distance: what values and their errors are compared with."""
        return 2.0 * self.blur**2 + float(squared(self.x, self.y).max())

    @property
    def random(self) -> np.random.Generator:
        """Numbers of a test's own."""
        return np.random.default_rng(self.seed + 1)

    def tensors(self, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        return tuple(None if array is None else torch.from_numpy(array).to(dtype) for array in self.all)

    def of(self, x: Any = None, y: Any = None, a: Any = None, b: Any = None) -> Clouds:
        """The same with some of the arrays replaced."""
        given = {name: value for name, value in dict(x=x, y=y, a=a, b=b).items() if value is not None}
        return replace(self, **given)


def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """‖x_i − y_j‖²."""
    return ((x[:, None] - y) ** 2).sum(-1)


def plan(clouds: Clouds, potentials: tuple[Any, Any]) -> np.ndarray:
    """a_i b_j exp((f_i + g_j − ‖x_i − y_j‖²)/ε), for masses of 1."""
    (a, b), (f, g) = clouds.weights, (np.asarray(p, dtype=np.float64) for p in potentials)
    exponent = (f[:, None] + g - squared(clouds.x, clouds.y)) / (2.0 * clouds.blur**2)
    return a[:, None] * b * np.exp(exponent)


def transformed(C: np.ndarray, g: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
    """−ε log Σ_j b_j exp((g_j − C_ij)/ε)."""
    return -epsilon * logsumexp((g - C) / epsilon, b=b, axis=1)


def _points(random: np.random.Generator, shape: str, n: int, dim: int) -> np.ndarray:
    if shape == "same":
        return np.tile(random.random(dim), (n, 1))
    if shape == "collinear":
        return random.random(dim) + random.random((n, 1)) * random.standard_normal(dim)
    if shape == "repeated":
        return random.random((max(1, n // 3), dim))[random.integers(max(1, n // 3), size=n)]
    if shape == "clusters":
        return random.integers(2, size=(n, 1)) + 0.05 * random.random((n, dim))
    if shape == "grid":
        return random.integers(4, size=(n, dim)) / 4.0
    return random.random((n, dim))


def _weights(random: np.random.Generator, kind: str, n: int) -> np.ndarray | None:
    if kind == "none":
        return None
    if kind == "equal":
        return np.full(n, 1.0 / n)
    w = 10.0 ** random.uniform(-6.0, 0.0, n) if kind == "decades" else random.uniform(0.1, 1.0, n)
    if kind == "zeros":
        w[random.random(n) < 0.4] = 0.0
        w[int(random.integers(n))] = 1.0
    return w / w.sum()


@st.composite
def clouds(
    draw: Any, most: int = 40, blurs: tuple[float, ...] = BLURS, scales: tuple[float, ...] = SCALES, least: int = 1,
    shapes: tuple[str, ...] = SHAPES, weights: tuple[str, ...] = WEIGHTS, dims: int = 5, equal: bool = False,
) -> Clouds:  # fmt: skip
    """Two clouds, which may have nothing or everything in common."""
    seed = draw(st.integers(0, 2**16))
    random = np.random.default_rng(seed)
    dim = draw(st.integers(1, dims))
    n = draw(st.integers(least, most))
    m = n if equal else draw(st.integers(least, most))
    x = _points(random, draw(st.sampled_from(shapes)), n, dim)
    y = _points(random, draw(st.sampled_from(shapes)), m, dim)
    together = draw(st.sampled_from(("apart", "near", "shared")))
    if together == "near":
        y = y + 0.1
    elif together == "shared":
        y[: min(n, m)] = x[: min(n, m)]
    a, b = (_weights(random, draw(st.sampled_from(weights)), k) for k in (n, m))
    scale = draw(st.sampled_from(scales))
    origin = draw(st.sampled_from((0.0, 1.0, 100.0)))
    x, y = (scale * (p + origin) for p in (x, y))
    return Clouds(x, y, a, b, scale * draw(st.sampled_from(blurs)), scale, seed)


small = clouds(most=12)
