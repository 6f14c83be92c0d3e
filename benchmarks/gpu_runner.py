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
TAIL = 20_000
"""Characters of a process' last output that are kept of a failure."""

OK, FAILED, NOT_RUN = "ok", "failed", "not run"
OVER = "the time is over"
NO_START = "its process did not start: "


class Missing(Exception):
    """Something that a row needs is not installed or not there: the row is not run, which is no failure."""


@dataclass(frozen=True)
class Row:
    """One line of the report: ``call`` names "module.function", which is given the device and the arguments.

    It returns a dictionary: an ``error`` above its ``tolerance`` is a failure, the rest is reported as it is.
    """

    name: str
    call: str
    arguments: dict[str, Any] = field(default_factory=dict)
    limit: float = 30.0


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
        waiting = list(part.rows)
        while waiting and part_end - time.monotonic() >= LEAST:
            for result in _process(waiting, device, part_end, cache, start):
                waiting = [row for row in waiting if row.name != result["name"]]
                yield {"part": part.name} | result
        over = OVER if part_end == end else f"{OVER} that this part has"
        for row in waiting:
            yield {"part": part.name, "name": row.name, "status": NOT_RUN, "remark": over}


def _process(rows: Sequence[Row], device: str, end: float, cache: Path, start: float) -> Iterator[dict[str, Any]]:
    """Rows in one process, up to the first that stops it."""
    task = {"rows": [asdict(row) for row in rows], "device": device, "end": end, "start": start}
    limits = {row.name: row.limit for row in rows}
    with tempfile.TemporaryFile("w+", errors="replace") as output, _worker(task, output, cache) as process:
        lines = _lines(process)
        name, began, limit = "", time.monotonic(), start
        while True:
            stop = min(began + limit, end)
            try:
                line = lines.get(timeout=max(stop - time.monotonic(), 0.0))
            except queue.Empty:
                _kill(process)
                yield from _stopped(rows, name, time.monotonic() - began, limit, output)
                return
            if line is None:
                break
            event = json.loads(line)
            if event["event"] == "start":
                name, began = event["row"], time.monotonic()
                limit = limits[name]
            else:
                name, began, limit = "", time.monotonic(), start
                yield _finished(event, output)
        code = _ended(process)
        if not lines.started or name:
            failure = {"status": FAILED, "remark": _ending(code), "evidence": {"the end of its output": _tail(output)}}
            if name:
                yield {"name": name, "seconds": time.monotonic() - began} | failure
            else:
                yield from ({"name": row.name} | failure | {"remark": NO_START + _ending(code)} for row in rows)


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
def _worker(task: dict[str, Any], output: IO[str], cache: Path) -> Iterator[subprocess.Popen[str]]:
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
            for index in cache.rglob("*_cache.pkl"):  # made again from what is compiled
                index.unlink()


def _ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process that has nothing more to say."""
    try:
        return process.wait(GRACE)
    except subprocess.TimeoutExpired:
        _kill(process)
        return process.returncode


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _stopped(rows: Sequence[Row], name: str, seconds: float, limit: float, output: IO[str]) -> Iterator[dict[str, Any]]:
    """A process that has been killed: at a row's own limit that is a failure, at the end of all time it is not."""
    evidence = {"where it stood, at the end of its output": _tail(output)}
    if seconds < limit - 0.5:
        if name:
            yield {
                "name": name, "seconds": seconds, "status": NOT_RUN,
                "remark": f"cut off after {seconds:.0f} s: {OVER}", "evidence": evidence,
            }  # fmt: skip
    elif name:
        yield {
            "name": name, "seconds": seconds, "status": FAILED,
            "remark": f"stopped at its limit of {limit:.0f} s", "evidence": evidence,
        }  # fmt: skip
    else:
        failure = {"status": FAILED, "remark": f"{NO_START}{limit:.0f} s were not enough", "evidence": evidence}
        yield from ({"name": row.name} | failure for row in rows)


def _finished(event: dict[str, Any], output: IO[str]) -> dict[str, Any]:
    """The result of a row that came to its end, by itself or by an exception."""
    result = {"name": event["row"], "seconds": event["seconds"]} | event["result"]
    if event["event"] == FAILED:
        evidence = event["evidence"] | {"the end of its output": _tail(output)}
        return result | {"status": FAILED, "evidence": evidence}
    if event["event"] == NOT_RUN:
        return result | {"status": NOT_RUN}
    error = result.get("error")
    # Not "greater": an error that is not a number is one.
    if error is not None and not error <= result.get("tolerance", 0.0):
        details = json.dumps(result.get("comparisons", result), indent=1)
        failure = {"what was compared": details, "the end of its output": _tail(output)}
        return {"remark": ""} | result | {"status": FAILED, "evidence": failure}
    return {"remark": ""} | result | {"status": OK}


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"its process was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"its process was killed by signal {-code}"


def _tail(output: IO[str]) -> str:
    output.seek(0)
    return output.read()[-TAIL:]
