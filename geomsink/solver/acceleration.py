"""Anderson acceleration: the next iterate of a fixed-point iteration, extrapolated from the last few.

Among the affine combinations of the last steps, the one of least norm is where the iteration goes on (Anderson 1965;
Walker, Ni 2011, SIAM J. Numer. Anal. 49): for a linear iteration, as good as GMRES.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

MEMORY = 6
CUTOFF = 1e-10
"""Directions that carry less than this share of the Gram matrix are noise."""


@dataclass
class Acceleration:
    """The last iterates of z ← z + step(z), and their steps.

    Examples
    --------
    >>> rate, z, acceleration = torch.tensor([0.9, 0.5], dtype=torch.float64), torch.ones(2).double(), Acceleration()
    >>> for _ in range(3):  # as many as there are modes, and one more
    ...     z = acceleration.next(z, (rate - 1.0) * z, torch.ones(2).double())
    >>> bool(z.abs().max() < 1e-9)
    True
    """

    _reached: list[Tensor] = field(default_factory=list)
    _steps: list[Tensor] = field(default_factory=list)

    def next(self, z: Tensor, step: Tensor, scale: Tensor) -> Tensor:
        """The next iterate after ``z`` and its step; ``scale`` weights the coordinates of the norm.

        Along the last axis; other axes are batches.
        """
        self._reached = [*self._reached[-MEMORY:], z + step]
        self._steps = [*self._steps[-MEMORY:], step * scale]
        if len(self._steps) == 1:
            return z + step
        steps, reached = torch.stack(self._steps, -2), torch.stack(self._reached, -2)
        # Powers of two, which round nothing: squares of potentials of size 1e160 or 1e-160 leave the range.
        steps = steps / steps.abs().amax((-2, -1), keepdim=True).clamp(min=1e-300).log2().floor().exp2()
        differences = steps.diff(dim=-2)
        right = torch.cat((differences, steps[..., -1:, :]), -2).mT
        few = (differences @ right).cpu()  # a GPU takes longer with these, and the host waits for it in any case
        combination = torch.linalg.pinv(few[..., :-1], rtol=CUTOFF, hermitian=True) @ few[..., -1:]
        out: Tensor = reached[..., -1, :] - (combination.mT.to(z.device) @ reached.diff(dim=-2))[..., 0, :]
        return out
