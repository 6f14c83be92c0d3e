"""Speeds of sums over all pairs on a device, in pairs a second; rows of gpu.py's report."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from gpu_checks import DTYPES
from gpu_machine import exponential_limit, now
from gpu_methods import available, flash_half_step
from torch import Tensor

from geomsink import costs, engine

ENOUGH = 0.3
"""Seconds after which a sum is not run again, from its third run on."""
CHECKED = 100
"""Rows that are compared with dense float64 on the CPU."""
EPSILON = 0.02


def rates(device: str, name: str, dtype: str, dim: int, n: int, widths: list[int]) -> dict[str, Any]:
    """Pairs a second of `row_sums` and of `apply` with so many columns, warm: medians; and the error of some rows."""
    x, y = points(device, dim, n, dtype)
    w = torch.rand(n, max(widths, default=1), generator=torch.Generator().manual_seed(1)).to(device, DTYPES[dtype])
    u, v, epsilon = x.new_zeros(n), x.new_zeros(n), EPSILON
    start = now(device)
    pair = engine.pair(x, y, costs.get("sqeuclidean"), name)
    runs: dict[str, Callable[[], Tensor]] = {"row_sums": lambda: pair.row_sums(u, v, epsilon)}
    for width in widths:
        runs[f"apply, {width} columns"] = partial(pair.apply, u, v, epsilon, w[:, :width].contiguous())
    exact = (-costs_of(x, y) / epsilon).exp()
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
        speeds[what] = n * n / _seconds(run, device)
    share = speeds["row_sums"] / limit if limit and dtype == "float32" else None
    return {
        "error": error, "tolerance": 1e-3 if dtype == "float32" else 1e-9, "speeds": speeds, "n": n, "share": share,
        "remark": f"first sum after {first:.1f} s",
    }  # fmt: skip


def flash_rate(device: str, dim: int, n: int, tuned: bool) -> dict[str, Any]:
    """The same of FlashSinkhorn's half-step, one logarithm of sums a row; its products are in TF32, between points that
    are rounded to that."""
    available("flash_sinkhorn", device)
    from flash_sinkhorn.multiscale import preprocess_coordinates

    x, y = points(device, dim, n, "float32")
    uniform = torch.full((n,), 1 / n, device=device)
    x, y = preprocess_coordinates(x, y, uniform, uniform)
    run, words = flash_half_step(x, y, tuned)
    exponents = -0.5 * (y**2).sum(1) / EPSILON
    began = now(device)
    found = run(exponents, EPSILON)[:CHECKED].double().cpu()
    first = now(device) - began
    expected = -EPSILON * (-0.5 * costs_of(x, y) / EPSILON).logsumexp(1)
    expected -= 0.5 * (x[:CHECKED].double().cpu() ** 2).sum(1)
    speed = n * n / _seconds(partial(run, exponents, EPSILON), device)
    limit, _ = exponential_limit(device)
    return {
        "error": float(((found - expected) / EPSILON).abs().max()), "tolerance": 1.0, "speeds": {"row_sums": speed},
        "n": n, "share": speed / limit if limit else None, "remark": f"first after {first:.1f} s; {words()}",
    }  # fmt: skip


def points(device: str, dim: int, n: int, dtype: str) -> tuple[Tensor, Tensor]:
    """Uniform in a cube of diameter about one."""
    generator = torch.Generator().manual_seed(0)
    x, y = ((torch.rand(n, dim, generator=generator) / dim**0.5).to(device, DTYPES[dtype]) for _ in range(2))
    return x, y


def costs_of(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of some rows, in float64 on the CPU."""
    rows, columns = x[:CHECKED].cpu().double(), y.cpu().double()
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist") ** 2


def _seconds(run: Callable[[], Tensor], device: str) -> float:
    times: list[float] = []
    while len(times) < 3 or (sum(times) < ENOUGH and len(times) < 50):
        began = now(device)
        run()
        times.append(now(device) - began)
    return statistics.median(times)
