"""The loop: one entropic transport problem in, one converged (or honestly unconverged) solution out.

The updates need no maximum: with the potentials in the exponent, the row sums of the Gibbs operator are
1 at convergence, and f ← f − ω ε log(row sums) is the log-domain Sinkhorn update extrapolated by ω.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .acceleration import Acceleration
from .engine import Gibbs
from .progress import Progress
from .relaxation import Relaxation
from .solution import Problem, Step
from .sums import Approximation, FullSums, Sums

STALL = 80
"""Evaluations without progress, near the floor of the precision, after which a solve gives up."""
NEAR = 5.0
"""Times ``tol`` from which plain cycles are tried: over-relaxed ones leave a residual of fast modes, which a
plain one takes away."""


USELESS = 1.0
"""Marginal error (of 2 at most) from which on given potentials are not worth starting from."""
SMALL = 0.3
"""Marginal error from which on self problems are extrapolated."""
RELAXED = 20
"""Cycles of over-relaxed updates that are tried before Newton's step."""
CAUTION = 0.03
"""Share of the marginal error that Newton's matrix is shifted by: far from the solution it promises too much."""
GROWTH = 1.5
"""Growth of the marginal error that a step may have which raises the dual value."""
FAILURES = 4
"""Corrections undone in a row after which there are no more."""
STEPS, SLOW = 8, 0.5
"""Corrections in which the error falls by this factor at least; otherwise there are no more."""


class Correction(Protocol):
    """What a column update leaves out and can be found elsewhere: the smooth part of Newton's step."""

    def step(self, f: Tensor, g: Tensor, log_columns: Tensor, shift: float) -> Tensor | None:
        """To be added to g after a row update, beside −ε log_columns; less of it the larger ``shift`` is."""
        ...


@dataclass
class _State:
    """Potentials (float64) and what is known of their marginals: log(P1 / a) and log(Pᵀ1 / b)."""

    f: Tensor
    g: Tensor
    log_rows: Tensor
    log_columns: Tensor


class Solver:
    """Solves one problem; an object because a solve can be taken up again, finer or in higher precision.

    Parameters
    ----------
    problem : Problem
        Between measures of mass 1.
    tol : float
        Marginal error at which to stop, relative to the mass.
    max_iter : int
        Cycles, at most.
    progress : Progress
        Told of every evaluation.
    before : Solver, optional
        An earlier solve of the same problem, whose evaluations and history this one continues.
    sums : Sums, optional
        How row and column sums are found. Default: over all pairs.
    correction : Correction, optional
        Added to column updates for as long as it helps.
    newton : Correction, optional
        The same, where some over-relaxed updates have not been enough.
    patience : int, optional
        Evaluations without progress after which to give up. Default: 80, and only near the precision's floor.

    Attributes
    ----------
    allowance : float
        What the sums may be off by, as a marginal error.
    missing_mass : float
        What they are found to leave out of the plan's mass.
    """

    def __init__(
        self,
        problem: Problem,
        tol: float,
        max_iter: int,
        progress: Progress,
        before: Solver | None = None,
        sums: Sums | None = None,
        correction: Correction | None = None,
        newton: Correction | None = None,
        patience: int | None = None,
    ):
        self.problem, self.tol, self.max_iter, self.progress = problem, tol, max_iter, progress
        self.sums = sums or FullSums(problem.pair, problem.alpha, problem.beta)
        self.correction, self.newton, self.patience = correction, newton, patience
        self.history: list[Step] = list(before.history) if before else []
        self.evaluations: int = before.evaluations if before else 0
        self.cycles_before: int = before.cycles if before else 0
        zeros = torch.zeros_like
        a, b = problem.alpha.weights, problem.beta.weights
        self.state = _State(zeros(a), zeros(b), zeros(a), zeros(b))
        self.allowance = self.missing_mass = 0.0
        self.approximation: Approximation | None = None

    def run(self, start: tuple[Tensor, Tensor] | None = None, otherwise: tuple[Tensor, Tensor] | None = None) -> str:
        """Solve, and return the status.

        From ``start``, unless that is useless: then from ``otherwise``, or by annealing.
        """
        if self.problem.epsilon == math.inf:
            return self._infinite_temperature()
        cycles = self._self_cycles if self.problem.is_self else self._cycles
        best, since = math.inf, 0
        for error in cycles(start, otherwise):
            if error <= self.tol:
                return "converged"
            if math.isnan(error):
                return "the marginal error is not a number"
            best, since = (error, 0) if error < 0.9 * best else (best, since + 1)
            if self.patience is not None and since >= self.patience:
                return "no progress is made"
            if since >= STALL and best < 10 * self.problem.floor():
                return f"the floor of {self.dtype} is reached"
            if self.cycles - self.cycles_before >= self.max_iter:
                return f"max_iter={self.max_iter} is reached"
        raise AssertionError("the updates end only when told to")

    @property
    def cycles(self) -> int:
        """Updates of both potentials so far; a self problem's single update is one."""
        return self.evaluations if self.problem.is_self else (self.evaluations + 1) // 2

    @property
    def dtype(self) -> str:
        return str(self.problem.pair.x.dtype).removeprefix("torch.")

    @property
    def marginal_error(self) -> float:
        """That of the present state."""
        alpha, beta, state = self.problem.alpha, self.problem.beta, self.state
        rows = alpha.weights @ _excess(state.log_rows).abs()
        columns = beta.weights @ _excess(state.log_columns).abs()
        return float(rows + columns) + self.allowance

    def value(self) -> float:
        """The dual value of the present state."""
        alpha, beta, state = self.problem.alpha, self.problem.beta, self.state
        value = float(alpha.weights @ state.f + beta.weights @ state.g)
        if self.problem.epsilon == float("inf"):
            return value
        excess = float(beta.weights @ _excess(state.log_columns)) + self.missing_mass
        return value - self.problem.epsilon * excess

    def plan(self) -> Gibbs:
        """The plan of the present state, in the working precision."""
        problem, state = self.problem, self.state
        u = state.f / problem.epsilon + problem.alpha.log_weights
        v = state.g / problem.epsilon + problem.beta.log_weights
        return Gibbs(problem.pair, u.to(problem.pair.x.dtype), v.to(problem.pair.x.dtype), problem.epsilon)

    # ------------------------------------------------------------------ updates

    def _cycles(self, start: tuple[Tensor, Tensor] | None, otherwise: tuple[Tensor, Tensor] | None) -> Iterator[float]:
        """Alternating updates: one cycle a temperature, then corrected or over-relaxed ones; yields marginal errors.

        Between cycles the rows are exact and the columns' marginals are known.
        """
        error = math.inf if start is None else self._row_update(start)
        if not error <= USELESS:
            start, error = otherwise, self._row_update(otherwise or self._annealed())
        yield error
        if self.correction is not None:
            yield from self._corrected(self.correction, accelerated=True)
        if self.newton is not None:
            if start is None:
                yield from self._relaxed(RELAXED)
                yield self._exact_rows()
            yield from self._corrected(self.newton, accelerated=False)
        yield from self._relaxed()

    def _row_update(self, potentials: tuple[Tensor, Tensor]) -> float:
        """The plain update of f, and the error that it leaves."""
        state, epsilon = self.state, self.problem.epsilon
        state.f, state.g = potentials
        state.f = state.f - epsilon * self._log_rows(epsilon)
        state.log_rows = torch.zeros_like(state.f)
        state.log_columns = self._log_columns(epsilon)
        return self._note(epsilon)

    def _annealed(self) -> tuple[Tensor, Tensor]:
        """Potentials after one cycle at each higher temperature, from zero."""
        state, problem = self.state, self.problem
        state.f, state.g = torch.zeros_like(problem.alpha.weights), torch.zeros_like(problem.beta.weights)
        for epsilon in problem.temperatures[:-1]:
            state.f = state.f - epsilon * self._log_rows(epsilon)
            state.log_rows = torch.zeros_like(state.f)
            state.log_columns = self._log_columns(epsilon)
            self._note(epsilon)
            state.g = state.g - epsilon * state.log_columns
        return state.f, state.g

    def _relaxed(self, limit: float = math.inf) -> Iterator[float]:
        """Over-relaxed updates, for ``limit`` cycles."""
        state, epsilon, relaxation = self.state, self.problem.epsilon, Relaxation()
        near, plain_cycles, last = NEAR * self.tol, 0, self.cycles + limit
        while True:
            omega = 1.0 if plain_cycles else relaxation.omega
            # The update multiplies column sums by their own power −ω: that marginal is known without a sum.
            state.g = state.g - omega * epsilon * state.log_columns
            state.log_columns = (1.0 - omega) * state.log_columns
            log_rows = state.log_rows = self._log_rows(epsilon)
            yield self._note(epsilon)
            state.f = state.f - omega * epsilon * log_rows
            state.log_rows = (1.0 - omega) * log_rows
            state.log_columns = self._log_columns(epsilon)
            error = self._note(epsilon)
            yield error
            if self.cycles >= last:
                return
            if plain_cycles:
                plain_cycles -= 1
            elif error < near:
                plain_cycles, near = 2, 0.5 * error
            else:
                relaxation.observe(error)

    def _corrected(self, correction: Correction, accelerated: bool) -> Iterator[float]:
        """Column updates with a correction; ends where they do not help.

        A step that reduces neither the error nor the distance to the dual optimum is undone, and the next one is nearer
        to the plain update. Where the correction stays the same, steps are extrapolated from the last few.
        """
        state, epsilon, failures, caution = self.state, self.problem.epsilon, 0, CAUTION
        scale, acceleration = self.problem.beta.weights.sqrt(), Acceleration()
        errors = [self.marginal_error]
        while failures < FAILURES and not (len(errors) > STEPS and errors[-1] > SLOW * errors[-1 - STEPS]):
            error, value = errors[-1], self.value()
            before = state.f, state.g, state.log_columns
            smooth = correction.step(state.f, state.g, state.log_columns, caution * error)
            if smooth is None:
                return
            step = smooth - epsilon * state.log_columns
            g = acceleration.next(state.g, step, scale) if accelerated else state.g + step
            new = self._row_update((state.f, g))
            yield new
            slack = epsilon * max(error**2, self.problem.floor())
            if new < GROWTH * error and self.value() > value - (slack if new < error else 0.0):
                failures, caution = 0, max(0.5 * caution, CAUTION)
                errors.append(new)
            else:
                failures, caution, acceleration = failures + 1, 8.0 * caution, Acceleration()
                state.f, state.g, state.log_columns = before

    def _exact_rows(self) -> float:
        """The plain update of f after over-relaxed ones, which have left row sums at a known power."""
        state, epsilon = self.state, self.problem.epsilon
        state.f = state.f - epsilon * state.log_rows
        state.log_rows = torch.zeros_like(state.f)
        state.log_columns = self._log_columns(epsilon)
        return self._note(epsilon)

    def _self_cycles(
        self, start: tuple[Tensor, Tensor] | None, otherwise: tuple[Tensor, Tensor] | None
    ) -> Iterator[float]:
        """The symmetric fixed point f ← f − ½ ε log(row sums), extrapolated from the last few once it contracts.

        It contracts by two or more and needs no annealing: where the cost vanishes on the diagonal, no row sum
        underflows. That is so for costs whose kernel exp(−C/ε) is positive definite; with others it is seen whether
        it converges.
        """
        state, epsilon, best = self.state, self.problem.epsilon, math.inf
        first = otherwise or (torch.zeros_like(state.f), torch.zeros_like(state.f))
        state.f = state.g = (start or first)[0]
        scale, acceleration = self.problem.alpha.weights.sqrt(), Acceleration()
        while True:
            log_rows = self._log_rows(epsilon)
            state.log_rows = state.log_columns = log_rows
            error = self._note(epsilon)
            if start is not None and not error <= USELESS:
                start, state.f = None, first[0]
                state.g = state.f
                continue
            start = None
            yield error
            if not error < min(best, SMALL):
                acceleration = Acceleration()
            best = error
            state.f = state.g = acceleration.next(state.f, -0.5 * epsilon * log_rows, scale)

    def _infinite_temperature(self) -> str:
        """ε = ∞, where the plan is a ⊗ b and f = Cb − ½⟨a, Cb⟩, g = Ca − ½⟨a, Cb⟩ in the limit."""
        problem, pair = self.problem, self.problem.pair
        zeros = (pair.x.new_zeros(len(pair.x)), pair.x.new_zeros(len(pair.y)))
        log_a, log_b = (m.log_weights.to(pair.x.dtype) for m in (problem.alpha, problem.beta))
        f = pair.row_costs(zeros[0], log_b, float("inf")).double()
        g = pair.T.row_costs(zeros[1], log_a, float("inf")).double()
        mean = float(problem.alpha.weights @ f)
        self.state.f, self.state.g = f - 0.5 * mean, g - 0.5 * mean
        self.evaluations += 2
        self._note(float("inf"))
        return "converged"

    # --------------------------------------------------------------- evaluations

    def _log_rows(self, epsilon: float) -> Tensor:
        self.evaluations += 1
        return self.sums.log_rows(self.state.f, self.state.g, epsilon)

    def _log_columns(self, epsilon: float) -> Tensor:
        self.evaluations += 1
        return self.sums.log_columns(self.state.f, self.state.g, epsilon)

    def _note(self, epsilon: float) -> float:
        step = Step(self.evaluations, epsilon, self.marginal_error)
        self.history.append(step)
        self.progress.update(step.epsilon, step.marginal_error, self.tol)
        return step.marginal_error


def _excess(log_ratio: Tensor) -> Tensor:
    """Marginal over weight, less one; bounded, so that a point without weight never makes 0 · ∞."""
    return log_ratio.clamp(max=700.0).expm1()


def solve_problem(
    problem: Problem,
    tol: float,
    max_iter: int,
    progress: Progress,
    start: tuple[Tensor, Tensor] | None = None,
    before: Solver | None = None,
    newton: Correction | None = None,
) -> tuple[Solver, str, float]:
    """Solve; returns the solver with its final state, the status and the seconds taken.

    Parameters
    ----------
    problem : Problem
    tol : float
    max_iter : int
    progress : Progress
    start : pair of Tensors, shapes (N,) and (M,), optional
        Potentials to start from at the target temperature. Default: annealing from zero.
    before : Solver, optional
        An earlier solve, to be continued in the report.
    newton : Correction, optional
        Tried where over-relaxed updates are slow.
    """
    began = time.perf_counter()
    solver = Solver(problem, tol, max_iter, progress, before, newton=newton)
    status = solver.run(start)
    return solver, status, time.perf_counter() - began
