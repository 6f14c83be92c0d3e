"""The command that lets one cloud flow to another."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from geomsink import SinkhornDivergence, shapes
from geomsink.transport import gradient_flow

from . import options, report
from .clouds import Cloud, load_all
from .figures import check_figure, is_film, plotting
from .group import exit_unless, one_sentence
from .outputs import CLOUDS, check_dimension, check_out

STEP = 0.05


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--out", required=True, metavar="FILE", help="Where the points of A end up (.ply, .npz).")
@options.descent(steps=200, tol=1e-4, optimizer="sgd", lr=f"{STEP} with sgd, which shows the way; 0.5 is faster")
@click.option("--frames", type=int, default=1, show_default=True,
              help="Steps from one frame of an animation to the next; all frames are kept in memory.")  # fmt: skip
@options.temperature
@options.drawing
@options.reach
@options.cost
@options.solver
@options.output
def flow(
    a: str,
    b: str,
    out: str,
    steps: int,
    tol_loss: float,
    optimizer: str,
    lr: float | None,
    frames: int,
    blur: float | None,
    epsilon: float | None,
    samples: int | None,
    seed: int,
    normalize: bool,
    reach: float | None,
    cost: str,
    progress: bool | None,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """Let the points of A flow to B, down the gradient of their Sinkhorn divergence.

    A and B are files or shapes, as for the command divergence. A figure (--plot) shows frames of the flow side by
    side, or one after the other as .gif, or as .mp4 where ffmpeg is installed; colours tell where points come from.

    Exit codes: 0 come to rest, 3 not, 2 bad use, 130 interrupted.
    """
    blur = options.default_blur(blur, epsilon, normalize)
    check_out(out, CLOUDS)
    check_figure(plot, films=True)
    chosen = {"blur": blur, "epsilon": epsilon, "reach": reach, "cost": cost} | solver
    loss = SinkhornDivergence(**{name: value for name, value in chosen.items() if value is not None})
    x, y = load_all((a, b), samples, seed, normalize)
    check_dimension(out, x.points.shape[1])
    epsilon = float(loss.options.live_epsilon())
    rate = STEP if lr is None and optimizer == "sgd" else lr
    with one_sentence():
        result = gradient_flow(
            x.points, y.points, loss=loss, optimizer=optimizer, lr=rate, steps=steps, tol=tol_loss, frames=frames,
            progress=report.show_progress(progress),
        )  # fmt: skip
    shapes.write(out, result.points)
    if plot is not None:
        _draw(result, y, plot)
    moved = float(np.sqrt(((result.points - x.points) ** 2).sum(1).mean()))
    settings = {"cost": cost, "blur": blur, "epsilon": epsilon, "optimizer": optimizer, "seed": seed}
    settings |= {"normalize": normalize} | ({} if reach is None else {"reach": reach})
    if as_json:
        said = report.descent_report(result.history) | settings | {"times": list(result.times), "moved": moved}
        report.print_json(said | {"a": report.cloud_report(x), "b": report.cloud_report(y), "out": out})
    else:
        report.show([
            *report.descent_rows(result.history, "divergence"),
            ("moved", f"{moved:.4g} (root mean square)"),
            ("A", str(x)),
            ("B", str(y)),
            report.frame_row(normalize),
            report.cost_row(settings, epsilon),
            ("written", out),
            *([] if plot is None else [("figure", plot)]),
        ])  # fmt: skip
    exit_unless(result.history.converged)


def _draw(result: Any, y: Cloud, path: str) -> None:
    draw = plotting()
    if is_film(path):
        draw.save_animation(draw.animate_flow(result.frames, result.times, target=y.points), path)
    else:
        draw.save(draw.plot_flow(result.frames, result.times, target=y.points), path)
