"""What a solve is to reach: a marginal error, and an error of the value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

SHARE = 1e-2
"""Relative error that a value may have, in units of ``tol``."""
FINEST = 1e-10
"""The least that is asked for: sums of many numbers have no more digits."""
LOOSE = 5.0
"""What a potential may be off by, the weighted mean square, in units of ``tol`` ε."""


def share_of(tol: float) -> float:
    """Relative error that a value may have.

    Examples
    --------
    >>> share_of(1e-3)
    1e-05
    """
    return max(SHARE * tol, FINEST)


@dataclass(frozen=True)
class Goal:
    """When a solve has converged.

    Attributes
    ----------
    tol : float
        Marginal error, relative to the mass that is transported.
    share : float
        Error of the value, relative to what the value is less ``offset``; infinite where nobody asks.
    offset : float, or Tensor, shape () or (B,)
        What the value is compared with: the self problems' part of a divergence.
    least : float, or Tensor, shape () or (B,)
        Error that the value may have in any case.
    sharp : bool
        Whether the value is ⟨P, C⟩ and the penalties of the marginals, which feels an error of the plan in first order.
    final : bool
        Whether what rounding does to the value is accepted, as there is no finer precision to go on in.
    sums : float
        Marginal error that approximate sums may come to, where that is less than ``tol``: the value may need it.
    further : bool
        Whether one more step may follow a value that is right, where potentials are loose.
    """

    tol: float
    share: float = math.inf
    offset: Tensor | float = 0.0
    least: Tensor | float = 0.0
    sharp: bool = False
    final: bool = True
    sums: float = math.inf
    further: bool = True

    @property
    def asks_for_values(self) -> bool:
        return self.share < math.inf

    @property
    def of_sums(self) -> float:
        """Marginal error that approximate sums are made for."""
        return min(self.tol, self.sums)

    def allowed(self, value: Tensor, rounding: Tensor) -> Tensor:
        """Error that a value may have, which rounding is off by so much."""
        return (self.share * (value - self.offset).abs()).clamp(min=self.least).maximum(rounding)
