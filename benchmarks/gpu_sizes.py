"""How much gpu.py does, and in what time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How much is done, and in how many seconds.

    ``limits`` are those of the parts, in their order; their sum is the budget. ``most`` is that of one check or rate.
    ``points`` are those of checks; ``surfaces`` and ``mixtures`` those of solves, the fewest first. ``whole`` leaves
    out no precision, method or width.
    """

    limits: dict[str, float]
    most: float
    points: int
    surfaces: tuple[int, ...]
    mixtures: tuple[int, ...]
    whole: bool = False
    tiny: bool = False

    @property
    def budget(self) -> float:
        return sum(self.limits.values())


PARTS = ("machine", "solves-geomsink", "rates", "solves-geomloss", "solves-flash", "sums", "losses", "uses")
SIZES = {
    "quick": Size(
        dict(zip(PARTS, (30, 65, 15, 20, 50, 15, 20, 15), strict=True)), 15, 300, (100_000, 1_000_000), (20_000,)
    ),
    "full": Size(
        dict(zip(PARTS, (30, 125, 20, 35, 80, 12, 40, 35), strict=True)), 30, 300,
        (100_000, 1_000_000, 10_000_000), (20_000, 50_000), whole=True,
    ),
    "tiny": Size(dict.fromkeys(PARTS, 60.0), 60, 40, (400, 700), (200, 300), tiny=True),
}  # fmt: skip
