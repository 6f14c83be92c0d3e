"""Clouds larger than memory: pieces of arrays, of files, or of what comes one after the other; and sketches of them."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import shapes
from ..measures import Container, Measure, measure, promoted

PIECE = 2**20
"""Points that are sketched at a time."""
TOGETHER = 16
"""Sketches that are merged at a time: each merging may miss as much again, and 2²⁰ · 16² points need two."""


@dataclass(frozen=True)
class Piece:
    """Some points of a cloud.

    Attributes
    ----------
    measure : Measure
        Without weights of their own, points weigh 1 each.
    weighted : bool
    container : Container
    total : int or None
        Points of the whole cloud, where that is known.
    """

    measure: Measure
    weighted: bool
    container: Container
    total: int | None = None

    @property
    def dimension(self) -> int:
        return self.measure.points.shape[1]


class Gathering:
    """Pieces that come one after the other, as sketches, of which no more than some dozens are kept.

    Parameters
    ----------
    sketched : callable
        From a measure to its sketch.

    Attributes
    ----------
    count : int
        Points so far.
    weighted : bool
        Whether they have weights of their own.
    container : Container
        Their kind of arrays, and what their precisions promote to.
    """

    weighted: bool
    container: Container
    _dimension: int

    def __init__(self, sketched: Callable[[Measure], Measure]):
        self._sketched, self.count = sketched, 0
        self._waiting: list[Measure] = []
        self._levels: list[list[Measure]] = []
        """Sketches that were merged as often."""

    def add(self, piece: Piece) -> None:
        """The next points, about `PIECE` of them at most.

        Raises
        ------
        TypeError, ValueError
            Where they do not go with those before.
        """
        if self.count == 0:
            self.weighted, self.container, self._dimension = piece.weighted, piece.container, piece.dimension
        self._check(piece)
        self.container = replace(self.container, dtype=promoted((self.container.dtype, piece.container.dtype)))
        n = len(piece.measure.points)
        if sum(len(one.points) for one in self._waiting) + n > PIECE:
            self._flush()
        self._waiting.append(piece.measure)
        self.count += n

    def whole(self) -> Measure:
        """The sketch of all points; of those without weights, of mass 1.

        Raises
        ------
        ValueError
            If there were none.
        """
        if self.count == 0:
            raise ValueError("chunks: there are no points in them, expected at least one.")
        self._flush()
        parts = list(chain.from_iterable(self._levels))
        found = parts[0] if len(parts) == 1 else self._sketched(joined(parts))
        factor = 1.0 if self.weighted else 1.0 / self.count
        return Measure(found.points, factor * found.weights, factor * found.sizes)

    def _flush(self) -> None:
        """Sketch the points that wait, and merge sketches where there are enough."""
        if not self._waiting:
            return
        found, self._waiting = self._sketched(joined(self._waiting, signed=False)), []
        level = 0
        while True:
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(found)
            if len(self._levels[level]) < TOGETHER:
                return
            found, self._levels[level] = self._sketched(joined(self._levels[level])), []
            level += 1

    def _check(self, piece: Piece) -> None:
        if piece.weighted != self.weighted:
            raise ValueError("chunks: some have weights and others none, expected all or none to have them.")
        if piece.container.is_numpy != self.container.is_numpy:
            raise TypeError("chunks: torch tensors and other arrays are mixed, expected one kind.")
        if piece.dimension != self._dimension:
            found = f"chunks: points of {piece.dimension} coordinates come after some of {self._dimension}"
            raise ValueError(f"{found}, expected the same number.")


def joined(parts: list[Measure], signed: bool = True) -> Measure:
    """Several measures as one, on the device of the first: a sketch, if they are some."""
    device = parts[0].points.device
    points, weights, nearby = (
        torch.cat([getattr(part, name).to(device) for part in parts]) for name in ("points", "weights", "sizes")
    )
    return Measure(points, weights, nearby if signed else None)


def pieces(chunks: Any) -> Iterator[Piece]:
    """Points some at a time: up to `PIECE`, however many come at once.

    Parameters
    ----------
    chunks : array, folder, file, or iterable of files, arrays (n, D) or tuples (points, weights)

    Raises
    ------
    TypeError, ValueError, OSError
        Where there is something else.
    """
    if isinstance(chunks, (str, PathLike)):
        path = Path(chunks)
        for file in shapes.files_in(path) if path.is_dir() else [path]:
            yield from _cut(shapes.read(file), None, str(file))
    elif hasattr(chunks, "shape"):
        yield from _cut(chunks, None, "chunks", whole=True)
    elif isinstance(chunks, Iterable):
        for k, item in enumerate(chunks):
            if isinstance(item, (str, PathLike)):
                yield from _cut(shapes.read(item), None, str(item))
            elif isinstance(item, tuple) and len(item) == 2:
                yield from _cut(*item, f"chunks[{k}]")
            else:
                yield from _cut(item, None, f"chunks[{k}]")
    else:
        raise TypeError(
            f"chunks: a {type(chunks).__name__} was given, expected an array, files, or an iterable of arrays."
        )


def _cut(points: Any, weights: Any, name: str, whole: bool = False) -> Iterator[Piece]:
    """An array as validated pieces; ``whole`` says that there are no others."""
    shape = getattr(points, "shape", None)
    if shape is None:
        points = np.asarray(points)
        shape = points.shape
    if len(shape) != 2:
        raise ValueError(f"{name}: shape is {tuple(shape)}, expected (points, coordinates).")
    if weights is not None and len(weights) != shape[0]:
        raise ValueError(f"{name}: {len(weights)} weights for {shape[0]} points, expected one of each.")
    total = int(shape[0]) if whole else None
    for start in range(0, max(int(shape[0]), 1), PIECE):
        part = slice(start, start + PIECE)
        some = None if weights is None else weights[part]
        xs, a, container = measure(points[part], some, (name, f"{name}, weights"))
        a = a if weights is not None else torch.ones_like(a)
        yield Piece(Measure(xs.detach(), a.detach()), weights is not None, container, total)
        _forget(points)


def _forget(array: Any) -> None:
    """Pages of a file that is mapped and was read: they would count as this process's memory."""
    mapped = getattr(array, "base", None)
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(mapped, mmap.mmap):
        advice = getattr(mmap, "MADV_DONTNEED", None)
        if advice is not None:
            mapped.madvise(advice)
