"""A matrix of divergences between clouds: `geomsink.pairwise` against calls one by one, in processor time.

    python benchmarks/pairwise.py [--clouds 20] [--sizes 50 400] [--blur 0.1]

Processor time is compared, which other processes on the machine do not lengthen.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, table, write

import geomsink

HEAD = ("points a cloud", "clouds", "pairs", "one by one, s", "pairwise, s", "times as fast", "largest difference")


def clouds(count: int, n: int) -> list[np.ndarray]:
    """Normal clouds of different places and widths in three dimensions."""
    random = np.random.default_rng(0)
    return [random.random(3) + (0.1 + 0.1 * random.random()) * random.normal(size=(n, 3)) for _ in range(count)]


def row(count: int, n: int, blur: float) -> dict[str, Any]:
    x = clouds(count, n)
    geomsink.sinkhorn_divergence(x[0], x[1], blur=blur)  # what is compiled is there
    began = time.process_time()
    pairs = list(itertools.combinations(range(count), 2))
    values = np.array([geomsink.sinkhorn_divergence(x[i], x[j], blur=blur).value for i, j in pairs])
    one_by_one = time.process_time() - began
    began = time.process_time()
    matrix = geomsink.pairwise(x, blur=blur)
    together = time.process_time() - began
    assert matrix.converged
    apart = float(np.abs(matrix.values[tuple(zip(*pairs, strict=True))] / values - 1.0).max())
    return {
        "n": n,
        "clouds": count,
        "pairs": len(pairs),
        "one_by_one": one_by_one,
        "pairwise": together,
        "apart": apart,
    }


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (f"{r['n']:,}", str(r["clouds"]), str(r["pairs"]), f"{r['one_by_one']:.2f}", f"{r['pairwise']:.2f}",
         f"{r['one_by_one'] / r['pairwise']:.1f}", f"{r['apart']:.1e}")
        for r in report["rows"]
    ]  # fmt: skip
    return report["about"] + "\n\n" + table(HEAD, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clouds", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 400], help="points of each")
    parser.add_argument("--blur", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=RESULTS / "pairwise.json", help="with .md beside it")
    options = parser.parse_args()
    about = f"{machine()}; blur {options.blur:g}; differences are relative; seconds of processor time"
    report: dict[str, Any] = {"about": about, "rows": []}
    for n in options.sizes:
        report["rows"].append(row(options.clouds, n, options.blur))
        print(report["rows"][-1], flush=True)
        write(options.out, report, markdown(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
