"""What the benchmarks share: points, fresh processes, the machine's description, reports and figures.

Imports nothing heavy by itself: the memory of a fresh process is that of the library it measures.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared"
PALETTE = ("#f2a65a", "#5ab4f2", "#7bd88f", "#c792ea", "#f07178")
SPENT = 10.0
"""Seconds after which a measurement is not repeated."""
REPEATS = 3
OF_MEMORY = 0.8
"""Share of the machine's memory that a measured process may take: others run on it too."""


# ---------------------------------------------------------------------- points


def default_shapes() -> list[str]:
    """Two scanned surfaces where they lie beside the checkout, two procedural ones elsewhere."""
    return ["bunny", "igea"] if (SHARED / "data").is_dir() else ["knot", "star"]


def clouds(shapes: Sequence[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points drawn uniformly from two surfaces in the unit cube, float32."""
    return cloud(shapes[0], n, 0), cloud(shapes[1], n, 1)


def cloud(name: str, n: int, seed: int) -> np.ndarray:
    """Points of one: of a file, a procedural shape, or part of the name of a file of the folder of shapes."""
    from geomsink import shapes as library

    found = sorted(p for end in ("obj", "ply") for p in (SHARED / "data").glob(f"*{name}*.{end}"))
    source = str(found[0]) if found and not Path(name).exists() else name
    return library.sample(source, n, seed, normalize=True).astype(np.float32)


# ------------------------------------------------------------- fresh processes


def fresh(script: str, task: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
    """Run a script's ``--worker`` on a task in a process of its own: all that it reported, and why it failed."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, script, "--worker", json.dumps(task)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            report["failed"] = f"stopped after {timeout:.0f} s"
        except BaseException:  # Ctrl-C: leave nothing running
            process.kill()
            raise
        for line in out.splitlines():
            report |= json.loads(line)
        if process.returncode and "failed" not in report:
            errors.seek(0)
            last = [line.strip() for line in errors if line.strip()][-1:]
            ended = f"killed by signal {-process.returncode}" if process.returncode < 0 else ""
            report["failed"] = ended or "".join(last)[:200] or f"exit code {process.returncode}"
    return report


def work(run: Callable[[dict[str, Any], Callable[..., None]], None], task: str) -> int:
    """The other side of `fresh`: ``run(task, report)``, where ``report(key=value)`` may be called many times."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(ValueError, OSError):  # not everywhere
        resource.setrlimit(resource.RLIMIT_DATA, (int(OF_MEMORY * memory), resource.RLIM_INFINITY))
    # Libraries print as they please: reports have the standard output to themselves.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(**values: Any) -> None:
        print(json.dumps(values), file=channel, flush=True)

    try:
        run(json.loads(task), report)
    except Exception as error:  # a library that fails is a result
        lines = str(error).strip().splitlines()
        report(failed=f"{type(error).__name__}: {lines[0] if lines else ''}"[:200])
    return 0


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent had, until the child was a program of its own
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def timed(run: Callable[[], Any], before: Callable[[], Any] | None = None) -> tuple[float, Any]:
    """Seconds (the median, where there is time for three runs) and the last result; ``before`` each run, untimed."""
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < SPENT:
        if before is not None:
            before()
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


# --------------------------------------------------------------------- reports


def machine(device: str = "cpu") -> str:
    """The machine and the versions that count, in one line."""
    from geomsink import engine

    about = engine.describe()
    gpu = f", {about['GPU']}" if device == "cuda" else ""
    return f"{about['CPU']}, {about['threads']} threads{gpu}; torch {about['torch']}, KeOps {about.get('pykeops')}"


def slug(text: str) -> str:
    """For a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def number(value: float | None, form: str) -> str:
    """A cell of a table; empty where nothing was measured."""
    return "" if value is None else format(value, form)


def write(path: Path, report: dict[str, Any], markdown: str) -> None:
    """A report as JSON and, next to it, Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown.rstrip() + "\n")


def publish(
    path: Path,
    report: dict[str, Any],
    markdown: Callable[[dict[str, Any]], str],
    draw: Callable[[dict[str, Any], Path], None],
) -> str:
    """Write a report, and its figure next to it; what to print of it."""
    text = markdown(report)
    write(path, report, text)
    draw(report, path.with_suffix(".png"))
    return text


# --------------------------------------------------------------------- figures


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure in the package's colours, and its axes row by row; width and height are of one panel, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from geomsink.plotting import BACKGROUND

    figure = Figure(figsize=(width * columns, height * rows), facecolor=BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        _style(ax)
    return figure, axes


def _style(ax: Axes) -> None:
    from geomsink.plotting import FAINT, INK

    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(colors=FAINT, which="both", labelsize=9)
    ax.tick_params(which="minor", length=0)
    ax.xaxis.label.set_color(FAINT)
    ax.yaxis.label.set_color(FAINT)
    ax.title.set_color(INK)
    ax.title.set_fontsize(11)


def plain_ticks(axis: Axis) -> None:
    """Numbers 1, 2, 5, 10, ... on a logarithmic axis, instead of powers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def save(figure: Figure, path: Path) -> None:
    """As a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor=figure.get_facecolor())
