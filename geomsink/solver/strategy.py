"""What ways of solving a problem have in common: a start in, a solved state out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from torch import Tensor

from ..progress import Progress
from .iterate import Iterate
from .problem import Problem

Potentials = tuple[Tensor, Tensor]

FLOOR = "the floor of"
"""What a status begins with where rounding has ended progress."""

LIMIT = "max_iter="
"""And where there have been as many cycles as there may be."""


@dataclass(frozen=True)
class Solved:
    """A problem in its final state.

    Attributes
    ----------
    solver : Iterate
    status : str
        ``"converged"``, or why it stopped.
    seconds : float
    strategy : str
        The name of the strategy that solved it.
    live : pair of Tensor, or None
        Potentials with autograd history, where the strategy makes one.
    """

    solver: Iterate
    status: str
    seconds: float
    strategy: str
    live: Potentials | None = None

    @property
    def potentials(self) -> Potentials:
        """f and g, constants."""
        return self.solver.state.f, self.solver.state.g

    @property
    def converged(self) -> bool:
        return self.status == "converged"

    @property
    def at_floor(self) -> bool:
        """Whether rounding has ended progress above the tolerance."""
        return self.status.startswith(FLOOR)

    def continued(self, later: Solved) -> Solved:
        """This state, after another attempt that has come no further."""
        self.solver.evaluations, self.solver.history = later.solver.evaluations, later.solver.history
        return replace(self, seconds=later.seconds)

    def after(self, earlier: Solved | None) -> Solved:
        """With the seconds of an earlier solve of the same problem."""
        return self if earlier is None else replace(self, seconds=earlier.seconds + self.seconds)


class Strategy(Protocol):
    """A way to solve a problem: a small frozen object whose fields are its options.

    Attributes
    ----------
    name : str
        What reports call it.
    """

    name: ClassVar[str]

    def solve(
        self, problem: Problem, progress: Progress, start: Potentials | None = None, before: Solved | None = None
    ) -> Solved:
        """Solve a problem.

        Parameters
        ----------
        problem : Problem
        progress : Progress
            Told of every evaluation.
        start : pair of Tensor, shapes (N,) and (M,), optional
            Potentials to start from, at the target temperature.
        before : Solved, optional
            An earlier solve of the same problem, which the report continues.
        """
        ...
