"""Ground costs of the soak in numpy: matrices, and what a plan pulls its points by. Nothing here is the package's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray
PRODUCTS = 32
"""Coordinates from which on squared distances are ‖x‖² + ‖y‖² − 2⟨x, y⟩."""
EXTENDED = 2**22
"""Differences, pairs times coordinates, up to which costs of directions are computed in extended precision."""


@dataclass(frozen=True)
class Ground:
    """A cost c(x, y) of one of the kinds below.

    Attributes
    ----------
    kind : str
    numbers : tuple
        Of the kind: an exponent, weights or a matrix A, the two slopes, the matrix of an affine map and its shift.
    degree : float or None
        p if the cost is the p-th power of a length.
    """

    kind: str
    numbers: tuple[Any, ...] = ()
    degree: float | None = None

    @property
    def symmetric(self) -> bool:
        return self.kind != "sloped"

    @property
    def shifts(self) -> bool:
        """Whether c(x + t, y + t) = c(x, y), so that far offsets do no harm."""
        return self.kind in ("power", "mahalanobis", "manhattan", "sloped")

    @property
    def scales(self) -> bool:
        """Whether costs grow with the points, and not only with their directions."""
        return self.kind not in ("cosine", "geodesic")

    def transposed(self) -> Ground:
        return replace(self, numbers=self.numbers[::-1]) if self.kind == "sloped" else self

    def rounding(self, largest: float, x: Array, y: Array) -> float:
        """What rounding of features does to costs up to the largest; or of squares, where squared distances are made of
        them."""
        if self.kind == "power" and self.numbers[0] == 2.0 and x.shape[1] >= PRODUCTS:
            middle = np.concatenate((x, y)).mean(0)
            return 8e-16 * max(float(((points - middle) ** 2).sum(1).max()) for points in (x, y))
        if self.kind == "features":
            W, shift = self.numbers
            size = max(float(np.linalg.norm(points @ W.T + shift, axis=1).max()) for points in (x, y))
            return float(8e-16 * size * np.sqrt(largest))
        return {"cosine": 8e-16 * float(np.sqrt(largest)), "geodesic": 8e-16}.get(self.kind, 0.0)

    def matrix(self, x: Array, y: Array) -> Array:
        """C, in float64, from float64 points."""
        if self.kind in ("cosine", "geodesic"):
            wide = np.longdouble if len(x) * len(y) * x.shape[1] <= EXTENDED else np.float64
            u, v = directions(x.astype(wide)), directions(y.astype(wide))
            chord = squares(u, v)
            if self.kind == "cosine":
                return (0.5 * chord).astype(np.float64)
            return (2.0 * np.arctan2(np.sqrt(chord), np.sqrt(squares(u, -v)))).astype(np.float64)
        if self.kind == "power":
            half = 0.5 * self.numbers[0]
            found = squares(x, y)
            return found if half == 1.0 else found**half
        if self.kind == "mahalanobis":
            A = np.asarray(self.numbers[0])
            A = np.diag(A) if A.ndim == 1 else A
            total = np.zeros((len(x), len(y)))
            L = np.linalg.cholesky(A)
            for k in range(L.shape[1]):
                part = sum(L[i, k] * (x[:, i, None] - y[None, :, i]) for i in range(L.shape[0]) if L[i, k])
                total += part**2
            return total
        if self.kind == "features":
            W, shift = self.numbers
            return squares(x @ W.T + shift, y @ W.T + shift)
        total = np.zeros((len(x), len(y)))
        for k in range(x.shape[1]):
            d = x[:, k, None] - y[None, :, k]
            if self.kind == "manhattan":
                total += np.abs(d)
            elif self.kind == "dot":
                total -= x[:, k, None] * y[None, :, k]
            else:
                total += self.numbers[0] * np.maximum(d, 0.0) + self.numbers[1] * np.maximum(-d, 0.0)
        return total

    def lost(self, P: Array, x: Array, y: Array, rounding: float) -> float:
        """Norm of what `pull` may be off by where points are rounded so: shorter distances have no direction,
        and what is orthogonal to a point is a difference."""
        if self.kind in ("cosine", "geodesic"):
            return rounding * float(np.linalg.norm(P.sum(1) / np.linalg.norm(x, axis=1)))
        if self.kind != "power" or self.numbers[0] >= 2.0:
            return 0.0
        p, d = self.numbers[0], np.sqrt(squares(x, y))
        slopes = p * np.where(d > 0, d, 1.0) ** (p - 1.0) * (d > 0)
        extent = rounding * max(float(np.ptp(np.concatenate((x, y)), axis=0).max()), 1e-300)
        return float(np.linalg.norm((P * slopes * np.minimum(1.0, extent / np.maximum(d, 1e-300))).sum(1)))

    def pull(self, P: Array, x: Array, y: Array) -> Array:
        """Σ_j P_ij ∂c(x_i, y_j)/∂x_i; 0 where a distance is none."""
        if self.kind in ("cosine", "geodesic"):
            u, v = directions(x), directions(y)
            if self.kind == "geodesic":
                chord, other = squares(u, v), squares(u, -v)
                sine = 0.5 * np.sqrt(chord * other)
                P = np.divide(P, sine, out=np.zeros_like(P), where=sine > 0)
            moved = weighted_differences(P, u, v)
            moved -= (moved * u).sum(1, keepdims=True) * u
            return moved / np.linalg.norm(x, axis=1, keepdims=True)
        if self.kind == "power":
            p = self.numbers[0]
            d = squares(x, y)
            W = P * p * np.where(d > 0, d, 1.0) ** (0.5 * p - 1.0) * (d > 0)
            return weighted_differences(W, x, y)
        if self.kind == "mahalanobis":
            A = np.asarray(self.numbers[0])
            moved = 2.0 * weighted_differences(P, x, y)
            return moved * A if A.ndim == 1 else moved @ A
        if self.kind == "features":
            W, shift = self.numbers
            return 2.0 * weighted_differences(P, x @ W.T + shift, y @ W.T + shift) @ W
        if self.kind == "dot":
            return -P @ y
        up, down = (1.0, 1.0) if self.kind == "manhattan" else self.numbers
        found = np.zeros(x.shape)
        for k in range(x.shape[1]):
            d = x[:, k, None] - y[None, :, k]
            found[:, k] = (P * (up * (d > 0) - down * (d < 0))).sum(1)
        return found


def directions(x: Array) -> Array:
    return x / np.sqrt((x * x).sum(1, keepdims=True))


def squares(x: Array, y: Array) -> Array:
    """‖x_i − y_j‖², from differences."""
    total = np.zeros((len(x), len(y)), x.dtype)
    for k in range(x.shape[1]):
        total += (x[:, k, None] - y[None, :, k]) ** 2
    return total


def weighted_differences(W: Array, x: Array, y: Array) -> Array:
    """Σ_j W_ij (x_i − y_j)."""
    found = np.zeros(x.shape)
    for k in range(x.shape[1]):
        found[:, k] = (W * (x[:, k, None] - y[None, :, k])).sum(1)
    return found
