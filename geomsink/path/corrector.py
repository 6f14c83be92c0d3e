"""Newton's method at one temperature, with the pairs that carry mass in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ..progress import Progress
from ..solver import (
    Accuracy,
    Goal,
    Iterate,
    Judged,
    Potentials,
    Problem,
    accuracy,
    change,
    read,
    residual,
    rounding,
    within,
)
from .dealtequation import ToldEquation, equation_of
from .equation import NewtonEquation
from .sums import StoredSums

SHIFTS = 1e-13, 1e-10, 1e-7, 1e-4, 1e-1
"""Of Newton's matrix, relative to its diagonal, one after the other until a step is of use: mass that is connected by
less than rounding promises steps without end."""
BELIEVED = 1e-7, 1e-10, 1e-13, 1e-4, 1e-1
"""Those by which the error is estimated, one after the other until it is small enough: the first is mostly it."""
LENGTHS = 1.0, 0.25, 0.0625
"""Of steps, until one raises the dual value."""
FAR = 100.0
"""Steps that are longer are not of use, in units of ε."""
CLOSE, ENOUGH = 1e-4, 1e-3
"""Largest error of the logarithm of a point's mass on the way, that is aimed at, and that is enough: what the masses of
two parts of a plan differ by must show while they still hang together."""
SLOW = 0.5
"""Share of the error that steps with the largest shift may leave before the way is given up."""
LOST = 600.0
"""Logarithm of a point's mass from which on no pair with it is known."""
STILL = 1e-9
"""Shift for slopes: what is connected by less stays as it is."""
LARGE = 50.0
"""Excess of a column, in logarithms, that steps are made for at most."""
ON_THE_WAY, AT_LAST = 1e-3, 1e-8
"""Relative residual of Newton's equation: a step is corrected by the next one, and an error is not."""


class Corrector(Judged):
    """Solves a problem at one temperature, from a start that is not far.

    Parameters
    ----------
    problem, goal, progress, before
        See `geomsink.solver.Judged`.
    stored : StoredSums
        Of the pairs that carry mass.
    last : int
        Cycle after which to stop.
    groups : pair of Tensor, optional
        See `geomsink.path.groups`.
    """

    def __init__(
        self,
        problem: Problem,
        goal: Goal,
        progress: Progress,
        before: Iterate | None,
        stored: StoredSums,
        last: int,
        groups: tuple[Tensor, Tensor] | None = None,
    ):
        super().__init__(problem, goal, progress, before, stored)
        self._stored, self._last, self._groups = stored, last, groups
        self._shift = 0

    def begin(self, potentials: Potentials, cycles: int) -> None:
        """Take potentials, and make plain updates of them."""
        self._row_update(potentials)
        for _ in range(cycles - 1):
            self._plain_cycle()

    def corrected(self, most: int) -> int | None:
        """Newton's steps until no point's mass is off by much; how many, or None if that is not reached."""
        steps, off, left = 0, self.off(), 0.0
        while CLOSE < off < LOST and steps < most and not (self._held and left > SLOW) and self._step():
            before, off = off, self.off()
            steps, left = steps + 1, off / before
        return steps if off <= ENOUGH else None

    @property
    def _held(self) -> bool:
        """Whether the last step took the largest shift to be of use: it is no longer Newton's."""
        return self._shift == len(SHIFTS) - 1

    def finished(self, most: int) -> bool:
        """Newton's steps until marginals and value are as right as they should be; whether they are."""
        for k in range(most + 1):
            if self.marginal_error <= self.tol:
                right, found = self._judge() if self.goal.asks_for_values else (True, None)
                if right:
                    self._go_further(found)
                    self._complete()
                    return True
            if k == most or not self._step():
                return False
        return False

    def off(self) -> float:
        """Largest |log| of a column's mass over what it should be."""
        return self._read()[0]

    def _read(self) -> list[float]:
        """That, the dual value, and what rounding does to it: a GPU is waited for, and steps ask for all of them."""
        return self.once("read", lambda: read(self._off(), self.value(), rounding(self)))

    def _off(self) -> Tensor:
        state, columns = self.state, self.problem.penalties[1]
        left = residual(columns, state.g, state.log_columns, self.problem.epsilon).abs()
        return torch.where(self.problem.beta.weights > 0.0, left, 0.0).amax()

    def _equation(self, residual: float) -> NewtonEquation | ToldEquation:
        """Newton's, at the present state."""
        return self.once(("Newton's equation", residual), lambda: self._made_equation(residual))

    def _made_equation(self, residual: float) -> NewtonEquation | ToldEquation:
        problem, state = self.problem, self.state
        plan = self._stored.plan(state.f, state.g, problem.epsilon)
        rows, columns = plan @ torch.ones_like(state.g), plan.T @ torch.ones_like(state.f)
        kappa = [p.curvature(h, problem.epsilon) for p, h in zip(problem.penalties, (state.f, state.g), strict=True)]
        return equation_of(plan, rows * kappa[0], columns * kappa[1], residual, self._groups)

    def tangent(self) -> tuple[Tensor, Tensor]:
        """Derivatives of f and g in log ε at the solution."""
        state, epsilon = self.state, self.problem.epsilon
        rows, columns = self._stored.slacks(state.f, state.g, epsilon)
        equation = self._equation(ON_THE_WAY)
        equation.shift = STILL
        du, dv = equation.solve(-rows, -columns)
        return epsilon * du, epsilon * dv

    def _step(self) -> bool:
        """Newton's, its part that is local to a column in logarithms; whether it raised the dual value."""
        state, epsilon, columns = self.state, self.problem.epsilon, self.problem.penalties[1]
        before, equation = (state.f, state.g, state.log_rows, state.log_columns), self._equation(ON_THE_WAY)
        _, value, slack = self._read()
        in_logarithms = change(columns, state.g, state.log_columns, epsilon)
        for k in range(max(0, self._shift - 1), len(SHIFTS)):
            smooth = self._direction(equation, SHIFTS[k])
            if not bool((smooth.abs() < FAR).all()):
                continue
            for length in LENGTHS:
                if self.cycles >= self._last:
                    return False
                self._row_update((before[0], within(columns, before[1] + length * (epsilon * smooth + in_logarithms))))
                off, after, _ = self._read()
                if off < LOST and after >= value - slack:
                    self._shift = k
                    return True
                state.f, state.g, state.log_rows, state.log_columns = before
        return False

    def _direction(self, equation: NewtonEquation | ToldEquation, shift: float) -> Tensor:
        """What Newton's step in g/ε has beside the plain update, shape (M,)."""
        state = self.state
        rho = self.missing(1, state.log_columns.clamp(max=LARGE))
        equation.shift = shift
        _, step = equation.solve(torch.zeros_like(state.f), rho)
        local = rho / equation.columns
        return torch.where(self.problem.beta.weights > 0.0, step - local, 0.0)

    def _accuracy(self, allowed: Tensor) -> Accuracy:
        """By Newton's equation with a shift that leaves a step to be believed: parts of a plan that have fallen to
        pieces are left as they are, and the mass that they are off by counts at the price of moving it."""
        equation, best = self._equation(AT_LAST), None
        for shift in BELIEVED:
            equation.shift = shift
            found = accuracy(self, allowed, None, self.goal.sharp, equation)
            best = found if best is None or bool((found.value < best.value).all()) else best
            if bool((best.value <= allowed).all()):
                break
        assert best is not None
        return best
