"""Newton's step for the potentials: what plain updates leave behind is smooth, or is solved for on a sparse plan.

After a row update (P1 = a) let ρ = b − Pᵀ1. Newton's step in v = g/ε, with u eliminated, is

    δv = ρ/b + (1/b) Pᵀ ξ,    (diag(a) − P diag(1/b) Pᵀ) ξ = P (ρ/b).

The first term is the ordinary column update, which is taken in its logarithmic form. ξ is found by conjugate gradients
with a plan in memory: one between coarse cells (`geomsink.multiscale.twogrid`), or, where the temperature is so low
that cells say nothing of the points but few pairs carry mass, the points' own (Tang et al. 2024, arXiv:2401.12253, have
both in one sparse Newton step). A share of diag(a) added to the matrix leads from Newton's step back to the plain
update.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..choose import sparse_plan_fits
from ..costs import Cost
from ..engine import Blocks
from ..measures import Measure
from ..memory import chunk
from ..solver import Penalty
from .clouds import Cloud
from .sparse import Places, Sparse
from .truncation import pattern

PRODUCTS = 300
"""Iterations of conjugate gradients, at most."""
RESIDUAL, EXACTLY = 1e-2, 1e-6
"""Of the system, relative: a step is corrected by the next one anyway; and where it says what a value is off by."""
LOOKED_AT = {"cpu": 1, "cuda": 10}
"""Iterations of conjugate gradients after which their residual is looked at: a GPU is waited for."""
RIDGE = 1e-13
"""Added to the diagonal that is factorised: between clusters that share no mass a constant is free, and stays small."""
TINY = 1e-300
DROPPED = 1e-7
"""Entries of a plan below this share of their row's and of their column's weight are not kept."""
LEAST = 1e-30
"""Marginal of a plan, relative to its columns' mean, below which a row or a column counts as having this much."""
DENSE = 0.25
"""Share of entries kept from which on a plan is stored as a full matrix."""
MARGIN = 8.0
"""What exponents may change by before pairs are looked for again."""
DRIFTED = 0.1
"""Mass at which they may have changed by more, as a share of the marginal error."""
SKIPPED = 1e-6
"""Share of a row's mass outside of the blocks that a plan of points is made from."""


class SparsePlan:
    """The pairs of two measures that carry mass, with room for potentials to change a little.

    Parameters
    ----------
    alpha, beta : Measure
        N and M weighted points.
    cost : Cost
    u, v : Tensor, shapes (N,) and (M,)
        Exponents, weights included.
    epsilon : float
    blocks : Blocks, optional
        The pairs that are looked at. Default: all.
    margin : float, default 0
        By how much exponents may change.
    """

    def __init__(
        self,
        alpha: Measure,
        beta: Measure,
        cost: Cost,
        u: Tensor,
        v: Tensor,
        epsilon: float,
        blocks: Blocks | None = None,
        margin: float = 0.0,
    ):
        x, y = alpha.points.double(), beta.points.double()
        least, kept = DROPPED * math.exp(-margin), []
        for part in (blocks or Blocks.whole(len(u), len(v))).parts(chunk(u.device)):
            i, j = pairs_of(part, u.device)
            log_kernel = cost.between(x[i], y[j]) / -epsilon
            keep = (u[i] + v[j] + log_kernel).exp() > least * torch.minimum(alpha.weights[i], beta.weights[j])
            kept.append((i[keep].int(), j[keep].int(), log_kernel[keep]))
        i, j, self._log_kernel = (torch.cat(parts) for parts in zip(*kept, strict=True))
        self._places = Places(i, j, (len(u), len(v)))

    def matrix(self, u: Tensor, v: Tensor) -> Any:
        """The plan, as a sparse matrix in float64, or, where a CPU has most entries, as NumPy's full one in float32."""
        places = self._places
        entries = (u.index_select(0, places.rows) + v.index_select(0, places.columns)).add_(self._log_kernel).exp_()
        if u.device.type != "cpu" or len(places) < DENSE * math.prod(places.shape):
            return Sparse.of(places, entries)
        return Sparse.of(places, entries.float()).full().numpy()


class Product:
    """Products with a plan in memory and with its transpose, in its precision; of float64 tensors, on its device.

    Parameters
    ----------
    plan : array, Tensor or Sparse, shape (N, M)
    """

    def __init__(self, plan: Any):
        self._plan, self._transpose = plan, plan.T

    @property
    def is_full(self) -> bool:
        """Whether it is a tensor of all entries."""
        return isinstance(self._plan, Tensor)

    def full(self) -> Tensor:
        """All entries, float64."""
        entries: Tensor = self._plan.double()
        return entries

    def rows(self, w: Tensor) -> Tensor:
        """P w, shape (N,)."""
        return self._times(self._plan, w)

    def columns(self, w: Tensor) -> Tensor:
        """Pᵀ w, shape (M,)."""
        return self._times(self._transpose, w)

    def ones(self, side: int) -> Tensor:
        """As many as rows (side 0) or columns."""
        device = "cpu" if isinstance(self._plan, np.ndarray) else self._plan.device
        return torch.ones(self._plan.shape[side], dtype=torch.float64, device=device)

    @staticmethod
    def _times(matrix: Any, w: Tensor) -> Tensor:
        if isinstance(matrix, np.ndarray):
            product = matrix @ w.numpy().astype(matrix.dtype, copy=False)
            return torch.from_numpy(product.astype(np.float64, copy=False))
        times: Tensor = (matrix @ w.to(matrix.dtype)).double()
        return times


class NewtonSystem:
    """Newton's equation with a plan in memory.

    Parameters
    ----------
    plan : array, Tensor or Sparse, shape (N, M)
    curvatures : pair of array (N,), (M,) or float, default 1
        Factors κ of the diagonal blocks, from the penalties of the marginals.

    Attributes
    ----------
    left : float
        Mass that the last solution leaves where it is too much.

    Examples
    --------
    Two pairs of points far apart: what one column has too much moves to its own neighbour alone.

    >>> from geomsink import costs
    >>> half = Measure(torch.tensor([[0.0], [9.0]]), torch.full((2,), 0.5, dtype=torch.float64))
    >>> u = half.log_weights
    >>> plan = SparsePlan(half, half, costs.get("sqeuclidean"), u, u, 1.0).matrix(u, u)
    >>> NewtonSystem(plan).smooth(torch.tensor([0.1, -0.1]).double(), shift=0.1)
    tensor([ 4., -4.], dtype=torch.float64)
    """

    def __init__(self, plan: Any, curvatures: tuple[Any, Any] = (1.0, 1.0)):
        self._plan = Product(plan)
        # The plan's own marginals: the system stays semidefinite however little of the plan is kept.
        rows, columns = self._plan.rows(self._plan.ones(1)), self._plan.columns(self._plan.ones(0))
        least = LEAST * columns.mean()
        self._a, self._b = rows.maximum(least) * curvatures[0], columns.maximum(least) * curvatures[1]
        self.left = 0.0
        # Constants are in the null space if both marginals are fixed.
        self._singular = all(
            bool((kappa == 1.0).all()) if isinstance(kappa, Tensor) else kappa == 1.0 for kappa in curvatures
        )

    def solve(self, rho: Tensor, shift: float) -> Tensor:
        """ξ, shape (N,), for the residual ρ, shape (M,), and ``shift`` diag(a) added; exact without it."""
        root = self._a.sqrt()
        constant = self._singular * root / root.norm()  # the null space, in the variables √a ξ

        def product(z: Tensor) -> Tensor:
            out = (1.0 + shift) * z - self._plan.rows(self._plan.columns(z / root) / self._b) / root
            projected: Tensor = out - (out @ constant) * constant
            return projected

        right = rho - self._singular * self._b * (rho.sum() / self._b.sum())
        right = self._plan.rows(right / self._b) / root
        right = right - (right @ constant) * constant
        if self._plan.is_full:
            z = self._directly(right, root, constant, shift)
            if z is not None:
                return self._solved(z, right - product(z), root)
        z, residual = torch.zeros_like(right), right
        direction, norm = residual, residual @ residual
        enough = (RESIDUAL if shift else EXACTLY) ** 2 * norm
        for k in range(PRODUCTS):
            if k % LOOKED_AT[rho.device.type] == 0 and not bool(norm > enough):
                break
            image = product(direction)
            curvature = direction @ image
            step = torch.where(curvature > 0.0, norm / curvature.clamp(min=TINY), 0.0)
            z, residual = z + step * direction, residual - step * image
            new = residual @ residual
            direction, norm = residual + (new / norm.clamp(min=TINY)) * direction, new
        return self._solved(z, residual, root)

    def _solved(self, z: Tensor, residual: Tensor, root: Tensor) -> Tensor:
        self.left = float((residual * root).abs().sum())
        xi: Tensor = z / root
        return xi

    def _directly(self, right: Tensor, root: Tensor, constant: Tensor, shift: float) -> Tensor | None:
        """By a factorisation, which on a GPU takes as long as some iterations; None where it fails."""
        plan = self._plan.full() / root[:, None]
        matrix = -(plan / self._b) @ plan.T
        matrix.addr_(constant, constant)  # which the right hand side has none of
        matrix.diagonal().add_(1.0 + shift + RIDGE)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        z = torch.cholesky_solve(right[:, None], factor)[:, 0]
        z = z - (z @ constant) * constant
        return None if bool((failed != 0) | ~z.isfinite().all()) else z

    def smooth(self, rho: Tensor, shift: float) -> Tensor:
        """(1/b) Pᵀ ξ, shape (M,): what Newton's step in g/ε has beside the plain update."""
        smooth: Tensor = self._plan.columns(self.solve(rho, shift)) / self._b
        return smooth


def curvatures(penalties: tuple[Penalty, Penalty], f: Tensor, g: Tensor, epsilon: float) -> tuple[Any, Any]:
    """Of both penalties at such potentials."""
    first, second = (p.curvature(h, epsilon) for p, h in zip(penalties, (f, g), strict=True))
    return first, second


def pairs_of(blocks: Blocks, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of all pairs of a pattern, row by row."""
    some = slice(int(blocks.first[0]), int(blocks.first[-1]))
    length, here = (blocks.end - blocks.begin)[some], blocks.begin.device
    seen = torch.arange(int(length.sum()), device=here)
    seen += (blocks.begin[some] - length.cumsum(0) + length).repeat_interleave(length)
    ends = torch.cat((length.new_zeros(1), length.cumsum(0)))[blocks.first - blocks.first[0]]
    rows = blocks.row_end - blocks.row_begin
    i = torch.arange(int(blocks.row_begin[0]), int(blocks.row_end[-1]), device=here)
    width, first = ends.diff().repeat_interleave(rows), ends[:-1].repeat_interleave(rows)
    place = torch.arange(int(width.sum()), device=here) + (first - width.cumsum(0) + width).repeat_interleave(width)
    return i.repeat_interleave(width).to(device), seen[place].to(device)


class Newton:
    """The correction of column updates by the points' own plan.

    Parameters
    ----------
    rows, columns : Cloud
    cost : Cost
    epsilon : float
    penalties : pair of Penalty
    """

    def __init__(self, rows: Cloud, columns: Cloud, cost: Cost, epsilon: float, penalties: tuple[Penalty, Penalty]):
        self._rows, self._columns, self._cost, self._epsilon = rows, columns, cost, epsilon
        self._penalties = penalties
        self._plan: SparsePlan | None = None
        self.left = 0.0
        self._built_for: tuple[Tensor, ...] = ()

    def step(self, f: Tensor, g: Tensor, rho: Tensor, shift: float) -> Tensor | None:
        """See `geomsink.solver.Correction`; None where too many pairs carry mass, or none at all."""
        order, back = self._columns.tree.order, self._columns.tree.rank
        potentials = f[self._rows.tree.order] / self._epsilon, g[order] / self._epsilon
        alpha, beta = self._rows.tree.measure, self._columns.tree.measure
        rho = rho[order]
        if self._plan is None or self._drift(potentials) > DRIFTED * float(rho.abs().sum()):
            self._plan, self._built_for = self._sparse_plan(*potentials), potentials
        if self._plan is None:
            return None
        u, v = potentials[0] + alpha.log_weights, potentials[1] + beta.log_weights
        matrix = self._plan.matrix(u, v)
        if not float(matrix.sum()) > 0.0:  # potentials of clouds that have moved far
            return None
        kappa = curvatures(self._penalties, self._epsilon * potentials[0], self._epsilon * potentials[1], self._epsilon)
        system = NewtonSystem(matrix, kappa)
        smooth = system.smooth(rho, shift)[back]
        self.left = system.left
        return self._epsilon * smooth

    def _drift(self, potentials: tuple[Tensor, Tensor]) -> float:
        """Mass at which exponents may have changed by more than the plan in memory has room for."""
        weights = self._rows.tree.measure.weights, self._columns.tree.measure.weights
        changes = [new - old for new, old in zip(potentials, self._built_for, strict=True)]
        middle = float((changes[0].median() - changes[1].median()) / 2)  # a constant may pass from one to the other
        changes = [changes[0] - middle, changes[1] + middle]
        return sum(float(w[c > MARGIN / 2].sum()) for w, c in zip(weights, changes, strict=True))

    def _sparse_plan(self, u: Tensor, v: Tensor) -> SparsePlan | None:
        boxes = self._rows.small_boxes, self._columns.small_boxes
        slopes = boxes[0].slopes(u), boxes[1].slopes(v)
        alpha, beta = self._rows.tree.measure, self._columns.tree.measure
        u, v = u + alpha.log_weights, v + beta.log_weights
        skipped = SKIPPED * math.exp(-MARGIN)
        blocks = pattern(*boxes, u, v, slopes, self._cost, self._epsilon, skipped).blocks
        if not sparse_plan_fits(blocks.pairs, len(u) * len(v)):
            return None
        return SparsePlan(alpha, beta, self._cost, u, v, self._epsilon, blocks, MARGIN)
