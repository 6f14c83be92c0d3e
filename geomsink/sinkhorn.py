"""The loop: one entropic transport problem in, one converged (or honestly unconverged) solution out.

The updates need no maximum: with the potentials in the exponent, the row sums of the Gibbs operator are
1 at convergence, and f ← f − ω ε log(row sums) is the log-domain Sinkhorn update extrapolated by ω.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .engine import Gibbs, Pair
from .measures import Measure
from .progress import Progress
from .relaxation import Relaxation

SAFE = {torch.float32: 1e30, torch.float64: 1e290}
"""Row sums outside of [1/SAFE, SAFE] are computed again with their maximum taken out."""
ROUNDING = {torch.float32: 6e-8, torch.float64: 1.2e-16}
STALL = 80
"""Evaluations without progress, near the floor of the precision, after which a solve gives up."""
NEAR = 5.0
"""Times ``tol`` from which plain cycles are tried: over-relaxed ones leave a residual of fast modes, which a
plain one takes away."""


class ConvergenceWarning(UserWarning):
    """A solve stopped before its marginal error came below ``tol``."""


@dataclass(frozen=True)
class Problem:
    """One entropic transport problem, ready to be solved.

    Attributes
    ----------
    alpha, beta : Measure
        Of mass 1; ``beta is alpha`` makes it a self problem, with one potential.
    pair : Pair
        The same points on an engine, in the working precision.
    temperatures : tuple of float
        To anneal through; the last one is the problem's ε.
    cost_scale : float
        About the largest cost.
    """

    alpha: Measure
    beta: Measure
    pair: Pair
    temperatures: tuple[float, ...]
    cost_scale: float

    @property
    def epsilon(self) -> float:
        return self.temperatures[-1]

    @property
    def is_self(self) -> bool:
        return self.beta is self.alpha

    def floor(self) -> float:
        """About the smallest marginal error that rounding of the exponents allows."""
        return ROUNDING[self.pair.x.dtype] * max(self.cost_scale / self.epsilon, 16.0)


@dataclass(frozen=True)
class Step:
    """One evaluation on the way: how many row sums so far, at which ε, with which marginal error."""

    evaluations: int
    epsilon: float
    marginal_error: float


@dataclass(frozen=True)
class Solution:
    """A solved problem OT_ε(α, β), and how well it is solved.

    Attributes
    ----------
    value : float or Tensor
        The dual value ⟨a, f⟩ + ⟨b, g⟩ − ε (Σ P_ij − m²) for masses m: a lower bound of OT_ε(α, β), whose
        error is of second order in the marginal error.
    potentials : tuple of arrays, shapes (N,) and (M,)
        f and g, in units of the cost, shifted so that ⟨a, f⟩ = ⟨b, g⟩.
    converged : bool
    status : str
        ``"converged"``, or why not.
    marginal_error : float
        ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of the plan P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), relative to the mass.
    n_iter : int
        Cycles, of one update of each potential; annealing included.
    epsilon : float
    temperatures : tuple of float
        Annealed through.
    tol : float
    engine : str
    dtype : str
        The working precision.
    seconds : float
    history : tuple of Step
    plan : Gibbs
        P, as an operator in the working precision; its engine computes costs anew, so that none are kept.
    """

    value: float | Tensor
    potentials: tuple[Any, Any]
    converged: bool
    status: str
    marginal_error: float
    n_iter: int
    epsilon: float
    temperatures: tuple[float, ...]
    tol: float
    engine: str
    dtype: str
    seconds: float
    history: tuple[Step, ...] = field(repr=False)
    plan: Gibbs = field(repr=False)

    @cached_property
    def transport_cost(self) -> float | Tensor:
        """⟨P, C⟩, by one reduction when first asked for; its error is of first order in the marginal error."""
        total = transport_cost(self.plan)
        return self.value.new_tensor(total) if isinstance(self.value, Tensor) else total


def transport_cost(plan: Gibbs) -> float:
    """⟨P, C⟩ of a plan, in float64 whatever the caller's precision."""
    return float(plan.row_costs().double().sum())


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
    """

    def __init__(self, problem: Problem, tol: float, max_iter: int, progress: Progress, before: Solver | None = None):
        self.problem, self.tol, self.max_iter, self.progress = problem, tol, max_iter, progress
        self.history: list[Step] = list(before.history) if before else []
        self.evaluations: int = before.evaluations if before else 0
        self.cycles_before: int = before.cycles if before else 0
        zeros = torch.zeros_like
        a, b = problem.alpha.weights, problem.beta.weights
        self.state = _State(zeros(a), zeros(b), zeros(a), zeros(b))

    def run(self, start: tuple[Tensor, Tensor] | None = None) -> str:
        """Solve, from the given potentials or by annealing; returns the status."""
        if start is not None:
            self.state.f, self.state.g = (potential.clone() for potential in start)
        if self.problem.epsilon == float("inf"):
            return self._infinite_temperature()
        steps = self._self_cycles() if self.problem.is_self else self._cycles(annealed=start is not None)
        best, since = float("inf"), 0
        for error in steps:
            if error <= self.tol:
                return "converged"
            if math.isnan(error):
                return "the marginal error is not a number"
            best, since = (error, 0) if error < 0.9 * best else (best, since + 1)
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
        return float(rows + columns)

    def value(self) -> float:
        """The dual value of the present state."""
        alpha, beta, state = self.problem.alpha, self.problem.beta, self.state
        value = float(alpha.weights @ state.f + beta.weights @ state.g)
        if self.problem.epsilon == float("inf"):
            return value
        return value - self.problem.epsilon * float(beta.weights @ _excess(state.log_columns))

    def plan(self) -> Gibbs:
        """The plan of the present state, in the working precision."""
        problem, state = self.problem, self.state
        u = state.f / problem.epsilon + problem.alpha.log_weights
        v = state.g / problem.epsilon + problem.beta.log_weights
        return Gibbs(problem.pair, u.to(problem.pair.x.dtype), v.to(problem.pair.x.dtype), problem.epsilon)

    # ------------------------------------------------------------------ updates

    def _cycles(self, annealed: bool) -> Iterator[float]:
        """Alternating updates: one cycle a temperature, then over-relaxed ones; yields marginal errors."""
        state, problem = self.state, self.problem
        for epsilon in () if annealed else problem.temperatures[:-1]:
            state.f -= epsilon * self._log_row_sums(epsilon)
            state.log_rows.zero_()
            state.log_columns = self._log_column_sums(epsilon)
            self._note(epsilon)
            state.g -= epsilon * state.log_columns
        epsilon, relaxation = problem.epsilon, Relaxation()
        log_rows, near, plain_cycles = self._log_row_sums(epsilon), NEAR * self.tol, 0
        while True:
            omega = 1.0 if plain_cycles else relaxation.omega
            # The update multiplies row sums by their own power −ω: the row marginal is known without a sum.
            state.f -= omega * epsilon * log_rows
            state.log_rows = (1.0 - omega) * log_rows
            state.log_columns = self._log_column_sums(epsilon)
            error = self._note(epsilon)
            yield error
            if plain_cycles:
                plain_cycles -= 1
            elif error < near:
                plain_cycles, near = 2, 0.5 * error
            else:
                relaxation.observe(error)
            state.g -= omega * epsilon * state.log_columns
            state.log_columns = (1.0 - omega) * state.log_columns
            state.log_rows = log_rows = self._log_row_sums(epsilon)
            yield self._note(epsilon)

    def _self_cycles(self) -> Iterator[float]:
        """The symmetric fixed point f ← f − ½ ε log(row sums), which contracts by two or more.

        It needs no annealing: where the cost vanishes on the diagonal, no row sum underflows. The contraction is
        that of costs whose kernel exp(−C/ε) is positive definite; with others it is seen whether it converges.
        """
        state, epsilon = self.state, self.problem.epsilon
        while True:
            log_rows = self._log_row_sums(epsilon)
            state.log_rows = state.log_columns = log_rows
            yield self._note(epsilon)
            state.f = state.g = state.f - 0.5 * epsilon * log_rows

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

    def _log_row_sums(self, epsilon: float) -> Tensor:
        return self._log_sums(self.problem.pair, self.state.f, self.state.g, self.problem.beta, epsilon)

    def _log_column_sums(self, epsilon: float) -> Tensor:
        return self._log_sums(self.problem.pair.T, self.state.g, self.state.f, self.problem.alpha, epsilon)

    def _log_sums(self, pair: Pair, f: Tensor, g: Tensor, other: Measure, epsilon: float) -> Tensor:
        """log Σ_j b_j exp((f_i + g_j − C_ij) / ε), in float64."""
        self.evaluations += 1
        dtype = pair.x.dtype
        exact_u = f / epsilon
        u, v = exact_u.to(dtype), (g / epsilon + other.log_weights).to(dtype)
        sums = Gibbs(pair, u, v, epsilon).row_sums().double()
        if bool(((sums > 1 / SAFE[dtype]) & (sums < SAFE[dtype])).all()):
            return sums.log() + (exact_u - u.double())
        largest = Gibbs(pair, u, v, epsilon).row_max()
        sums = Gibbs(pair, -largest, v, epsilon).row_sums().double()
        return sums.log() + largest.double() + exact_u

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
    """
    began = time.perf_counter()
    solver = Solver(problem, tol, max_iter, progress, before)
    status = solver.run(start)
    return solver, status, time.perf_counter() - began
