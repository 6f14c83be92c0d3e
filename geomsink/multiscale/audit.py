"""How far sums are from those over all pairs of points, over rows and columns drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import engine
from ..engine import Gibbs, Pair
from ..measures import Measure
from ..processes import Group
from ..solver import Goal, Iterate, draw, log_sums, rounding, value_error

Near = Callable[[Tensor], Tensor]
AUDITED = 256, 512, 2**28
"""Rows, and columns, that are summed in full to see how far the others are off: at least, at most, and how many pairs
they have between these."""
MANY = 4096
"""Rows whose sums are nearly found, where that is cheap."""
AUDIT = "audit of all points"
"""What processes are at while they do it together."""
ROUNDED = 1e-14
"""What rounding leaves of squares of differences that are all the same, less the square of their mean: no spread."""
SMOOTH = 4.0
"""What an error of the sums does to the value, relative to the same errors of single points: it is smooth in part."""


def _rows(columns: int) -> int:
    least, most, pairs = AUDITED
    return max(least, min(most, pairs // columns))


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


@dataclass(frozen=True)
class Audited:
    """The sums of a problem's rows over its columns, all of them, for some rows.

    Attributes
    ----------
    rows, columns : Measure
    pair : Pair
        Of the two, for its cost, engine and precision.
    effort : int, default 1
        Times the rows that are drawn.
    """

    rows: Measure
    columns: Measure
    pair: Pair
    effort: int = 1

    def sample(self, f: Tensor, g: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """Some rows, drawn with their weights' probability, and log Σ_j b_j exp((f_i + g_j − C_ij)/ε) for them."""
        drawn = draw(self.rows.sizes, self._few)
        return drawn, self._log_sums(drawn, f, g, epsilon, self.pair.x.dtype)

    def products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> tuple[Tensor, Tensor]:
        """Some rows, drawn so as well, and Σ_j b_j exp((f_i + g_j − C_ij)/ε) w_j for them."""
        drawn = draw(self.rows.sizes, self._few)
        pair = self._pair(drawn, self.pair.x.dtype)
        u, v, w = (t.to(pair.x.dtype) for t in (f[drawn] / epsilon, g / epsilon, self.columns.weights * w))
        return drawn, Gibbs(pair, u, v, epsilon).apply(w[:, None]).double()[:, 0]

    def against(self, f: Tensor, g: Tensor, claimed: Tensor, epsilon: float, near: Near | None = None) -> Audit:
        """How far claimed sums are from full ones; sums that are cheap and ``near`` to these tell most of it, from more
        rows. Rows that weigh as much as one that is drawn are all among them."""
        few = self._heavy_and_drawn(self._few)
        # What is compared with sums of the same precision tells nothing of rounding that is the same in all of them.
        dtype = torch.float64 if near is None else self.pair.x.dtype
        full = self._log_sums(few.rows, f, g, epsilon, dtype)
        if near is None:
            return audit_of(few.moments(full.exp() - claimed[few.rows].exp())[None])
        many = self._heavy_and_drawn(self._many)
        parts = full.exp() - near(few.rows).exp(), near(many.rows).exp() - claimed[many.rows].exp()
        return audit_of(torch.stack([few.moments(parts[0]), many.moments(parts[1])]))

    @property
    def _few(self) -> int:
        return self.effort * _rows(len(self.columns.points))

    @property
    def _many(self) -> int:
        return self.effort * MANY

    def _log_sums(self, rows: Tensor, f: Tensor, g: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        exponents = self.columns.log_weights.add(g, alpha=1.0 / epsilon)
        return log_sums(self._pair(rows, dtype), f[rows] / epsilon, exponents, epsilon, self.columns.signs)

    def _pair(self, rows: Tensor, dtype: torch.dtype) -> Pair:
        x, y = self.rows.points[rows].to(dtype), self.columns.points.to(dtype)
        return engine.pair(x, y, self.pair.cost, self.pair.name)

    def _heavy_and_drawn(self, n: int) -> Rows:
        """About n rows; all, if there are no more."""
        sizes = self.rows.sizes
        mass = sizes.sum()
        heavy = sizes * n >= (mass if len(sizes) > n else 0.0)
        light = sizes.masked_fill(heavy, 0.0)
        drawn = draw(light, n if bool(light.any()) else 0)
        return Rows.of(heavy, drawn, sizes / mass)


@dataclass(frozen=True, kw_only=True)
class SharedAudited(Audited):
    """The same of clouds whose parts lie on several processes, for rows of all, drawn as from one cloud of all parts.

    Attributes
    ----------
    rows, columns : Measure
        What this process has of them.
    group : Group
    count : int
        Columns of all processes.
    mass : float
        Of the rows of all processes.
    """

    group: Group
    count: int
    mass: float

    def against(self, f: Tensor, g: Tensor, claimed: Tensor, epsilon: float, near: Near | None = None) -> Audit:
        """See `Audited.against`; the same answer on all processes."""
        assert near is not None
        group, rank = self.group, self.group.rank
        counts = self.effort * _rows(self.count), self._many
        with group.step(AUDIT):
            heavy = [self.rows.sizes * n >= self.mass for n in counts]
            light = [self.rows.sizes.masked_fill(here, 0.0) for here in heavy]
            own = torch.stack([sizes.sum() for sizes in light])
        masses = torch.stack(group.gather(own[None], AUDIT)).reshape(-1, len(counts)).tolist()
        with group.step(AUDIT):
            few, many = (
                Rows.of(heavy[k], self._of_all(n, light[k], [m[k] for m in masses]), self.rows.sizes / self.mass)
                for k, n in enumerate(counts)
            )
            exponents = (f[few.rows] / epsilon)[:, None]
            asked = torch.cat((self.rows.points[few.rows].double(), exponents), 1)
        of_all = group.gather(asked, AUDIT)
        with group.step(AUDIT):
            sums = self._sums(torch.cat(of_all), g, epsilon)
        full = group.sum(sums, AUDIT).split([len(part) for part in of_all])[rank]
        with group.step(AUDIT):
            parts = full - near(few.rows).exp(), near(many.rows).exp() - claimed[many.rows].exp()
            found = torch.stack([few.moments(parts[0]), many.moments(parts[1])])
        return audit_of(group.sum(found, AUDIT))

    def _sums(self, asked: Tensor, g: Tensor, epsilon: float) -> Tensor:
        """Of rows that all ask for, over this process's columns."""
        if not len(self.columns.points):
            return torch.zeros_like(asked[:, 0])
        dtype = self.pair.x.dtype
        pair = engine.pair(asked[:, :-1].to(dtype), self.columns.points.to(dtype), self.pair.cost, self.pair.name)
        return log_sums(pair, asked[:, -1], self.columns.log_weights + g / epsilon, epsilon).exp()

    def _of_all(self, n: int, sizes: Tensor, masses: list[float]) -> Tensor:
        """Of n rows that are drawn from all processes', those of this one."""
        places = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0), device="cpu")
        total = sizes.cumsum(0)
        own = (sum(masses) * places - sum(masses[: self.group.rank])).to(total)
        own = own[(own >= 0.0) & (own < (total[-1] if len(total) else 0.0))]
        return torch.searchsorted(total, own).clamp(max=len(total) - 1)


@dataclass(frozen=True)
class Rows:
    """Rows that stand for all: the heavy ones for themselves, and some that were drawn for the others.

    A mean over rows that were all drawn by their weight would not see what light ones are off by (Särndal, Swensson,
    Wretman 1992, Model Assisted Survey Sampling, section 3.6).

    Attributes
    ----------
    rows : Tensor, shape (K + n,)
        The heavy ones first.
    shares : Tensor, shape (K,)
        Of the mass, that each heavy one has.
    """

    rows: Tensor
    shares: Tensor

    @classmethod
    def of(cls, heavy: Tensor, drawn: Tensor, shares: Tensor) -> Rows:
        """From a mask of the heavy ones, others that were drawn, and the shares of all."""
        certain = heavy.nonzero()[:, 0]
        return cls(torch.cat((certain, drawn)), shares[certain])

    def moments(self, difference: Tensor) -> Tensor:
        """What means are made of, which add up over processes: how many rows were drawn, and the sums of their
        differences, of the sizes of these, and of their squares; the share of the heavy ones, and the same three sums
        for these, times their shares."""
        count, w = len(self.shares), self.shares
        heavy, drawn = difference[:count], difference[count:]
        numbers = [drawn.new_ones(()) * len(drawn), drawn.sum(), drawn.abs().sum(), drawn.square().sum()]
        numbers += [w.sum(), w @ heavy, w @ heavy.abs(), w @ heavy.square()]
        return torch.stack(numbers)


def audit_of(found: Tensor) -> Audit:
    """From the moments of several kinds of differences, which add up, shape (K, 8)."""
    n, *drawn, share, total, size, square = found.unbind(1)
    n, rest = n.clamp(min=1.0), (1.0 - share).clamp(min=0.0)
    spreads = (drawn[2] - s * s / n for s in (drawn[1], drawn[0]))
    spreads = (torch.where(spread > ROUNDED * drawn[2], spread, 0.0) for spread in spreads)
    of_sizes, of_all = (rest.square() * spread / (n - 1.0).clamp(min=1.0) / n for spread in spreads)
    total, size, square = (heavy + rest * light / n for heavy, light in zip((total, size, square), drawn, strict=True))
    off = (size + 3.0 * of_sizes.sqrt()).sum()
    found = torch.stack((off, total.sum(), 3.0 * of_all.sum().sqrt(), square.sqrt().sum().square()))
    return Audit(*found.tolist())


def audit(
    pair: Pair,
    measures: tuple[Measure, Measure],
    potentials: tuple[Tensor, Tensor],
    claimed: tuple[Tensor, Tensor],
    epsilon: float,
    near: tuple[Near | None, Near | None] = (None, None),
    effort: int = 1,
) -> Audit:
    """What approximate sums are found to do to the marginal error of a problem, and to the mass of its plan.

    Parameters
    ----------
    pair : Pair
        All points, on an engine.
    measures : pair of Measure
        The same twice for a self problem.
    potentials : pair of Tensor, shapes (N,) and (M,)
    claimed : pair of Tensor, shapes (N,) and (M,)
        Logarithms of row and of column sums, over the weights.
    epsilon : float
    near : pair of callables, optional
        Logarithms of row sums, and of column sums, at points of given indices, that are cheap and nearly right.
    effort : int, default 1
        Times the rows and columns that are drawn.
    """
    (alpha, beta), (f, g), (log_rows, log_columns) = measures, potentials, claimed
    columns = rows = Audited(beta, alpha, pair.T, effort).against(g, f, log_columns, epsilon, near[1])
    if alpha is not beta:
        rows = Audited(alpha, beta, pair, effort).against(f, g, log_rows, epsilon, near[0])
    return of_both(rows, columns, (alpha.mass, beta.mass))


def of_both(rows: Audit, columns: Audit, masses: tuple[float, float]) -> Audit:
    """Of a problem, from what is found of its rows and of its columns, and the masses of its measures."""
    off = (columns.off * masses[1] + rows.off * masses[0]) / (0.5 * (masses[0] + masses[1]))
    square = columns.square * masses[1] + rows.square * masses[0]
    return Audit(off, columns.missing * masses[1], columns.uncertain * masses[1], square)


def right_with(solver: Iterate, found: Audit, goal: Goal) -> bool:
    """Put what the sums do to the value into its error; whether that is small enough.

    As it was found in some rows: the bound of what truncation does is much larger, and of first order in the value.
    """
    if solver.accuracy is None:
        return not goal.asks_for_values
    # Mass is counted in the value; what marginals are off by besides is as good as a residual.
    off = solver.problem.epsilon * (found.uncertain + 0.5 * SMOOTH * found.square)
    solver.accuracy = replace(solver.accuracy, left=solver.accuracy.left + off)
    allowed = goal.allowed(solver.value(), rounding(solver, goal.sharp))
    return bool((value_error(solver, solver.accuracy, goal.sharp) <= allowed).all())
