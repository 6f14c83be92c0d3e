"""Row and column sums of exp((f_i + g_j − C_ij)/ε), in logarithms: what a solver asks of a problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..engine import Gibbs, Pair
from ..measures import Measure

SAFE = {torch.float32: 1e30, torch.float64: 1e290}
"""Row sums outside of [1/SAFE, SAFE] are computed again with their maximum taken out."""


class Sums(Protocol):
    """log Σ_j b_j exp((f_i + g_j − C_ij)/ε) over rows i, and log Σ_i a_i exp(…) over columns j, in float64.

    Products have vectors w_j, shape (M, E), or w_i, shape (N, E), in the sum.
    """

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor: ...
    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor: ...
    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor: ...
    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Attempt:
    """Logarithms of sums, and what says whether they are right: on a GPU the host waits for what it reads, and reads
    this with other numbers.

    Attributes
    ----------
    log_sums : Tensor, shape (N,)
    extremes : tuple of Tensor, each of shape ()
    bounds : tuple of float
        The sums are right where each of these numbers is of this size at most.
    """

    log_sums: Tensor
    extremes: tuple[Tensor, ...] = ()
    bounds: tuple[float, ...] = ()

    def is_right(self, extremes: Sequence[float]) -> bool:
        """Whether they are, after the extremes were read; not, where one is NaN."""
        return all(abs(number) <= bound for number, bound in zip(extremes, self.bounds, strict=True))


def read(*numbers: Tensor) -> list[float]:
    """All numbers of some tensors, read at once."""
    found: list[float] = torch.cat([t.reshape(-1) for t in numbers]).tolist() if numbers else []
    return found


@dataclass(frozen=True)
class FullSums:
    """Sums over all pairs.

    Attributes
    ----------
    pair : Pair
        The points on an engine, in the working precision.
    alpha, beta : Measure
        Their weights.
    """

    pair: Pair
    alpha: Measure
    beta: Measure

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        return self._log_sums(0, f, g, epsilon)

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        return self._log_sums(1, f, g, epsilon)

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        pair, u, v = self._exponents(0, f, g, epsilon)
        return _products(pair, u, v, epsilon, _signed(self.beta, w))

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        pair, u, v = self._exponents(1, f, g, epsilon)
        return _products(pair, u, v, epsilon, _signed(self.alpha, w))

    def attempt(self, side: int, f: Tensor, g: Tensor, epsilon: float) -> Attempt:
        """`log_rows` (side 0) or `log_columns` (1), if all goes well."""
        return _attempt(*self._exponents(side, f, g, epsilon), epsilon, self._signs(side))

    def carefully(self, side: int, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        """The same where it has not: with the maxima taken out."""
        return _carefully(*self._exponents(side, f, g, epsilon), epsilon, self._signs(side))

    def _signs(self, side: int) -> Tensor | None:
        """Of what is summed over."""
        return (self.beta, self.alpha)[side].signs

    def _log_sums(self, side: int, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        found = self.attempt(side, f, g, epsilon)
        return found.log_sums if found.is_right(read(*found.extremes)) else self.carefully(side, f, g, epsilon)

    def _exponents(self, side: int, f: Tensor, g: Tensor, epsilon: float) -> tuple[Pair, Tensor, Tensor]:
        if side == 0:
            return self.pair, f / epsilon, self.beta.log_weights.add(g, alpha=1.0 / epsilon)
        return self.pair.T, g / epsilon, self.alpha.log_weights.add(f, alpha=1.0 / epsilon)


def _products(pair: Pair, u: Tensor, v: Tensor, epsilon: float, w: Tensor) -> Tensor:
    dtype = pair.x.dtype
    return Gibbs(pair, u.to(dtype), v.to(dtype), epsilon).apply(w.to(dtype)).double()


def _signed(measure: Measure, w: Tensor) -> Tensor:
    return w if measure.signs is None else measure.signs[:, None] * w


def log_sums(pair: Pair, u: Tensor, v: Tensor, epsilon: float, signs: Tensor | None = None) -> Tensor:
    """log Σ_j s_j exp(u_i + v_j − C_ij/ε) over all columns.

    Parameters
    ----------
    pair : Pair
        (N, D) against (M, D) points.
    u : Tensor, shape (N,)
    v : Tensor, shape (M,)
        float64; u may be far from the answer, which costs a second reduction.
    epsilon : float
    signs : Tensor, shape (M,), optional
        s; without them, 1.

    Returns
    -------
    Tensor, shape (N,)
        float64, with u's rounding to the working precision undone.
    """
    found = _attempt(pair, u, v, epsilon, signs)
    return found.log_sums if found.is_right(read(*found.extremes)) else _carefully(pair, u, v, epsilon, signs)


def _attempt(pair: Pair, u: Tensor, v: Tensor, epsilon: float, signs: Tensor | None) -> Attempt:
    dtype = pair.x.dtype
    rounded = u.to(dtype)
    logs = _sums(Gibbs(pair, rounded, v.to(dtype), epsilon), signs).double().log()
    most = math.log(SAFE[dtype])
    return Attempt(logs if rounded is u else logs + (u - rounded.double()), tuple(logs.aminmax()), (most, most))


def _sums(K: Gibbs, signs: Tensor | None) -> Tensor:
    return K.row_sums() if signs is None else K.apply(signs.to(K.v)[:, None])[:, 0]


def _carefully(pair: Pair, u: Tensor, v: Tensor, epsilon: float, signs: Tensor | None) -> Tensor:
    dtype = pair.x.dtype
    v = v.to(dtype)
    largest = Gibbs(pair, u.to(dtype), v, epsilon).row_max()
    sums = _sums(Gibbs(pair, -largest, v, epsilon), signs).double()
    return sums.log() + largest.double() + u


@dataclass(frozen=True)
class Approximation:
    """How sums over fewer than all pairs were made, and how far they are from sums over all.

    Attributes
    ----------
    levels : tuple of (int, int)
        Points of the two measures on each level, coarse to fine.
    share : float
        Pairs that one evaluation computes, of all N M.
    skipped : float
        Bound of what truncation does to the marginal error: no more than this share of the mass of the rows, and of
        the columns, is left out.
    nodes : tuple of (int, int)
        Points that stand for the two measures: all of them, where there is no sketch.
    negative : tuple of (float, float)
        Share of the mass that has negative weights in the two sketches.
    accuracy : float
        Share of the kernel that sketches may miss at a point; 0 without any.
    audit : float
        What sketches, truncation and rounding together were found to do to the marginal error, on rows and columns
        drawn at random and summed in full: the mean difference and three of its standard errors. Zero without
        sketches.
    audited : tuple of (bool, bool)
        Whether the points of the two measures were at hand: of a `geomsink.Sketch` only the nodes are, and the audit
        tells nothing of how well they stand for the cloud.
    """

    levels: tuple[tuple[int, int], ...]
    share: float
    skipped: float
    nodes: tuple[int, int]
    negative: tuple[float, float] = (0.0, 0.0)
    accuracy: float = 0.0
    audit: float = 0.0
    audited: tuple[bool, bool] = (True, True)
