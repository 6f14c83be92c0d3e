"""Marginal error against evaluations: plain, over-relaxed, Newton's and two-grid updates, in float64.

    python benchmarks/convergence.py [--problems surfaces-0.05 plane-0.01 ...] [--n 20000]

One evaluation is one row or column sum. All but the two-grid run (``multiscale=True``) sum over all pairs of points and
anneal on the points; that one anneals on cells and leaves out pairs that do not count, and the table says which share
is left. ``multiscale=False`` goes over to Newton's steps on a sparse plan where 20 over-relaxed cycles are not enough,
and so does the two-grid run where cells are too wide. Work between cells and with sparse plans is not among the
evaluations but in the seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import PALETTE, RESULTS, SHARED, clouds, default_shapes, machine, number, panels, publish, save, table

import geomsink
from geomsink import costs, engine, plotting
from geomsink.divergences.options import MAX_ITER, Options
from geomsink.divergences.requests import Request
from geomsink.progress import Progress
from geomsink.solver.annealing import temperatures
from geomsink.solver.goal import Goal
from geomsink.solver.onelevel import OneLevel
from geomsink.solver.problem import Problem

TOL = 1e-6
CAP = 200
"""Evaluations of plain updates."""
REACHED = (1e-3, 1e-4, 1e-6)
SETTLED = 1e-2
"""Marginal error from which on the reduction of a two-grid cycle is measured."""
SOLVED = ("bunny-igea-blur0.05", "bunny-igea-blur0.02", "horse-spot-blur0.01")
METHODS = {"plain": PALETTE[1], "over-relaxed": PALETTE[3], "one level": PALETTE[2], "two-grid": PALETTE[0]}
TINY = 1e-280
"""Sums outside of [TINY, 1/TINY] are taken again with their largest exponent taken out."""
HEAD = (
    "problem", "points", "updates", *(f"evaluations to {t:.0e}" for t in REACHED), "seconds", "factor a cycle",
    "levels", "share of pairs", "remark",
)  # fmt: skip

Clouds = tuple[np.ndarray, np.ndarray]
History = list[tuple[int, float]]
"""Evaluations so far and marginal error, at the target temperature."""


def problems(n: int) -> dict[str, tuple[float, Callable[[], Clouds]]]:
    """Blur and points of each, by name."""

    def plane() -> Clouds:
        rng = np.random.default_rng(0)
        return rng.random((n // 2, 2)), 0.5 + 0.15 * rng.standard_normal((n // 2, 2))

    def solved(name: str) -> Callable[[], Clouds]:
        def load() -> Clouds:
            with np.load(SHARED / "reference" / f"{name}.npz") as file:
                return file["x"], file["y"]

        return load

    found: dict[str, tuple[float, Callable[[], Clouds]]] = {}
    for blur in (0.05, 0.02):
        found[f"surfaces-{blur}"] = (blur, lambda: clouds(default_shapes(), n))
    for name in SOLVED:
        if (SHARED / "reference" / f"{name}.npz").exists():
            found[name] = (float(name.rpartition("blur")[2]), solved(name))
    for blur in (0.01, 0.006):
        found[f"plane-{blur}"] = (blur, plane)
    return found


def plain(x: np.ndarray, y: np.ndarray, steps: tuple[float, ...]) -> History:
    """Alternating updates, after one cycle at each higher temperature, until TOL or for CAP evaluations."""
    p, q = torch.from_numpy(x).double(), torch.from_numpy(y).double()
    pair = engine.pair(p, q, costs.get("sqeuclidean"))
    f, g = p.new_zeros(len(p)), q.new_zeros(len(q))

    def log_sums(pair: engine.Pair, f: torch.Tensor, g: torch.Tensor, epsilon: float) -> torch.Tensor:
        """log Σ_j b_j exp((f_i + g_j − C_ij)/ε) for uniform weights b."""
        u, v = f / epsilon, g / epsilon - math.log(len(g))
        sums = engine.Gibbs(pair, u, v, epsilon).row_sums()
        if bool(((sums > TINY) & (sums < 1 / TINY)).all()):
            return sums.log()
        largest = engine.Gibbs(pair, u, v, epsilon).row_max()
        return engine.Gibbs(pair, -largest, v, epsilon).row_sums().log() + largest + u

    evaluations, history = 0, []
    for epsilon in (*steps[:-1], *[steps[-1]] * CAP):
        log_rows = log_sums(pair, f, g, epsilon)
        f = f - epsilon * log_rows
        log_columns = log_sums(pair.T, g, f, epsilon)
        evaluations += 2
        if epsilon == steps[-1]:
            # The rows are exact after their update: all of the error is in the columns.
            history.append((evaluations, float(log_columns.expm1().abs().mean())))
            if history[-1][1] <= TOL or evaluations >= CAP:
                break
        g = g - epsilon * log_columns
    return history


def over_relaxed(x: np.ndarray, y: np.ndarray, blur: float) -> dict[str, Any]:
    """The solver of one level without Newton's steps."""
    request = Request.of(x, y, None, None, Options(blur=blur, tol=TOL, dtype=torch.float64))
    pair = engine.pair(request.alpha.points, request.beta.points, request.cost)
    steps = temperatures(request.cost_scale, request.epsilon, request.options.scaling, request.cost.degree)
    problem = Problem(request.alpha, request.beta, pair, steps, request.cost_scale)
    solved = OneLevel(Goal(TOL), MAX_ITER).solve(problem, Progress(show=False))
    history = [(step.evaluations, step.marginal_error) for step in solved.solver.history if step.epsilon == steps[-1]]
    remark = "" if solved.status == "converged" else solved.status
    return {"history": history, "seconds": solved.seconds, "remark": remark}


def compare(name: str, blur: float, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """All four on one problem."""
    methods: dict[str, dict[str, Any]] = {}
    steps: tuple[float, ...] = ()
    methods["over-relaxed"] = over_relaxed(x, y, blur)
    for label, multiscale in (("one level", False), ("two-grid", True)):
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", geomsink.ConvergenceWarning)  # a remark of the table
            s = geomsink.solve(x, y, blur=blur, tol=TOL, dtype="float64", multiscale=multiscale)
        seconds = time.perf_counter() - start
        history = [(step.evaluations, step.marginal_error) for step in s.history if step.epsilon == s.epsilon]
        row = {"history": history, "seconds": seconds, "remark": "" if s.converged else s.status}
        if not s.converged:
            row["remark"] += f", marginal error {s.marginal_error:.1e}"
        if multiscale:
            row |= {"factor": factor(history)}
            if s.approximation is None:
                row["remark"] = "too few points for cells: one level"
            else:
                row |= {"levels": len(s.approximation.levels), "share": s.approximation.share}
        else:
            steps = s.temperatures
        methods[label] = row
    start = time.perf_counter()
    history = plain(x, y, steps)
    remark = "" if history[-1][1] <= TOL else f"stopped at {history[-1][0]} evaluations, at {history[-1][1]:.1e}"
    methods["plain"] = {"history": history, "seconds": time.perf_counter() - start, "remark": remark}
    points = f"{len(x):,}" if len(x) == len(y) else f"{len(x):,} and {len(y):,}"
    return {"problem": name, "blur": blur, "points": points, "methods": {m: methods[m] for m in METHODS}}


def factor(history: History) -> float | None:
    """By how much a cycle of two evaluations divides the error, on average between SETTLED and TOL."""
    start = next((k for k, (_, error) in enumerate(history) if error <= SETTLED), None)
    if start is None:
        return None
    end = next((k for k, (_, error) in enumerate(history) if error <= TOL), len(history) - 1)
    (n0, e0), (n1, e1) = history[start], history[end]
    return (e0 / e1) ** (2 / (n1 - n0)) if n1 > n0 and e1 > 0 else None


def _cells(label: str, row: dict[str, Any]) -> tuple[str, ...]:
    first = (next((n for n, error in row["history"] if error <= t), None) for t in REACHED)
    return (
        label, *(number(n, "d") for n in first), number(row["seconds"], ".3g"), number(row.get("factor"), ".3g"),
        number(row.get("levels"), "d"), number(row.get("share"), ".0%"), row["remark"],
    )  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    rows = []
    for case in report["cases"]:
        start = (case["problem"], case["points"])
        for label, row in case["methods"].items():
            rows.append((*start, *_cells(label, row)))
            start = ("", "")
    text = (
        "One evaluation is one row or column sum, annealing on the points included; a cycle is two. Work between "
        "cells and with sparse plans is in the seconds only. The factor is the mean division of the error "
        f"by one cycle between {SETTLED:.0e} and {TOL:.0e}. Plain updates stop after {CAP} evaluations."
    )
    return "\n\n".join((report["about"], table(HEAD, rows), text))


def draw(report: dict[str, Any], path: Path) -> None:
    cases = report["cases"]
    columns = min(3, len(cases))
    figure, axes = panels(-(-len(cases) // columns), columns, 4.2, 3.2)
    for ax, case in zip(axes, cases, strict=False):
        for label, color in METHODS.items():
            n, errors = zip(*case["methods"][label]["history"], strict=True)
            ax.plot(n, errors, "o-", ms=2.5, color=color, lw=1.6, label=label)
        ax.axhline(TOL, color=plotting.FAINT, lw=1, ls=(0, (4, 4)))
        ax.set(yscale="log", xlim=(0, None), xlabel="evaluations", ylabel="marginal error")
        ax.set_title(f"{case['problem'].rpartition('-')[0]}, σ = {case['blur']:g}\n{case['points']} points")
    for ax in axes[len(cases) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, labelcolor=plotting.INK)
    save(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", nargs="+", metavar="PROBLEM", help="some of " + ", ".join(problems(2)))
    parser.add_argument("--n", type=int, default=20_000, help="points a side of surfaces; half of it in the plane")
    parser.add_argument("--out", type=Path, default=RESULTS / "convergence.json", help="with .md and .png beside it")
    options = parser.parse_args()
    known = problems(options.n)
    chosen = options.problems or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"--problems: unknown {', '.join(unknown)}; expected some of {', '.join(known)}")

    about = f"{machine()}; float64, tol {TOL:.0e}"
    print(about)
    for dim in (2, 3):  # compiles
        x, y = np.random.default_rng(0).random((2, 2_500, dim))
        geomsink.solve(x, y, blur=0.1, tol=TOL, dtype="float64", multiscale=True)
    report: dict[str, Any] = {"about": about, "tol": TOL, "cap": CAP, "cases": []}
    for name in chosen:
        blur, points = known[name]
        case = compare(name, blur, *points())
        report["cases"].append(case)
        ends = {m: (row["history"][-1], f"{row['seconds']:.1f} s") for m, row in case["methods"].items()}
        print(f"{name}: {ends}", flush=True)
        publish(options.out, report, markdown, draw)
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
