"""The clouds that a command is given: files, or shapes by their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsink import Sketch, shapes
from geomsink.divergences import holds_sketch

SHAPE_SAMPLES = 20_000


@dataclass(frozen=True)
class Cloud:
    """One of the clouds of a command.

    Attributes
    ----------
    name : str
        What to call it.
    points : array (N, D)
        In the frame of the problem, all of a file or those that were drawn.
    file : shapes.Contents, optional
        What the file holds, as it is there; None for a shape by its name.
    sketch : Sketch, optional
        What the file holds, if that is one; the points are its own.
    total : int, optional
        Points of the whole, of which several processes have parts; None is all of these.
    """

    name: str
    points: NDArray[Any]
    file: shapes.Contents | None = None
    sketch: Sketch | None = None
    total: int | None = None

    @property
    def count(self) -> int:
        return len(self.points) if self.total is None else self.total

    def __str__(self) -> str:
        n, dimension = self.count, self.points.shape[1]
        of = "" if self.sketch is None else f" that stand for {self.sketch.count:,}"
        return f"{self.name}, {n:,} points{of} in dimension {dimension}"

    @property
    def given(self) -> NDArray[Any] | Sketch:
        """For the library."""
        return self.points if self.sketch is None else self.sketch

    @property
    def colors(self) -> NDArray[np.uint8] | None:
        """Of all points of the file, if it has some."""
        if self.file is None or self.file.colors is None:
            return None
        return shapes.rgb(self.file.colors, len(self.file.points), f"{self.name}: colors")

    def everywhere(self, normalize: bool) -> NDArray[Any]:
        """All points of the file in the frame of the problem."""
        return self.points if self.file is None else framed(self.file.points, normalize).astype(self.points.dtype)


@dataclass(frozen=True)
class Reading:
    """How clouds are read: what the options of `options.reading` say.

    ``columns`` are those of files that are coordinates, between commas; each of the clouds is drawn with a seed of its
    own.
    """

    samples: int | None = None
    seed: int = 0
    normalize: bool = True
    columns: str | None = None
    drop_invalid: bool = False

    def __post_init__(self) -> None:
        shapes.generator(self.seed, "--seed")
        if self.samples is not None:
            shapes.check_count(self.samples, "--samples")

    @property
    def chosen(self) -> list[int | str] | None:
        """The columns, by number or name."""
        if self.columns is None:
            return None
        return [int(word) if word.isdecimal() else word for word in map(str.strip, self.columns.split(","))]

    def load(self, *sources: str, sketches: bool = False) -> list[Cloud]:
        """Clouds of one precision, that of the most precise; ``sketches`` lets files hold them."""
        if sources.count(shapes.STDIN) > 1:
            raise ValueError(f"{shapes.STDIN}: standard input given for more than one cloud, expected other files.")
        clouds = [self._one(source, self.seed + k, sketches) for k, source in enumerate(sources)]
        dtype = np.result_type(*(cloud.points for cloud in clouds))
        return [replace(cloud, points=cloud.points.astype(dtype, copy=False)) for cloud in clouds]

    def _one(self, source: str, seed: int, sketches: bool) -> Cloud:
        """The points of a file, or random points on the surface of a file's mesh or of a named shape."""
        if not is_shape(source) and holds_sketch(source):
            return self._sketch(source, sketches)
        if shapes.shape_name(source) is not None:
            n = SHAPE_SAMPLES if self.samples is None else self.samples
            return Cloud(name_of(source), shapes.sample(source, n, seed=seed))
        found = shapes.load(source, self.chosen, self.drop_invalid)
        if self.samples is None:
            points = framed(found.points, self.normalize)
        else:
            points = shapes.draw(found, self.samples, shapes.generator(seed), self.normalize, shapes.name_of(source))
        return Cloud(name_of(source), points, found)

    def _sketch(self, source: str, wanted: bool) -> Cloud:
        """Of a file that holds one, in the frame that is asked for."""
        if not wanted:
            raise ValueError(f"{source}: found a sketch, which the command divergence takes; expected points.")
        found = Sketch.load(source)
        if found.normalized != self.normalize:
            frames = "coordinates as they are", "a cloud in the unit cube"
            option = "--normalize" if found.normalized else "--no-normalize"
            raise ValueError(f"{source}: found a sketch of {frames[found.normalized]}, expected one of "
                             f"{frames[self.normalize]}, or {option}.")  # fmt: skip
        return Cloud(name_of(source), found.points, sketch=found)


def framed(points: NDArray[Any], normalize: bool) -> NDArray[Any]:
    """Points in the unit cube, if they are to be there."""
    return shapes.fit_unit_cube(points, points.min(axis=0), points.max(axis=0)) if normalize else points


def name_of(source: str) -> str:
    return shapes.name_of(source) if source == shapes.STDIN else Path(source.removeprefix("shape:")).name


def is_shape(source: str) -> bool:
    """Whether a surface given by a formula is meant, and not a file."""
    return source.startswith("shape:") or source in shapes.names()
