"""The default solve of large clouds against a solve on one level over all pairs, in float64 to 1e-6.

    python benchmarks/accuracy.py [--n 100000] [--blurs 0.05 0.02]

The solve on one level starts from potentials found on several, to save hours, and stops when its own marginal error,
over all pairs, is below 1e-6: what it started from does not matter to what it says.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from common import RESULTS, clouds, default_shapes, machine, table, write

import geomsink

TOL = 1e-6
HEAD = ("σ", "points", "value", "one level, float64", "relative difference", "marginal error", "audit", "skipped",
        "share of pairs", "seconds", "seconds of the other")  # fmt: skip


def compare(n: int, blur: float) -> dict[str, Any]:
    """One row."""
    x, y = clouds(default_shapes(), n)
    start = time.perf_counter()
    found = geomsink.sinkhorn_divergence(x, y, blur=blur)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    close = geomsink.sinkhorn_divergence(x, y, blur=blur, tol=TOL, dtype="float64")
    exact = geomsink.sinkhorn_divergence(x, y, blur=blur, tol=TOL, dtype="float64", multiscale=False, init=close)
    used = found.xy.approximation
    return {
        "blur": blur, "n": n, "value": found.value, "exact": exact.value, "exact_error": exact.marginal_error,
        "difference": abs(found.value / exact.value - 1.0), "marginal_error": found.marginal_error,
        "audit": used.audit if used else 0.0, "skipped": used.skipped if used else 0.0,
        "share": used.share if used else 1.0, "seconds": seconds, "exact_seconds": time.perf_counter() - start,
        "exact_evaluations": exact.xy.history[-1].evaluations,
    }  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (f"{r['blur']:g}", f"{r['n']:,}", f"{r['value']:.9g}", f"{r['exact']:.9g}", f"{r['difference']:.0e}",
         f"{r['marginal_error']:.1e}", f"{r['audit']:.1e}", f"{r['skipped']:.1e}", f"{r['share']:.1%}",
         f"{r['seconds']:.3g}", f"{r['exact_seconds']:.3g}")
        for r in report["cases"]
    ]  # fmt: skip
    largest = max(r["exact_error"] for r in report["cases"])
    text = f"The largest marginal error of the solves on one level is {largest:.1e}."
    return "\n\n".join((report["about"], table(HEAD, rows), text))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="points a side")
    parser.add_argument("--blurs", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--out", type=Path, default=RESULTS / "accuracy.json", help="with .md beside it")
    options = parser.parse_args()
    x, y = clouds(default_shapes(), 5_000)
    geomsink.sinkhorn_divergence(x, y, blur=0.05)  # compiles
    report: dict[str, Any] = {"about": f"{machine()}; {' and '.join(default_shapes())}", "cases": []}
    for blur in options.blurs:
        report["cases"].append(compare(options.n, blur))
        print(report["cases"][-1], flush=True)
        write(options.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
