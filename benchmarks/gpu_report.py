"""The report of gpu.py, written anew after each row, and its log: what is there when a run is killed is whole."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import number, table
from gpu_runner import FAILED, NOT_RUN, OK

LOG = "gpu-log.txt"
SHORT = 120
"""Characters up to which a fact is in the report; longer ones are in the log alone."""
OF_RESULTS = ("evidence", "comparisons", "facts")
"""What of a row goes to the log, or to the head."""


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
        chip = self.facts.get("device", self.device)
        slug = re.sub(r"[^a-z0-9]+", "-", chip.lower()).strip("-")
        return self.folder / f"gpu-{slug}-{self.size}.json"

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
    if "seconds of a solve" in row:
        cells.append(f"{row['seconds of a solve']:.3g} s")
    cells += [f"{key} {row[key]:.0e}" for key in ("value error", "gradient error") if key in row]
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
    speeds = [row for row in rows if row["part"].startswith("rates")]
    solves = [row for row in rows if row["part"].startswith("solves")]
    checks = [row for row in rows if row not in speeds and row not in solves]
    if solves:
        parts += ["## Solves", SOLVES, table(OF_SOLVES, [_solve(row) for row in solves])]
    if speeds:
        widths = _widths(speeds)
        head = ("sums", "n", *widths, "of the limit", "error", "remark")
        parts += ["## Pairs a second", RATES, table(head, [_speed(row, widths) for row in speeds])]
    if checks:
        parts += ["## Checks", CHECKS, table(OF_CHECKS, [_check(row) for row in checks])]
    facts = {name: text for name, text in report["facts"].items() if len(text) <= SHORT and "\n" not in text}
    return "\n\n".join([*parts, "## Machine", "\n".join(f"- {name}: {text}" for name, text in facts.items())])


OF_CHECKS = ("part", "check", "result", "error", "tolerance", "s", "remark")
OF_SOLVES = ("method", "points", "of", "s", "first, s", "value error", "gradient error", "peak MB", "remark")
CHECKS = (
    "Against dense float64 on the CPU that is written out for this (`benchmarks/gpu_dense.py`), or solved problems of "
    "another solver. Of all that a row compares, the error is the one that is largest against its tolerance, relative "
    "to the largest number expected; the remark ends with what it is of."
)
RATES = (
    "Billions of pairs a second, warm: the median of three runs or more. The limit is that of float32 exponentials, "
    "one a pair, at the clock that is named below; the share is that of row_sums. The error is the largest relative "
    "one of 100 rows, against float64 on the CPU."
)
SOLVES = (
    "S_ε for ‖x − y‖² at ε = 2σ², float32 points: seconds of a solve after a first one, the median where there is time "
    "for three. Errors are relative to the row named reference of as many points; a gradient's is in the 2-norm."
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


def _speed(row: dict[str, Any], columns: list[str]) -> tuple[str, ...]:
    speeds = row.get("speeds", {})
    return (
        _cell(row["name"]), number(row.get("n"), ","),
        *(number(speeds[what] / 1e9 if what in speeds else None, ".3g") for what in columns),
        number(row.get("share"), ".0%"), _short(row.get("error", "")), _remark(row),
    )  # fmt: skip


def _solve(row: dict[str, Any]) -> tuple[str, ...]:
    method, points, what = (row["name"].split("; ") + ["", ""])[:3]
    return (
        _cell(method), points, what, number(row.get("seconds of a solve"), ".3g"), number(row.get("first"), ".3g"),
        number(row.get("value error"), ".0e"), number(row.get("gradient error"), ".0e"), number(row.get("MB"), ",.0f"),
        _remark(row),
    )  # fmt: skip
