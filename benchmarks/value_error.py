"""What it costs to know how wrong a value is: the share of a solve's time that its estimate takes.

    python benchmarks/value_error.py [--n 1000 10000 100000] [--blurs 0.05 0.02]

Each divergence is solved once to warm up and then a few times: the seconds in the estimate, and in the steps that
follow from it, are taken within the same solve, so that the share does not depend on what else the machine does. The
truth is a solve at a hundredth of the tolerance in float64.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from common import RESULTS, SPENT, clouds, default_shapes, machine, table, write

import geomsink
from geomsink.solver.judged import Judged

HEAD = ("σ", "points", "strategy", "solve, s", "estimates", "their share", "stated error", "error found")
REPEATS = 5
LARGE = 50_000
"""Points from which on the truth would take minutes."""


class Watch:
    """Seconds in estimates, taken from the outside: `Judged` is as it was afterwards."""

    def __enter__(self) -> Watch:
        self.seconds, self.calls, self._original = 0.0, 0, Judged._is_right
        watch, original = self, self._original

        def timed(solver: Judged, error: float) -> bool:
            began = time.perf_counter()
            try:
                return original(solver, error)
            finally:
                watch.seconds, watch.calls = watch.seconds + time.perf_counter() - began, watch.calls + 1

        Judged._is_right = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Judged._is_right = self._original  # type: ignore[method-assign]


def measured(n: int, blur: float) -> dict[str, Any]:
    """One row."""
    x, y = clouds(default_shapes(), n)
    geomsink.sinkhorn_divergence(x, y, blur=blur)
    shares, seconds, began = [], [], time.perf_counter()
    while len(shares) < REPEATS and (not shares or time.perf_counter() - began < SPENT):
        with Watch() as watch:
            start = time.perf_counter()
            r = geomsink.sinkhorn_divergence(x, y, blur=blur)
            seconds.append(time.perf_counter() - start)
            shares.append(watch.seconds / seconds[-1])
    found = None
    if n < LARGE:
        truth = geomsink.sinkhorn_divergence(x, y, blur=blur, tol=1e-5, dtype="float64", init=r)
        found = abs(r.value / truth.value - 1.0)
    return {
        "n": n, "blur": blur, "strategy": r.xy.strategy, "seconds": statistics.median(seconds), "calls": watch.calls,
        "share": statistics.median(shares), "stated": r.value_error / r.value, "found": found, "converged": r.converged,
    }  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (f"{r['blur']:g}", f"{r['n']:,}", r["strategy"], f"{r['seconds']:.3g}", f"{r['calls']}", f"{r['share']:.1%}",
         f"{r['stated']:.1e}", "" if r["found"] is None else f"{r['found']:.1e}")
        for r in report["rows"]
    ]  # fmt: skip
    text = "The divergence S_ε at the default tolerance; errors are relative to the value."
    return "\n\n".join((report["about"], text, table(HEAD, rows)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[500, 1_000, 2_000, 10_000, 100_000])
    parser.add_argument("--blurs", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--out", type=Path, default=RESULTS / "value_error.json", help="with .md beside it")
    args = parser.parse_args()
    rows = [measured(n, blur) for n in args.n for blur in args.blurs]
    report = {"about": machine(), "rows": rows}
    text = markdown(report)
    print(text)
    write(args.out, report, text)
    return 0 if all(r["converged"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
