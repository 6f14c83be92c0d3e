"""What the machine of a GPU report is: for its head, and for whoever mends a failure without the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from geomsink import costs, engine

PACKAGES = ("numpy", "scipy", "torch", "triton", "pykeops", "keopscore", "geomloss", "flash-sinkhorn")
EXPONENTIALS = 16
"""Of float32, a clock and multiprocessor: the special function units of compute capability 7.0 to 9.0."""


def describe(device: str) -> dict[str, Any]:
    """Facts, by name; ``device`` is that of the points."""
    facts = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    facts |= {"CUDA of torch": str(torch.version.cuda), "nvcc": _output("nvcc", "--version").strip()[-100:]}
    facts |= {"CPU": _cpu(), "threads": str(torch.get_num_threads())}
    facts["device"] = "CPU"
    if device == "cuda":
        query = _smi("name,driver_version,memory.total,clocks.max.sm,clocks.sm,power.limit,temperature.gpu")
        facts |= {"device": torch.cuda.get_device_name(), "properties": str(torch.cuda.get_device_properties(0))}
        facts |= {"nvidia-smi, name to temperature": query, "nvidia-smi": _output("nvidia-smi")}
        limit, source = exponential_limit(device)
        facts["exponentials a second, at most"] = f"{limit:.3g}, with {source}" if limit else source
    return {"facts": facts, "remark": facts["device"]}


def formula(device: str) -> dict[str, Any]:
    """Import of KeOps with what it compiles for itself, and then a first formula, compiled and run."""
    start = time.perf_counter()
    described = engine.describe()
    imported = time.perf_counter() - start
    if "compiled engine" in described:
        raise RuntimeError(described["compiled engine"])
    x = torch.rand(500, 3, device=device)
    start = time.perf_counter()
    pair = engine.pair(x, x, costs.get("sqeuclidean"), "keops")
    zero = x.new_zeros(len(x))
    found = pair.row_sums(zero, zero, 1.0).double().cpu()
    seconds = time.perf_counter() - start
    x = x.double().cpu()
    expected = (-((x[:, None] - x) ** 2).sum(-1)).exp().sum(1)
    return {
        "error": float(((found - expected) / expected).abs().max()), "tolerance": 1e-5,
        "remark": f"KeOps in {imported:.1f} s, its first formula in {seconds:.1f} s",
        "facts": {name: described[name] for name in ("flags",)},
    }  # fmt: skip


def exponential_limit(device: str) -> tuple[float, str]:
    """Float32 exponentials a second that the chip can do at most, and where its clock is from; 0 if that is unknown."""
    if device != "cuda":
        return 0.0, "not known of a CPU"
    properties = torch.cuda.get_device_properties(0)
    clock, source = _smi("clocks.max.sm").split(" ")[0], "nvidia-smi"
    hertz = float(clock) * 1e6 if clock.isdigit() else 0.0
    if not hertz:
        hertz, source = 1e3 * float(getattr(properties, "clock_rate", 0)), "torch"
    if not hertz:
        return 0.0, "no clock from nvidia-smi or torch"
    count = properties.multi_processor_count
    how = f"{count} multiprocessors, {EXPONENTIALS} a clock, {hertz / 1e6:.0f} MHz by {source}"
    return count * EXPONENTIALS * hertz, how


def now(device: str) -> float:
    """Seconds on a clock, when the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _cpu() -> str:
    """Without the engine's own description, which imports KeOps: that is the next row's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _smi(fields: str) -> str:
    return _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader").strip().splitlines()[0]


def _output(*command: str) -> str:
    """What a program prints, or why there is nothing."""
    if shutil.which(command[0]) is None:
        return f"no {command[0]}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command[0]}: {error}"
    return done.stdout or done.stderr or f"{command[0]}: exit code {done.returncode}"
