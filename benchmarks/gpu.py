"""A GPU's first day: how fast and right whole solves are on it, how fast sums are, and whether everything is right.

    python benchmarks/gpu.py --quick            under 4 minutes
    python benchmarks/gpu.py --full             under 7
    python benchmarks/gpu.py --tiny             small sizes, also on a CPU

Each part is a process of its own with a time of its own, and what crashes or hangs loses its row alone. Rows are in
the report, JSON and Markdown, as soon as they are there; gpu-log.txt holds what mends a failure without the machine.
Points of the large solves are drawn on the CPU meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import gpu_check_rows as checks
import gpu_points
import gpu_solve_rows as solves
from common import RESULTS, SHARED
from gpu_report import Report
from gpu_runner import SOLVE, Part, Row, run
from gpu_sizes import PARTS, SIZES, Size


def table(size: Size, shared: str, folder: str) -> list[Part]:
    """All parts, what matters most first, and so their rows."""
    made = {
        "machine": checks.machine(),
        "solves-geomsink": [*checks.sane(size), *solves.ours(size, shared, folder)],
        "rates": solves.rates(size),
        "solves-geomloss": solves.geomloss(size, shared, folder),
        "solves-flash": solves.flash(size, shared, folder),
        "sums": checks.sums(size),
        "losses": checks.losses(size, shared),
        "uses": checks.uses(size),
    }
    return [Part(name, tuple(_within(size, name, rows)), size.limits[name]) for name, rows in made.items()]


def _within(size: Size, part: str, rows: Iterable[Row]) -> Iterator[Row]:
    """No row may take what others need; solves and tuning have limits of their own, and KeOps first compiles itself."""
    for row in rows:
        limit = row.limit if part.startswith("solves") else size.most
        limit = size.limits[part] if part == "machine" or size.tiny else limit
        limit = min(limit, size.limits[part])
        known = {"seconds": limit} if "seconds" in row.arguments else {}
        yield replace(row, limit=limit, arguments=row.arguments | known)


def _device() -> str:
    try:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    except ImportError:  # the first row says why
        return "cpu"


@contextlib.contextmanager
def _drawing(size: Size, parts: list[Part], shared: str, folder: str) -> Iterator[None]:
    """Processes that draw the points of surfaces, for rows to find them."""
    if size.tiny or not any(row.table == SOLVE for part in parts for row in part.rows):
        yield
        return
    sizes = [str(n) for n in size.surfaces]
    command = [sys.executable, str(Path(gpu_points.__file__)), folder, shared]
    with contextlib.ExitStack() as stack:
        for side in "xy":
            process = subprocess.Popen([*command, side, *sizes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sizes = parser.add_mutually_exclusive_group(required=True)
    chosen = dict(action="store_const", dest="size")
    sizes.add_argument("--quick", const="quick", help=f"at most {SIZES['quick'].budget:.0f} s", **chosen)
    sizes.add_argument("--full", const="full", help=f"at most {SIZES['full'].budget:.0f} s", **chosen)
    sizes.add_argument("--tiny", const="tiny", help="small sizes, also on a CPU", **chosen)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda, if torch finds it")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report and its log")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="the machine is always described")
    beside = next((path for path in (SHARED, Path(__file__).parents[1] / "shared") if path.is_dir()), SHARED)
    parser.add_argument("--shared", type=Path, default=beside, help="folder of solved problems and scanned surfaces")
    parser.add_argument(
        "--cache", type=Path, help="folder for what KeOps compiles, for several runs; default: a new one"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the process that runs a row ends, too
    size = SIZES[options.size]
    device = options.device or _device()
    with tempfile.TemporaryDirectory() as folder:
        parts = table(size, str(options.shared), folder)
        parts = [part for part in parts if part.name in (PARTS[0], *options.parts)]
        report = Report(options.out, options.size, device, sum(len(part.rows) for part in parts))
        with contextlib.suppress(ImportError):  # the first row says why
            report.facts["surfaces"] = " and ".join(gpu_points.surfaces(str(options.shared)))
        with _drawing(size, parts, str(options.shared), folder):
            for row in run(parts, device, size.budget, options.cache or Path(folder) / "keops"):
                report.add(row)
    print(report.path.with_suffix(".md"))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
