"""Sums over blocks of cells: pairs that count for nothing are left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .. import engine
from ..costs import Cost
from ..engine import Gibbs
from ..solver import SAFE, FullSums, Penalty, residual
from .audit import Audit, Audited, audit
from .clouds import Cloud
from .truncation import Pattern, pattern

Slopes = Callable[[Tensor], Tensor]

SLACK = 4.0
"""What exponents may rise by before a pattern is rebuilt: it is built for a bound that much lower."""


class Side:
    """log Σ_j exp(u_i + v_j − C_ij/ε) for the rows of one cloud, over the points of another, in the callers' order.

    Points of a sketch count with the signs of their weights.

    Parameters
    ----------
    rows, columns : Cloud
    cost : Cost
        From rows to columns.
    slopes : pair of callables, or None
        About ε-scaled gradients of u and of v, shape (K, D) at points (K, D).
    skipped : float
        Share of a row's mass that truncation may leave out.
    engine_name : {"auto", "keops", "dense"}
    dtype : torch.dtype
        Of the sums.
    """

    def __init__(
        self, rows: Cloud, columns: Cloud, cost: Cost, slopes: tuple[Slopes, Slopes] | None, skipped: float,
        engine_name: str, dtype: torch.dtype,
    ):  # fmt: skip
        self.rows, self.columns, self.cost, self.skipped = rows, columns, cost, skipped
        x, y = rows.tree.measure.points, columns.tree.measure.points
        self.pair = engine.pair(x.to(dtype), y.to(dtype), cost, engine_name)
        signs = columns.measure.signs
        self._signs = None if signs is None else signs[columns.tree.order].to(dtype)[:, None]
        self.boxes = columns.boxes
        self._slopes = None
        if slopes is not None:
            self._slopes = slopes[0](rows.boxes.centre), slopes[1](self.boxes.centre)
        self._pattern: Pattern | None = None
        self._built_for: tuple[Tensor, Tensor] = (torch.zeros(0, device="cpu"), torch.zeros(0, device="cpu"))
        self.lost = 0.0

    @property
    def share(self) -> float:
        """Pairs of the last evaluation, of all pairs of points."""
        return self._pattern.share if self._pattern else 1.0

    def log_sums(self, u: Tensor, v: Tensor, epsilon: float) -> Tensor | None:
        """The sums, or None where signs give no positive ones."""
        u, v = u[self.rows.tree.order], v[self.columns.tree.order]
        dtype = self.pair.x.dtype
        rounded = u.to(dtype)
        if self._pattern is None:
            self._build(u, v, epsilon)
        for _ in range(3):
            assert self._pattern is not None
            K = Gibbs(self.pair, rounded, v.to(dtype), epsilon, self._pattern.blocks)
            sums = (K.row_sums() if self._signs is None else K.apply(self._signs)[:, 0]).double()
            log_sums = sums.log() + (u - rounded.double())
            # Exponents have drifted since the pattern was built, and the rows' mass is not 1.
            drift = (u - self._built_for[0]) + (v - self._built_for[1]).max() - log_sums
            lost = (self._pattern.bound * drift.clamp(max=700.0).exp()).max()
            safe = ((sums > 1 / SAFE[dtype]) & (sums < SAFE[dtype])).all()
            is_safe, self.lost = torch.stack((safe.double(), lost)).tolist()  # at once: a GPU is waited for
            if not is_safe:  # the pattern may be what left rows without sums
                break
            if self.lost <= self.skipped:
                return log_sums[self.rows.tree.rank]
            self._build(u - log_sums, v, epsilon)
        self._pattern, self.lost = None, 0.0  # all pairs are summed
        return None

    def products(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor) -> Tensor | None:
        """Σ_j exp(u_i + v_j − C_ij/ε) w_j for w (M, E), over the pairs of the last sums; None if there were none."""
        if self._pattern is None:
            return None
        u, v, w = u[self.rows.tree.order], v[self.columns.tree.order], w[self.columns.tree.order]
        dtype = self.pair.x.dtype
        K = Gibbs(self.pair, u.to(dtype), v.to(dtype), epsilon, self._pattern.blocks)
        return K.apply(w.to(dtype)).double()[self.rows.tree.rank]

    def _build(self, u: Tensor, v: Tensor, epsilon: float) -> None:
        self._pattern = pattern(
            self.rows.boxes, self.boxes, u, v, self._slopes, self.cost, epsilon,
            self.skipped * math.exp(-SLACK),
        )  # fmt: skip
        self._built_for = (u, v)


class Half(Protocol):
    """What `CellSums` asks of a `Side`, or of what does the same in another way."""

    lost: float

    @property
    def share(self) -> float: ...
    def log_sums(self, u: Tensor, v: Tensor, epsilon: float) -> Tensor | None: ...
    def products(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor) -> Tensor | None: ...


class CellSums:
    """Row and column sums of a problem by two `Side` objects, over all pairs where these give up.

    Implements `geomsink.solver.Sums`.
    """

    def __init__(self, full: FullSums, rows: Half, columns: Half):
        self.full, self.rows, self.columns = full, rows, columns

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        found = self.rows.log_sums(f / epsilon, g / epsilon + self.full.beta.log_weights, epsilon)
        return self.full.log_rows(f, g, epsilon) if found is None else found

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        found = self.columns.log_sums(g / epsilon, f / epsilon + self.full.alpha.log_weights, epsilon)
        return self.full.log_columns(f, g, epsilon) if found is None else found

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        found = self.rows.products(f / epsilon, g / epsilon, epsilon, self.full.beta.weights[:, None] * w)
        return self.full.row_products(f, g, epsilon, w) if found is None else found

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        found = self.columns.products(g / epsilon, f / epsilon, epsilon, self.full.alpha.weights[:, None] * w)
        return self.full.column_products(f, g, epsilon, w) if found is None else found

    @property
    def skipped(self) -> float:
        """Bound of what truncation adds to the marginal error."""
        return self.rows.lost + self.columns.lost

    def row_error(self, f: Tensor, g: Tensor, epsilon: float, penalty: Penalty) -> float:
        """About the rows' marginal error, from some of them."""
        full = self.full
        drawn, sums = Audited(full.alpha, full.beta, full.pair).sample(f, g, epsilon)
        return float(residual(penalty, f[drawn], sums, epsilon).clamp(max=50.0).expm1().abs().mean())

    def audit(self, f: Tensor, g: Tensor, log_rows: Tensor, log_columns: Tensor, epsilon: float) -> Audit:
        """See `geomsink.multiscale.audit.audit`."""
        full = self.full
        return audit(full.pair, (full.alpha, full.beta), (f, g), (log_rows, log_columns), epsilon)
