"""The command that makes a few points of a cloud of any size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from geomsink import shapes
from geomsink import sketch as sketch_of
from geomsink.divergences import ACCURACY, check_name

from . import options, report
from .clouds import is_shape
from .problem import Problem


@click.command()
@click.argument("clouds", nargs=-1, required=True)
@click.option("--out", required=True, metavar="FILE", help="The sketch to write (.npz).")
@options.kernel
@click.option("--accuracy", type=float, default=ACCURACY, show_default=True,
              help="Share of the kernel at a point that the sketch may miss.")  # fmt: skip
@options.engines
@options.progress
@options.as_json
def sketch(
    clouds: tuple[str, ...],
    out: str,
    problem: Problem,
    accuracy: float,
    engine: str,
    progress: bool,
    as_json: bool,
) -> None:
    """A few thousand points with weights that stand for all points of CLOUDS, at this blur and larger ones.

    CLOUDS are files, as for the command divergence, or folders of them, and together they are one cloud; they are read
    one at a time, so that memory holds no more than the largest. What is written is for the command divergence, in the
    place of the cloud.

    Exit codes: 0 done, 2 bad use, 130 interrupted, 143 terminated.
    """
    check_name(out, "--out")
    began = time.perf_counter()
    arrays = _Arrays(clouds, problem)
    found = sketch_of(chunks=arrays, accuracy=accuracy, engine=engine, progress=progress, **problem.arguments())
    found = replace(found, normalized=problem.normalize)
    found.save(out)
    seconds, (n, dimension) = time.perf_counter() - began, found.points.shape
    said = {"points": n, "count": found.count, "dimension": dimension, "epsilon": found.epsilon}
    said |= {"accuracy": found.accuracy, "negative": found.negative, **problem.settings, "out": out, "seconds": seconds}
    report.say(as_json, said, [
        ("sketch", report.bold(f"{n:,} points").append(f" that stand for {found.count:,}", "not bold")),
        *report.problem_rows(problem, found.epsilon),
        ("accuracy", f"{found.accuracy:g}"),
        ("negative", f"{100 * found.negative:.2g} % of the mass"),
        ("seconds", f"{seconds:.2f}"),
        *report.file_rows(written=out),
    ])  # fmt: skip


class _Arrays:
    """The points of several files, one file at a time, in the frame of the problem: of one cloud, which they are."""

    def __init__(self, sources: tuple[str, ...], problem: Problem):
        self._sources = [file for source in sources for file in _files(source)]
        self._problem = problem

    def __iter__(self) -> Iterator[NDArray[Any]]:
        if len(self._sources) == 1:
            yield self._problem.load(*self._sources)[0].points
            return
        if not self._problem.normalize:
            yield from self._as_they_are()
            return
        low, high = self._box()
        for points in self._as_they_are():
            yield shapes.fit_unit_cube(points, low, high)

    def _as_they_are(self) -> Iterator[NDArray[Any]]:
        for k, source in enumerate(self._sources):
            reading = replace(self._problem, normalize=False, seed=self._problem.seed + k)
            yield reading.load(source)[0].points

    def _box(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Around all of them, which are read once for it."""
        boxes = [(points.min(axis=0), points.max(axis=0)) for points in self._as_they_are()]
        if len({len(low) for low, _ in boxes}) > 1:
            raise ValueError(
                f"CLOUDS: found points of dimensions {sorted({len(low) for low, _ in boxes})}, expected one."
            )
        return np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)


def _files(source: str) -> list[str]:
    """Those of a folder; anything else is one."""
    if source and not is_shape(source) and Path(source).is_dir():
        return [str(path) for path in shapes.files_in(source)]
    return [source]
