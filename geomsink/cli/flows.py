"""The command that lets one cloud flow to another."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from geomsink import SinkhornDivergence, shapes
from geomsink.transport import gradient_flow

from . import options, report
from .clouds import Cloud
from .figures import check_figure, is_film, plotting
from .group import exit_unless, one_sentence
from .outputs import CLOUDS, check_dimension, check_out
from .problem import Problem

STEP = 0.05


@click.command()
@options.pair
@click.option("--out", required=True, metavar="FILE", help="Where the points of A end up (.ply, .npz).")
@options.descent(steps=200, tol=1e-4, optimizer="sgd", lr=f"{STEP} with sgd, which shows the way; 0.5 is faster")
@click.option("--frames", type=int, default=1, show_default=True,
              help="Steps from one frame of an animation to the next; all frames are kept in memory.")  # fmt: skip
@options.problem
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
    problem: Problem,
    progress: bool,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """Let the points of A flow to B, down the gradient of their Sinkhorn divergence.

    A and B are files or shapes, as for the command divergence. A figure (--plot) shows frames of the flow side by
    side, or one after the other as .gif, or as .mp4 where ffmpeg is installed; colours tell where points come from.

    Exit codes: 0 come to rest, 3 not, 2 bad use, 130 interrupted, 143 terminated.
    """
    check_out(out, CLOUDS)
    check_figure(plot, films=True)
    SinkhornDivergence(**problem.arguments(**solver))  # refuses now what it does not take
    x, y = problem.load(a, b)
    problem = problem.settled(x, y)
    loss = SinkhornDivergence(**problem.arguments(**solver))
    check_dimension(out, x.points.shape[1])
    epsilon = float(loss.options.live_epsilon())
    rate = STEP if lr is None and optimizer == "sgd" else lr
    with one_sentence():
        result = gradient_flow(
            x.points, y.points, loss=loss, optimizer=optimizer, lr=rate, steps=steps, tol=tol_loss, frames=frames,
            progress=progress,
        )  # fmt: skip
    shapes.write(out, result.points)
    if plot is not None:
        _draw(result, y, plot)
    moved = float(np.sqrt(((result.points - x.points) ** 2).sum(1).mean()))
    settings = {"cost": problem.cost, "blur": problem.blur, "epsilon": epsilon, "optimizer": optimizer}
    said = report.descent_report(result.history) | settings | problem.settings
    said |= {"times": list(result.times), "moved": moved, **report.cloud_reports(a=x, b=y), "out": out}
    report.say(as_json, said, [
        *report.descent_rows(result.history, "divergence"),
        ("moved", f"{moved:.4g} (root mean square)"),
        *report.pair_rows(x, y),
        *report.problem_rows(problem, epsilon),
        *report.file_rows(written=out, figure=plot),
    ])  # fmt: skip
    exit_unless(result.history.converged)


def _draw(result: Any, y: Cloud, path: str) -> None:
    draw = plotting()
    if is_film(path):
        draw.save_animation(draw.animate_flow(result.frames, result.times, target=y.points), path)
    else:
        draw.save(draw.plot_flow(result.frames, result.times, target=y.points), path)
