"""A registration that was found: a map of points, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..measures import measure, tensor
from ..shown import Curve, Facts, Shown, Words, seconds, state
from .descent import History
from .motions import gaussian


@dataclass(frozen=True, repr=False)
class Registration(Shown):
    """A map T that brings one cloud to another, and how it was found; ``registration(points)`` applies it.

    Attributes
    ----------
    transform : {"rigid", "similarity", "affine", "free"}
    points : array, shape (N, D)
        T(x).
    matrix : array, shape (D, D)
    translation : array, shape (D,)
        T(z) = matrix z + translation, and for ``"free"`` what the displacement is added to.
    controls, momenta : array, shape (K, D), or None
        c_k and p_k of the displacement v(z) = Σ_k exp(−‖z − c_k‖² / (2 width²)) p_k of ``"free"``.
    width : float or None
    blurs : tuple of float
        Annealed through, the last one that asked for; twice, if it was gone through between cells of points first.
    sizes : tuple of (int, int)
        Points of x and of y, or cells of them, that each of these was between; in the last, all that have mass.
    matched : pair of float
        Mass that the last plan moves, as shares of x's mass and of y's: 1 without a reach. With one, compare them with
        what a cloud matches of itself, ``solve(y, y, blur=blur, reach=reach).plan.mass`` for a mass of 1, some 0.1 at a
        reach of one blur, 0.5 at two and 0.8 at four: about as large a part has a counterpart. Near 0 the reach is too
        small, or the clouds do not meet; near 1 where parts are known to be missing, it is too large.
    history : tuple of History
        Of each of these: the loss is OT_ε of ``"rigid"``, which leaves the rest of S_ε as it is, S_ε of others, and of
        ``"free"`` with its penalty.
    """

    transform: str
    points: Any
    matrix: Any
    translation: Any
    controls: Any
    momenta: Any
    width: float | None
    blurs: tuple[float, ...]
    history: tuple[History, ...]
    sizes: tuple[tuple[int, int], ...] = ()
    matched: tuple[float, float] = (1.0, 1.0)

    def _facts(self) -> Facts:
        last = self.history[-1]
        return {
            "transform": self.transform,
            "points": Words(f"{len(self.points):,} points"),
            "loss": last.values[-1],
            "state": state(self.converged, self.status),
            "blur": self.blurs[-1],
            "matched": None if self.matched == (1.0, 1.0) else Words("matched {:.3g} and {:.3g}".format(*self.matched)),
            "seconds": seconds(sum(history.seconds for history in self.history)),
        }

    def _curve(self) -> Curve:
        """Of the descent at the last blur, whose losses are those of the result."""
        return self.history[-1]._curve()

    @property
    def converged(self) -> bool:
        """Whether the last descent came to rest, with all its transport problems solved."""
        return self.history[-1].converged

    @property
    def status(self) -> str:
        """Why the last descent stopped."""
        return self.history[-1].status

    def __call__(self, points: Any) -> Any:
        """T of other points, shape (K, D), in their own kind and precision.

        Raises
        ------
        TypeError, ValueError
            For anything but finite points in as many coordinates.
        """
        z, _, container = measure(points)
        d = len(self.matrix)
        if z.ndim != 2 or z.shape[-1] != d:
            raise ValueError(f"points: shape is {tuple(z.shape)}, expected (points, {d}).")
        z = z.double()
        matrix, translation = _like(self.matrix, z), _like(self.translation, z)
        moved = z @ matrix.T + translation
        if self.width is not None:
            moved = moved + gaussian(z, _like(self.controls, z), self.width) @ _like(self.momenta, z)
        return container.array(moved, 0)


def _like(array: Any, points: Tensor) -> Tensor:
    return tensor("registration", array).to(points)
