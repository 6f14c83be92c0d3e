"""What a transport problem is: two measures on an engine, temperatures, and the penalties of the marginals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from ..choose import ROUNDING
from ..engine import Pair
from ..measures import Measure
from .penalties import Balanced, Penalty


@dataclass(frozen=True)
class Problem:
    """One entropic transport problem, or a batch of them, ready to be solved.

    Attributes
    ----------
    alpha, beta : Measure
        ``beta is alpha`` makes it a self problem, with one potential.
    pair : Pair
        The same points on an engine, in the working precision.
    temperatures : tuple of float
        To anneal through; the last one is the problem's ε.
    cost_scale : float
        About the largest cost.
    penalties : pair of Penalty
        Of the two marginals. With fixed ones the measures have mass 1.
    whole : pair of Tensor, optional
        Masses of the whole measures, shape (), where ``alpha`` and ``beta`` are a process's parts of them.
    """

    alpha: Measure
    beta: Measure
    pair: Pair
    temperatures: tuple[float, ...]
    cost_scale: float
    penalties: tuple[Penalty, Penalty] = (Balanced(), Balanced())
    whole: tuple[Tensor, Tensor] | None = None

    @property
    def epsilon(self) -> float:
        return self.temperatures[-1]

    @property
    def pairs(self) -> int:
        """Of points; of a batch, of all items."""
        return self.alpha.weights.numel() * self.beta.weights.shape[-1]

    @property
    def T(self) -> Problem:
        """The same with the measures exchanged."""
        return replace(
            self, alpha=self.beta, beta=self.alpha, pair=self.pair.T, penalties=self.penalties[::-1],
            whole=self.whole and self.whole[::-1],
        )  # fmt: skip

    @property
    def is_self(self) -> bool:
        return self.beta is self.alpha

    @property
    def is_signed(self) -> bool:
        """Whether weights may be negative: one of the measures is a sketch."""
        return self.alpha.signs is not None or self.beta.signs is not None

    @cached_property
    def masses(self) -> tuple[Tensor, Tensor]:
        """Of the two measures, shape () or (B,)."""
        return self.whole or (self.alpha.weights.sum(-1), self.beta.weights.sum(-1))

    @cached_property
    def mass(self) -> Tensor:
        """The mean of both, shape () or (B,)."""
        return 0.5 * (self.masses[0] + self.masses[1])

    def floor(self) -> float:
        """About the smallest marginal error that rounding of the exponents allows."""
        return ROUNDING[self.pair.x.dtype] * max(self.cost_scale / self.epsilon, 16.0)


def free_constant(mass: Tensor, epsilon: Any) -> tuple[Tensor, Tensor]:
    """ε (m² − m − m log m), and a size that its rounding errors are relative to.

    OT_ε of fixed marginals of mass m is that of mass 1 times m, and this: the plan is m P₁, and f + g lower by ε log m.
    """
    constant = epsilon * (mass * mass - mass - mass * mass.log())
    return constant, epsilon * mass * (mass + 1.0 + mass.log().abs())


@dataclass(frozen=True)
class Step:
    """One evaluation on the way: how many row sums so far, at which ε, with which marginal error."""

    evaluations: int
    epsilon: float
    marginal_error: float
