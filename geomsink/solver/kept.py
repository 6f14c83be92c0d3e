"""Sums over all pairs with a kernel that is kept: products of a matrix and scalings take the place of exponentials.

exp((f + g − C)/ε) = diag(e^{(f − f₀)/ε}) K diag(e^{(g − g₀)/ε}) with K made once, at potentials f₀ and g₀, and again
when the scalings have grown too far: absorbed into the potentials (Schmitzer 2019, arXiv:1610.06519).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..engine import Gibbs, matrix
from .sums import Attempt, FullSums, log_sums, read

NEAR = 50.0
"""Exponents of scalings, at most. What underflows in K is less than 1e-264 then, even where a scaling is e¹⁰⁰."""
CLEAR = 1e-150
"""Sums outside of [CLEAR, 1/CLEAR] may have lost such entries, and are computed again without the kernel."""


@dataclass(frozen=True)
class Kernel:
    """K_ij = exp((f_i + g_j − C_ij)/ε) without weights.

    Attributes
    ----------
    entries : Tensor, shape (..., N, M); or a scipy.sparse matrix
    f, g : Tensor, shapes (..., N) and (..., M)
        Potentials that are absorbed in it.
    epsilon : float
    """

    entries: Any
    f: Tensor
    g: Tensor
    epsilon: float

    def scalings(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Exponents (f − f₀)/ε and (g − g₀)/ε."""
        return (f - self.f) / self.epsilon, (g - self.g) / self.epsilon


@dataclass(frozen=True, eq=False)
class KeptSums(FullSums):
    """`FullSums` of a small problem in float64, which keeps the kernel of the last temperature."""

    _kept: list[Kernel] = field(default_factory=list, repr=False)

    def kernel(self, f: Tensor, g: Tensor, epsilon: float, near: float = NEAR) -> Kernel:
        """One that leaves potentials exponents up to ``near``: the last one, or a new one in its memory."""
        kept = self._last(epsilon)
        if kept is not None and all(abs(number) <= near for number in read(*_extremes(*kept.scalings(f, g)))):
            return kept
        memory = self._kept.pop().entries if self._kept else None
        entries = matrix(Gibbs(self.pair, f / epsilon, g / epsilon, epsilon), memory)
        self._kept.append(Kernel(entries, f, g, epsilon))
        return self._kept[0]

    def attempt(self, side: int, f: Tensor, g: Tensor, epsilon: float) -> Attempt:
        kernel = self._last(epsilon) or self.kernel(f, g, epsilon)
        du, dv = kernel.scalings(f, g)
        if side == 0:
            logs, own = _times(kernel.entries, self.beta.weights * dv.exp()).log(), du
        else:
            logs, own = _times(kernel.entries.mT, self.alpha.weights * du.exp()).log(), dv
        most = -math.log(CLEAR)
        return Attempt(logs + own, _extremes(logs, du, dv), (most, most, NEAR, NEAR, NEAR, NEAR))

    def carefully(self, side: int, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        self.kernel(f, g, epsilon)  # a new one, where potentials have gone too far from the last
        found = self.attempt(side, f, g, epsilon)
        if found.is_right(read(*found.extremes)):
            return found.log_sums
        return log_sums(*self._exponents(side, f, g, epsilon), epsilon)

    def _last(self, epsilon: float) -> Kernel | None:
        return self._kept[0] if self._kept and self._kept[0].epsilon == epsilon else None

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        kernel = self.kernel(f, g, epsilon)
        du, dv = kernel.scalings(f, g)
        products = kernel.entries @ ((self.beta.weights * dv.exp())[..., None] * w) * du.exp()[..., None]
        return products if bool(products.isfinite().all()) else super().row_products(f, g, epsilon, w)

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        kernel = self.kernel(f, g, epsilon)
        du, dv = kernel.scalings(f, g)
        products = kernel.entries.mT @ ((self.alpha.weights * du.exp())[..., None] * w) * dv.exp()[..., None]
        return products if bool(products.isfinite().all()) else super().column_products(f, g, epsilon, w)


def _extremes(*vectors: Tensor) -> tuple[Tensor, ...]:
    return tuple(extreme for vector in vectors for extreme in vector.aminmax())


def _times(entries: Tensor, w: Tensor) -> Tensor:
    return (entries @ w[..., None])[..., 0]
