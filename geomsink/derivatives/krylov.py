"""Newton's system for implicit differentiation, with a preconditioner from cells.

Since (D₁ − P D₂⁻¹ Pᵀ)⁻¹ = D₁⁻¹ + D₁⁻¹ P (D₂ − Pᵀ D₁⁻¹ P)⁻¹ Pᵀ D₁⁻¹, a plan between the points and coarse columns gives
a preconditioner that is exact where cells are points: the two-grid correction in linear form.
"""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor

from .. import engine
from ..engine import Gibbs
from ..multiscale import Cloud
from ..solver import Enough, Iterate, NewtonOperator, log_sums

CELLS = 10
"""Level of the coarse columns: 1024 cells."""
BALANCING = 50
"""Updates of the coarse plan's potentials."""
ENOUGH = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Relative residual above which a warning is given."""


class LinearSolveWarning(UserWarning):
    """The linear system of implicit differentiation is solved less well than it should be."""


class ImplicitOperator(NewtonOperator):
    """Newton's system at the state that a solver ended in, as far as rounding goes.

    Parameters
    ----------
    solver : Iterate
    clouds : pair of Cloud, optional
        Of the two measures, for the preconditioner. Default: diagonal, as self problems need no more.
    """

    def __init__(self, solver: Iterate, clouds: tuple[Cloud, Cloud] | None = None):
        super().__init__(solver)
        self._clouds = clouds

    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]:
        """See `NewtonOperator`; warns where derivatives would be off."""
        found = super().solve(r, s, enough)
        expected, last = ENOUGH[self.solver.problem.pair.x.dtype], self.solves[-1]
        if last.residual > expected:
            warnings.warn(
                f"implicit differentiation: a linear system has a relative residual of {last.residual:.1e} after "
                f"{last.iterations} iterations, expected {expected:.0e}: derivatives are about as far off.",
                LinearSolveWarning,
                stacklevel=2,
            )
        return found

    def _preconditioned(self, residual: Tensor) -> Tensor:
        plain = super()._preconditioned(residual)
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
