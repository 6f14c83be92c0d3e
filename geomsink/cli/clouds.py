"""The clouds that a command is given: files, or shapes by their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsink import shapes

SHAPE_SAMPLES = 20_000


@dataclass(frozen=True)
class Cloud:
    """One of the clouds of a command, and what to call it."""

    name: str
    points: NDArray[Any]

    @classmethod
    def load(cls, source: str, samples: int | None, seed: int, normalize: bool) -> Cloud:
        """The points of a file, or random points on the surface of a file's mesh or of a named shape."""
        if samples is None and is_shape(source):
            samples = SHAPE_SAMPLES
        if samples is None:
            return cls(name_of(source), shapes.read(source, normalize=normalize))
        return cls(name_of(source), shapes.sample(source, samples, seed=seed, normalize=normalize))

    def __str__(self) -> str:
        n, dimension = self.points.shape
        return f"{self.name}, {n:,} points in dimension {dimension}"


def load_all(sources: tuple[str, ...], samples: int | None, seed: int, normalize: bool) -> list[Cloud]:
    """Clouds of one precision, that of the most precise; each is drawn with a seed of its own."""
    clouds = [Cloud.load(source, samples, seed + k, normalize) for k, source in enumerate(sources)]
    dtype = np.result_type(*(cloud.points for cloud in clouds))
    return [replace(cloud, points=cloud.points.astype(dtype, copy=False)) for cloud in clouds]


def name_of(source: str) -> str:
    return Path(source.removeprefix("shape:")).name


def is_shape(source: str) -> bool:
    """Whether a surface given by a formula is meant, and not a file."""
    return source.startswith("shape:") or source in shapes.names()
