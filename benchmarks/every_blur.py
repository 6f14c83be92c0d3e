"""Surfaces at small blurs: seconds beside an ordinary one, their growth with the number of points, and the limit ε → 0.

    OMP_NUM_THREADS=1 python benchmarks/every_blur.py [--points 20000] [--large] [--exact 4000]

Clouds are those of the other benchmarks (two scanned surfaces, or two procedural ones). Seconds are a processor's, of
one thread, by single calls of `geomsink.solve`. The limit is compared with the exact cost by POT where
that is installed, and with `geomsink.transport.matching` elsewhere; an error is relative.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, clouds, default_shapes, machine, table, write
from scipy.spatial import cKDTree

import geomsink

BLURS = 0.05, 0.01, 0.005, 0.002
GROWING = 10_000, 20_000, 40_000
SPACINGS = 2.0
"""σ of the growth with N."""
LARGE = (100_000, 0.05), (100_000, 0.01), (100_000, 0.003)


def spacing(x: np.ndarray) -> float:
    return float(cKDTree(x).query(x, 2)[0][:, 1].mean())


def solved(x: np.ndarray, y: np.ndarray, blur: float) -> tuple[dict[str, Any], Any]:
    begin = time.process_time()
    s = geomsink.solve(x, y, blur=blur)
    row = {
        "points": len(x), "blur": blur, "spacings": blur / spacing(x), "seconds": time.process_time() - begin,
        "strategy": s.strategy, "cycles": s.n_iter, "converged": bool(s.converged),
        "marginal error": float(s.marginal_error),
    }  # fmt: skip
    print(
        f"{len(x):7d} points, blur {blur:.4g}: {row['seconds']:7.1f} s  {s.strategy}, {s.n_iter} cycles, "
        f"{'converged' if s.converged else 'NOT CONVERGED'}",
        flush=True,
    )
    return row, s


def limit(shapes: list[str], n: int) -> dict[str, Any]:
    """⟨P, C⟩ at σ of a hundredth of the spacing, beside the exact cost."""
    x, y = (p.astype(np.float64) for p in clouds(shapes, n))
    row, s = solved(x, y, spacing(x) / 100)
    try:
        import ot

        exact, by = float(ot.emd2([], [], ot.dist(x, y), numItermax=10**8)), "POT"
    except ImportError:
        exact, by = geomsink.transport.matching(x, y).cost, "matching"
    cost, value = s.plan.transport_cost, float(s.value)
    return {
        **row,
        "exact": exact,
        "by": by,
        "cost off": abs(cost - exact) / exact,
        "value off": (value - exact) / exact,
    }


def report(out: Path, found: dict[str, Any]) -> None:
    text = f"# Surfaces at small blurs\n\n{machine()}\n"
    header = ("points", "blur", "in spacings", "seconds", "strategy", "cycles", "converged", "marginal error")
    for title, rows in found.items():
        body = [
            (f"{r['points']:,}", f"{r['blur']:.2g}", f"{r['spacings']:.2g}", f"{r['seconds']:.1f}", r["strategy"],
             str(r["cycles"]), "yes" if r["converged"] else "no", f"{r['marginal error']:.1e}")
            for r in rows
        ]  # fmt: skip
        text += f"\n## {title}\n\n{table(header, body)}\n"
        for r in rows:
            if "exact" in r:
                text += f"\nExact cost (by {r['by']}): {r['exact']:.9g}; the plan's is off by {r['cost off']:.1e}, "
                text += f"OT_ε by {r['value off']:.1e}.\n"
    growth = found.get("Growth", [])
    if len(growth) > 1:
        exponent = np.polyfit(*(np.log([r[k] for r in growth]) for k in ("points", "seconds")), 1)[0]
        text += f"\nSeconds grow like N^{exponent:.2f} at σ of {SPACINGS:g} spacings.\n"
    write(out, {"machine": machine(), **found}, text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--exact", type=int, default=4_000, help="points of the limit ε → 0; 0: leave it out")
    parser.add_argument("--growing", type=int, nargs="*", default=GROWING, help="points of the growth with N")
    parser.add_argument("--large", action="store_true", help="100,000 points as well")
    parser.add_argument("--shapes", nargs=2, default=default_shapes())
    parser.add_argument("--out", type=Path, default=RESULTS / "every_blur.json", help="the report; Markdown beside it")
    given = parser.parse_args()
    warnings.simplefilter("ignore", geomsink.ConvergenceWarning)
    found: dict[str, list[dict[str, Any]]] = {}
    parts: list[tuple[str, Any]] = [(f"{given.points:,} points", [(given.points, blur) for blur in BLURS])]
    parts += [("Growth", [(n, None) for n in given.growing])]
    parts += [("100,000 points", LARGE)] if given.large else []
    if given.exact:
        found[f"{given.exact:,} points, a hundredth of the spacing"] = [limit(given.shapes, given.exact)]
    for title, cases in parts:
        for n, blur in cases:
            x, y = clouds(given.shapes, n)
            row, _ = solved(x, y, SPACINGS * spacing(x) if blur is None else blur)
            found.setdefault(title, []).append(row)
            report(given.out, found)
    return int(not all(row["converged"] for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
