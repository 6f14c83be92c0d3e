"""The transport problem that a command is to solve, and its clouds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click

from geomsink import costs, suggest_blur

from .clouds import Cloud, Reading

BLUR = 0.05
AUTO = "auto"


def blur_of(context: click.Context, option: click.Parameter, given: str | None) -> float | str | None:
    """A number, or the word for one that follows from the clouds."""
    return given if given in (None, AUTO) else float(click.FLOAT(given, option, context))


@dataclass(frozen=True)
class Problem(Reading):
    """What the options of `options.problem` say, of which those that read clouds are those of a `Reading`.

    Without ``blur`` and ``epsilon`` the blur is `BLUR`; coordinates as they are have no scale that it could be in. One
    that is "auto" is what `geomsink.suggest_blur` says of the clouds: see `settled`.
    """

    blur: float | str | None = None
    epsilon: float | None = None
    reach: float | None = None
    cost: str = "sqeuclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blur is None and self.epsilon is None:
            if not self.normalize:
                raise click.UsageError(
                    "--no-normalize needs --blur or --epsilon, in the scale of the coordinates, or --blur auto "
                    "for two clouds."
                )
            object.__setattr__(self, "blur", BLUR)
        if self.blur == AUTO and self.epsilon is not None:
            raise ValueError(f"--blur, --epsilon: both were ({AUTO} and {self.epsilon}) given, expected one of them.")
        costs.get(self.cost)  # refused now rather than after large files are read

    def settled(self, x: Cloud, y: Cloud) -> Problem:
        """With a blur that is a number, for these clouds."""
        if self.blur != AUTO:
            return self
        return replace(self, blur=suggest_blur(x.points, y.points))

    def arguments(self, **others: Any) -> dict[str, Any]:
        """For the library: these and others, where they were given; before it is settled, with some blur."""
        chosen = {
            "blur": BLUR if self.blur == AUTO else self.blur,
            "epsilon": self.epsilon,
            "reach": self.reach,
            "cost": self.cost,
        } | others
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """For ``--json``."""
        said = {"cost": self.cost, "blur": self.blur, "seed": self.seed, "normalize": self.normalize}
        return said if self.reach is None else said | {"reach": self.reach}
