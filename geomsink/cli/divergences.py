"""The commands that compute a divergence."""

from __future__ import annotations

from typing import Any

import click

from geomsink import sinkhorn_divergence
from geomsink.divergences import FORMS

from . import options, parts, report, several
from .clouds import Cloud
from .figures import check_figure, plotting
from .group import exit_unless
from .problem import AUTO, BLUR, Problem

DEMO_SAMPLES = 1_000_000
PARTS = ("xy", "xx", "yy")


@click.command()
@options.pair
@options.problem
@click.option("--form", type=click.Choice(FORMS), default="entropic", show_default=True)
@click.option("--certify", is_flag=True, help="Bracket the value, rounding and truncation included.")
@click.option("--tol-gap", type=float, metavar="X",
              help="Solve on until the certified interval is this narrow, relative to the value.")  # fmt: skip
@options.solver
@options.timeout
@options.output
def divergence(
    a: str,
    b: str,
    problem: Problem,
    form: str,
    certify: bool,
    tol_gap: float | None,
    timeout: float,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """The Sinkhorn divergence between A and B.

    Each is a mesh (.obj .off .stl .ply .glb), a scan (.pcd .las .laz), arrays (.npy .npz) or a table of text (.xyz
    .csv .tsv .txt .asc .pts), packed as .gz or not, or - for standard input, or shape:NAME, a surface given by a
    formula (shape:sphere, torus, knot, coil, blob, cube, star), or what the command sketch has written.

    Where torchrun has started several processes, each reads its part of A and of B, which may be folders then.

    Exit codes: 0 converged, 3 not converged, 2 bad use, 4 another process failed, 130 interrupted, 143 terminated.
    """
    check_figure(plot)
    group = several.group(timeout)
    if group is None:
        x, y = problem.load(a, b, sketches=True)
    else:
        if plot is not None:
            raise ValueError(f"--plot: {plot} given to several processes, of which none has all points; expected none.")
        if problem.blur == AUTO:
            raise ValueError(
                "--blur: auto given to several processes, of which none has all points; expected a number."
            )
        x, y = parts.load(problem, group, a, b)
        solver["group"] = group
    problem = problem.settled(x, y)
    chosen = problem.arguments(form=form, certify=certify, tol_gap=tol_gap, **solver)
    result = sinkhorn_divergence(x.given, y.given, **chosen)
    if plot is not None:
        _draw(result, x, y, plot)
    said = report.solve_report(result) | {"cost": problem.cost, "form": form} | problem.settings
    said |= {"length": report.finite(result.length)}
    said |= report.processes_report(group) | report.cloud_reports(x=x, y=y)
    said |= {key: report.part_report(getattr(result, key)) for key in PARTS}
    report.say(as_json, said, [
        *_rows(result, x, y, problem, form, plot), *report.processes_rows(group)
    ])  # fmt: skip
    exit_unless(result.converged)


@click.command()
@click.option("--samples", type=int, default=DEMO_SAMPLES, show_default=True, help="Points on each shape.")
@click.option("--blur", type=float, default=BLUR, show_default=True, help="Temperature as a length.")
@click.option("--out", default="demo.png", show_default=True, help="The figure to write.")
@click.option("--seed", type=int, default=0, show_default=True)
@options.solver
def demo(samples: int, blur: float, out: str, seed: int, **solver: Any) -> None:
    """A knot and a star, their divergence, and a figure of both."""
    check_figure(out)
    problem = Problem(blur=blur, samples=samples, seed=seed)
    x, y = problem.load("shape:knot", "shape:star")
    result = sinkhorn_divergence(x.points, y.points, **problem.arguments(**solver))
    _draw(result, x, y, out)
    report.show(_rows(result, x, y, problem, "entropic", out))
    exit_unless(result.converged)


def _draw(result: Any, x: Cloud, y: Cloud, path: str) -> None:
    plotting().save(plotting().plot_divergence(result, x.points, y.points, (x.name, y.name)), path)


def _rows(result: Any, x: Cloud, y: Cloud, problem: Problem, form: str, figure: str | None) -> list[report.Row]:
    kind = "" if form == "entropic" else f" ({form} form)"
    return [
        ("Sinkhorn divergence", report.bold(f"{result.value:.8g}").append(kind, "not bold")),
        *([] if result.length is None else [("as a length", f"{result.length:.2g}, about how far mass moves")]),
        *_certified_rows(result),
        *report.pair_rows(x, y),
        *report.problem_rows(problem, result.epsilon),
        *report.solve_rows(result, result.xy),
        *report.file_rows(figure=figure),
    ]


def _certified_rows(result: Any) -> list[report.Row]:
    if result.gap is None:
        return []
    relative = f" ({result.gap / abs(result.value):.2g} of the value)" if result.value else ""
    return [
        ("lower", report.bold(f"{result.lower:.8g}")),
        ("upper", report.bold(f"{result.upper:.8g}")),
        ("gap", f"{result.gap:.2e}{relative}"),
    ]
