"""Whole solves on a device: seconds, and how far from the truth, measured the same way for every library; rows of
gpu.py's report."""

from __future__ import annotations

import json
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gpu_points
import gpu_runner
import numpy as np
import torch
from common import slug
from gpu_machine import now
from gpu_methods import Pair, method
from gpu_runner import Missing
from torch import Tensor

import geomsink

REPEATS, SPENT = 3, 2.0
"""A solve is repeated so often, or until so many seconds are spent on it, if the row has them."""
RESERVE = 3.0
"""Seconds of a row that are not planned with."""
WORTH_SAYING = 0.5
ALL = 200_000
"""Points up to which marginal errors are measured over all pairs."""
SAMPLED = 2_048
ENTRIES = 2**26
"""Of a block of the plan, in float64, of which a few are in memory."""


def solve(
    device: str, name: str, shape: str, n: int, seconds: float, shared: str, folder: str, after: dict[str, Any] | None
) -> dict[str, Any]:
    """A first value and gradient of a method, its errors, and then warm ones while there is time.

    ``after`` names another solve, and how many times as long as that this one takes at the least.
    """
    start = now(device)
    blur = gpu_points.BLUR[shape]
    how = method(name, blur, device)
    _plan(folder, seconds, after)
    x, y = points(device, shape, n, shared, folder)
    report: dict[str, Any] = {}
    remarks: list[str] = []
    if how.warm is not None:
        began = now(device)
        how.warm(x, y)
        if (warmed := now(device) - began) > WORTH_SAYING:
            remarks.append(f"compiled and tuned in {warmed:.1f} s before")
    gradient: Tensor | None = None

    def run(wanted: bool) -> float:
        nonlocal gradient
        if not wanted:
            with torch.no_grad():
                return float(how.value(x, y))
        with torch.enable_grad():  # GeomLoss leaves it off where it fails
            p = x.clone().requires_grad_()
            value = how.value(p, y)
        (gradient,) = torch.autograd.grad(value, p)
        return float(value.detach())

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = now(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = run(how.has_gradient)
    report["first"] = now(device) - began
    gpu_runner.tell(report)
    took = _path(folder, name, shape, n, "json")
    took.write_text(json.dumps(report["first"]))
    if device == "cuda":
        report["MB"] = torch.cuda.max_memory_allocated() / 2**20
    messages = [str(w.message).splitlines()[0][:150] for w in caught if not issubclass(w.category, DeprecationWarning)]
    remarks += [how.about(), *list(dict.fromkeys(messages))[:2]]

    def left() -> float:
        return seconds - RESERVE - (now(device) - start)

    found = {"value": value} | ({} if gradient is None else {"gradient": gradient.cpu().numpy()})
    report |= _compared(found, folder, shape, n, f"{name}; {shape}; {n:,}")
    if not how.again or 0.5 * report["first"] < left():
        report["marginal error"] = marginal_error(x, y, how.potentials(x, y), blur)
    wants = {"with gradient": True, "value": False} if how.has_gradient else {"value": False}
    gpu_runner.tell(report)
    for what, wanted in wants.items():
        times = _repeated(partial(run, wanted), device, report.get("with gradient", report["first"]), left)
        if times:
            report[what] = statistics.median(times)
    took.write_text(json.dumps(min(report[key] for key in ("first", *wants) if key in report)))
    return report | {"remark": "; ".join(filter(None, remarks))}


def _repeated(run: Callable[[], Any], device: str, expected: float, left: Callable[[], float]) -> list[float]:
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < SPENT and expected < left():
        began = now(device)
        run()
        times.append(now(device) - began)
        expected = times[-1]
    return times


def reference(
    device: str,
    shape: str,
    n: int,
    seconds: float,
    shared: str,
    folder: str,
    after: dict[str, Any] | None,
    **options: Any,
) -> dict[str, Any]:
    """A precise solve of ours, which others are compared with: those that come, and those that were before."""
    _plan(folder, seconds, after)
    blur = gpu_points.BLUR[shape]
    x, y = points(device, shape, n, shared, folder)
    if options.get("dtype") == "float64":
        x, y = x.double(), y.double()
    p = x.requires_grad_()
    began = now(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = geomsink.sinkhorn_divergence(p, y, blur=blur, **options)
    (gradient,) = torch.autograd.grad(r.value, p)
    first = now(device) - began
    x = p.detach()
    doubts = "".join(f"; {w.message}" for w in caught if issubclass(w.category, geomsink.ConvergenceWarning))
    value = float(r.value.detach())
    np.savez(Path(folder) / f"reference-{shape}-{n}.npz", value=value, gradient=gradient.cpu().numpy())
    compared = {}
    for path in sorted(Path(folder).glob(f"found-*-{shape}-{n}.npz")):
        with np.load(path) as file:
            compared[str(file["row"])] = _compared(dict(file), folder, shape, n, "")
        path.unlink()
    f, g = (t.detach() / 2 for t in r.xy.potentials)
    how = f"geomsink at tol {r.xy.tol:.0e}, {r.xy.strategy}, {r.engine}, {r.dtype}, {r.n_iter} cycles{doubts}"
    return {
        "first": first, "S": value, "marginal error": marginal_error(x, y, (f, g), blur), "compared": compared,
        "remark": f"S_ε = {value:.9g} = {value / (2 * blur**2):.3g} ε by {how}",
    }  # fmt: skip


def points(device: str, shape: str, n: int, shared: str, folder: str) -> Pair:
    x, y = (torch.from_numpy(gpu_points.kept(shape, side, n, shared, folder)).to(device) for side in "xy")
    return x, y


def _plan(folder: str, seconds: float, after: dict[str, Any] | None) -> None:
    """Stop here if this row cannot come to its end, which one of fewer points tells."""
    if after is None:
        return
    path = _path(folder, after["name"], after["shape"], after["n"], "json")
    what = f"{after['name']} with {after['n']:,} points"
    if not path.exists():
        raise Missing(f"{what} did not come to its end")
    took = json.loads(path.read_text())
    if after["times"] * took > seconds:
        raise Missing(f"would take more than the {seconds:.0f} s that it has: {what} took {took:.1f} s")


def _path(folder: str, name: str, shape: str, n: int, end: str) -> Path:
    return Path(folder) / f"found-{slug(name)}-{shape}-{n}.{end}"


def _compared(found: dict[str, Any], folder: str, shape: str, n: int, row: str) -> dict[str, float]:
    """Relative errors; without a reference, what was found is left for it."""
    path = Path(folder) / f"reference-{shape}-{n}.npz"
    if not path.exists():
        np.savez(_path(folder, row.partition(";")[0], shape, n, "npz"), row=row, **found)
        return {}
    with np.load(path) as file:
        truth = {key: file[key].astype(np.float64) for key in file.files}
    errors = {"value error": float(abs(found["value"] - truth["value"]) / abs(truth["value"]))}
    if "gradient" in found:
        off = np.linalg.norm(found["gradient"] - truth["gradient"]) / np.linalg.norm(truth["gradient"])
        errors["gradient error"] = float(off)
    return errors


def marginal_error(x: Tensor, y: Tensor, potentials: Pair, blur: float) -> float:
    """‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of P_ij = a_i b_j exp((f_i + g_j − ½‖x_i − y_j‖²)/σ²) with uniform a and b.

    In float64, over all pairs, or over all those of some rows and of some columns, from which the sums are estimated.
    """
    x, y = (t.double() / blur for t in (x, y))
    f, g = (t.double() / blur**2 for t in potentials)
    u, v = f - 0.5 * (x**2).sum(1), g - 0.5 * (y**2).sum(1)
    return _marginal(x, y, u, v) + _marginal(y, x, v, u)


def _marginal(x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> float:
    n = len(x)
    chosen = torch.arange(n) if n <= ALL else torch.randperm(n, generator=torch.Generator().manual_seed(0))[:SAMPLED]
    off = x.new_zeros(())
    for rows in chosen.to(x.device).split(max(ENTRIES // len(y), 1)):
        exponents = torch.addmm(v[None], x[rows], y.T).add_(u[rows, None])
        off += (exponents.exp_().mean(1) - 1.0).abs().sum()
    return float(off) / len(chosen)
