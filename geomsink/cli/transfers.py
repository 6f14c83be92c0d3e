"""The command that carries colours and labels from one cloud to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geomsink import shapes, solve
from geomsink.transport import transfer as carry

from . import options, report
from .clouds import Cloud, is_shape
from .figures import check_figure, plotting
from .group import exit_unless
from .labels import read_labels, write_labels
from .outputs import CLOUDS, LABELS, check_dimension, check_out
from .problem import Problem


@click.command()
@options.pair
@click.option("--out", required=True, metavar="FILE",
              help="What to write: B in colours (.ply, .npz), or its labels (.npy, .csv).")  # fmt: skip
@click.option("--labels", metavar="FILE",
              help="Labels of A, a row for each of its points (.npy, .csv). Whole numbers and names are classes, of "
                   "which the likeliest is taken; other numbers are averaged.")  # fmt: skip
@options.problem
@options.solver
@options.output
def transfer(
    a: str,
    b: str,
    out: str,
    labels: str | None,
    problem: Problem,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """Carry colours or labels from A to B, by the transport plan between them.

    A and B are files or shapes, as for the command divergence. Without --labels, the colours of A's points are
    carried (of a .ply or .npz that has some; otherwise colours that tell where the points are). With --samples,
    the plan is between the points drawn, and all points of B are still coloured or labelled. What is written has
    the coordinates and the faces of B.

    Exit codes: 0 converged, 3 not converged, 2 bad use, 130 interrupted, 143 terminated.
    """
    check_out(out, CLOUDS if labels is None else LABELS)
    check_figure(plot)
    if labels is not None and is_shape(a):
        raise ValueError(f"--labels: given with {a}, whose points are drawn at random; expected A to be a file.")
    source, drawn = problem.load(a, b)
    problem = problem.settled(source, drawn)
    target = _Target.of(drawn, problem)
    if labels is None:
        check_dimension(out, target.vertices.shape[1])
    carried = _Carried.of(source, labels, problem)
    solution = solve(drawn.points, source.points, **problem.arguments(**solver))
    found = carry(solution, carried.values, points=target.everywhere)
    if labels is None:
        found = np.clip(found, 0.0, 1.0)
        rgb = (255 * found).round().astype(np.uint8)
        faces = target.faces if len(target.faces) and out.lower().endswith(".ply") else None
        shapes.write(out, target.vertices, rgb, faces)
    else:
        write_labels(out, found)
    if plot is not None:
        _draw(source, target, carried, found, plot)
    counts = carried.counts(found)
    said = report.solve_report(solution) | {"carried": carried.kind} | problem.settings
    said |= {"approximation": report.approximation_report(solution), **report.cloud_reports(a=source, b=drawn)}
    said |= {"written": len(found), "out": out} | ({} if counts is None else {"classes": counts})
    report.say(as_json, said, [
        ("carried", report.bold(carried.kind).append(f", to {len(found):,} points of {target.name}", "not bold")),
        *([] if counts is None else [("classes", _first(counts))]),
        *report.pair_rows(source, drawn),
        *report.problem_rows(problem, solution.epsilon),
        *report.solve_rows(solution, solution),
        *report.file_rows(written=out, figure=plot),
    ])  # fmt: skip
    exit_unless(solution.converged)


@dataclass(frozen=True)
class _Target:
    """What is coloured or labelled.

    Attributes
    ----------
    vertices, faces : array
        As in the file, to be written.
    shown : array
        The vertices where the plan has them.
    everywhere : array, optional
        The same, if the plan is between other points.
    """

    name: str
    vertices: NDArray[Any]
    faces: NDArray[Any]
    shown: NDArray[Any]
    everywhere: NDArray[Any] | None

    @classmethod
    def of(cls, drawn: Cloud, problem: Problem) -> _Target:
        if drawn.file is None:
            return cls(drawn.name, drawn.points, np.empty((0, 3), np.int64), drawn.points, None)
        vertices, faces = drawn.file.points, drawn.file.faces
        if problem.samples is None:
            return cls(drawn.name, vertices, faces, drawn.points, None)
        shown = drawn.everywhere(problem.normalize)
        return cls(drawn.name, vertices, faces, shown, shown)


@dataclass(frozen=True)
class _Carried:
    """What is carried, a row for each point of A that the plan is from: colours in [0, 1], or labels."""

    kind: str
    values: NDArray[Any]

    @classmethod
    def of(cls, source: Cloud, labels: str | None, problem: Problem) -> _Carried:
        colors = source.colors if labels is None else None
        if labels is None and colors is None:
            return cls("colours of places", plotting().position_colors(source.points))
        if colors is None:
            assert labels is not None and source.file is not None
            kind, values = "labels", read_labels(labels, source.file, source.name)
        else:
            kind, values = "colours", colors / 255.0
        if problem.samples is not None:  # a point drawn from a surface is like the nearest one that the file has
            _, nearest = cKDTree(source.everywhere(problem.normalize)).query(source.points)
            values = values[nearest]
        return cls(kind, values)

    @property
    def classes(self) -> bool:
        return self.values.dtype.kind != "f"

    def counts(self, found: NDArray[Any]) -> dict[str, int] | None:
        """How many points got which class."""
        if not self.classes:
            return None
        names, sizes = np.unique(found, return_counts=True)
        return {str(name): int(size) for name, size in zip(names, sizes, strict=True)}


def _first(counts: dict[str, int]) -> str:
    """The largest classes, as many as a line has room for."""
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {size:,}" for name, size in largest[:8])
    return shown + (f" and {len(largest) - 8} more" if len(largest) > 8 else "")


def _draw(source: Cloud, target: _Target, carried: _Carried, found: NDArray[Any], path: str) -> None:
    both = carried.values, found
    if carried.kind == "labels":
        colors = np.split(plotting().label_colors(np.concatenate(both)), [len(carried.values)])
    else:
        colors = list(both)
    heading = f"{source.name} to {target.name}"
    figure = plotting().plot_gallery(
        (source.points, target.shown),
        colors,
        (source.name, target.name),
        heading,
        f"{carried.kind}, carried by the plan",
    )
    plotting().save(figure, path)
