"""What commands print: a table for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from geomsink import Group, __version__

from .clouds import Cloud
from .group import printable
from .problem import Problem

Row = tuple[str, str | Text]


def show(rows: list[Row]) -> None:
    """Print rows of a name and a text, as it is: brackets in the names of files are no marks."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text if isinstance(text, Text) else Text(printable(text)))
    # Numbers are not coloured by guess, and a pipe gets each row on one line, however long.
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(table)


def bold(text: str) -> Text:
    return Text(text, style="bold")


def say(as_json: bool, report: dict[str, Any], rows: list[Row]) -> None:
    """The one or the other."""
    if as_json:
        click.echo(json.dumps({"geomsink": __version__} | report, indent=2, allow_nan=False))
    else:
        show(rows)


def pair_rows(x: Cloud, y: Cloud) -> list[Row]:
    return [("A", str(x)), ("B", str(y))]


def problem_rows(problem: Problem, epsilon: float) -> list[Row]:
    blur = "" if problem.blur is None else f"blur {problem.blur:.4g}, "
    reach = "" if problem.reach is None else f", reach {problem.reach:g}"
    return [
        ("frame", "each in the unit cube" if problem.normalize else "coordinates as they are"),
        ("cost", f"{problem.cost}, {blur}epsilon {epsilon:.4g}{reach}"),
    ]


def file_rows(**files: str | None) -> list[Row]:
    """What was written, if it was."""
    return [(name, path) for name, path in files.items() if path is not None]


def state_row(converged: bool, status: str) -> Row:
    if converged:
        return "state", Text("converged", style="green")
    return "state", Text.assemble(("NOT CONVERGED", "bold red"), f": {status}")


def solve_rows(result: Any, solution: Any) -> list[Row]:
    """How a solve went, for a Divergence or a Solution; ``solution`` is the one between the two clouds."""
    first, last = result.temperatures[0], result.temperatures[-1]
    return [
        state_row(result.converged, result.status),
        ("value error", f"{finite(result.value_error) or 0.0:.1e} at most, about"),
        ("marginal error", f"{result.marginal_error:.2e} (tol {result.tol:.1e})"),
        ("iterations", f"{result.n_iter}"),
        ("temperatures", f"{len(result.temperatures)}, from {first:.3g} to {last:.3g}"),
        ("levels", _levels(solution)),
        *_sketch_rows(solution),
        ("engine", result.engine),
        ("precision", result.dtype),
        ("seconds", f"{result.seconds:.2f}"),
    ]


def solve_report(result: Any) -> dict[str, Any]:
    """The same for ``--json``: names as in the library, numbers at full precision."""
    report: dict[str, Any] = {}
    for key in ("value", "value_error", "converged", "status", "marginal_error", "tol", "n_iter", "epsilon"):
        report[key] = finite(getattr(result, key))
    report["temperatures"] = [finite(temperature) for temperature in result.temperatures]
    for key in ("engine", "dtype", "seconds"):
        report[key] = getattr(result, key)
    return report | interval_report(result)


def descent_rows(history: Any, name: str) -> list[Row]:
    """How a descent went."""
    first, last = history.values[0], history.values[-1]
    return [
        state_row(history.converged, history.status),
        (name, Text.assemble((f"{last:.6g}", "bold"), f", from {first:.6g} in {history.n_steps} steps")),
        ("seconds", f"{history.seconds:.2f}"),
    ]


def descent_report(history: Any) -> dict[str, Any]:
    """The same for ``--json``."""
    report = {"value": history.values[-1], "converged": history.converged, "status": history.status}
    return report | {"steps": history.n_steps, "seconds": history.seconds, "values": list(history.values)}


def processes_rows(group: Group | None) -> list[Row]:
    """How many processes there are, and what this one has sent."""
    if group is None:
        return []
    sent = group.traffic
    return [
        (
            "processes",
            f"{group.count}, each with its part; {sent.messages:,} messages of the first, {sent.bytes:,} bytes",
        )
    ]


def processes_report(group: Group | None) -> dict[str, Any]:
    """The same for ``--json``."""
    if group is None:
        return {}
    return {"processes": group.count, "messages": group.traffic.messages, "bytes": group.traffic.bytes}


def part_report(solution: Any) -> dict[str, Any]:
    """One of the problems of a divergence."""
    names = ("value", "value_error", "converged", "status", "marginal_error", "n_iter")
    report = {name: finite(getattr(solution, name)) for name in names}
    report["approximation"] = approximation_report(solution)
    return report | interval_report(solution)


def interval_report(result: Any) -> dict[str, Any]:
    """The certified interval, if there is one."""
    return {} if result.gap is None else {key: finite(getattr(result, key)) for key in ("lower", "upper", "gap")}


def approximation_report(solution: Any) -> dict[str, Any] | None:
    return None if solution.approximation is None else asdict(solution.approximation)


def cloud_report(cloud: Cloud) -> dict[str, Any]:
    report = {"name": cloud.name, "points": cloud.count, "dimension": cloud.points.shape[1]}
    return report if cloud.sketch is None else report | {"stand_for": cloud.sketch.count}


def cloud_reports(**clouds: Cloud) -> dict[str, Any]:
    return {name: cloud_report(cloud) for name, cloud in clouds.items()}


def finite(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sketch_rows(solution: Any) -> list[Row]:
    """What stood for what, and what could not be looked at."""
    used = solution.approximation
    if used is None or used.accuracy == 0.0:
        return []
    first, second = used.nodes
    said = (
        f"{first:,} x {second:,} points, {100 * used.negative[0]:.2g} and {100 * used.negative[1]:.2g} % of the mass "
    )
    said += f"negative, accuracy {used.accuracy:.1e}"
    missing = [name for name, audited in zip("AB", used.audited, strict=True) if not audited]
    said += f"; audited without the points of {' and '.join(missing)}, of which sketches were given" if missing else ""
    return [("sketches", said)]


def _levels(solution: Any) -> str:
    """What was solved between, and how much of it."""
    used = solution.approximation
    if used is None:
        return "the points alone, all pairs"
    sizes = ", then ".join(f"{n:,} x {m:,}" for n, m in used.levels)
    certificate = f"audit {used.audit:.1e}, skipped {used.skipped:.1e}"
    return f"{sizes}; {100 * used.share:.2g} % of the pairs an evaluation, {certificate}"
