"""The transport problem that a command is to solve, and its clouds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from geomsink import costs

from .clouds import Reading

BLUR = 0.05


@dataclass(frozen=True)
class Problem(Reading):
    """What the options of `options.problem` say, of which those that read clouds are those of a `Reading`.

    Without ``blur`` and ``epsilon`` the blur is `BLUR`; coordinates as they are have no scale that it could be in.
    """

    blur: float | None = None
    epsilon: float | None = None
    reach: float | None = None
    cost: str = "sqeuclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blur is None and self.epsilon is None:
            if not self.normalize:
                raise click.UsageError("--no-normalize needs --blur or --epsilon, in the scale of the coordinates.")
            object.__setattr__(self, "blur", BLUR)
        costs.get(self.cost)  # refused now rather than after large files are read

    def arguments(self, **others: Any) -> dict[str, Any]:
        """For the library: these and others, where they were given."""
        chosen = {"blur": self.blur, "epsilon": self.epsilon, "reach": self.reach, "cost": self.cost} | others
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """For ``--json``."""
        said = {"cost": self.cost, "blur": self.blur, "seed": self.seed, "normalize": self.normalize}
        return said if self.reach is None else said | {"reach": self.reach}
