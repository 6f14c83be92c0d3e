"""Exact matchings: how long they take, how small the gap is, and what POT's network simplex finds where it can.

    python benchmarks/matching.py [--sizes 10000 100000] [--clouds cube surfaces] [--peer 10000]

Peers store the costs of all pairs, 8 bytes each: 80 GB for 100,000 points.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, table, write

from geomsink import shapes
from geomsink.transport import matching

HEAD = ("clouds", "points a side", "cost", "gap, relative", "exact", "rounds", "candidates", "seconds",
        "processor, s", "POT's cost", "POT, s")  # fmt: skip


def clouds(kind: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform points of the unit cube, or points of two surfaces in it; float64."""
    if kind == "cube":
        random = np.random.default_rng(0)
        return random.random((n, 3)), random.random((n, 3))
    x, y = (shapes.sample(name, n, seed, normalize=True) for seed, name in enumerate(("shape:knot", "shape:star")))
    return x.astype(np.float64), y.astype(np.float64)


def simplex(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Cost and seconds of POT's network simplex, that of the matrix of costs included."""
    import ot

    began = time.perf_counter()
    weights = np.full(len(x), 1.0 / len(x))
    cost = ot.emd2(weights, weights, ot.dist(x, y), numItermax=10**8)
    return float(cost), time.perf_counter() - began


def row(kind: str, n: int, peer: bool) -> dict[str, Any]:
    x, y = clouds(kind, n)
    began = time.process_time()
    found = matching(x, y)
    names = ("cost", "lower", "gap", "relative_gap", "exact", "rounds", "candidates", "epsilon", "seconds")
    report = {"clouds": kind, "n": n} | {name: getattr(found, name) for name in names}
    report["processor"] = time.process_time() - began
    if peer:
        try:
            report["peer"], report["peer_seconds"] = simplex(x, y)
        except ImportError:
            print("POT is not installed: nothing to compare with", file=sys.stderr)
    return report


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (r["clouds"], f"{r['n']:,}", f"{r['cost']:.12g}", f"{r['relative_gap']:.0e}", str(r["exact"]), str(r["rounds"]),
         f"{r['candidates']:,}", f"{r['seconds']:.1f}", f"{r['processor']:.1f}",
         *((f"{r['peer']:.12g}", f"{r['peer_seconds']:.1f}") if "peer" in r else ("", "")))
        for r in report["rows"]
    ]  # fmt: skip
    return report["about"] + "\n\n" + table(HEAD, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="points a side")
    parser.add_argument("--clouds", nargs="+", choices=("cube", "surfaces"), default=["cube", "surfaces"])
    parser.add_argument("--peer", type=int, default=10_000, help="points up to which POT is run, where installed")
    parser.add_argument("--out", type=Path, default=RESULTS / "matching.json", help="with .md beside it")
    options = parser.parse_args()
    about = f"{machine()}; squared distances, uniform weights, float64"
    report: dict[str, Any] = {"about": about, "rows": []}
    matching(*clouds("cube", 2_000))  # compiles
    for n in options.sizes:
        for kind in options.clouds:
            report["rows"].append(row(kind, n, n <= options.peer))
            print(report["rows"][-1], flush=True)
            write(options.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
