"""How seconds and memory of a Sinkhorn divergence grow with the number of points.

    python benchmarks/scaling.py [--sizes 100000 1000000 ...] [--blur 0.05] [--fit-from 100000]

Each size runs in a fresh process, after a small run that compiles. The exponents are those of N, by least squares in
logarithms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    PALETTE,
    RESULTS,
    clouds,
    default_shapes,
    fresh,
    machine,
    number,
    panels,
    peak_memory,
    plain_ticks,
    publish,
    save,
    table,
    work,
)

SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
WARM = 5_000
HEAD = (
    "points a side",
    "seconds",
    "peak MB",
    "above a small run",
    "marginal error",
    "evaluations, xy",
    "nodes, xy",
    "sketch, s",
    "solve, s",
    "extend, s",
    "audit, s",
    "remark",
)
PARTS = ("sketch", "solve", "extend", "audit")
"""Of the seconds: trees and nodes; between nodes; to the points; of some rows over all points."""
MEASURED = {"seconds": "seconds", "memory": "MB above a small run"}
"""What grows; memory without that of the imported libraries and of a small run, which is the same for every size."""


def measure(task: dict[str, Any], report: Callable[..., None]) -> None:
    """The worker."""
    import geomsink

    with np.load(task["points"]) as points:
        x, y = points["x"], points["y"]
    geomsink.sinkhorn_divergence(x[:WARM], y[:WARM], blur=task["blur"])
    report(before=peak_memory())
    parts, began = clocked(), time.perf_counter()
    r = geomsink.sinkhorn_divergence(x, y, blur=task["blur"])
    seconds = time.perf_counter() - began
    approximation = r.xy.approximation
    report(
        seconds=seconds, value=r.value, peak=peak_memory(), marginal_error=r.marginal_error,
        evaluations=r.xy.history[-1].evaluations, nodes=approximation.nodes if approximation else (len(x), len(y)),
        **parts, remark="" if r.converged else r.status,
    )  # fmt: skip


def clocked() -> dict[str, float]:
    """Seconds of the parts of all solves from now on."""
    from geomsink.multiscale import Cloud, sketched

    seconds, running = dict.fromkeys(PARTS, 0.0), list[str]()

    def clock(owner: Any, name: str, part: str) -> None:
        inner = getattr(owner, name)

        def outer(*given: Any, **named: Any) -> Any:
            if running:
                return inner(*given, **named)
            running.append(part)
            began = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                running.pop()
                seconds[part] += time.perf_counter() - began

        setattr(owner, name, outer)

    clock(Cloud, "is_sketched", "sketch")
    clock(sketched.Stand, "__init__", "sketch")
    clock(sketched.Sketched, "_between", "solve")
    clock(sketched.SketchedSums, "__init__", "extend")
    clock(sketched.SketchedSums, "audit", "audit")
    return seconds


def exponent(rows: list[dict[str, Any]], key: str, start: int) -> tuple[float, float] | None:
    """Slope and intercept of log(key) against log(N), from ``start`` points on; None for fewer than two sizes."""
    used = [(row["n"], row[key]) for row in rows if row["n"] >= start and row.get(key, 0) > 0]
    if len(used) < 2:
        return None
    slope, intercept = np.polyfit(*np.log(np.array(used, dtype=float)).T, 1)
    return float(slope), float(intercept)


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['n']:,}", number(row.get("seconds"), ".3g"), number(row.get("peak"), ".0f"),
            number(row.get("memory"), ".0f"), number(row.get("marginal_error"), ".1e"),
            number(row.get("evaluations"), "d"), " x ".join(f"{n:,}" for n in row.get("nodes", ())),
            *(number(row.get(part), ".3g") for part in PARTS), row.get("failed") or row.get("remark", ""),
        )
        for row in report["rows"]
    ]  # fmt: skip
    fits = [f"{MEASURED[key]} as N^{fit[0]:.2f}" for key, fit in report["fits"].items() if fit]
    text = f"From {report['fit_from']:,} points on: {', '.join(fits)}." if fits else ""
    return "\n\n".join((report["about"], table(HEAD, rows), text))


def draw(report: dict[str, Any], path: Path) -> None:
    from geomsink.plotting import FAINT

    figure, axes = panels(1, 2, 5.2, 3.8)
    for ax, color, (key, label) in zip(axes, PALETTE, MEASURED.items(), strict=False):
        at = [(row["n"], row[key]) for row in report["rows"] if row.get(key, 0) > 0]
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="points a side, N",
            ylabel=label,
            title=("time", "memory")[key == "memory"],
        )
        if not at:
            continue
        n, values = zip(*at, strict=True)
        fit = report["fits"][key]
        if fit:
            ends = np.array([min(k for k in n if k >= report["fit_from"]), n[-1]])
            line = np.exp(fit[1]) * ends ** fit[0]
            ax.plot(ends, line, "--", color=FAINT, lw=1.2)
            middle = np.sqrt(ends.prod()), np.sqrt(line.prod())
            text = f"$N^{{{fit[0]:.2f}}}$"
            ax.annotate(text, middle, (10, -18), textcoords="offset points", color=FAINT)
        ax.plot(n, values, "o", color=color, ms=7)
        ax.set_xticks(n, [f"{k / 1e6:g}M" if k >= 1e6 else f"{k / 1e3:g}k" for k in n], minor=False)
        ax.set_xticks([], minor=True)
        plain_ticks(ax.yaxis)
    save(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="points a side")
    parser.add_argument("--blur", type=float, default=0.05)
    parser.add_argument("--fit-from", type=int, default=100_000, metavar="N", help="smallest size that is fitted")
    parser.add_argument(
        "--shapes", nargs=2, default=default_shapes(), help="files, names of them, or procedural shapes"
    )
    parser.add_argument("--timeout", type=float, help="seconds for each size (default: none)")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json", help="with .md and .png beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(measure, options.worker)
    import geomsink.plotting  # noqa: F401  without matplotlib, say so now and not at the end

    about = f"{machine()}; {' and '.join(options.shapes)}, σ = {options.blur:g}, geomsink's defaults, float32 points"
    print(about)
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {"about": about, "blur": options.blur, "fit_from": options.fit_from, "rows": rows}
    for n in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            points = Path(folder) / "points.npz"
            x, y = clouds(options.shapes, n)
            np.savez(points, x=x, y=y)
            row = {"n": n} | fresh(__file__, {"points": str(points), "blur": options.blur}, options.timeout)
        if "peak" in row:
            row["memory"] = row["peak"] - row["before"]
        rows.append(row)
        print(row, flush=True)
        report["fits"] = {key: exponent(rows, key, options.fit_from) for key in MEASURED}
        publish(options.out, report, markdown, draw)
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
