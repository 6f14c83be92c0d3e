"""How far a state is from the optimum: what is found once and told to others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Accuracy:
    """How far a state is from the optimum; numbers of shape () or (B,).

    Attributes
    ----------
    decrement : Tensor
        What Newton's step gains, at most; infinite where Newton's equation does not tell.
    left : Tensor
        What mass costs that Newton's equation leaves uncorrected, at most.
    rounded : Tensor
        The same, where no more mass is left than rounding of the sums accounts for.
    potentials : Tensor
        What they are off by, in units of ε: the root of the weighted mean square.
    step : pair of Tensor, shapes (..., N) and (..., M)
        Newton's, in units of ε.
    fall : Tensor
        Largest relative fall of an entry of the plan in that step.
    """

    decrement: Tensor
    left: Tensor
    rounded: Tensor
    potentials: Tensor
    step: tuple[Tensor, Tensor]
    fall: Tensor

    @property
    def value(self) -> Tensor:
        """What the dual value is below its maximum, at most."""
        return self.decrement + self.left
