"""The command that matches the points of two clouds, at the least cost."""

from __future__ import annotations

from itertools import chain
from typing import Any

import click
import numpy as np

from geomsink import costs
from geomsink.atomic import replacing
from geomsink.transport import matching

from . import options, report
from .clouds import Cloud, Reading
from .figures import check_figure, plotting
from .group import exit_unless
from .outputs import PAIRS, check_out, write_rows

LINES = 400
"""Of a figure, at most."""


@click.command()
@options.pair
@click.option("--out", metavar="FILE", help="Where to write the pairs (.csv, .npz): i, j and the mass of each.")
@click.option("--one-to-one", is_flag=True, help="Refuse clouds whose points do not go to one point each.")
@click.option("--tol-gap", type=float,
              help="Stop once the gap is at most this share of the cost. [default: once it is exact]")  # fmt: skip
@click.option("--blur", type=float,
              help="Temperature, as a length, of the entropic solve that proposes pairs. [default: three times the "
                   "distance to the next point]")  # fmt: skip
@click.option("--epsilon", type=float, help="The same in units of the cost.")
@options.reading
@options.cost
@options.engines
@options.progress
@options.output
def match(
    a: str,
    b: str,
    out: str | None,
    one_to_one: bool,
    tol_gap: float | None,
    blur: float | None,
    epsilon: float | None,
    reading: Reading,
    cost: str,
    engine: str,
    progress: bool,
    as_json: bool,
    plot: str | None,
) -> None:
    """Match the points of A to those of B at the least cost, and prove that it is.

    A and B are files or shapes, as for the command divergence. Clouds of one size are matched one to one; between
    others a point may go to several. No plan costs less than the lower bound; the gap is how far the cost is from it.

    Exit codes: 0 exact or within --tol-gap, 3 not, 2 bad use, 130 interrupted, 143 terminated.
    """
    ground = costs.get(cost)  # refused now rather than after large files are read
    if out is not None:
        check_out(out, PAIRS)
    check_figure(plot)
    x, y = reading.load(a, b)
    found = matching(
        *(cloud.points.astype(np.float64) for cloud in (x, y)), cost=ground, one_to_one=one_to_one or None,
        tol_gap=tol_gap, blur=blur, epsilon=epsilon, engine=engine, progress=progress,
    )  # fmt: skip
    if out is not None:
        _write(found, out)
    if plot is not None:
        _draw(found, x, y, plot)
    proven = found.exact or found.status == "within tol_gap"
    names = ("cost", "lower", "gap", "relative_gap", "exact", "status", "one_to_one", "rounds", "epsilon", "seconds")
    said = {name: report.finite(getattr(found, name)) for name in names}
    said |= {"pairs": len(found.rows), "ground": cost, "seed": reading.seed, "normalize": reading.normalize, "out": out}
    report.say(as_json, said | report.cloud_reports(a=x, b=y), [
        ("cost", report.bold(f"{found.cost:.10g}")),
        ("lower bound", f"{found.lower:.10g}"),
        ("gap", f"{found.gap:.2g}, {found.relative_gap:.2g} of the cost: {found.status}"),
        ("pairs", f"{len(found.rows):,}" + (", one to one" if found.one_to_one else "")),
        ("seconds", f"{found.seconds:.2f}"),
        ("rounds", f"{found.rounds}, {found.candidates:,} candidates"),
        *report.pair_rows(x, y),
        ("frame", "each in the unit cube" if reading.normalize else "coordinates as they are"),
        ("ground", f"{cost}, proposed at epsilon {found.epsilon:.4g}"),
        *report.file_rows(written=out, figure=plot),
    ])  # fmt: skip
    exit_unless(proven)


def _write(found: Any, path: str) -> None:
    """i, j and mass of each pair."""
    if path.lower().endswith(".npz"):
        with replacing(path) as file:
            np.savez(file, rows=found.rows, columns=found.columns, mass=found.mass)
        return
    rows = zip(found.rows.tolist(), found.columns.tolist(), found.mass.tolist(), strict=True)
    write_rows(path, chain([("i", "j", "mass")], rows))


def _draw(found: Any, x: Cloud, y: Cloud, path: str) -> None:
    """Some of the pairs: of equal masses, evenly many."""
    draw = plotting()
    some = np.linspace(0, len(found.rows) - 1, min(LINES, len(found.rows))).astype(np.int64)
    pairs = np.column_stack((found.rows[some], found.columns[some]))
    axes = draw.plot_matches(x.points, y.points, (pairs, found.mass[some]), n=LINES)
    axes.set_title(f"{x.name} to {y.name}: cost {found.cost:.6g}, gap {found.gap:.1g}", parse_math=False)
    draw.save(axes.figure, path)
