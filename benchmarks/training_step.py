"""One training step, value and gradient, by geomsink, GeomLoss and OTT-JAX: seconds and errors in one run.

    pip install -e '.[peers,shapes,plot,cli]'
    python benchmarks/training_step.py [--sizes 2000 5000 20000] [--wide 2000 5000] [--timeout 30] [--quick]

Surfaces in the unit cube at blur σ = 0.05 (D = 3), and Gaussian clouds in D = 64 at σ = 2, float32. Each method runs in
a fresh process, is warmed up or compiled, and gives S_ε for the cost ‖x − y‖² and its gradient in x; a warm start is
from the potentials of points a thousandth of the cloud's width away, as between two steps of an optimiser. Errors are
relative to a float64 solution of geomsink on one level at a marginal error of 1e-8. Small clouds, 200 to 5,000 uniform
points, have a table of their own (`small_steps.py`); ``--quick`` has a short one, and no more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import small_steps
from common import RESULTS, clouds, default_shapes, fresh, machine, number, table, timed, work, write
from peers import STEPS, measure

BLUR, WIDE_BLUR, DIMENSION = 0.05, 2.0, 64
SMALL_TIMEOUT = 300.0
"""Seconds for each small case."""
RIGHT = 1e-2
"""Gradient error up to which a peer counts as solving the same problem."""
HEAD = ("method", "seconds", "times geomsink's", "gradient error", "value error", "remark")


def problems(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Names, clouds and blurs."""
    for n in options.sizes:
        yield f"{n:,} points of two surfaces, D = 3", *clouds(options.shapes, n), BLUR
    for n in options.wide:
        random = np.random.default_rng(0)
        x, y = (random.normal(shift, 1.0, (n, DIMENSION)).astype(np.float32) for shift in (0.0, 0.2))
        yield f"{n:,} points of two Gaussians, D = {DIMENSION}", x, y, WIDE_BLUR


def step(task: dict[str, Any], report: Callable[..., None]) -> None:
    """The worker."""
    if "flow" in task:
        return small_steps.small(task, report)
    if task["library"] == "reference":
        return measure(task, report)
    with np.load(task["points"]) as points:
        method = STEPS[task["library"]][task["method"]](points["x"], points["y"], task["blur"])
    assert method.gradient is not None
    method.warm("gradient")
    seconds, (value, gradient) = timed(method.gradient, method.again)
    np.save(task["gradient"], gradient)
    return report(seconds=seconds, value=value)


def compare(x: np.ndarray, y: np.ndarray, blur: float, options: argparse.Namespace, folder: Path) -> list[Any]:
    """One row a method; those that are not right come with what they are off by."""
    points, gradient = folder / "points.npz", folder / "gradient.npy"
    np.savez(points, x=x, y=y)
    base = {"points": str(points), "gradient": str(gradient), "blur": blur}
    solved = fresh(__file__, base | {"library": "reference", "tol": 1e-8, "single_up_to": 10**9})
    if "failed" in solved:
        sys.exit(f"the reference solution failed: {solved['failed']}")
    exact, rows = np.load(gradient), []
    for library, methods in STEPS.items():
        for method in methods:
            if library not in options.peers or not takes(library, x):
                continue
            gradient.unlink(missing_ok=True)
            row = {"method": method} | fresh(__file__, base | {"library": library, "method": method}, options.timeout)
            if "seconds" in row:
                difference = np.load(gradient) - exact
                row["gradient_error"] = float(np.linalg.norm(difference) / np.linalg.norm(exact))
                row["value_error"] = abs(row["value"] / solved["value"] - 1.0)
            row["ratio"] = row["seconds"] / rows[0]["seconds"] if rows and "seconds" in row else None
            rows.append(row)
            print("  ".join(cell for cell in cells(row) if cell), flush=True)
    return rows


def takes(library: str, x: np.ndarray) -> bool:
    """GeomLoss's backends that it would choose itself for such clouds, and "multiscale" wherever that runs."""
    if library == "geomloss-tensorized":
        return len(x) <= 5_000
    return library != "geomloss-multiscale" or x.shape[1] <= 3


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    remark = row.get("failed", "") or ("" if row["gradient_error"] <= RIGHT else "not within 1 %")
    return (
        row["method"], number(row.get("seconds"), ".3g"), number(row["ratio"], ".3g"),
        number(row.get("gradient_error"), ".0e"), number(row.get("value_error"), ".0e"), remark.replace("|", "/"),
    )  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> str:
    """Against the fastest peer that is right."""
    right = [row for row in rows[2:] if row.get("gradient_error", 1.0) <= RIGHT]
    if not right:
        return "No peer is within 1 % in the gradient in the time given."
    fastest = min(right, key=lambda row: row["seconds"])
    warm = fastest["seconds"] / rows[1]["seconds"]
    return (
        f"The fastest peer within 1 % is {fastest['method']}: geomsink is {fastest['ratio']:.1f} times faster from "
        f"nothing, and {warm:.1f} times from a warm start."
    )


def markdown(report: dict[str, Any]) -> str:
    parts = [report["about"], small_steps.markdown(report["small"])]
    for case in report["cases"]:
        parts += [f"## {case['name']}, σ = {case['blur']:g}", table(HEAD, [cells(row) for row in case["rows"]])]
        parts.append(summary(case["rows"]))
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[2_000, 5_000, 20_000], help="points a side, D = 3")
    parser.add_argument("--wide", type=int, nargs="*", default=[2_000, 5_000], help=f"points a side, D = {DIMENSION}")
    parser.add_argument("--peers", nargs="+", choices=list(STEPS), default=list(STEPS), metavar="PEER")
    parser.add_argument("--shapes", nargs=2, default=default_shapes(), help="files, or names of them")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each method, with its warm-up")
    parser.add_argument("--quick", action="store_true", help="a few small clouds, and nothing else")
    parser.add_argument("--out", type=Path, default=RESULTS / "training_step.json", help="with .md beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(step, options.worker)
    if options.peers[0] != "geomsink":
        parser.error("--peers: geomsink must be the first, as what the others are compared with")
    report: dict[str, Any] = {"about": f"{machine()}; float32", "small": [], "cases": []}
    print(report["about"])
    for task in small_steps.cases(options.quick):
        report["small"].append((task, fresh(__file__, task, SMALL_TIMEOUT)))
        write(options.out, report, markdown(report))
        print("  ".join(small_steps.cells(*report["small"][-1])), flush=True)
    if options.quick:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        for name, x, y, blur in problems(options):
            print(name, flush=True)
            rows = compare(x, y, blur, options, Path(folder))
            report["cases"].append({"name": name, "blur": blur, "rows": rows})
            write(options.out, report, markdown(report))  # a run takes long: what is there is kept
            print(summary(rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
