"""Registration of whole shapes: how near the true motion, and where the time goes, stage by stage.

    python benchmarks/registration.py [--shapes horse bunny] [--blur 0.05] [--points N]

Each shape is turned and shifted, its points are in another order and have noise of 0.002 of its longest side; the error
is the largest distance of a point from where it should be, in longest sides.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, SHARED, machine, table, write
from scipy.spatial.transform import Rotation

from geomsink import shapes
from geomsink.transport import register

NOISE = 0.002
TURN, SHIFT = Rotation.from_rotvec([0.3, -0.2, 0.4]).as_matrix(), np.array([0.1, 0.2, -0.3])
HEAD = ("shape", "points", "stages: blur, points or cells, steps", "error", "noise", "seconds", "processor, s")


def points_of(name: str, n: int | None) -> np.ndarray:
    """All vertices of a file, or as many points of a shape from a formula; in the unit cube, float64."""
    found = sorted(p for end in ("obj", "ply") for p in (SHARED / "data").glob(f"*{name}*.{end}"))
    x = shapes.read(found[0], normalize=True) if found else shapes.sample(f"shape:{name}", n or 20_000, normalize=True)
    return np.asarray(x, dtype=np.float64)[:n]


def row(name: str, n: int | None, blur: float) -> dict[str, Any]:
    x, random = points_of(name, n), np.random.default_rng(0)
    side, expected = np.ptp(x, axis=0).max(), x @ TURN.T + SHIFT
    y = random.permutation(expected + NOISE * side * random.normal(size=x.shape))
    began, spent = time.perf_counter(), time.process_time()
    found = register(x, y, blur=blur * side, progress=True)
    report = {"shape": name, "n": len(x), "seconds": time.perf_counter() - began, "converged": found.converged}
    report["processor"] = time.process_time() - spent
    report["error"] = float(np.linalg.norm(found.points - expected, axis=1).max() / side)
    report["stages"] = [
        {"blur": level / side, "sizes": sizes, "steps": history.n_steps, "seconds": history.seconds}
        for level, sizes, history in zip(found.blurs, found.sizes, found.history, strict=True)
    ]
    return report


def markdown(report: dict[str, Any]) -> str:
    rows = []
    for r in report["rows"]:
        stages = (f"{s['blur']:.3g}, {max(s['sizes']):,}, {s['steps']}" for s in r["stages"])
        rows.append((r["shape"], f"{r['n']:,}", "; ".join(stages), f"{r['error']:.1e}", f"{NOISE}",
                     f"{r['seconds']:.1f}", f"{r['processor']:.1f}"))  # fmt: skip
    return report["about"] + "\n\n" + table(HEAD, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = ["horse", "bunny"] if (SHARED / "data").is_dir() else ["star"]
    parser.add_argument("--shapes", nargs="+", default=default, help="names of files, or procedural shapes")
    parser.add_argument("--blur", type=float, default=0.05, help="in longest sides")
    parser.add_argument("--points", type=int, help="the first so many of each (default: all)")
    parser.add_argument("--out", type=Path, default=RESULTS / "registration.json", help="with .md beside it")
    options = parser.parse_args()
    report: dict[str, Any] = {"about": f"{machine()}; rigid, blur {options.blur} of the longest side", "rows": []}
    register(*np.random.default_rng(0).random((2, 3_000, 3)), blur=0.1, steps=1)  # compiles
    for name in options.shapes:
        report["rows"].append(row(name, options.points, options.blur))
        print(report["rows"][-1], flush=True)
        write(options.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
