"""Row and column sums of exp((f_i + g_j − C_ij)/ε), in logarithms: what a solver asks of a problem."""

from __future__ import annotations

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
        return log_sums(self.pair, f / epsilon, g / epsilon + self.beta.log_weights, epsilon)

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        return log_sums(self.pair.T, g / epsilon, f / epsilon + self.alpha.log_weights, epsilon)

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        return _products(self.pair, f / epsilon, g / epsilon + self.beta.log_weights, epsilon, w)

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        return _products(self.pair.T, g / epsilon, f / epsilon + self.alpha.log_weights, epsilon, w)


def _products(pair: Pair, u: Tensor, v: Tensor, epsilon: float, w: Tensor) -> Tensor:
    dtype = pair.x.dtype
    return Gibbs(pair, u.to(dtype), v.to(dtype), epsilon).apply(w.to(dtype)).double()


def log_sums(pair: Pair, u: Tensor, v: Tensor, epsilon: float) -> Tensor:
    """log Σ_j exp(u_i + v_j − C_ij/ε) over all columns.

    Parameters
    ----------
    pair : Pair
        (N, D) against (M, D) points.
    u : Tensor, shape (N,)
    v : Tensor, shape (M,)
        float64; u may be far from the answer, which costs a second reduction.
    epsilon : float

    Returns
    -------
    Tensor, shape (N,)
        float64, with u's rounding to the working precision undone.
    """
    dtype = pair.x.dtype
    rounded, v = u.to(dtype), v.to(dtype)
    sums = Gibbs(pair, rounded, v, epsilon).row_sums().double()
    if bool(((sums > 1 / SAFE[dtype]) & (sums < SAFE[dtype])).all()):
        return sums.log() + (u - rounded.double())
    largest = Gibbs(pair, rounded, v, epsilon).row_max()
    sums = Gibbs(pair, -largest, v, epsilon).row_sums().double()
    return sums.log() + largest.double() + u


@dataclass(frozen=True)
class Approximation:
    """How sums over fewer than all pairs were made, and how far they are from sums over all.

    Attributes
    ----------
    levels : tuple of (int, int)
        Points of the two measures on each level, coarse to fine.
    share : float
        Pairs that one evaluation of the finest level computes, of all N M.
    skipped : float
        Bound of what truncation does to the marginal error: no more than this share of the mass of the rows, and of
        the columns, is left out.
    sources : tuple of (int, int)
        Points that the rows, and the columns, are summed over: stand-ins included, where cells have some.
    audit : float
        What stand-ins, truncation and rounding together were found to do to the marginal error, on rows and
        columns drawn at random and summed in full: the mean difference and three of its standard errors. Zero
        if there are no stand-ins.
    """

    levels: tuple[tuple[int, int], ...]
    share: float
    skipped: float
    sources: tuple[int, int]
    audit: float
