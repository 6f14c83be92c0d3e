"""Seconds, memory and error of the sketch of a cloud that is read from a disk, piece by piece.

    python benchmarks/streaming.py [--sizes 1000000 10000000] [--blur 0.05] [--folder FOLDER]

Points are drawn from a surface and written into a file of NumPy's, a million at a time, in a temporary folder within
FOLDER: 12 bytes a point. A fresh process maps the file and sketches it; its largest resident memory is read before
anything else. Then sums of the kernel at some targets are made from the sketch, and directly from all points.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, cloud, default_shapes, fresh, machine, number, peak_memory, table, work, write

SIZES = (1_000_000, 10_000_000)
PIECE = 1_000_000
WARM = 5_000
TARGETS = 32
AROUND = 0.5
"""Mean distance of targets from points of the cloud, in σ and coordinates."""
HEAD = (
    "points",
    "seconds",
    "peak MB",
    "above a small run",
    "nodes",
    "negative",
    "largest error",
    "mean error",
    "remark",
)


def measure(task: dict[str, Any], report: Callable[..., None]) -> None:
    """The worker."""
    import geomsink

    points = np.load(task["points"], mmap_mode="r")
    blur, step = task["blur"], len(points) // TARGETS
    geomsink.sketch(np.array(points[:WARM]), blur=blur)
    report(before=peak_memory())
    start = time.perf_counter()
    sketch = geomsink.sketch(chunks=points, blur=blur)
    seconds = time.perf_counter() - start
    report(seconds=seconds, peak=peak_memory(), nodes=len(sketch), negative=sketch.negative)
    noise = np.random.default_rng(0).normal(scale=AROUND * blur, size=(TARGETS, points.shape[1]))
    targets = np.array(points[::step][:TARGETS], dtype=np.float64) + noise
    exact = np.zeros(TARGETS)
    for k in range(0, len(points), PIECE):
        exact += kernel_sums(np.array(points[k : k + PIECE]), None, targets, blur) / len(points)
    found = kernel_sums(sketch.points, sketch.weights, targets, blur)
    off = np.abs(found - exact) / exact.mean()
    report(largest=float(off.max()), mean=float(off.mean()))


def kernel_sums(points: np.ndarray, weights: np.ndarray | None, targets: np.ndarray, blur: float) -> np.ndarray:
    """Σ_j w_j exp(−‖t − y_j‖²/2σ²) at each target, in float64; weights of 1 if there are none."""
    sums = []
    for target in targets:
        kernel = np.exp(((points - target) ** 2).sum(axis=1) / (-2.0 * blur**2))
        sums.append(kernel.sum() if weights is None else kernel @ weights)
    return np.array(sums)


def written(path: Path, name: str, n: int) -> None:
    """So many points of a surface, float32, of which memory holds a million."""
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 3))
    for k in range(0, n, PIECE):
        mapped[k : k + PIECE] = cloud(name, min(PIECE, n - k), k // PIECE)
    mapped.flush()


def markdown(report: dict[str, Any]) -> str:
    rows = [
        (
            f"{row['n']:,}", number(row.get("seconds"), ".3g"), number(row.get("peak"), ".0f"),
            number(row.get("memory"), ".0f"), number(row.get("nodes"), ",d"), number(row.get("negative"), ".1%"),
            number(row.get("largest"), ".1e"), number(row.get("mean"), ".1e"), row.get("failed", ""),
        )
        for row in report["rows"]
    ]  # fmt: skip
    return "\n\n".join(
        (report["about"], table(HEAD, rows), f"Errors are those of {TARGETS} kernel means, in their mean.")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="points")
    parser.add_argument("--blur", type=float, default=0.05)
    parser.add_argument("--shape", default=default_shapes()[0], help="a file, the name of one, or a procedural shape")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default: the system's)")
    parser.add_argument("--timeout", type=float, help="seconds for each size (default: none)")
    parser.add_argument("--out", type=Path, default=RESULTS / "streaming.json", help="with .md beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(measure, options.worker)
    about = f"{machine()}; {options.shape}, σ = {options.blur:g}, geomsink's defaults, float32 points in a mapped file"
    print(about)
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {"about": about, "blur": options.blur, "rows": rows}
    for n in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            points = Path(folder) / "points.npy"
            written(points, options.shape, n)
            row = {"n": n} | fresh(__file__, {"points": str(points), "blur": options.blur}, options.timeout)
        if "peak" in row:
            row["memory"] = row["peak"] - row["before"]
        rows.append(row)
        print(row, flush=True)
        write(options.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
