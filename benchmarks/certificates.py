"""What a certificate costs, and how narrow it is: solved surfaces of growing size, and costs without regularisation.

    python benchmarks/certificates.py [--n 10000 100000] [--blurs 0.05 0.02]

The same clouds are solved without and with ``certify=True``, and with ``tol_gap=1e-3``, one after the other in one
process; ratios of seconds are therefore of the same machine at the same time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, clouds, default_shapes, machine, table, timed, write

import geomsink

HEAD = ("σ", "points", "solve, s", "certified, relative", "width", "tol_gap=1e-3, relative",
        "width")  # fmt: skip
EXACT_HEAD = ("p", "points", "blur", "lower", "upper", "width", "seconds", "of which the solve")


def divergence(n: int, blur: float) -> dict[str, Any]:
    """One row: seconds and relative widths."""
    x, y = clouds(default_shapes(), n)
    plain, _ = timed(lambda: geomsink.sinkhorn_divergence(x, y, blur=blur))
    certified, r = timed(lambda: geomsink.sinkhorn_divergence(x, y, blur=blur, certify=True))
    narrow, s = timed(lambda: geomsink.sinkhorn_divergence(x, y, blur=blur, tol_gap=1e-3))
    return {
        "n": n, "blur": blur, "plain": plain, "certified": certified, "narrow": narrow, "lower": r.lower,
        "upper": r.upper, "width": r.gap / r.value, "narrow_width": s.gap / s.value, "converged": s.converged,
    }  # fmt: skip


def exact(n: int, p: float, blur: float) -> dict[str, Any]:
    """One row of the costs without regularisation."""
    x, y = clouds(default_shapes(), n)
    seconds, r = timed(lambda: geomsink.wasserstein_bounds(x, y, p=p, blur=blur))
    return {
        "n": n, "p": p, "blur": blur, "lower": r.lower, "upper": r.upper, "width": r.gap / r.upper, "seconds": seconds,
        "solve": r.solution.seconds,
    }  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (f"{r['blur']:g}", f"{r['n']:,}", f"{r['plain']:.3g}", f"{r['certified'] / r['plain']:.2f}",
         f"{r['width']:.1e}", f"{r['narrow'] / r['plain']:.2f}", f"{r['narrow_width']:.1e}")
        for r in report["divergence"]
    ]  # fmt: skip
    bounds = [
        (f"{r['p']:g}", f"{r['n']:,}", f"{r['blur']:g}", f"{r['lower']:.6g}", f"{r['upper']:.6g}", f"{r['width']:.2%}",
         f"{r['seconds']:.3g}", f"{r['solve']:.3g}")
        for r in report["exact"]
    ]  # fmt: skip
    texts = ("The divergence S_ε: widths are relative to the value.", "Costs without regularisation:")
    return "\n\n".join((report["about"], texts[0], table(HEAD, rows), texts[1], table(EXACT_HEAD, bounds)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 100_000], help="points a side")
    parser.add_argument("--blurs", type=float, nargs="+", default=[0.05, 0.02])
    parser.add_argument("--out", type=Path, default=RESULTS / "certificates.json", help="with .md beside it")
    options = parser.parse_args()
    x, y = clouds(default_shapes(), 5_000)
    geomsink.sinkhorn_divergence(x, y, blur=0.05, tol_gap=1e-3)  # compiles
    geomsink.wasserstein_bounds(x, y, p=1, blur=0.05)
    report: dict[str, Any] = {"about": f"{machine()}; {' and '.join(default_shapes())}", "divergence": [], "exact": []}
    for n in options.n:
        for blur in options.blurs:
            report["divergence"].append(divergence(n, blur))
            print(report["divergence"][-1], flush=True)
        for p, blur in ((2.0, 0.02), (2.0, 0.01), (1.0, 0.01)):
            report["exact"].append(exact(n, p, blur))
            print(report["exact"][-1], flush=True)
        write(options.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
