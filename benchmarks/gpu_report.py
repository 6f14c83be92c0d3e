"""The report of gpu.py, written anew after each row, and its log: what is there when a run is killed is whole."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import number, slug, table
from gpu_runner import CHECK, FAILED, NOT_RUN, OK, RATE, SOLVE

LOG = "gpu-log.txt"
SHORT = 120
"""Characters up to which a fact is in the report; longer ones are in the log alone."""
OF_RESULTS = ("evidence", "comparisons", "facts", "compared")
"""What of a row goes to the log, to the head, or to earlier rows."""
LIBRARIES = ("geomsink", "GeomLoss", "FlashSinkhorn")
EQUALS = (1e-1, 1e-2, 1e-3)
JUDGED = {"value": "marginal error", "with gradient": "gradient error"}
TIMES = ("first", "value", "with gradient")
ERRORS = ("value error", "gradient error", "marginal error")


class Report:
    """Rows so far, and the files that they are in.

    Parameters
    ----------
    folder : Path
    size : str
        "quick", "full" or "tiny".
    device : str
    planned : int
        Rows that there will be.
    """

    def __init__(self, folder: Path, size: str, device: str, planned: int):
        self.folder, self.size, self.device, self.planned = folder, size, device, planned
        self.facts: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []
        self.began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / LOG
        self.log.write_text(f"python benchmarks/gpu.py {' '.join(sys.argv[1:])}\n{_here()}\n")

    def add(self, row: dict[str, Any]) -> None:
        """One more row: a line on the terminal, the files, and the log if it failed."""
        facts, evidence = row.get("facts", {}), row.get("evidence", {})
        self.facts |= facts
        for earlier in self.rows:  # some are compared with what came later
            if earlier["part"] == row["part"]:
                earlier |= _plain(row.get("compared", {}).get(earlier["name"], {}))
        self.rows.append({key: _plain(value) for key, value in row.items() if key not in OF_RESULTS})
        print(line(row), flush=True)
        texts = [f"{name}: {value}" for name, value in facts.items()]
        if evidence:
            texts.append(f"\n{'=' * 100}\n{line(row)}\n{_here()}")
            texts += [f"--- {heading}\n{text}" for heading, text in evidence.items()]
        if texts:
            with self.log.open("a") as file:
                file.write("\n".join(texts) + "\n")
        self.write()

    def write(self) -> None:
        content = {
            "size": self.size, "device": self.device, "facts": self.facts, "rows planned": self.planned,
            "seconds": round(time.monotonic() - self.began, 1), "rows": self.rows,
        }  # fmt: skip
        replace(self.path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        replace(self.path.with_suffix(".md"), markdown(content) + "\n")

    @property
    def path(self) -> Path:
        """Named after the chip, as soon as it is known."""
        return self.folder / f"gpu-{slug(self.facts.get('device', self.device))}-{self.size}.json"

    @property
    def failures(self) -> int:
        return sum(row["status"] == FAILED for row in self.rows)


def replace(path: Path, text: str) -> None:
    """Write in one step: a reader, or a run that is killed, finds the old text or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    """For JSON, which has no infinities."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _here() -> str:
    """What can be said of the machine without torch, as of now."""
    texts = [f"{time.strftime('%Y-%m-%d %H:%M:%S')}, {platform.platform()}, Python {platform.python_version()}"]
    if shutil.which("nvidia-smi"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            texts.append(subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=5).stdout)
    return "\n".join(texts)


# ------------------------------------------------------------------------------- as text


def line(row: dict[str, Any]) -> str:
    """A row on the terminal."""
    cells = [f"{row['status']:8}{row['part']}: {row['name']}"]
    if "error" in row:
        cells.append(f"error {_short(row['error'])} of {_short(row['tolerance'])}")
    if "speeds" in row:
        cells.append(", ".join(f"{what} {speed / 1e9:.3g}e9/s" for what, speed in row["speeds"].items()))
    cells += [f"{key} {row[key]:.3g} s" for key in TIMES if key in row]
    cells += [f"{key} {row[key]:.0e}" for key in ERRORS if key in row]
    if row["remark"]:
        cells.append(row["remark"])
    if "seconds" in row:
        cells.append(f"({row['seconds']:.1f} s)")
    return "  ".join(cells)


def _short(error: Any) -> str:
    return format(error, ".0e") if isinstance(error, float) else str(error)


def markdown(report: dict[str, Any]) -> str:
    rows = report["rows"]
    counts = {status: sum(row["status"] == status for row in rows) for status in (OK, FAILED, NOT_RUN)}
    state = f"{counts[OK]} rows are right, {counts[FAILED]} failed, {counts[NOT_RUN]} were not run"
    left = report["rows planned"] - len(rows)
    parts = [f"# {report['facts'].get('device', report['device'])}, `--{report['size']}`"]
    parts.append(f"{state}{f', {left} had not come when this was written' if left else ''}; {report['seconds']:.0f} s.")
    failed = [row for row in rows if row["status"] == FAILED]
    if failed:
        parts.append(f"Failed (tracebacks and more in {LOG}):")
        parts.append("\n".join(f"- {row['part']}: {row['name']}: {row['remark']}" for row in failed))
    of = {kind: [row for row in rows if row.get("table", CHECK) == kind] for kind in (SOLVE, RATE, CHECK)}
    speeds, checks = of[RATE], of[CHECK]
    if of[SOLVE]:
        parts += ["## Seconds at equal errors", EQUAL, table(OF_EQUAL, _equal(of[SOLVE])), "## Solves", SOLVES]
    for shape, points in _problems(of[SOLVE]):
        same = [row for row in of[SOLVE] if _problem(row) == (shape, points)]
        same.sort(key=lambda row: _named(row)[0] != "reference")
        parts += [f"### {shape.capitalize()}, {points:,} points", table(OF_SOLVES, [_solve(row) for row in same])]
    if speeds:
        widths = _widths(speeds)
        head = ("sums", "D", "points a side", *widths, "of the limit", "error", "remark")
        speeds.sort(key=lambda row: [int(text.replace(",", "")) for text in _named(row)[1:]])
        parts += ["## Pairs a second", RATES, table(head, [_speed(row, widths) for row in speeds])]
    if checks:
        parts += ["## Checks", CHECKS, table(OF_CHECKS, [_check(row) for row in checks])]
    facts = {name: text for name, text in report["facts"].items() if len(text) <= SHORT and "\n" not in text}
    return "\n\n".join([*parts, "## Machine", "\n".join(f"- {name}: {text}" for name, text in facts.items())])


OF_CHECKS = ("part", "check", "result", "error", "tolerance", "s", "remark")
OF_EQUAL = ("points a side", "of", "error at most", *LIBRARIES)
OF_SOLVES = ("method", "first, s", "value, s", "with gradient, s", *ERRORS, "peak MB", "remark")
CHECKS = (
    "Against dense float64 on the CPU that is written out for this (`benchmarks/gpu_dense.py`), or solved problems of "
    "another solver. Of all that a row compares, the error is the one that is largest against its tolerance, relative "
    "to the largest number expected; the remark ends with what it is of."
)
RATES = (
    "Billions of pairs a second, warm: the median of three runs or more. The limit is that of float32 exponentials, "
    "one a pair, at the clock that is named below; the share is that of row_sums. The error is the largest relative "
    "one of the sums of 100 rows, against float64 on the CPU. FlashSinkhorn's are half-steps of its dense solver, the "
    "logarithm of a row's sum, between points rounded to TF32."
)
EQUAL = (
    "The fastest warm call of each library with no larger an error, of the settings that are tabulated below, or the "
    'first where there was no time for another; "no" where it was measured and none had. A value is judged by its '
    "marginal error, a value and gradient by the gradient's."
)
SOLVES = (
    "S_ε for ‖x − y‖² at ε = 2σ² between float32 points with uniform weights; headings say how many a side. Surfaces: "
    "points drawn from two surfaces in the unit cube, which are named below, with the machine, σ = 0.05. "
    "Mixtures: two mixtures of 16 Gaussians in 64 coordinates, each of 4 dimensions and some noise, one moved by half "
    "of the way to the next, σ = 0.15, at which S_ε is 10 to 20 ε and 0.9 of W₂².\n\n"
    "*First* are the seconds of a first value and gradient (value, where a method has no gradient), with what is "
    "compiled for it, without what a remark says was before. *Value* and *with gradient* are warm calls: the median of "
    "three, if there was time. Value and gradient errors are relative to the row *reference*, a gradient's in the "
    "2-norm; for a million points and more that is geomsink's own precise solve, and its marginal error says how far "
    "to trust it. *Marginal error* is measured here, the same way for all, in float64 and from the potentials between "
    "the two clouds: ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁, over all pairs up to 200,000 points, and else over those of 2,048 rows "
    "and of 2,048 columns.\n\n"
    "FlashSinkhorn computes with points rounded to TF32, and is measured on those that it was given. Its kernels are "
    "tried for 20 ms a candidate, not for Triton's 100; its dense solver is left out at a million points, where that "
    "takes minutes. *Not run* is what had no time left, or would have taken more than it had."
)


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _remark(row: dict[str, Any]) -> str:
    return _cell(row["remark"] if row["status"] == OK else f"{row['status']}: {row['remark']}")


def _check(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["part"], _cell(row["name"]), row["status"], _short(row.get("error", "")), _short(row.get("tolerance", "")),
        number(row.get("seconds"), ".1f"), _cell(row["remark"]),
    )  # fmt: skip


def _widths(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(what for row in rows for what in row.get("speeds", {})))


def _named(row: dict[str, Any]) -> list[str]:
    """What is run, and the two words on its size."""
    return (row["name"].split("; ") + ["", ""])[:3]


def _problem(row: dict[str, Any]) -> tuple[str, int]:
    _, shape, points = _named(row)
    return shape, int(points.replace(",", ""))


def _problems(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Surfaces first, the fewest points first."""
    return sorted({_problem(row) for row in rows}, reverse=True, key=lambda problem: (problem[0], -problem[1]))


def _equal(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    lines = []
    for problem in _problems(rows):
        same = [row for row in rows if _problem(row) == problem]
        for what, error in JUDGED.items():
            for most in EQUALS:
                cells = [
                    _fastest([row for row in same if row["name"].startswith(k)], what, error, most) for k in LIBRARIES
                ]
                if any(cells):
                    lines.append((f"{problem[1]:,}, {problem[0]}", what, _short(most), *cells))
    return lines


def _fastest(rows: list[dict[str, Any]], what: str, error: str, most: float) -> str:
    measured = [row for row in rows if isinstance(row.get(error), float)]
    times = [row.get(what, row["first"]) for row in measured if row[error] <= most]
    return number(min(times), ".3g") if times else "no" if measured else ""


def _speed(row: dict[str, Any], columns: list[str]) -> tuple[str, ...]:
    speeds = row.get("speeds", {})
    return (
        *map(_cell, _named(row)), *(number(speeds[what] / 1e9 if what in speeds else None, ".3g") for what in columns),
        number(row.get("share"), ".0%"), _short(row.get("error", "")), _remark(row),
    )  # fmt: skip


def _solve(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        _cell(_named(row)[0]), *(number(row.get(key), ".3g") for key in TIMES),
        *(_short(row.get(key, "")) for key in ERRORS), number(row.get("MB"), ",.0f"), _remark(row),
    )  # fmt: skip
