"""Newton's system for implicit differentiation, with a preconditioner from cells.

Since (D₁ − P D₂⁻¹ Pᵀ)⁻¹ = D₁⁻¹ + D₁⁻¹ P (D₂ − Pᵀ D₁⁻¹ P)⁻¹ Pᵀ D₁⁻¹, a plan between the points and coarse columns gives
a preconditioner that is exact where cells are points: the two-grid correction in linear form.
"""

from __future__ import annotations

import math
import warnings
from functools import cached_property

import torch
from torch import Tensor

from .. import engine
from ..engine import Gibbs
from ..measures import Measure
from ..multiscale import Audited, Cloud, SketchedSums
from ..solver import Enough, FullSums, Iterate, LinearSolve, NewtonOperator, Sums, log_sums

CELLS = 10
"""Level of the coarse columns: 1024 cells."""
BALANCING = 50
"""Updates of the coarse plan's potentials."""
ENOUGH = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Relative residual above which a warning is given."""
ROOM = 0.1
"""Share of that to which systems are solved between sketches: what is left is for what they are off by."""

CORRECTIONS, GAIN = 3, 0.3
"""Solutions between sketches, at most, and what each leaves of what the one before has left, at most."""


class LinearSolveWarning(UserWarning):
    """The linear system of implicit differentiation is solved less well than it should be."""


class ImplicitOperator(NewtonOperator):
    """Newton's system at the state that a solver ended in, as far as rounding goes.

    After a solve between sketches, products with the plan are made between them too, and rows and columns drawn at
    random, summed over all points, tell what the solution leaves. It is corrected if that is too much, with what all
    pairs leave on the right: two products of theirs a correction, where conjugate gradients need two an iteration.

    Parameters
    ----------
    solver : Iterate
    clouds : pair of Cloud, optional
        Of the two measures, for the preconditioner. Default: diagonal, as self problems need no more.
    sums : Sums, optional
        How products with the plan are found. Default: as said.
    residual : float, optional
        Relative residual to stop at. Default: a few roundings of the products.
    """

    def __init__(
        self,
        solver: Iterate,
        clouds: tuple[Cloud, Cloud] | None = None,
        sums: Sums | None = None,
        residual: float | None = None,
    ):
        super().__init__(solver, sums, residual)
        self._clouds = clouds

    def check_defined(self) -> None:
        """Refuse weights of which some are negative: Newton's matrix is not definite then.

        Raises
        ------
        ValueError
        """
        if self.solver.problem.is_signed:
            raise ValueError(
                "differentiation: derivatives of potentials, as second ones of a value, were asked for with a Sketch, "
                "between whose negative weights Newton's equation is not definite; expected first ones, or points."
            )

    def weightless(self, r: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """What aλ and bμ are for a right-hand side at points without weight, where λ and μ would be infinite; 0
        elsewhere."""
        if self.solver.problem.is_self:
            r = s = r + s
        found = [
            torch.where(m.weights > 0.0, 0.0, right / self._of_unit(side))
            for side, (m, right) in enumerate(((self.solver.problem.alpha, r), (self.solver.problem.beta, s)))
        ]
        return found[0], found[1]

    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]:
        """See `NewtonOperator`; points without weight move as the others make them. Warns where derivatives would be
        off."""
        rows, columns = self.weightless(r, s)
        if bool((rows != 0.0).any() | (columns != 0.0).any()):
            alpha, beta = self.solver.problem.alpha, self.solver.problem.beta
            r = r - alpha.weights * self._of_masses(0, columns)
            s = s if self.solver.problem.is_self else s - beta.weights * self._of_masses(1, rows)
        lam, mu = self._solved(r, s, enough)
        return self._moved(0, lam, mu, columns), self._moved(1, mu, lam, rows)

    def _moved(self, side: int, own: Tensor, other: Tensor, masses: Tensor) -> Tensor:
        """With what the other potential, and masses where it has no weight, make of one at points without."""
        problem = self.solver.problem
        here = (problem.alpha, problem.beta)[side]
        if bool((here.weights > 0.0).all()):
            return own
        moved = self._products(side, FullSums(problem.pair, problem.alpha, problem.beta), other)
        if bool((masses != 0.0).any()):
            moved = moved + self._of_masses(side, masses)
        return torch.where(here.weights > 0.0, own, -moved / self._of_unit(side))

    def _of_masses(self, side: int, masses: Tensor) -> Tensor:
        """Σ_j exp((f_i + g_j − C_ij)/ε) of masses, for rows (side 0) or columns."""
        problem = self.solver.problem
        alpha, beta = (Measure(m.points, torch.ones_like(m.weights)) for m in (problem.alpha, problem.beta))
        return self._products(side, FullSums(problem.pair, alpha, beta), masses)

    def _solved(self, r: Tensor, s: Tensor, enough: Enough | None) -> tuple[Tensor, Tensor]:
        if self._sketched is not None and (corrected := self._corrected(r, s)) is not None:
            return corrected
        found = super().solve(r, s, enough)
        expected, last = self._expected, self.solves[-1]
        if self._given is None and last.residual > expected:
            warnings.warn(
                f"implicit differentiation: a linear system has a relative residual of {last.residual:.1e} after "
                f"{last.iterations} iterations, expected {expected:.0e}: derivatives are about as far off.",
                LinearSolveWarning,
                stacklevel=2,
            )
        return found

    @property
    def _expected(self) -> float:
        return ENOUGH[self.solver.problem.pair.x.dtype]

    @cached_property
    def _sketched(self) -> ImplicitOperator | None:
        """The same with products between sketches, if that is how the problem was solved."""
        sums = self.solver.sums
        if self._given is not None or self.is_stored or not isinstance(sums, SketchedSums):
            return None
        return ImplicitOperator(self.solver, self._clouds, sums, ROOM * self._expected)

    def _corrected(self, r: Tensor, s: Tensor) -> tuple[Tensor, Tensor] | None:
        """A solution made of corrections, each the one between sketches for what all pairs leave so far; None if they
        do not do."""
        assert self._sketched is not None
        lam, mu, rest = torch.zeros_like(r), torch.zeros_like(s), (r, s)
        missed, iterations = math.inf, 0
        for left in reversed(range(CORRECTIONS)):
            more = self._sketched.solve(*rest)
            lam, mu, before = lam + more[0], mu + more[1], missed
            missed, iterations = self._missed(r, s, (lam, mu)), iterations + self._sketched.solves[-1].iterations
            if missed <= self._expected:
                self.solves.append(LinearSolve(iterations, missed, sketched=True))
                return lam, mu
            if missed > GAIN * before or not left:
                break
            rest = self._rest(r, s, lam, mu)
        return None

    def _rest(self, r: Tensor, s: Tensor, lam: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """What a solution leaves of the right-hand side, but at points without weight, where it leaves nothing."""
        free = [m.weights > 0.0 for m in (self.solver.problem.alpha, self.solver.problem.beta)]
        if self.solver.problem.is_self:
            rest = 0.5 * torch.where(free[0], r + s - self.rows * lam - self._times(0, lam), 0.0)
            return rest, rest
        return (
            torch.where(free[0], r - self.rows * lam - self._times(0, mu), 0.0),
            torch.where(free[1], s - self._columns * mu - self._times(1, lam), 0.0),
        )

    def _missed(self, r: Tensor, s: Tensor, found: tuple[Tensor, Tensor]) -> float:
        """Norm of what a solution leaves of the right-hand side, relative to it, as rows and columns drawn at random
        say, summed over all points."""
        problem, state = self.solver.problem, self.solver.state
        one_side = problem.is_self
        if one_side:
            r = s = r + s
        left, whole = torch.zeros_like(r[0]), torch.zeros_like(r[0])
        for side, right in enumerate((r,) if one_side else (r, s)):
            turn = 1 - 2 * side
            rows, columns = (problem.alpha, problem.beta)[::turn]
            here, there = found[::turn]
            pair = problem.pair if side == 0 else problem.pair.T
            audited = Audited(rows, columns, pair)
            f, g = (state.f, state.g)[::turn]
            drawn, products = audited.products(f, g, problem.epsilon, there)
            diagonal, heavy = (self.rows, self._columns)[side][drawn], self._heavy(side)
            rest = right[drawn] - diagonal * here[drawn] - rows.weights[drawn] * products
            chance = rows.weights[drawn] / rows.weights.sum()
            if side == 0:  # what constants would have to solve is left there
                rest = rest - self._share[drawn] * (rest / chance).mean()
            sizes = rest.square() / heavy[drawn] / chance
            left = left + sizes.mean() + 3.0 * sizes.std() / math.sqrt(len(sizes))
            whole = whole + (right.square() / heavy)[rows.weights > 0.0].sum()
        return float((left / whole.clamp(min=1e-300)).sqrt())

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
