"""The command that moves one cloud onto another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click
import numpy as np

from geomsink import shapes
from geomsink.transport import INITS, TRANSFORMS
from geomsink.transport import register as moved_onto

from . import options, report
from .clouds import Cloud, Reading
from .figures import check_figure, plotting
from .group import exit_unless, one_sentence
from .outputs import CLOUDS, check_dimension, check_out

BLUR = 0.05


@click.command()
@options.pair
@click.option("--transform", type=click.Choice(TRANSFORMS), default="rigid", show_default=True)
@click.option("--out", metavar="FILE", help="Where to write A, moved (.ply, .npz): all its points, and its faces.")
@click.option(
    "--blur",
    type=float,
    help=f"Temperature of the last level as a length. [default: {BLUR} of the longest side of B's box]",
)
@click.option(
    "--reach",
    type=float,
    help="Length beyond which mass is rather left out than moved, for clouds that overlap in part. "
    "[default: all is moved]",
)
@click.option(
    "--init",
    type=click.Choice(INITS),
    default="centres",
    show_default=True,
    help="Start with A's mean moved to that of B, or from the best of many rotations.",
)
@options.reading_as_is
@options.descent(steps=50, tol=1e-3, optimizer="lbfgs", lr="1 with lbfgs, that of torch otherwise")
@options.engines
@options.progress
@options.output
def register(
    a: str,
    b: str,
    transform: str,
    out: str | None,
    blur: float | None,
    reach: float | None,
    init: str,
    reading: Reading,
    steps: int,
    tol_loss: float,
    optimizer: str,
    lr: float | None,
    engine: str,
    progress: bool,
    as_json: bool,
    plot: str | None,
) -> None:
    """Move A onto B: find the map T(z) = matrix z + translation of least divergence between T(A) and B.

    A and B are files or shapes, as for the command divergence; coordinates stay as they are. With --samples, the map
    is found between the points drawn, and all points of A are moved. The transform "free" adds a smooth displacement.

    Exit codes: 0 come to rest, 3 not, 2 bad use, 130 interrupted, 143 terminated.
    """
    if out is not None:
        check_out(out, CLOUDS)
    check_figure(plot)
    x, y = replace(reading, normalize=False).load(a, b)
    if out is not None:
        check_dimension(out, x.points.shape[1])
    if blur is None:
        blur = BLUR * (float(np.ptp(y.points, axis=0).max()) or 1.0)
    with one_sentence():
        result = moved_onto(
            x.points, y.points, transform=transform, blur=blur, reach=reach, init=init, steps=steps, tol=tol_loss,
            optimizer=optimizer, lr=lr, engine=engine, seed=reading.seed, progress=progress,
        )  # fmt: skip
    if out is not None:
        _write(result, x, out)
    if plot is not None:
        _draw(result, x, y, plot)
    history = result.history[-1]
    said = report.descent_report(history) | {"seconds": sum(level.seconds for level in result.history)}
    said |= {"transform": transform, "matrix": result.matrix.tolist(), "translation": result.translation.tolist()}
    said |= {"matched": list(result.matched)}
    said |= {
        "blur": blur,
        "blurs": list(result.blurs),
        "sizes": [list(sizes) for sizes in result.sizes],
        "init": init,
        "optimizer": optimizer,
        "seed": reading.seed,
    }
    said |= {} if reach is None else {"reach": reach}
    said |= {} if result.width is None else {"width": result.width, "controls": len(result.controls)}
    said |= report.cloud_reports(a=x, b=y) | {"out": out}
    report.say(as_json, said, _rows(result, x, y, blur, reach, out, plot))
    exit_unless(result.converged)


def _rows(
    result: Any, x: Cloud, y: Cloud, blur: float, reach: float | None, out: str | None, plot: str | None
) -> list[report.Row]:
    matrix = [_row(row) for row in result.matrix]
    kind = result.transform
    if result.width is not None:
        kind += f", {len(result.controls):,} control points, width {result.width:.4g}"
    return [
        ("transform", kind),
        ("matrix", matrix[0]),
        *(("", row) for row in matrix[1:]),
        ("translation", _row(result.translation)),
        *report.descent_rows(result.history[-1], "loss"),
        *([] if reach is None else [("matched", "{:.0%} of A's mass, {:.0%} of B's".format(*result.matched))]),
        (
            "levels",
            f"{len(result.blurs)}, of blur {result.blurs[0]:.3g} to {result.blurs[-1]:.3g}, between "
            f"{max(result.sizes[0]):,} to {max(result.sizes[-1]):,} points or cells of them",
        ),
        *report.pair_rows(x, y),
        ("cost", f"sqeuclidean, blur {blur:.4g}" + ("" if reach is None else f", reach {reach:g}")),
        *report.file_rows(written=out, figure=plot),
    ]


def _row(numbers: Any) -> str:
    return " ".join(f"{number: .8f}" if abs(number) < 1e4 else f"{number: .8e}" for number in numbers)


def _write(result: Any, x: Cloud, path: str) -> None:
    """All points of A, moved, with the faces and the colours that the file has."""
    if x.file is None:
        shapes.write(path, result.points)
        return
    faces = x.file.faces if path.lower().endswith(".ply") else ()
    shapes.write(path, result(x.file.points), x.colors, faces if len(faces) else None)


def _draw(result: Any, x: Cloud, y: Cloud, path: str) -> None:
    draw = plotting()
    history = result.history[-1]
    details = f"{result.transform}, blur {result.blurs[-1]:.3g}, loss {history.values[-1]:.4g}"
    details += "" if result.converged else "  NOT CONVERGED"
    heading = f"{x.name} onto {y.name}"
    figure = draw.plot_registration(x.points, result.points, y.points, history, (x.name, y.name), heading, details)
    draw.save(figure, path)
