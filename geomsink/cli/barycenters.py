"""The command that averages clouds."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from geomsink import SinkhornDivergence, shapes
from geomsink.transport import barycenter as average

from . import options, report
from .clouds import Cloud
from .figures import check_figure, plotting
from .group import exit_unless, one_sentence
from .outputs import CLOUDS, check_dimension, check_out
from .problem import Problem


@click.command()
@click.argument("clouds", nargs=-1, required=True, metavar="A B [C ...]")
@click.option("--weights", metavar="W,W,...", help="One for each cloud, not negative. [default: the same for all]")
@click.option("--points", type=int, metavar="N",
              help="Points of the barycentre. [default: those of the cloud of the largest weight]")  # fmt: skip
@click.option("--out", required=True, metavar="FILE", help="The barycentre (.ply, .npz).")
@options.descent(steps=100, tol=1e-4, optimizer="sgd", lr="0.5 with sgd, that of torch otherwise")
@options.problem
@options.solver
@options.output
def barycenter(
    clouds: tuple[str, ...],
    weights: str | None,
    points: int | None,
    out: str,
    steps: int,
    tol_loss: float,
    optimizer: str,
    lr: float | None,
    problem: Problem,
    progress: bool,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """The barycentre of clouds: the points whose Sinkhorn divergences from them are least on average.

    Clouds are files or shapes, as for the command divergence.

    Exit codes: 0 come to rest, 3 not, 2 bad use, 130 interrupted, 143 terminated.
    """
    if len(clouds) < 2:
        raise ValueError(f"A B [C ...]: {len(clouds)} cloud given, expected at least two.")
    shares = None if weights is None else _numbers(weights, len(clouds))
    if points is not None:
        shapes.check_count(points, "--points")
    check_out(out, CLOUDS)
    check_figure(plot)
    SinkhornDivergence(**problem.arguments(**solver))  # refuses now what it does not take
    given = problem.load(*clouds)
    problem = problem.settled(given[0], given[1])
    loss = SinkhornDivergence(**problem.arguments(**solver))
    check_dimension(out, given[0].points.shape[1])
    with one_sentence():
        result = average(
            [cloud.points for cloud in given], shares, n=points, loss=loss, optimizer=optimizer, lr=lr, steps=steps,
            tol=tol_loss, seed=problem.seed, progress=progress,
        )  # fmt: skip
    shapes.write(out, result.points)
    shares = [1.0] * len(given) if shares is None else shares
    shares = [share / sum(shares) for share in shares]
    if plot is not None:
        _draw(result, given, shares, plot)
    target = float(loss.options.live_epsilon())
    settings = {"cost": problem.cost, "blur": problem.blur, "optimizer": optimizer} | problem.settings
    said = report.descent_report(result.history) | settings | {"epsilon": target, "weights": shares}
    said |= {"clouds": [report.cloud_report(cloud) for cloud in given], "points": len(result.points), "out": out}
    report.say(as_json, said, [
        *report.descent_rows(result.history, "mean divergence"),
        *((f"weight {share:.4g}", str(cloud)) for cloud, share in zip(given, shares, strict=True)),
        *report.problem_rows(problem, target),
        *report.file_rows(written=f"{out}, {len(result.points):,} points", figure=plot),
    ])  # fmt: skip
    exit_unless(result.history.converged)


def _numbers(text: str, n: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--weights: found {text!r}, expected numbers between commas, such as 0.5,0.5.") from None
    if len(numbers) != n or not sum(numbers) > 0:
        raise ValueError(f"--weights: found {text!r}, expected {n} numbers of a positive sum, one for each cloud.")
    return numbers


def _draw(result: Any, given: list[Cloud], shares: list[float], path: str) -> None:
    draw = plotting()
    palette = draw.label_colors(np.arange(len(given)))
    mixed = np.array(shares) @ palette  # the colour says how much of which cloud is in it
    clouds = [*(cloud.points for cloud in given), result.points]
    colors = [np.tile(color, (len(cloud), 1)) for color, cloud in zip([*palette, mixed], clouds, strict=True)]
    names = [*(f"{share:.3g} × {cloud.name}" for cloud, share in zip(given, shares, strict=True)), "barycentre"]
    details = f"mean divergence {result.history.values[-1]:.4g} after {result.history.n_steps} steps"
    draw.save(draw.plot_gallery(clouds, colors, names, "Barycentre", details), path)
