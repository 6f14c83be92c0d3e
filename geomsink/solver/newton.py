"""Newton's system at the state of a solve, by conjugate gradients on the plan's products.

    [ diag(κ₁ P1)      P       ] [ λ ]   [ r ]
    [     Pᵀ      diag(κ₂ Pᵀ1) ] [ μ ] = [ s ]

with μ eliminated. With the gradient of the dual on the right, ε (λ, μ) is Newton's step; with another one, λ and μ are
what implicit differentiation needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..choose import plan_is_stored
from ..engine import matrix
from .iterate import Iterate
from .kept import KeptSums
from .penalties import Balanced
from .sums import FullSums, Sums

RESIDUAL = {torch.float32: 1e-6, torch.float64: 1e-11}
"""Relative residual at which the iterations stop: a few roundings of the products."""
FEW = 2**19
"""Entries of a plan in memory from which on its products are dear."""
ITERATIONS, STALL = (500, 150), (20, 100)
"""At most, and without progress: as far as rounding goes, and to what is enough, which weakly coupled points delay."""
PLAIN, DIRECT, LIFTED, SOLVED = 15, 512, 1e-12, 40
"""Iterations after which the system is factorised, if it has so few rows; what its diagonal is lifted by; and how many
without progress there are after that."""
LITTLE = 1e-30
FAR = 10.0
"""Newton's steps that are of use are shorter, in units of ε."""

Enough = Callable[[Tensor], Tensor]
"""From what is left of the right-hand side, shape (..., N), whether that is little enough, shape (...)."""


@dataclass(frozen=True)
class LinearSolve:
    """How a linear system was solved.

    Attributes
    ----------
    iterations : int
        Each of two products with the plan.
    residual : float
        Norm of what is left of the right-hand side, relative to it; the largest of a batch.
    sketched : bool, default False
        Whether products with the plan were made between sketches; the residual is then what rows and columns drawn at
        random, summed over all points, were found to leave.
    """

    iterations: int
    residual: float
    sketched: bool = False


class NewtonOperator:
    """Newton's system at the state that a solver is in; the state must not move while it is used.

    Parameters
    ----------
    solver : Iterate
    sums : Sums, optional
        How products with the plan are found. Default: over all pairs; few of them are kept in memory.
    residual : float, optional
        Relative residual to stop at. Default: a few roundings of the products.

    Attributes
    ----------
    solves : list of LinearSolve
        All that were made.
    left : Tensor, shape (..., N)
        Mass by which the last solution misses the right-hand side of the rows; that of the columns it meets.
    """

    def __init__(self, solver: Iterate, sums: Sums | None = None, residual: float | None = None):
        self.solver, self._given = solver, sums
        self._residual = RESIDUAL[solver.problem.pair.x.dtype] if residual is None else residual
        self.solves: list[LinearSolve] = []
        self.left = torch.zeros_like(solver.state.f)

    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]:
        """λ, shape (..., N), and μ, shape (..., M), 0 where there is no weight; of a self problem λ alone, twice, with
        r + s on the right.

        As far as rounding goes, or until what is left is ``enough``.
        """
        if self.solver.problem.is_self:
            r = s = r + s
        # Rows without weight, on which nothing depends, would spoil the scaling of the others.
        free = [m.weights > 0.0 for m in (self.solver.problem.alpha, self.solver.problem.beta)]
        r, s = torch.where(free[0], r, 0.0), torch.where(free[1], s, 0.0)
        if self.solver.problem.is_self:
            found = torch.where(free[0], self._conjugate_gradients(r, enough), 0.0)
            return found, found
        right = r - torch.where(free[0], self._times(0, s / self._columns), 0.0)
        lam = torch.where(free[0], self._conjugate_gradients(right, enough), 0.0)
        return lam, torch.where(free[1], s - self._times(1, lam), 0.0) / self._columns

    @cached_property
    def rows(self) -> Tensor:
        """The diagonal's first block, shape (..., N)."""
        return self._diagonal(0)

    @cached_property
    def _columns(self) -> Tensor:
        return self._diagonal(1)

    def _diagonal(self, side: int) -> Tensor:
        weights = (self.solver.problem.alpha, self.solver.problem.beta)[side].weights
        return torch.where(weights > 0.0, weights, LITTLE) * self._of_unit(side)

    def _of_unit(self, side: int) -> Tensor:
        """The diagonal, a unit of weight."""
        log_sums = (self.solver.state.log_rows, self.solver.state.log_columns)[side].clamp(-300.0, 300.0)
        return log_sums.exp() * self._kappa(side)

    def _heavy(self, side: int) -> Tensor:
        """The diagonal as norms of residuals have it: rows of little weight, which solved by themselves say nothing of
        the others, count as heavier."""
        diagonal = (self.rows, self._columns)[side]
        return diagonal.clamp(min=1e-3 * diagonal.mean(-1, keepdim=True))

    def _kappa(self, side: int) -> Tensor | float:
        """Of the penalty; a potential that will be at the end of its range counts as being there."""
        problem = self.solver.problem
        if isinstance(problem.penalties[side], Balanced):
            return 1.0
        return problem.penalties[side].curvature(self.solver.exact(side)[0], problem.epsilon)

    @property
    def is_stored(self) -> bool:
        """Whether products are made from entries in memory."""
        return self._scaled is not None or self._stored is not None

    @cached_property
    def _scaled(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The plan as a kept kernel between two scalings."""
        problem, state, sums = self.solver.problem, self.solver.state, self._given or self.solver.sums
        if not isinstance(sums, KeptSums):
            return None
        kernel = sums.kernel(state.f, state.g, problem.epsilon)
        left, right = (
            m.weights * h.exp()
            for m, h in zip((problem.alpha, problem.beta), kernel.scalings(state.f, state.g), strict=True)
        )
        whole = bool((kernel.entries @ right[..., None]).isfinite().all())
        return (left, kernel.entries, right) if whole else None

    @cached_property
    def _stored(self) -> Tensor | None:
        """The plan as a matrix, where it is small."""
        pair, pairs = self.solver.problem.pair, self.solver.problem.pairs
        return matrix(self.solver.plan()).double() if plan_is_stored(pairs, pair.name, pair.x.device) else None

    def _times(self, side: int, w: Tensor) -> Tensor:
        """P w (side 0) or Pᵀ w."""
        problem = self.solver.problem
        if self._scaled is not None:
            left, entries, right = self._scaled
            if side == 0:
                return left * (entries @ (right * w)[..., None])[..., 0]
            return right * (entries.mT @ (left * w)[..., None])[..., 0]
        if self._stored is not None:
            return ((self._stored, self._stored.mT)[side] @ w[..., None])[..., 0]
        sums = self._given or FullSums(problem.pair, problem.alpha, problem.beta)
        return (problem.alpha, problem.beta)[side].weights * self._products(side, sums, w)

    def _products(self, side: int, sums: Sums, w: Tensor) -> Tensor:
        """Of one vector, at the present potentials: Σ_j b_j exp((f_i + g_j − C_ij)/ε) w_j for rows (side 0)."""
        state, products = self.solver.state, (sums.row_products, sums.column_products)[side]
        return products(state.f, state.g, self.solver.problem.epsilon, w[..., None])[..., 0]

    def _apply(self, z: Tensor) -> Tensor:
        """The system with μ eliminated; of a self problem, diag(κ P1) + P."""
        if self.solver.problem.is_self:
            return self.rows * z + self._times(0, z)
        return self.rows * z - self._times(0, self._times(1, z) / self._columns)

    def _conjugate_gradients(self, right: Tensor, enough: Enough | None) -> Tensor:
        """Of the system scaled by its diagonal; the best iterate, where rounding ends progress."""
        norm = lambda t: (t * t / self._heavy(0)).sum(-1)  # noqa: E731
        z, residual = torch.zeros_like(right), self._projected(right)
        self.left = residual
        settled = torch.zeros_like(right[..., 0], dtype=torch.bool) if enough is None else enough(residual)
        if bool(settled.all()):
            self.solves.append(LinearSolve(0, 1.0))
            return z
        # What a projection leaves of a constant is rounding, and nothing to be solved.
        scale = norm(residual).maximum(1e-3 * norm(right)).clamp(min=1e-300)
        best, best_size, since = z, torch.full_like(scale, torch.inf), 0
        direction, product, iterations = torch.zeros_like(z), torch.ones_like(scale), 0
        dear = enough is not None and not (self.is_stored and self.solver.problem.pairs <= FEW)
        patience = STALL[enough is not None]
        while iterations < ITERATIONS[dear] and since < patience:
            size = norm(residual) / scale
            better, advanced = size < best_size, (size < 0.5 * best_size).any()
            if enough is not None:  # along what is not coupled at all rounding would be solved for
                better = better & (z.abs().amax(-1) <= FAR)
            better = better & ~settled  # an item that is solved waits for the others
            best, best_size = torch.where(better[..., None], z, best), torch.where(better, size, best_size)
            self.left = torch.where(better[..., None], residual, self.left)
            if enough is not None and iterations:
                settled = settled | enough(residual)
            advances, ends = torch.stack((advanced, (settled | (best_size <= self._residual**2)).all())).tolist()
            since = 0 if advances else since + 1
            if ends:
                break
            inverse = self._preconditioned if iterations < PLAIN else self._directly
            if iterations == PLAIN:  # another one: directions start afresh
                direction = torch.zeros_like(z)
                patience = patience if self._factor is None else SOLVED
            preconditioned = self._projected(inverse(residual), transposed=True)
            new = (residual * preconditioned).sum(-1)
            direction = preconditioned + (new / product)[..., None] * direction
            product = new
            image = self._projected(self._apply(direction))
            step = new / (direction * image).sum(-1)
            step = torch.where(step.isfinite(), step, 0.0)[..., None]
            z, residual = z + step * direction, residual - step * image
            iterations += 1
        self.solves.append(LinearSolve(iterations, float(best_size.max().sqrt())))
        return best

    @cached_property
    def _singular(self) -> Tensor:
        """Whether constants are in the null space, shape (..., 1): both potentials are free everywhere."""
        one = self.solver.state.f[..., :1]
        free = torch.full_like(one, not self.solver.problem.is_self, dtype=torch.bool)
        for kappa in (self._kappa(0), self._kappa(1)):
            free = free & (kappa == 1.0 if isinstance(kappa, float) else (kappa == 1.0).all(-1, keepdim=True))
        return free

    @cached_property
    def _share(self) -> Tensor:
        return self._singular * self.rows / self.rows.sum(-1, keepdim=True)

    def _projected(self, t: Tensor, transposed: bool = False) -> Tensor:
        """Without its constant part, where that is in the null space."""
        if transposed:
            return t - (self._share * t).sum(-1, keepdim=True)
        return t - self._share * t.sum(-1, keepdim=True)

    def _preconditioned(self, residual: Tensor) -> Tensor:
        """About what the system's inverse makes of it."""
        return residual / self.rows

    @cached_property
    def _factor(self) -> Tensor | None:
        """Cholesky's, of the system scaled to a diagonal of 1, where a kernel of few rows is kept; its null space is
        lifted."""
        if self._scaled is None or self.rows.shape[-1] > DIRECT:
            return None
        left, entries, right = self._scaled
        P, root = left[..., None] * entries * right[..., None, :], self.rows.sqrt()
        pairs = P if self.solver.problem.is_self else -(P / self._columns[..., None, :]) @ P.mT
        system = pairs / root[..., None] / root[..., None, :]
        system.diagonal(dim1=-2, dim2=-1).add_(1.0 + LIFTED)
        constant = self._singular * root / root.square().sum(-1, keepdim=True).sqrt()
        factor, failed = torch.linalg.cholesky_ex(system + constant[..., None] * constant[..., None, :])
        return None if bool(failed.any()) or not bool(factor.isfinite().all()) else factor

    def _directly(self, residual: Tensor) -> Tensor:
        """The same by the factor, where there is one."""
        if self._factor is None:
            return self._preconditioned(residual)
        root = self.rows.sqrt()
        return torch.cholesky_solve((residual / root)[..., None], self._factor)[..., 0] / root
