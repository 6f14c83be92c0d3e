"""Speed and accuracy of the engine, against KeOps and torch as their users write them, in one run.

    python benchmarks/engine.py [--device cpu|cuda] [--n 20000] [--repeat 5] [--json FILE] [--quick]

Prints a table, and writes it as JSON and, next to it, Markdown. Speeds are billions of pairs (i, j) a second;
machines are shared and noisy, so runs are interleaved and the figure to quote is the ratio of medians in this one run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import RESULTS, machine, table, write

from geomsink import costs, engine, shapes

with contextlib.redirect_stdout(io.StringIO()):
    from pykeops.torch import LazyTensor

TARGET = 10.0
CHECKED = 200
SIGMAS = (0.2, 0.05, 0.01)


def surfaces(n: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Two surfaces in the unit cube."""
    clouds = (shapes.procedural("knot", n, 0), shapes.procedural("star", n, 1))
    return tuple(torch.tensor(c, device=device) for c in clouds)


def cubes(n: int, dim: int, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two uniform clouds in a cube of diameter about one."""
    generator = torch.Generator().manual_seed(0)
    return tuple((torch.rand(n, dim, generator=generator) / dim**0.5).to(device, dtype) for _ in range(2))


def keops_logsumexp(x: torch.Tensor, y: torch.Tensor, epsilon: float) -> Callable[[], torch.Tensor]:
    """KeOps' log-sum-exp as its users write it, under KeOps' default flags."""
    zero = x.new_zeros(len(y), 1)

    def run() -> torch.Tensor:
        xi, yj = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
        exponent = LazyTensor(zero[None, :, :]) - ((xi - yj) ** 2).sum(-1) / epsilon
        return exponent.logsumexp(dim=1)

    return run


def torch_matmul(x: torch.Tensor, y: torch.Tensor, epsilon: float) -> Callable[[], torch.Tensor]:
    """Row sums by chunks of a matrix product, which loses digits but is what high dimensions favour."""
    norms = (y**2).sum(1)

    def run() -> torch.Tensor:
        parts = []
        for chunk in x.split(1000):
            squared = (chunk**2).sum(1, keepdim=True) + norms - 2 * chunk @ y.T
            parts.append((squared / -epsilon).exp().sum(1))
        return torch.cat(parts)

    return run


def medians(runs: dict[str, Callable[[], torch.Tensor]], repeat: int, device: str) -> dict[str, float]:
    """Median seconds of each, run in turn after one warm-up."""

    def seconds(run: Callable[[], torch.Tensor]) -> float:
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with contextlib.redirect_stdout(io.StringIO()):  # KeOps says what it compiles
        for run in runs.values():
            seconds(run)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: statistics.median(values) for name, values in times.items()}


def exact_rows(pair: engine.Pair, epsilon: float) -> torch.Tensor:
    """Row sums of a few rows in dense float64."""
    x, y = pair.x[:CHECKED].double(), pair.y.double()
    return (-pair.cost.expression(x[:, None, :], y[None, :, :]) / epsilon).exp().sum(1)


class Bench:
    """Collects one row a case."""

    def __init__(self, repeat: int, device: str):
        self.repeat, self.device = repeat, device
        self.rows: list[dict[str, object]] = []

    def add(
        self,
        case: str,
        ours: Callable[[], torch.Tensor],
        pairs: int,
        error: float | None = None,
        rivals: dict[str, Callable[[], torch.Tensor]] | None = None,
        target: float | None = None,
    ) -> None:
        times = medians({"geomsink": ours, **(rivals or {})}, self.repeat, self.device)
        row: dict[str, object] = {
            "case": case,
            "geomsink": pairs / times["geomsink"] / 1e9,
            "error": error,
            "target": target,
        }
        row["rivals"] = {name: pairs / times[name] / 1e9 for name in rivals or {}}
        row["ratios"] = {name: times[name] / times["geomsink"] for name in rivals or {}}
        self.rows.append(row)
        print(_line(row), flush=True)

    def row_sums(
        self,
        case: str,
        x: torch.Tensor,
        y: torch.Tensor,
        epsilon: float,
        cost: str = "sqeuclidean",
        rivals: dict[str, Callable[[], torch.Tensor]] | None = None,
        target: float | None = None,
    ) -> None:
        """Row sums with u = v = 0, and their largest relative error where a row sum is above 1e-20."""
        ground = costs.get(cost)
        pair = engine.pair(ground.map(x), ground.map(y), ground, "keops")
        u, v = x.new_zeros(len(x)), x.new_zeros(len(y))
        exact = exact_rows(pair, epsilon)
        found = pair.row_sums(u, v, epsilon)[:CHECKED].double()
        seen = exact > 1e-20
        error = float(((found - exact) / exact)[seen].abs().max()) if bool(seen.any()) else None
        self.add(case, lambda: pair.row_sums(u, v, epsilon), len(x) * len(y), error, rivals, target)


HEAD = ("case", "G pairs/s", "error", "against", "G pairs/s", "ratio")
WIDTHS = (46, 10, 9, 24, 10, 8)


def _cells(row: dict[str, object]) -> list[tuple[str, ...]]:
    error = "" if row["error"] is None else f"{row['error']:.0e}"
    first = (str(row["case"]), f"{row['geomsink']:.2f}", error)
    if not row["rivals"]:
        return [(*first, "", "", "")]
    return [
        (*(first if k == 0 else ("", "", "")), name, f"{speed:.3f}", f"{row['ratios'][name]:.1f}")
        for k, (name, speed) in enumerate(row["rivals"].items())
    ]


def _line(row: dict[str, object]) -> str:
    lines = ["".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)) for cells in _cells(row)]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--n", type=int, help="points a side (default 20000; 4000 with --quick)")
    parser.add_argument("--repeat", type=int, help="interleaved runs (default 5; 2 with --quick)")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/engine-DEVICE.json; none with --quick")
    parser.add_argument("--quick", action="store_true", help="a look at every case: no figures to quote")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: torch finds no CUDA device here.", file=sys.stderr)
        return 2
    device = options.device
    n = options.n or (4_000 if options.quick else 20_000)
    bench = Bench(options.repeat or (2 if options.quick else 5), device)
    print("".join(name.ljust(width) for name, width in zip(HEAD, WIDTHS, strict=True)))

    x, y = surfaces(n, device)
    for sigma in SIGMAS:
        epsilon = 2 * sigma**2
        rivals = {"KeOps logsumexp": keops_logsumexp(x, y, epsilon)}
        bench.row_sums(f"row_sums, D = 3, σ = {sigma}", x, y, epsilon, rivals=rivals, target=TARGET)
    for dim in (2, 8, 16, 64):
        p, q = cubes(n, dim, device, torch.float32)
        rivals = {"KeOps logsumexp": keops_logsumexp(p, q, 0.02)}
        if dim == 64:
            rivals["torch, matrix product"] = torch_matmul(p, q, 0.02)
        bench.row_sums(f"row_sums, D = {dim}, σ = 0.1", p, q, 0.02, rivals=rivals)
    doubles = (x.double(), y.double())
    rivals = {"KeOps logsumexp": keops_logsumexp(*doubles, 0.005)}
    bench.row_sums("row_sums, D = 3, σ = 0.05, float64", *doubles, 0.005, rivals=rivals)
    for cost in ("euclidean", "power:1.5", "geodesic"):
        bench.row_sums(f"row_sums, D = 3, {cost}, ε = 0.05", x, y, 0.05, cost)

    pair = engine.pair(x, y, costs.get("sqeuclidean"), "keops")
    u, v = x.new_zeros(n), x.new_zeros(n)
    w = torch.rand(n, 3, generator=torch.Generator().manual_seed(1)).to(device)
    rows = pair.x[:CHECKED].double()
    exact = (-pair.cost.expression(rows[:, None, :], y.double()[None, :, :]) / 0.02).exp() @ w.double()
    error = float(((pair.apply(u, v, 0.02, w)[:CHECKED].double() - exact) / exact).abs().max())
    bench.add("apply, D = 3, E = 3, σ = 0.1", lambda: pair.apply(u, v, 0.02, w), n * n, error)

    for size in (50, 128, 512):
        ranges = torch.stack((torch.arange(0, n, size), torch.arange(0, n, size).add(size).clamp(max=n)), 1)
        keep = torch.rand(len(ranges), len(ranges), generator=torch.Generator().manual_seed(2)) < 0.25
        blocks = engine.Blocks.from_mask(ranges, ranges, keep)
        bench.add(
            f"row_sums, D = 3, blocks of {size}, 25 % kept",
            lambda blocks=blocks: pair.row_sums(u, v, 0.02, blocks),
            blocks.pairs,
        )

    about = f"{machine(device)}; N = M = {n}, medians of {bench.repeat} runs"
    print(about)
    path = options.json or (None if options.quick else RESULTS / f"engine-{device}.json")
    if path is not None:
        report = {"machine": about, "n": n, "repeat": bench.repeat, "rows": bench.rows}
        rows = table(HEAD, [cells for row in bench.rows for cells in _cells(row)])
        write(path, report, f"{about}\n\n{rows}")
    missed = [row["case"] for row in bench.rows if row["target"] and min(row["ratios"].values()) < row["target"]]
    print(
        f"target of {TARGET:.0f} times KeOps' logsumexp: "
        + (f"missed at {', '.join(missed)}" if missed else "met at every σ")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
