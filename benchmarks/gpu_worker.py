"""Runs rows for gpu_runner.py, one after another, in this process: a JSON line at the start and the end of each.

    python benchmarks/gpu_worker.py '{"rows": [...], "device": "cuda", "end": ..., "start": ...}'

``end`` is on the clock of `time.monotonic`, which processes of a machine share.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gpu_runner
from gpu_runner import FAILED, NOT_RUN, OK, SPOILT, TOLD, Missing

EARLY = 1.0
"""Seconds before its limit at which a row says where it stands."""
SOURCES = 200_000
"""Characters of generated code that are kept of a failure."""


def main(task: dict[str, Any]) -> int:
    # Libraries and compilers print as they please: reports have the standard output to themselves.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(event: str, row: str = "", **values: Any) -> None:
        print(json.dumps({"event": event, "row": row} | values), file=channel, flush=True)

    device = task["device"]
    watch(task["start"], task["end"])
    prepare([row["call"] for row in task["rows"]], device)
    for row in task["rows"]:
        report("start", row["name"])
        watch(row["limit"], task["end"])
        began, since = time.perf_counter(), time.time()
        event, result, evidence = OK, {}, {}
        gpu_runner.tell = partial(_told, report, row["name"])
        try:
            module, _, function = row["call"].rpartition(".")
            result = getattr(importlib.import_module(module), function)(device=device, **row["arguments"])
            synchronize(device)  # what fails on the device fails here, and not in the next row
        except Missing as reason:
            event, result = NOT_RUN, {"remark": str(reason)}
        except Exception as error:
            event, result = FAILED, {"remark": sentence(error)}
            evidence = {"traceback": traceback.format_exc()} | generated(since)
        faulthandler.cancel_dump_traceback_later()
        report(event, row["name"], seconds=time.perf_counter() - began, result=result, evidence=evidence)
        if event == FAILED and spoilt(device):
            os._exit(SPOILT)
    return 0


def _told(report: Callable[..., None], row: str, values: dict[str, Any]) -> None:
    report(TOLD, row, result=values)


def watch(limit: float, end: float) -> None:
    """Print where all threads stand a little before the time is over, when this process will be killed."""
    seconds = min(limit, end - time.monotonic())
    faulthandler.dump_traceback_later(max(seconds - EARLY, 0.5 * seconds, 0.1))


def prepare(calls: list[str], device: str) -> None:
    """Import what the rows need and find the device, so that it counts for none of them."""
    for name in dict.fromkeys(call.rpartition(".")[0] for call in calls):
        with contextlib.suppress(Exception):  # again, and said, in the row
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        synchronize(device)


def synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def spoilt(device: str) -> bool:
    """Whether the device refuses everything after an error, as CUDA does after a bad access to memory."""
    try:
        synchronize(device)
    except Exception:
        return True
    return False


def sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def generated(since: float) -> dict[str, str]:
    """What KeOps generated since then, the newest first, and how it compiles: texts by their headings."""
    if "keopscore" not in sys.modules:
        return {}
    texts: dict[str, str] = {}
    with contextlib.suppress(Exception):  # evidence is welcome, not owed
        from keopscore.config import config, cuda_config

        folder = Path(config.get_build_folder())
        settings: dict[str, Callable[[], Any]] = {
            "build folder": lambda: folder,
            "C++ compiler": config.get_cxx_compiler,
            "C++ flags": config.get_cpp_flags,
            "CUDA": cuda_config.get_cuda_version,
            "NVRTC flags": cuda_config.get_nvrtc_flags,
            "CUDA headers": cuda_config.get_cuda_include_path,
            "GPU": cuda_config.get_gpu_props,
        }
        lines = []
        for name, value in settings.items():
            try:
                lines.append(f"{name}: {value()}")
            except Exception as error:
                lines.append(f"{name}: {sentence(error)}")
        texts["how KeOps compiles"] = "\n".join(lines)
        left = SOURCES
        files = [path for end in ("*.cu", "*.cpp") for path in folder.glob(end) if path.stat().st_mtime >= since - 1]
        for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
            code = path.read_text(errors="replace")[:left]
            left -= len(code)
            if code:
                texts[f"generated: {path.name}"] = code
    return texts


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
