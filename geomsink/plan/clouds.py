"""The clouds that a plan is between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ..copies import Constant


@dataclass(frozen=True)
class Clouds(Constant):
    """The two clouds of a plan as the caller gave them.

    Attributes
    ----------
    x, y : Tensor, shapes (..., N, D) and (..., M, D)
        float64.
    features : callable
        From points (..., K, D) to what the cost's expression is evaluated on, as the terms of the plan have it.
    """

    x: Tensor
    y: Tensor
    features: Callable[[Tensor], Tensor]

    @property
    def T(self) -> Clouds:
        return replace(self, x=self.y, y=self.x)
