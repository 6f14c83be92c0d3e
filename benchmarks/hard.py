"""Problems at low temperatures: whether default calls solve them, and how much longer that takes than an easy one.

    python benchmarks/hard.py ../shared/hard/problems.py [--sizes 300 2000] [--peers]

The file has a table ``PROBLEMS``, from names to functions that make x, y, a, b and the blur; one with ``easy`` in its
name, of the same size, is what others are timed against, in the same run, in processor seconds (of one thread:
``OMP_NUM_THREADS=1``, since threads that wait count) and by the least of up to three. Marginal
errors are found again over all pairs in float64. Values are compared with an upper bound that knows nothing of the
solver: the cost of the plan once it is rounded to one with the right marginals (Altschuler, Weed, Rigollet 2017,
arXiv:1705.09634).
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, table, write

import geomsink

ROWS = 2**22
"""Pairs in memory at a time."""
PATIENCE = 5.0
"""Seconds after which a measurement is not repeated."""


def problems_of(path: Path) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("hard_problems", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.PROBLEMS)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared, of some rows against all."""
    return sum((x[:, None, k] - y[None, :, k]) ** 2 for k in range(x.shape[1]))


def checked(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, f: Any, g: Any, epsilon: float) -> tuple:
    """Marginal error of potentials, and the gap between the plan that they make, rounded, and their dual value."""
    step, parts = max(1, ROWS // len(y)), range(0, len(x), max(1, ROWS // len(y)))
    entries = lambda i: np.exp((f[i : i + step, None] + g - distances(x[i : i + step], y)) / epsilon)  # noqa: E731
    rows, columns = np.zeros(len(x)), np.zeros(len(y))
    for i in parts:
        P = a[i : i + step, None] * entries(i) * b
        rows[i : i + step] = P.sum(1)
        columns += P.sum(0)
    error = np.abs(rows - a).sum() + np.abs(columns - b).sum()
    dual = a @ f + b @ g - epsilon * (columns.sum() - 1.0)
    p, reached = np.minimum(1.0, a / rows), np.zeros(len(y))
    for i in parts:
        reached += p[i : i + step] @ (a[i : i + step, None] * entries(i) * b)
    q = np.minimum(1.0, b / reached)
    missing = a - p * np.concatenate([(a[i : i + step, None] * entries(i) * b) @ q for i in parts]), b - q * reached
    left, primal = missing[0].sum(), 0.0
    for i in parts:
        C, weights = distances(x[i : i + step], y), a[i : i + step, None] * b
        P = p[i : i + step, None] * (weights * entries(i)) * q
        P = P + (np.outer(missing[0][i : i + step], missing[1]) / left if left > 0 else 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = np.where(P > 0.0, P * np.log(P / weights), 0.0)
        primal += float((P * C).sum() + epsilon * entropy.sum())
    return error, dual, primal - dual


def solved(make: Any) -> tuple[Any, float, tuple]:
    x, y, a, b, blur = make()
    seconds, tries = math.inf, 0
    while tries < 3 and (tries == 0 or seconds < PATIENCE):
        begin = time.process_time()
        s = geomsink.solve(x, y, a, b, blur=blur)
        seconds, tries = min(seconds, time.process_time() - begin), tries + 1
    weights = [np.full(len(p), 1 / len(p)) if w is None else w for p, w in ((x, a), (y, b))]
    return s, seconds, checked(x, y, *weights, *s.potentials, s.epsilon)


def peer_rows(name: str, make: Any, value: float) -> list[str]:
    """POT's methods, and OTT-JAX, where they are installed and end in time."""
    x, y, a, b, blur = make()
    a, b = (np.full(len(p), 1 / len(p)) if w is None else w for p, w in ((x, a), (y, b)))
    epsilon, rows = 2 * blur**2, []
    ways: dict[str, Any] = {}
    try:
        import ot

        C = ot.dist(x, y)
        ways["POT, sinkhorn_log"] = lambda: ot.bregman.sinkhorn_log(a, b, C, epsilon, numItermax=1000, stopThr=1e-6)
        ways["POT, epsilon scaling"] = lambda: ot.bregman.sinkhorn_epsilon_scaling(a, b, C, epsilon, stopThr=1e-6)
    except ImportError:
        pass
    try:
        from ott.geometry import pointcloud
        from ott.solvers import linear

        def by_ott() -> Any:
            geometry = pointcloud.PointCloud(x, y, epsilon=epsilon)
            return np.asarray(linear.solve(geometry, a, b, max_iterations=2000).matrix, dtype=float)

        ways["OTT-JAX"] = by_ott
    except ImportError:
        pass
    for label, way in ways.items():
        begin = time.process_time()
        try:
            P = way()
            seconds = time.process_time() - begin
            entropy = np.where(P > 0, P * np.log(np.maximum(P, 1e-300) / np.outer(a, b)), 0.0).sum()
            off = abs((P * distances(x, y)).sum() + epsilon * entropy - value) / abs(value)
            error = np.abs(P.sum(1) - a).sum() + np.abs(P.sum(0) - b).sum()
            rows.append(f"{name}: {label}: {seconds:.2f} s, {error:.1e}, value off by {off:.1e}")
        except Exception as failure:
            rows.append(f"{name}: {label}: {type(failure).__name__}")
    return rows


def size_of(name: str) -> int:
    """Points of a problem, by its name: images have the square of what they say."""
    found = next(int(part) for part in name.split("-") if part.isdigit())
    return found**2 if name.startswith("images") else found


def report(out: Path, rows: list[dict[str, Any]], lines: list[str]) -> None:
    """What there is so far."""
    header = ("problem", "seconds", "times easy", "strategy", "cycles", "converged", "marginal error", "gap, relative")
    body = [
        (r["problem"], f"{r['seconds']:.2f}", f"{r['times easy']:.1f}", r["strategy"], str(r["cycles"]),
         "yes" if r["converged"] else "no", f"{r['marginal error']:.1e}", f"{r['gap']:.1e}")
        for r in rows
    ]  # fmt: skip
    text = f"# Problems at low temperatures\n\n{machine()}\n\n{table(header, body)}\n"
    text += "".join(f"- {line}\n" for line in lines)
    write(out, {"machine": machine(), "rows": rows, "peers": lines}, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path, help="a Python file with a table PROBLEMS")
    parser.add_argument("--sizes", type=int, nargs="+", help="points, of which problems are solved (default: all)")
    parser.add_argument("--peers", action="store_true", help="POT and OTT-JAX beside, where they are installed")
    parser.add_argument("--out", type=Path, default=RESULTS / "hard.json", help="the report; Markdown lies beside it")
    given = parser.parse_args()
    warnings.simplefilter("ignore", geomsink.ConvergenceWarning)
    rows, lines, easy, failed = [], [], {}, 0
    names = problems_of(given.problems)
    for name, make in sorted(names.items(), key=lambda item: (size_of(item[0]), "easy" not in item[0])):
        size = size_of(name)
        if given.sizes and size not in given.sizes:
            continue
        s, seconds, (error, dual, gap) = solved(make)
        if "easy" in name or (name.endswith("-0.05") and "images" in name):
            easy[size] = seconds
        failed += not (s.converged and error <= s.tol)
        ratio = seconds / easy[size] if size in easy else math.nan
        rows.append({
            "problem": name, "seconds": seconds, "times easy": ratio, "cycles": s.n_iter, "strategy": s.strategy,
            "converged": s.converged, "marginal error": float(error), "gap": float(gap / abs(dual)),
            "stated": float(s.value_error / abs(dual)), "value": s.value,
        })  # fmt: skip
        status = "converged" if s.converged else "NOT CONVERGED"
        told = f"{status}  error {error:.1e}  gap {gap / abs(dual):.1e}"
        print(f"{name:36s} {seconds:7.2f} s {ratio:6.1f} x  {s.strategy:15s} {s.n_iter:4d} cycles  {told}", flush=True)
        if given.peers and size <= 2000:
            lines += peer_rows(name, make, s.value)
        report(given.out, rows, lines)
    print(f"{len(rows) - failed} of {len(rows)} converged")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
