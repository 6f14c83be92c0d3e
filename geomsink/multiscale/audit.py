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
        drawn, pair = self._some()
        exponents = self.columns.log_weights.add(g, alpha=1.0 / epsilon)
        return drawn, log_sums(pair, f[drawn] / epsilon, exponents, epsilon, self.columns.signs)

    def products(self, f: Tensor, g: Tensor, epsilon: float, w: Tensor) -> tuple[Tensor, Tensor]:
        """Some rows, drawn so as well, and Σ_j b_j exp((f_i + g_j − C_ij)/ε) w_j for them."""
        drawn, pair = self._some()
        u, v, w = (t.to(pair.x.dtype) for t in (f[drawn] / epsilon, g / epsilon, self.columns.weights * w))
        return drawn, Gibbs(pair, u, v, epsilon).apply(w[:, None]).double()[:, 0]

    def _some(self) -> tuple[Tensor, Pair]:
        dtype, rows = self.pair.x.dtype, self._drawn(self.effort * _rows(len(self.columns.points)))
        x, y = self.rows.points[rows].to(dtype), self.columns.points.to(dtype)
        return rows, engine.pair(x, y, self.pair.cost, self.pair.name)

    def _drawn(self, n: int) -> Tensor:
        return draw(self.rows.sizes, n)

    def against(self, f: Tensor, g: Tensor, claimed: Tensor, epsilon: float, near: Near | None = None) -> Audit:
        """How far claimed sums are from full ones; sums that are cheap and ``near`` to these tell most of it, from more
        rows."""
        drawn, full = self.sample(f, g, epsilon)
        if near is None:
            parts = [full.exp() - claimed[drawn].exp()]
        else:
            many = self._drawn(self.effort * MANY)
            parts = [full.exp() - near(drawn).exp(), near(many).exp() - claimed[many].exp()]
        return audit_of(moments(parts))


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
    before, mass : float
        Of the rows: what the processes before this one have, and all.
    """

    group: Group
    count: int
    before: float
    mass: float

    def against(self, f: Tensor, g: Tensor, claimed: Tensor, epsilon: float, near: Near | None = None) -> Audit:
        """See `Audited.against`; the same answer on all processes."""
        assert near is not None
        group, rank = self.group, self.group.rank
        with group.step(AUDIT):
            drawn, many = (self._drawn(self.effort * n) for n in (_rows(self.count), MANY))
            exponents = (f[drawn] / epsilon)[:, None]
            asked = torch.cat((self.rows.points[drawn].double(), exponents), 1)
        of_all = group.gather(asked, AUDIT)
        with group.step(AUDIT):
            sums = self._sums(torch.cat(of_all), g, epsilon)
        full = group.sum(sums, AUDIT).split([len(part) for part in of_all])[rank]
        with group.step(AUDIT):
            parts = [full - near(drawn).exp(), near(many).exp() - claimed[many].exp()]
            own = moments(parts)
        return audit_of(group.sum(own, AUDIT))

    def _sums(self, asked: Tensor, g: Tensor, epsilon: float) -> Tensor:
        """Of rows that all ask for, over this process's columns."""
        if not len(self.columns.points):
            return torch.zeros_like(asked[:, 0])
        dtype = self.pair.x.dtype
        pair = engine.pair(asked[:, :-1].to(dtype), self.columns.points.to(dtype), self.pair.cost, self.pair.name)
        return log_sums(pair, asked[:, -1], self.columns.log_weights + g / epsilon, epsilon).exp()

    def _drawn(self, n: int) -> Tensor:
        places = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0), device="cpu")
        total = self.rows.sizes.cumsum(0)
        own = (self.mass * places - self.before).to(total)
        own = own[(own >= 0.0) & (own < (total[-1] if len(total) else 0.0))]
        return torch.searchsorted(total, own).clamp(max=len(total) - 1)


def moments(parts: list[Tensor]) -> Tensor:
    """How many differences each of some kinds has, their sums, those of their sizes, and of their squares; (K, 4)."""
    of_each = [(part.new_ones(()) * len(part), part.sum(), part.abs().sum(), part.square().sum()) for part in parts]
    return torch.stack([torch.stack(numbers) for numbers in of_each])


def audit_of(found: Tensor) -> Audit:
    """From the moments of several kinds of differences, over some rows each, which add up."""
    n, total, sizes, squares = found.unbind(1)
    of_sizes, of_all = (((squares - s * s / n) / (n - 1.0)).clamp(min=0.0) / n for s in (sizes, total))
    off = (sizes / n + 3.0 * of_sizes.sqrt()).sum()
    square = (squares / n).sqrt().sum().square()
    return Audit(*torch.stack((off, (total / n).sum(), 3.0 * of_all.sum().sqrt(), square)).tolist())


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
