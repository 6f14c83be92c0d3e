"""Threads beside other programs: how long one divergence takes with one thread and with all, by how threads wait.

    python benchmarks/threads.py [--points 100000] [--blur 0.05] [--busy 0 2] [--rounds 1]

Each setting is an environment of a fresh process, after a small run that compiles. Beside it run so many processes that
do nothing but count; what else the machine does is told by its load average. Ratios are to one thread at the same load.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, clouds, default_shapes, fresh, number, table, work, write

WARM = 5_000
NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
ALONE = "one thread"
COUNT = "while True: pass"
HEAD = ("busy processes", "threads", "load average", "seconds", "ratio", "processor, s", "ratio", "remark")


def settings(threads: int) -> dict[str, dict[str, str]]:
    """Environments, by what they are called."""
    all_of_them = {"OMP_NUM_THREADS": str(threads)}
    return {
        ALONE: {"OMP_NUM_THREADS": "1"},
        f"{threads} threads": all_of_them,
        f"{threads}, OMP_WAIT_POLICY=passive": all_of_them | {"OMP_WAIT_POLICY": "passive"},
        f"{threads}, GOMP_SPINCOUNT=1000": all_of_them | {"GOMP_SPINCOUNT": "1000"},
    }


def measure(task: dict[str, Any], report: Callable[..., None]) -> None:
    """The worker."""
    import geomsink

    with np.load(task["points"]) as points:
        x, y = points["x"], points["y"]
    geomsink.sinkhorn_divergence(x[:WARM], y[:WARM], blur=task["blur"])
    began, spent = time.perf_counter(), time.process_time()
    r = geomsink.sinkhorn_divergence(x, y, blur=task["blur"])
    report(seconds=time.perf_counter() - began, processor=time.process_time() - spent, value=float(r))


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Other programs, as many."""
    running = [subprocess.Popen([sys.executable, "-c", COUNT]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def environment(chosen: dict[str, str]) -> Iterator[None]:
    """Of the processes that are started: these variables of `NAMES`, and no others."""
    before = {name: os.environ.pop(name, None) for name in NAMES}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def markdown(report: dict[str, Any]) -> str:
    rows = []
    for row in report["rows"]:
        base = next(r for r in report["rows"] if (r["busy"], r["name"]) == (row["busy"], ALONE))
        rows.append((
            str(row["busy"]), row["name"], f"{row['load']:.1f}",
            *(cell for key in ("seconds", "processor")
              for cell in (number(row.get(key), ".3g"), number(_ratio(row.get(key), base.get(key)), ".2f"))),
            row.get("failed", ""),
        ))  # fmt: skip
    return report["about"] + "\n\n" + table(HEAD, rows)


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value / base


def main() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=100_000, help="points a side")
    parser.add_argument("--blur", type=float, default=0.05)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, cores], help="processes beside, one run each")
    parser.add_argument("--threads", type=int, default=cores, help="default: the cores that this process may use")
    parser.add_argument("--rounds", type=int, default=1, help="of which the least times count")
    parser.add_argument("--shapes", nargs=2, default=default_shapes())
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each")
    parser.add_argument("--out", type=Path, default=RESULTS / "threads.json", help="with .md beside it")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(measure, options.worker)
    from geomsink import engine

    surfaces = f"{options.shapes[0]} and {options.shapes[1]}, {options.points:,} points, blur {options.blur}"
    about = f"{engine.describe()['CPU']}, {cores} cores; {surfaces}"
    report: dict[str, Any] = {"about": about, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        points = str(Path(folder) / "points.npz")
        x, y = clouds(options.shapes, options.points)
        np.savez(points, x=x, y=y)
        task = {"points": points, "blur": options.blur}
        for beside in options.busy:
            found = {name: {"busy": beside, "name": name} for name in settings(options.threads)}
            for _ in range(options.rounds):  # in turns: what else the machine does changes
                for name, chosen in settings(options.threads).items():
                    with busy(beside), environment(chosen):
                        one = fresh(__file__, task, options.timeout)
                    one["load"] = os.getloadavg()[0]
                    if "seconds" not in found[name] or one.get("seconds", np.inf) < found[name]["seconds"]:
                        found[name] |= one
                    print(name, one, flush=True)
            report["rows"] += found.values()
            write(options.out, report, markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
