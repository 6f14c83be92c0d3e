"""Over-relaxation: how far beyond the plain update to go, learnt from how the error falls.

Near convergence the alternating updates are block Gauss-Seidel on a linear system whose plain cycle
contracts by λ; extrapolated by ω a cycle contracts by μ with (μ + ω − 1)² = μ ω² λ, best at
ω = 2 / (1 + √(1 − λ)) (Young 1971; for Sinkhorn, Thibault et al. 2021, arXiv:1711.01851; Lehmann et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

WINDOW = 4
"""Cycles over which a contraction is measured, at least; as many are let pass after a change of ω. Close to
ω = 2 errors oscillate over some 2 / (2 − ω) cycles, and the window is as long."""
CAUTION = 0.4
"""At least this much of the way from ω to 2 is left after one estimate: early ones see fast modes."""
GROWTH = 30.0
"""Growth of the error, within a window, that a change of ω alone does not explain."""


@dataclass
class Relaxation:
    """The factor ω of the next cycle, and the errors that it is learnt from.

    Attributes
    ----------
    omega : float, default 1
        1 is the plain update.

    Examples
    --------
    >>> relaxation = Relaxation()
    >>> for k in range(5):
    ...     relaxation.observe(0.9**k)
    >>> round(relaxation.omega, 2)  # 2 / (1 + sqrt(1 - 0.9))
    1.52
    """

    omega: float = 1.0
    _errors: list[float] = field(default_factory=list)
    _passing: int = 0

    def observe(self, error: float) -> None:
        """Take note of the error after a cycle, and choose ω for the next."""
        self._errors.append(error)
        window = self._window()
        if not error <= GROWTH * self._errors[0]:
            self._change(1.0 + 0.5 * (self.omega - 1.0))
        elif self._passing:
            self._passing -= 1
            self._errors = [error] if not self._passing else self._errors
        elif len(self._errors) > window and error > 0.0:
            contraction = (error / self._errors[0]) ** (1 / window)
            self._errors = [error]
            if contraction > 1.0:
                self._change(1.0 + 0.7 * (self.omega - 1.0))
            elif contraction > self.omega - 1.0:
                plain = (contraction + self.omega - 1.0) ** 2 / (contraction * self.omega**2)
                best = 2.0 / (1.0 + math.sqrt(max(1.0 - plain, 0.0)))
                if best > self.omega:
                    self._change(min(best, 2.0 - CAUTION * (2.0 - self.omega)))

    def _change(self, omega: float) -> None:
        """Take a new ω; the error that follows for some cycles says more of the change than of it."""
        changed = abs(omega - self.omega) > 0.01
        self.omega, self._errors = omega, self._errors[-1:]
        self._passing = self._window() if changed else 0

    def _window(self) -> int:
        return max(WINDOW, math.ceil(2.0 / (2.0 - self.omega)))


class Relaxations:
    """One for each item of a batch.

    Parameters
    ----------
    like : Tensor, shape (N,) or (B, N)
        Potentials.
    """

    def __init__(self, like: Tensor):
        self._like, self._of_items = like, [Relaxation() for _ in range(like[..., 0].numel())]
        self._known: tuple[list[float], float | Tensor] = ([], 1.0)

    @property
    def omega(self) -> float | Tensor:
        """Of the next cycle, a number or shape (B, 1); it goes to the potentials' device only when it has changed."""
        omegas = [relaxation.omega for relaxation in self._of_items]
        if omegas != self._known[0]:
            self._known = omegas, self._like.new_tensor(omegas)[:, None] if self._like.ndim > 1 else omegas[0]
        return self._known[1]

    def observe(self, errors: Sequence[float]) -> None:
        """Take note of the items' errors after a cycle."""
        for relaxation, error in zip(self._of_items, errors, strict=True):
            relaxation.observe(error)
