"""Speeds on a device: sums in pairs a second, and whole solves beside other libraries; rows of gpu.py's report."""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from gpu_checks import DTYPES
from gpu_machine import exponential_limit
from gpu_runner import Missing
from torch import Tensor

import geomsink
from geomsink import costs, engine

ENOUGH = 0.3
"""Seconds after which a sum is not run again, from its third run on."""
CHECKED = 100
"""Rows that are compared with dense float64 on the CPU."""
BLUR = 0.05


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rates(device: str, name: str, dtype: str, dim: int, n: int, widths: list[int]) -> dict[str, Any]:
    """Pairs a second of `row_sums` and of `apply` with so many columns, warm: medians; and the error of some rows."""
    generator = torch.Generator().manual_seed(0)
    # Uniform in a cube of diameter about one.
    x, y = ((torch.rand(n, dim, generator=generator) / dim**0.5).to(device, DTYPES[dtype]) for _ in range(2))
    w = torch.rand(n, max(widths), generator=generator).to(device, DTYPES[dtype])
    u, v, epsilon = x.new_zeros(n), x.new_zeros(n), 0.02
    start = now(device)
    pair = engine.pair(x, y, costs.get("sqeuclidean"), name)
    runs: dict[str, Callable[[], Tensor]] = {"row_sums": lambda: pair.row_sums(u, v, epsilon)}
    for width in widths:
        runs[f"apply, {width} columns"] = partial(pair.apply, u, v, epsilon, w[:, :width].contiguous())
    rows, columns = x[:CHECKED].cpu().double(), y.cpu().double()
    exact = (-(torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / epsilon).exp()
    expected = {"row_sums": exact.sum(1)} | {
        f"apply, {width} columns": exact @ w[:, :width].cpu().double() for width in widths
    }
    limit, _ = exponential_limit(device)
    speeds, error = {}, 0.0
    for what, run in runs.items():
        found = run()[:CHECKED].cpu().double()  # warm, and compiled
        if what == "row_sums":
            first = now(device) - start
        error = max(error, float(((found - expected[what]) / expected[what]).abs().max()))
        times: list[float] = []
        while len(times) < 3 or (sum(times) < ENOUGH and len(times) < 50):
            began = now(device)
            run()
            times.append(now(device) - began)
        speeds[what] = n * n / statistics.median(times)
    share = speeds["row_sums"] / limit if limit and dtype == "float32" else None
    return {
        "error": error, "tolerance": 1e-3 if dtype == "float32" else 1e-9, "speeds": speeds, "n": n, "share": share,
        "remark": f"first sum after {first:.1f} s",
    }  # fmt: skip


# -------------------------------------------------------------------------------- solves

Loss = Callable[[Tensor, Tensor], Tensor]
"""S_ε for ‖x − y‖² and ε = 2σ², with autograd history."""


def ours(**options: Any) -> Loss:
    return lambda x, y: geomsink.sinkhorn_divergence(x, y, blur=BLUR, **options).value


def geomloss(**options: Any) -> Loss:
    """Its cost is half of ‖x − y‖² and its ε is σ²: twice its value."""
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=BLUR, **options)
    return lambda x, y: 2 * loss(x, y)


def flash(**options: Any) -> Loss:
    """With ``half_cost``, its ε of σ² is that of half of ‖x − y‖², as in GeomLoss: twice its value."""
    from flash_sinkhorn import SamplesLoss

    loss = SamplesLoss("sinkhorn", blur=BLUR, debias=True, half_cost=True, **options)
    return lambda x, y: 2 * loss(x, y)


METHODS: dict[str, tuple[str, Callable[[], Loss]]] = {
    "geomsink": ("geomsink", ours),
    "geomsink, tol 1e-4": ("geomsink", partial(ours, tol=1e-4)),
    "geomsink, dense": ("geomsink", partial(ours, engine="dense")),
    **{
        f"GeomLoss {backend}, scaling {scaling}": ("geomloss", partial(geomloss, backend=backend, scaling=scaling))
        for backend in ("online", "multiscale")
        for scaling in (0.5, 0.9)
    },
    "FlashSinkhorn": ("flash_sinkhorn", flash),
    "FlashSinkhorn, scaling 0.9, no TF32": ("flash_sinkhorn", partial(flash, scaling=0.9, allow_tf32=False)),
    "FlashSinkhorn multiscale": ("flash_sinkhorn", partial(flash, backend="multiscale")),
    "FlashSinkhorn multiscale, tol 1e-3": ("flash_sinkhorn", partial(flash, backend="multiscale", tol=1e-3)),
}
"""The package that each needs, and how it is made; a library is left at its defaults where a name does not say more."""


def points(device: str, n: int, shared: str) -> tuple[Tensor, Tensor, str]:
    """Two scanned surfaces where the shared folder has them, two procedural ones elsewhere; float32."""
    common.SHARED = Path(shared)
    shapes = common.default_shapes()
    try:
        drawn = common.clouds(shapes, n)
    except ImportError:  # what reads their files is not installed
        shapes = ["knot", "star"]
        drawn = common.clouds(shapes, n)
    x, y = (torch.from_numpy(cloud).to(device) for cloud in drawn)
    return x, y, " and ".join(shapes)


def reference(device: str, n: int, tol: float, shared: str, folder: str) -> dict[str, Any]:
    """A float64 solve of ours, which the errors of solves are relative to; left in the folder."""
    x, y, shapes = points(device, n, shared)
    x, y = x.double().requires_grad_(), y.double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = geomsink.sinkhorn_divergence(x, y, blur=BLUR, tol=tol, dtype="float64")
    (gradient,) = torch.autograd.grad(r.value, x)
    doubts = "".join(f"; {w.message}" for w in caught if issubclass(w.category, geomsink.ConvergenceWarning))
    value = float(r.value.detach())
    np.savez(Path(folder) / f"reference-{n}.npz", value=value, gradient=gradient.cpu().numpy())
    how = f"geomsink in float64 at tol {tol:.0e}, {r.n_iter} cycles{doubts}"
    return {"remark": f"{shapes}, σ = {BLUR}: S_ε = {value:.9g} by {how}", "first": r.seconds}


def solve(device: str, method: str, what: str, n: int, shared: str, folder: str) -> dict[str, Any]:
    """Seconds of a value, or of a value and its gradient in x, after a first one; relative errors."""
    package, make = METHODS[method]
    if importlib.util.find_spec(package) is None:
        raise Missing("not installed")
    if package == "flash_sinkhorn" and device == "cpu":
        raise Missing("for CUDA alone")
    x, y, _ = points(device, n, shared)
    loss = make()
    gradient: Tensor | None = None

    def run() -> float:
        nonlocal gradient
        if what == "value":
            return float(loss(x, y))
        p = x.clone().requires_grad_()
        value = loss(p, y)
        (gradient,) = torch.autograd.grad(value, p)
        return float(value.detach())

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = now(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = run()
    first = now(device) - start
    seconds, value = common.timed(run, partial(now, device))
    report: dict[str, Any] = {"seconds of a solve": seconds, "value": value, "first": first}
    if device == "cuda":
        report["MB"] = torch.cuda.max_memory_allocated() / 2**20
    messages = [str(w.message).splitlines()[0][:150] for w in caught if not issubclass(w.category, DeprecationWarning)]
    path, remarks = Path(folder) / f"reference-{n}.npz", list(dict.fromkeys(messages))[:2]
    if path.exists():
        with np.load(path) as file:
            report["value error"] = abs(value - float(file["value"])) / abs(float(file["value"]))
            if gradient is not None:
                off = np.linalg.norm(gradient.double().cpu().numpy() - file["gradient"])
                report["gradient error"] = float(off / np.linalg.norm(file["gradient"]))
    else:
        remarks.append("no reference to compare with")
    return report | {"remark": "; ".join(remarks)}
