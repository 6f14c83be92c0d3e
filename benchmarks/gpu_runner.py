"""Rows of a report, each within its time: a process a part, and another for what is left after a crash or a hang.

The other side is gpu_worker.py. Imports nothing heavy: what is broken must break in a worker, where it is a row.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).with_name("gpu_worker.py")
START = 60.0
"""Seconds that a process may take to import what it needs and to find its device."""
LEAST = 5.0
"""With fewer seconds left no process is started."""
GRACE = 10.0
"""Seconds that a process has to end by itself: KeOps writes its cache then, and one cut short breaks every import."""
JUST = 3.0
"""Seconds in which what a killed process has written may be cut short."""
SPOILT = 3
"""Exit code of a process whose device answers no more: the failure before it has been said."""
TAIL = 20_000
"""Characters of a process' last output that are kept of a failure."""

OK, FAILED, NOT_RUN = "ok", "failed", "not run"
TOLD = "told"
CHECK, SOLVE, RATE = "check", "solve", "rate"
OVER = "the time is over"
NO_START = "its process did not start: "


def tell(values: dict[str, Any]) -> None:
    """For a row to say what it knows so far, which is left of it if it is stopped: a worker puts its own here."""


class Missing(Exception):
    """Something that a row needs is not installed or not there: the row is not run, which is no failure."""


@dataclass(frozen=True)
class Row:
    """One line of the report: ``call`` names "module.function", which is given the device and the arguments.

    It returns a dictionary: an ``error`` above its ``tolerance`` is a failure, the rest is reported as it is, in the
    ``table`` of its kind.
    """

    name: str
    call: str
    arguments: dict[str, Any] = field(default_factory=dict)
    limit: float = 30.0
    table: str = CHECK


@dataclass(frozen=True)
class Part:
    """Rows that are run in one process, one after another.

    They have ``limit`` seconds, and what earlier parts have left of theirs.
    """

    name: str
    rows: tuple[Row, ...]
    limit: float


def run(
    parts: Sequence[Part], device: str, budget: float, cache: Path, start: float = START
) -> Iterator[dict[str, Any]]:
    """What became of each row of each part, as it comes; all of it in ``budget`` seconds.

    KeOps keeps what it compiles in the folder ``cache``, which is this run's own: processes that are killed may leave
    its index damaged. ``start`` is for a process to begin in.

    A result has ``part``, ``name``, ``status`` and ``remark``; ``seconds``, where it was run; what the row itself
    returned; and ``evidence`` of a failure, texts by their headings.
    """
    began = time.monotonic()
    end, part_end = began + budget, began
    for part in parts:
        part_end = min(part_end + part.limit, end)
        waiting, tables = list(part.rows), {row.name: row.table for row in part.rows}
        while waiting and part_end - time.monotonic() >= LEAST:
            for result in _process(waiting, device, part_end, cache, start):
                waiting = [row for row in waiting if row.name != result["name"]]
                yield {"part": part.name, "table": tables.get(result["name"], CHECK)} | result
        over = OVER if part_end == end else f"{OVER} that this part has"
        for row in waiting:
            yield {"part": part.name, "table": row.table, "name": row.name, "status": NOT_RUN, "remark": over}


def _process(rows: Sequence[Row], device: str, end: float, cache: Path, start: float) -> Iterator[dict[str, Any]]:
    """Rows in one process, up to the first that stops it."""
    task = {"rows": [asdict(row) for row in rows], "device": device, "end": end, "start": start}
    limits, checks = {row.name: row.limit for row in rows}, {row.name for row in rows if row.table == CHECK}
    with tempfile.NamedTemporaryFile() as output, _worker(task, output, cache) as process:
        lines = _lines(process)
        name, began, limit = "", time.monotonic(), start
        known: dict[str, Any] = {}
        while True:
            stop = min(began + limit, end)
            try:
                line = lines.get(timeout=max(stop - time.monotonic(), 0.0))
            except queue.Empty:
                _kill(process)
                seconds = time.monotonic() - began
                if name:
                    yield {"name": name, "seconds": seconds} | known | _stopped(seconds, limit, name in checks, output)
                elif not lines.started and stop < end:
                    failure = _failure(f"{NO_START}{limit:.0f} s were not enough", output)
                    yield from ({"name": row.name} | failure for row in rows)
                return
            if line is None:
                break
            event = json.loads(line)
            if event["event"] == "start":
                name, began, known = event["row"], time.monotonic(), {}
                limit = limits[name]
            elif event["event"] == TOLD:
                known = event["result"]
            else:
                name, began, limit = "", time.monotonic(), start
                yield _finished(event, output)
        code, ending = _ended(process, end)
        if name:
            yield {"name": name, "seconds": time.monotonic() - began} | known | _failure(ending, output)
        elif not lines.started:
            yield from ({"name": row.name} | _failure(NO_START + ending, output) for row in rows)
        elif code not in (0, SPOILT):
            yield {"name": "the end of a process"} | _failure(ending, output)


class _Lines(queue.Queue[str | None]):
    """Lines of a process, as a thread reads them; None is the end."""

    started = False


def _lines(process: subprocess.Popen[str]) -> _Lines:
    lines = _Lines()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.started = True
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


@contextlib.contextmanager
def _worker(task: dict[str, Any], output: IO[bytes], cache: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker in a group of its own, of which nothing is left afterwards: compilers are its children."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(WORKER), json.dumps(task)],
        stdout=subprocess.PIPE, stderr=output, text=True, start_new_session=True,
        env=os.environ | {"KEOPS_CACHE_FOLDER": str(cache)},
    )  # fmt: skip
    try:
        yield process
    finally:
        _kill(process)
        if process.returncode:
            _mend(cache)


def _mend(cache: Path) -> None:
    """Leave nothing in the folder that may have been cut short: what was just written, and KeOps' index of it, are made
    again."""
    for path in cache.rglob("*"):
        if path.is_file() and (path.name.endswith("_cache.pkl") or path.stat().st_mtime > time.time() - JUST):
            path.unlink()


def _ended(process: subprocess.Popen[str], end: float) -> tuple[int, str]:
    """Exit code of a process that has nothing more to say, and how it ended."""
    grace = min(GRACE, max(end - time.monotonic(), 1.0))
    try:
        code = process.wait(grace)
    except subprocess.TimeoutExpired:
        _kill(process)
        return process.returncode, f"its process had not ended {grace:.0f} s after its last word"
    if code >= 0:
        return code, f"its process ended with exit code {code}"
    known = [f" ({name.name})" for name in signal.Signals if name == -code]
    return code, f"its process was killed by signal {-code}{''.join(known)}"


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _failure(remark: str, output: IO[bytes]) -> dict[str, Any]:
    return {"status": FAILED, "remark": remark, "evidence": {"the end of its output": _tail(output)}}


def _stopped(seconds: float, limit: float, is_check: bool, output: IO[bytes]) -> dict[str, Any]:
    """A row that was killed: at its own limit that is a failure of a check, at the end of all time it is not."""
    evidence = {"where it stood, at the end of its output": _tail(output)}
    if seconds < limit - 0.1:
        return {"status": NOT_RUN, "remark": f"cut off after {seconds:.0f} s: {OVER}", "evidence": evidence}
    status = FAILED if is_check else NOT_RUN
    return {"status": status, "remark": f"stopped at its limit of {limit:.0f} s", "evidence": evidence}


def _finished(event: dict[str, Any], output: IO[bytes]) -> dict[str, Any]:
    """The result of a row that came to its end, by itself or by an exception."""
    result = {"name": event["row"], "seconds": event["seconds"], "remark": ""} | event["result"]
    if event["event"] == FAILED:
        failure = _failure(result["remark"], output)
        return result | failure | {"evidence": event["evidence"] | failure["evidence"]}
    error = result.get("error")
    # Not "greater": an error that is not a number is one.
    if error is not None and not error <= result.get("tolerance", 0.0):
        failure = _failure(result["remark"], output)
        details = json.dumps(result.get("comparisons", result), indent=1)
        return result | failure | {"evidence": {"what was compared": details} | failure["evidence"]}
    return result | {"status": event["event"]}


def _tail(output: IO[bytes]) -> str:
    """By its name: the process writes on where its own handle stands."""
    return Path(output.name).read_text(errors="replace")[-TAIL:]
