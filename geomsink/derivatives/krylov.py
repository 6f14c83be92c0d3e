"""Newton's system of a solved problem, by conjugate gradients on the plan's products.

    [ diag(κ₁ P1)      P       ] [ λ ]   [ r ]
    [     Pᵀ      diag(κ₂ Pᵀ1) ] [ μ ] = [ s ]

with μ eliminated. Since (D₁ − P D₂⁻¹ Pᵀ)⁻¹ = D₁⁻¹ + D₁⁻¹ P (D₂ − Pᵀ D₁⁻¹ P)⁻¹ Pᵀ D₁⁻¹, a plan between the points and
coarse columns gives a preconditioner that is exact where cells are points: the two-grid correction in linear form.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import engine
from ..engine import Gibbs
from ..measures import Measure
from ..multiscale import Cloud
from ..solver import FullSums, Iterate, log_sums

CELLS = 10
"""Level of the coarse columns: 1024 cells."""
BALANCING = 50
"""Updates of the coarse plan's potentials."""
RESIDUAL = {torch.float32: 1e-6, torch.float64: 1e-11}
"""Relative residual at which the iterations stop: a few roundings of the products."""
ENOUGH = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Relative residual above which a warning is given."""
ITERATIONS, STALL = 500, 20
LITTLE = 1e-30


class LinearSolveWarning(UserWarning):
    """The linear system of implicit differentiation is solved less well than it should be."""


@dataclass(frozen=True)
class LinearSolve:
    """How a linear system was solved.

    Attributes
    ----------
    iterations : int
        Each of two products with the plan.
    residual : float
        Norm of what is left of the right-hand side, relative to it; the largest of a batch.
    """

    iterations: int
    residual: float


def floored(weights: Tensor) -> Tensor:
    """Weights with a little in place of zeros, so that potentials there have derivatives, too."""
    return weights + torch.where(weights > 0.0, 0.0, LITTLE)


class NewtonOperator:
    """Newton's system at the state that a solver ended in.

    Parameters
    ----------
    solver : Iterate
    clouds : pair of Cloud, optional
        Of the two measures, for the preconditioner. Default: diagonal, as self problems need no more.

    Attributes
    ----------
    solves : list of LinearSolve
        All that were made.
    """

    def __init__(self, solver: Iterate, clouds: tuple[Cloud, Cloud] | None = None):
        self.solver, self._clouds = solver, clouds
        self.solves: list[LinearSolve] = []

    def solve(self, r: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """λ, shape (..., N), and μ, shape (..., M); of a self problem λ alone, twice, with r + s on the right."""
        if self.solver.problem.is_self:
            r = s = r + s
        # Rows without weight, which nothing but their own right-hand side moves, would spoil the scaling of the others.
        free = [m.weights > 0.0 for m in (self.solver.problem.alpha, self.solver.problem.beta)]
        lam0, mu0 = torch.where(free[0], 0.0, r / self._rows), torch.where(free[1], 0.0, s / self._columns)
        if bool((lam0 != 0.0).any()) or bool((mu0 != 0.0).any()):
            r, s = r - self._times(0, mu0), s - self._times(1, lam0)
        r, s = torch.where(free[0], r, 0.0), torch.where(free[1], s, 0.0)
        if self.solver.problem.is_self:
            found = lam0 + self._conjugate_gradients(r)
            return found, found
        lam = self._conjugate_gradients(r - torch.where(free[0], self._times(0, s / self._columns), 0.0))
        mu = torch.where(free[1], s - self._times(1, lam), 0.0) / self._columns
        return lam0 + lam, mu0 + mu

    @cached_property
    def _rows(self) -> Tensor:
        return self._diagonal(0)

    @cached_property
    def _columns(self) -> Tensor:
        return self._diagonal(1)

    def _diagonal(self, side: int) -> Tensor:
        problem, state = self.solver.problem, self.solver.state
        log_sums = (state.log_rows, state.log_columns)[side].clamp(-300.0, 300.0)
        weights = (problem.alpha, problem.beta)[side].weights
        return floored(weights) * log_sums.exp() * self._kappa(side)

    def _kappa(self, side: int) -> Tensor | float:
        """Of the penalty; a potential that will be at the end of its range counts as being there."""
        problem = self.solver.problem
        return problem.penalties[side].curvature(self.solver.exact(side)[0], problem.epsilon)

    def _times(self, side: int, w: Tensor) -> Tensor:
        """P w (side 0) or Pᵀ w, over all pairs."""
        problem, state = self.solver.problem, self.solver.state
        alpha, beta = (Measure(m.points, floored(m.weights)) for m in (problem.alpha, problem.beta))
        full = FullSums(problem.pair, alpha, beta)
        products = (full.row_products, full.column_products)[side]
        return (alpha, beta)[side].weights * products(state.f, state.g, problem.epsilon, w[..., None])[..., 0]

    def _apply(self, z: Tensor) -> Tensor:
        """The system with μ eliminated; of a self problem, diag(κ P1) + P."""
        if self.solver.problem.is_self:
            return self._rows * z + self._times(0, z)
        return self._rows * z - self._times(0, self._times(1, z) / self._columns)

    def _conjugate_gradients(self, right: Tensor) -> Tensor:
        """Of the system scaled by its diagonal; the best iterate, where rounding ends progress."""
        dtype = self.solver.problem.pair.x.dtype
        # In the norm, rows of little weight count as heavier: solved by themselves, they say nothing of the others.
        heavy = self._rows.clamp(min=1e-3 * self._rows.mean(-1, keepdim=True))
        norm = lambda t: (t * t / heavy).sum(-1)  # noqa: E731
        z, residual = torch.zeros_like(right), self._projected(right)
        # What a projection leaves of a constant is rounding, and nothing to be solved.
        scale = norm(residual).maximum(1e-3 * norm(right)).clamp(min=1e-300)
        best, best_size, since = z, torch.ones_like(scale), 0
        direction, product, iterations = torch.zeros_like(z), torch.ones_like(scale), 0
        while iterations < ITERATIONS and since < STALL:
            size = norm(residual) / scale
            since = 0 if bool((size < 0.5 * best_size).any()) else since + 1
            better = size < best_size
            best = torch.where(better[..., None], z, best)
            best_size = torch.where(better, size, best_size)
            if bool((best_size <= RESIDUAL[dtype] ** 2).all()):
                break
            preconditioned = self._projected(self._preconditioned(residual), transposed=True)
            new = (residual * preconditioned).sum(-1)
            direction = preconditioned + (new / product)[..., None] * direction
            product = new
            image = self._projected(self._apply(direction))
            step = new / (direction * image).sum(-1)
            step = torch.where(step.isfinite(), step, 0.0)[..., None]
            z, residual = z + step * direction, residual - step * image
            iterations += 1
        left = float(best_size.max().sqrt())
        self.solves.append(LinearSolve(iterations, left))
        if left > ENOUGH[dtype]:
            warnings.warn(
                f"implicit differentiation: a linear system has a relative residual of {left:.1e} after {iterations} "
                f"iterations, expected {ENOUGH[dtype]:.0e}: derivatives are about as far off.",
                LinearSolveWarning,
                stacklevel=2,
            )
        return best

    @cached_property
    def _singular(self) -> Tensor:
        """Whether constants are in the null space, shape (..., 1): both potentials are free everywhere."""
        problem = self.solver.problem
        free = (torch.as_tensor(self._kappa(side), device=problem.alpha.weights.device) == 1.0 for side in (0, 1))
        first, second = (k.all(-1, keepdim=True) if k.ndim else k for k in free)
        return first & second & (not problem.is_self)

    def _projected(self, t: Tensor, transposed: bool = False) -> Tensor:
        """Without its constant part, where that is in the null space."""
        share = self._singular * self._rows / self._rows.sum(-1, keepdim=True)
        if transposed:
            return t - (share * t).sum(-1, keepdim=True)
        return t - share * t.sum(-1, keepdim=True)

    def _preconditioned(self, residual: Tensor) -> Tensor:
        plain = residual / self._rows
        if self._coarse is None:
            return plain
        averages, inverse = self._coarse
        dtype = averages.u.dtype
        down = averages.T.apply(residual[:, None].to(dtype)).double()
        return plain + averages.apply((inverse @ down).to(dtype)).double()[:, 0]

    @cached_property
    def _coarse(self) -> tuple[Gibbs, Tensor] | None:
        """The means A of coarse columns' values at the rows, and the inverse of D₂ − Pᵀ D₁⁻¹ P between cells."""
        if self._clouds is None:
            return None
        problem, state = self.solver.problem, self.solver.state
        epsilon, cost = problem.epsilon, problem.pair.cost
        sides = []
        for cloud, potential in zip(self._clouds, (state.f, state.g), strict=True):
            level = min(CELLS, cloud.tree.depth)
            if len(cloud.tree) <= 2**CELLS:
                sides.append((cloud.measure, potential))
                continue
            cells = cloud.tree.coarse(level)
            values = cloud.tree.sums(level, potential[cloud.tree.order])
            sides.append((cells, values / cloud.tree.bounds(level).diff().to(values)))
        (alpha, f), (beta, g) = sides
        C = cost.between(alpha.points.double()[:, None], beta.points.double()[None])
        log_kernel, (first, second) = C / -epsilon, problem.penalties
        for _ in range(BALANCING):  # towards a plan with the right marginals, as far as cells can have one
            f = first.update(-epsilon * (log_kernel + (g / epsilon + beta.log_weights)).logsumexp(1), epsilon)
            g = second.update(-epsilon * (log_kernel.T + (f / epsilon + alpha.log_weights)).logsumexp(1), epsilon)
        u, v = f / epsilon + alpha.log_weights, g / epsilon + beta.log_weights
        P = (u[:, None] + v + log_kernel).exp()
        kappa = first.curvature(f, epsilon), second.curvature(g, epsilon)
        rows, columns = P.sum(1).clamp(min=1e-100) * kappa[0], P.sum(0).clamp(min=1e-100) * kappa[1]
        root = columns.sqrt()
        scaled = P / rows.sqrt()[:, None] / root
        values, vectors = torch.linalg.eigh(torch.eye(len(root), dtype=P.dtype, device=P.device) - scaled.T @ scaled)
        inverse = torch.where(values > 1e-9, 1.0 / values.clamp(min=1e-9), 0.0)
        vectors = vectors / root[:, None]
        dtype = problem.pair.x.dtype
        pair = engine.pair(problem.pair.x, beta.points.to(dtype), cost, problem.pair.name)
        top = (state.f / epsilon) - log_sums(pair, state.f / epsilon, v, epsilon)
        top = top - torch.as_tensor(self._kappa(0), dtype=top.dtype, device=top.device).log()
        return Gibbs(pair, top.to(dtype), v.to(dtype), epsilon), (vectors * inverse) @ vectors.T
