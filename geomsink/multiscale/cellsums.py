"""Sums over blocks of cells: pairs that count for nothing are left out, and cells have stand-ins where they can."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import engine
from ..costs import Cost
from ..engine import Gibbs
from ..measures import Measure
from ..solver import SAFE, FullSums, Penalty, log_sums, residual
from .standins import Bases, Slopes, StandIns
from .tree import Tree
from .truncation import BLOCK, Boxes, Pattern, pattern

Found = TypeVar("Found")

SLACK = 4.0
"""What exponents may rise by before a pattern is rebuilt: it is built for a bound that much lower."""
FEW = 8
"""Points of a small box, at least."""
KEOPS_BLOCK = 192
"""Of a box on a GPU where KeOps sums, about: it has as many threads for a block of rows."""
AUDITED = 1024
"""Rows, and columns, that are summed in full to see how far the others are off."""


class Cloud:
    """One measure, prepared: its tree, its boxes and its stand-ins, shared by the problems that it is part of."""

    def __init__(self, measure: Measure, cost: Cost, epsilon: float):
        self.measure, self.cost, self.epsilon = measure, cost, epsilon
        self._bases: dict[float, Bases] = {}
        self._found = dict[Hashable, Any]()

    def once(self, name: Hashable, find: Callable[[], Found]) -> Found:
        """What is asked of a cloud for each of the problems that it is part of."""
        if name not in self._found:
            self._found[name] = find()
        found: Found = self._found[name]
        return found

    @cached_property
    def tree(self) -> Tree:
        return Tree.of(self.measure)

    @cached_property
    def boxes(self) -> Boxes:
        points = self.tree.measure.points
        compiled = points.is_cuda and self.cost.quadratic is None
        return Boxes.of(points, KEOPS_BLOCK if compiled else BLOCK)

    @cached_property
    def small_boxes(self) -> Boxes:
        """Around few points each, for what is not summed by the engine."""
        return Boxes.of(self.tree.measure.points, FEW)

    def sources(self, accuracy: float, v: Tensor, slopes: Slopes | None) -> StandIns:
        """What others sum over, with exponents about v; without accuracy or a Gaussian kernel, the points."""
        if self.cost.quadratic is None or slopes is None or accuracy == 0.0:
            return StandIns.none(self.tree.measure.points)
        sigma = math.sqrt(0.5 * self.epsilon / self.cost.quadratic)
        if accuracy not in self._bases:
            self._bases = {accuracy: Bases(self.tree, sigma, accuracy)}
        return StandIns.of(self._bases[accuracy], v[self.tree.order], slopes)


@dataclass(frozen=True)
class Audit:
    """What sums were found to be off by, relative to their sizes of 1.

    Attributes
    ----------
    off : float
        The mean absolute difference from full sums, and three standard errors.
    missing, uncertain : float
        The mean of full sums less claimed ones, and three standard errors of it.
    square : float
        The mean squared difference.
    """

    off: float = 0.0
    missing: float = 0.0
    uncertain: float = 0.0
    square: float = 0.0


class Side:
    """log Σ_j exp(u_i + v_j − C_ij/ε) for the rows of one cloud, over the sources of another, in the callers' order.

    Parameters
    ----------
    rows, columns : Cloud
    cost : Cost
        From rows to columns.
    slopes : pair of callables, or None
        About ε-scaled gradients of u and of v, shape (K, D) at points (K, D).
    skipped : float
        Share of a row's mass that truncation may leave out.
    accuracy : float
        Of stand-ins; 0 for none.
    """

    def __init__(
        self, rows: Cloud, columns: Cloud, cost: Cost, slopes: tuple[Slopes, Slopes] | None, skipped: float,
        accuracy: float, v: Tensor, engine_name: str, dtype: torch.dtype,
    ):  # fmt: skip
        self.rows, self.columns, self.cost, self.skipped = rows, columns, cost, skipped
        self.sources = columns.sources(accuracy, v, slopes[1] if slopes else None)
        targets = columns.tree.measure.points[self.sources.index]
        self.pair = engine.pair(rows.tree.measure.points.to(dtype), targets.to(dtype), cost, engine_name)
        self.boxes = columns.boxes if self.sources.are_points else Boxes.of(targets)
        self._engine = engine_name
        self._slopes = None
        if slopes is not None:
            self._slopes = slopes[0](rows.boxes.centre), slopes[1](self.boxes.centre)
        self._pattern: Pattern | None = None
        self._built_for: tuple[Tensor, Tensor] = (torch.zeros(0, device="cpu"), torch.zeros(0, device="cpu"))
        self.lost = 0.0

    @property
    def share(self) -> float:
        """Pairs of the last evaluation, of all pairs of points."""
        sparse = self._pattern.share if self._pattern else 1.0
        return sparse * len(self.sources) / len(self.columns.tree)

    def log_sums(self, u: Tensor, v: Tensor, epsilon: float) -> Tensor | None:
        """The sums, or None where stand-ins give no positive ones."""
        u, v = u[self.rows.tree.order], v[self.columns.tree.order]
        factors = None
        if not self.sources.are_points:
            v, spread = self.sources.spread(v)
            factors = spread[:, 0]
        sizes = v if factors is None else v + factors.abs().clamp(min=1e-300).log()
        dtype = self.pair.x.dtype
        rounded = u.to(dtype)
        if self._pattern is None:
            self._build(u, sizes, epsilon)
        for _ in range(3):
            assert self._pattern is not None
            K = Gibbs(self.pair, rounded, v.to(dtype), epsilon, self._pattern.blocks)
            sums = (K.row_sums() if factors is None else K.apply(factors.to(dtype)[:, None])[:, 0]).double()
            log_sums = sums.log() + (u - rounded.double())
            # Exponents have drifted since the pattern was built, and the rows' mass is not 1.
            drift = (u - self._built_for[0]) + (sizes - self._built_for[1]).max() - log_sums
            lost = (self._pattern.bound * drift.clamp(max=700.0).exp()).max()
            safe = ((sums > 1 / SAFE[dtype]) & (sums < SAFE[dtype])).all()
            is_safe, self.lost = torch.stack((safe.double(), lost)).tolist()  # at once: a GPU is waited for
            if not is_safe:
                self._pattern = None  # it may be what left rows without sums
                return None
            if self.lost <= self.skipped:
                return log_sums[self.rows.tree.rank]
            self._build(u - log_sums, sizes, epsilon)
        return None

    def products(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor) -> Tensor | None:
        """Σ_j exp(u_i + v_j − C_ij/ε) w_j for w (M, E), over the pairs of the last sums; None if there were none."""
        if self._pattern is None:
            return None
        u, v, w = u[self.rows.tree.order], v[self.columns.tree.order], w[self.columns.tree.order]
        if not self.sources.are_points:
            v, w = self.sources.spread(v, w)
        dtype = self.pair.x.dtype
        K = Gibbs(self.pair, u.to(dtype), v.to(dtype), epsilon, self._pattern.blocks)
        return K.apply(w.to(dtype)).double()[self.rows.tree.rank]

    def _build(self, u: Tensor, sizes: Tensor, epsilon: float) -> None:
        self._pattern = pattern(
            self.rows.boxes, self.boxes, u, sizes, self._slopes, self.cost, epsilon,
            self.skipped * math.exp(-SLACK),
        )  # fmt: skip
        self._built_for = (u, sizes)

    def sample(self, u: Tensor, v: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Some rows, drawn with their weights' probability, and their full sums."""
        weights, dtype = self.rows.measure.weights, self.pair.x.dtype
        places = torch.rand(AUDITED, dtype=torch.float64, generator=torch.Generator().manual_seed(0), device="cpu")
        total = weights.cumsum(0)
        drawn = torch.searchsorted(total, places.to(total) * total[-1]).clamp(max=len(weights) - 1)
        x, y = self.rows.measure.points[drawn].to(dtype), self.columns.measure.points.to(dtype)
        return drawn, log_sums(engine.pair(x, y, self.cost, self._engine), u[drawn], v, epsilon)

    def audit(self, u: Tensor, v: Tensor, claimed: Tensor, epsilon: float) -> Audit:
        """How far claimed sums are from full ones, over some rows."""
        drawn, full = self.sample(u, v, epsilon)
        off = full.exp() - claimed[drawn].exp()
        errors = 3.0 * off.abs().std() / math.sqrt(AUDITED), 3.0 * off.std() / math.sqrt(AUDITED)
        found = off.abs().mean() + errors[0], off.mean(), errors[1], off.square().mean()
        return Audit(*torch.stack(found).tolist())


class CellSums:
    """Row and column sums of a problem by two `Side` objects, over all pairs where these give up.

    Implements `geomsink.solver.Sums`.
    """

    def __init__(self, full: FullSums, rows: Side, columns: Side):
        self.full, self.rows, self.columns = full, rows, columns

    def log_rows(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        found = self.rows.log_sums(f / epsilon, g / epsilon + self.full.beta.log_weights, epsilon)
        return self.full.log_rows(f, g, epsilon) if found is None else found

    def log_columns(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        found = self.columns.log_sums(g / epsilon, f / epsilon + self.full.alpha.log_weights, epsilon)
        return self.full.log_columns(f, g, epsilon) if found is None else found

    def row_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        found = self.rows.products(f / epsilon, g / epsilon + self.full.beta.log_weights, epsilon, w)
        return self.full.row_products(f, g, epsilon, w) if found is None else found

    def column_products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> Tensor:
        found = self.columns.products(g / epsilon, f / epsilon + self.full.alpha.log_weights, epsilon, w)
        return self.full.column_products(f, g, epsilon, w) if found is None else found

    @property
    def skipped(self) -> float:
        """Bound of what truncation adds to the marginal error."""
        return self.rows.lost + self.columns.lost

    def row_error(self, f: Tensor, g: Tensor, epsilon: float, penalty: Penalty) -> float:
        """About the rows' marginal error, from some of them."""
        drawn, full = self.rows.sample(f / epsilon, g / epsilon + self.full.beta.log_weights, epsilon)
        return float(residual(penalty, f[drawn], full, epsilon).clamp(max=50.0).expm1().abs().mean())

    def audit(self, f: Tensor, g: Tensor, log_rows: Tensor, log_columns: Tensor, epsilon: float) -> Audit:
        """What the approximations were found to do to the marginal error, and to the plan's mass.

        The former is 0 without stand-ins: truncation has a bound.
        """
        log_a, log_b = self.full.alpha.log_weights, self.full.beta.log_weights
        masses = self.full.alpha.mass, self.full.beta.mass
        columns = self.columns.audit(g / epsilon, f / epsilon + log_a, log_columns, epsilon)
        rows = columns
        if self.columns is not self.rows:
            rows = self.rows.audit(f / epsilon, g / epsilon + log_b, log_rows, epsilon)
        off = (columns.off * masses[1] + rows.off * masses[0]) / (0.5 * sum(masses))
        square = columns.square * masses[1] + rows.square * masses[0]
        if self.rows.sources.are_points and self.columns.sources.are_points:
            off = 0.0
        return Audit(off, columns.missing * masses[1], columns.uncertain * masses[1], square)
