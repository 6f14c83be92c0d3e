"""The commands that compute a divergence."""

from __future__ import annotations

from typing import Any

import click

from geomsink import costs, sinkhorn_divergence
from geomsink.divergences import FORMS

from . import options, report
from .clouds import Cloud, load_all
from .figures import check_figure, plotting
from .group import exit_unless

DEMO_SAMPLES = 100_000


@click.command()
@click.argument("a")
@click.argument("b")
@options.temperature
@options.drawing
@options.reach
@options.cost
@click.option("--form", type=click.Choice(FORMS), default="entropic", show_default=True)
@click.option("--certify", is_flag=True, help="Bracket the value, rounding and truncation included.")
@click.option("--tol-gap", type=float, metavar="X",
              help="Solve on until the certified interval is this narrow, relative to the value.")  # fmt: skip
@options.solver
@options.output
def divergence(
    a: str,
    b: str,
    blur: float | None,
    epsilon: float | None,
    samples: int | None,
    seed: int,
    normalize: bool,
    reach: float | None,
    cost: str,
    form: str,
    certify: bool,
    tol_gap: float | None,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """The Sinkhorn divergence between A and B.

    Each is a file of points or a mesh (.ply .obj .off .stl .xyz .csv .npy .npz) or shape:NAME, a surface
    given by a formula (shape:sphere, torus, knot, coil, blob, cube, star).

    Exit codes: 0 converged, 3 not converged, 2 bad use, 130 interrupted.
    """
    blur = options.default_blur(blur, epsilon, normalize)
    costs.get(cost)  # refused now rather than after large files are read
    check_figure(plot)
    x, y = load_all((a, b), samples, seed, normalize)
    solver |= {"certify": certify, "tol_gap": tol_gap}
    result = _solve(x, y, blur=blur, epsilon=epsilon, reach=reach, cost=cost, form=form, **solver)
    settings = {"cost": cost, "form": form, "blur": blur, "seed": seed, "normalize": normalize}
    settings |= {} if reach is None else {"reach": reach}
    if plot is not None:
        _draw(result, x, y, plot)
    if as_json:
        report.print_json(_report(result, x, y, settings))
    else:
        _show(result, x, y, normalize, settings, plot)
    exit_unless(result.converged)


@click.command()
@click.option("--samples", type=int, default=DEMO_SAMPLES, show_default=True, help="Points on each shape.")
@click.option("--blur", type=float, default=options.BLUR, show_default=True, help="Temperature as a length.")
@click.option("--out", default="demo.png", show_default=True, help="The figure to write.")
@click.option("--seed", type=int, default=0, show_default=True)
@options.solver
def demo(samples: int, blur: float, out: str, seed: int, **solver: Any) -> None:
    """A knot and a star, their divergence, and a figure of both."""
    check_figure(out)
    x, y = load_all(("shape:knot", "shape:star"), samples, seed, True)
    settings: dict[str, Any] = {"cost": "sqeuclidean", "form": "entropic", "blur": blur}
    result = _solve(x, y, **settings, **solver)
    _draw(result, x, y, out)
    _show(result, x, y, True, settings, out)
    exit_unless(result.converged)


def _solve(x: Cloud, y: Cloud, progress: bool | None, **chosen: Any) -> Any:
    given = {name: value for name, value in chosen.items() if value is not None}
    return sinkhorn_divergence(x.points, y.points, progress=report.show_progress(progress), **given)


def _draw(result: Any, x: Cloud, y: Cloud, path: str) -> None:
    plotting().save(plotting().plot_divergence(result, x.points, y.points, (x.name, y.name)), path)


def _show(result: Any, x: Cloud, y: Cloud, normalize: bool, settings: dict[str, Any], figure: str | None) -> None:
    kind = "" if settings["form"] == "entropic" else f" ({settings['form']} form)"
    report.show([
        ("Sinkhorn divergence", report.bold(f"{result.value:.8g}").append(kind, "not bold")),
        *_certified_rows(result),
        ("A", str(x)),
        ("B", str(y)),
        report.frame_row(normalize),
        report.cost_row(settings, result.epsilon),
        *report.solve_rows(result, result.xy),
        *([] if figure is None else [("figure", figure)]),
    ])  # fmt: skip


def _certified_rows(result: Any) -> list[report.Row]:
    if result.gap is None:
        return []
    relative = f" ({result.gap / abs(result.value):.2g} of the value)" if result.value else ""
    return [
        ("lower", report.bold(f"{result.lower:.8g}")),
        ("upper", report.bold(f"{result.upper:.8g}")),
        ("gap", f"{result.gap:.2e}{relative}"),
    ]


def _report(result: Any, x: Cloud, y: Cloud, settings: dict[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints."""
    said = report.solve_report(result) | settings
    said |= {"x": report.cloud_report(x), "y": report.cloud_report(y)}
    return said | {key: report.part_report(getattr(result, key)) for key in ("xy", "xx", "yy")}
