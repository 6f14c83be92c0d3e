"""Where the choices of ``geomsink.choose`` turn: each way against the other, about the threshold between them.

    python benchmarks/thresholds.py
    python benchmarks/thresholds.py --device cuda

Ratios of seconds, the way below the threshold over the way above it: 1 is where the choice should turn. Both are timed
in turns, in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, clouds, default_shapes, machine, slug, table, write
from gpu_machine import now

import geomsink
from geomsink import choose, costs, engine
from geomsink.path import nearest_cost

ROUNDS = 5
CLOUDS = {"cpu": (1000, 1400, 2000, 2800, 4000), "cuda": (20_000, 40_000, 65_000, 100_000)}
"""Points a side about which levels may begin to pay."""
NEAR = {"cpu": (300, 1000, 2500), "cuda": (1000, 4000, 8000, 20_000)}
"""Points a side of blurs about the spacing: with a kernel in memory, with costs, and with neither."""
Row = tuple[str, float, float]
"""What is varied, and seconds of the way below the threshold and of the way above."""


@dataclass(frozen=True)
class Where:
    """The shapes that clouds are drawn from, and the device that they lie on."""

    shapes: list[str]
    device: str


def in_turns(where: Where, *ways: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Medians of seconds; each way has run once before."""
    for way in ways:
        way()
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, spent in zip(ways, seconds, strict=True):
            start = now(where.device)
            way()
            spent.append(now(where.device) - start)
    return [statistics.median(spent) for spent in seconds]


def points(where: Where, n: int, d: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, d))).to(where.device, dtype)


def row_sums(where: Where, n: int, d: int, name: str, dtype: torch.dtype) -> Callable[[], Any]:
    """Ten evaluations each way, on a pair that is new: what a short solve does."""
    x, y = points(where, n, d, dtype), points(where, n, d, dtype, 1)

    def run() -> None:
        pair = engine.pair(x, y, costs.get("sqeuclidean"), name)
        for k in range(10):
            u = torch.full((n,), -0.01 * k, dtype=dtype, device=where.device)
            engine.Gibbs(pair, u, u, 0.1 * d).row_sums()
            engine.Gibbs(pair.T, u, u, 0.1 * d).row_sums()

    return run


def solve(where: Where, n: int, **how: Any) -> Callable[[], Any]:
    x, y = (torch.as_tensor(cloud, device=where.device) for cloud in clouds(where.shapes, n))
    return lambda: geomsink.solve(x, y, blur=0.05, **how)


def solve_uniform(where: Where, n: int, d: int, **how: Any) -> Callable[[], Any]:
    x, y = (points(where, n, d, torch.float32, seed) for seed in (0, 1))
    return lambda: geomsink.solve(x, y, blur=0.05 * (d / 2) ** 0.5, **how)


def engines(where: Where) -> list[Row]:
    """Pairs; dense below, KeOps (compiled before) above."""
    found = []
    for power in (16, 18, 20, 22):
        ways = (row_sums(where, int(2 ** (power / 2)), 3, name, torch.float64) for name in ("dense", "keops"))
        found.append((f"2^{power}", *in_turns(where, *ways)))
    return found


def products(where: Where) -> list[Row]:
    """Coordinates, 3,000 points; KeOps' formula below, matrix products above."""
    found = []
    for d in (8, 16, 32, 64):
        ways = (row_sums(where, 3000, d, name, torch.float32) for name in ("keops", "dense"))
        found.append((str(d), *in_turns(where, *ways)))
    return found


def precisions(where: Where) -> list[Row]:
    """Pairs, whole solves; float64 below, float32 above."""
    found = []
    for n in (500, 1000, 1400, 2000):
        ways = (solve(where, n, dtype=dtype, multiscale=False) for dtype in ("float64", "float32"))
        found.append((f"2^{2 * np.log2(n):.1f}", *in_turns(where, *ways)))
    return found


def levels(where: Where) -> list[Row]:
    """Pairs, whole solves; one level below, several above."""
    found = []
    for n in CLOUDS[where.device]:
        ways = (solve(where, n, multiscale=several) for several in (False, True))
        found.append((f"2^{2 * np.log2(n):.1f}", *in_turns(where, *ways)))
    return found


def coordinates(where: Where) -> list[Row]:
    """Coordinates, whole solves of 5,000 uniform points in a cube, σ = 0.05 √(D/2); several levels below, one above."""
    found = []
    for d in (2, 3, 4, 5, 6):
        ways = (solve_uniform(where, 5000, d, multiscale=several) for several in (True, False))
        found.append((str(d), *in_turns(where, *ways, rounds=3)))
    return found


def spacings(where: Where) -> list[Row]:
    """Points, σ in spacings and cost to the nearest neighbour in ε, whole solves of uniform points in a cube; updates
    below, the path down the temperatures above."""
    found, decided = [], choose.NEAR
    on_cpu = where.device == "cpu"

    def at(near: tuple[float, ...], x: torch.Tensor, y: torch.Tensor, blur: float) -> Callable[[], Any]:
        def run() -> None:
            choose.NEAR = near
            try:
                geomsink.solve(x, y, blur=blur)
            finally:
                choose.NEAR = decided

        return run

    for n in NEAR[where.device]:
        x, y = (points(where, n, 3, torch.float64, seed) for seed in (0, 1))
        spacing = nearest_cost(x, torch.ones(len(x), device=where.device), costs.get("sqeuclidean")) ** 0.5
        for part in (1.0, 0.5, 0.35, 0.25) if on_cpu else (1.0, 0.35):
            ways = (at(near, x, y, part * spacing) for near in ((np.inf,) * 3, (0.0,) * 3))
            seconds = in_turns(where, *ways, rounds=3 if on_cpu else 1)
            found.append((f"{n:,}, {part:g}, {0.5 / part**2:.1f}", *seconds))
    return found


PARTS = {
    "SMALL": engines, "MANY": products, "FEW_PAIRS": precisions, "PAYS": levels, "WIDEST": coordinates,
    "NEAR": spacings,
}  # fmt: skip
"""By the threshold of `geomsink.choose` that each is about."""
ON_GPU = {"SMALL": "SMALL", "PAYS": "PAYS_ON_GPU", "NEAR": "NEAR"}
"""Those that a GPU has measured, and the names of what it decides by."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs=2, metavar="SHAPE", default=default_shapes())
    parser.add_argument("--device", choices=CLOUDS, default="cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all that the device has")
    parser.add_argument("--out", type=Path, help="default: thresholds.json in benchmarks/results, with the chip's name")
    options = parser.parse_args()
    where, about = Where(options.shapes, options.device), machine(options.device)
    named = {name: name for name in PARTS} if where.device == "cpu" else ON_GPU
    if unknown := [name for name in options.parts or () if name not in named]:
        parser.error(f"--parts: {', '.join(unknown)} for --device {options.device}, expected of {', '.join(named)}")
    chip = "" if where.device == "cpu" else "-" + slug(torch.cuda.get_device_name())
    out = options.out or RESULTS / f"thresholds{chip}.json"
    report: dict[str, Any] = {"machine": about, "shapes": options.shapes, "rows": {}}
    text = [f"# Where choices turn\n\n{about}. Medians of seconds, in turns; a choice should turn at a ratio of 1."]
    for name in options.parts or named:
        rows = report["rows"][name] = PARTS[name](where)
        cells = [(value, f"{low:.3g}", f"{high:.3g}", f"{low / high:.2f}") for value, low, high in rows]
        about_it = " ".join(str(PARTS[name].__doc__).split())
        said = f"`{named[name]}` = {getattr(choose, named[name])}. {about_it}"
        text.append(f"{said}\n\n{table(('', 'below, s', 'above, s', 'ratio'), cells)}")
        print(text[-1], end="\n\n", flush=True)
        write(out, report, "\n\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
