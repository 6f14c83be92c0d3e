"""Where the choices of ``geomsink.choose`` turn: each way against the other, about the threshold between them.

    python benchmarks/thresholds.py

Ratios of seconds, the way below the threshold over the way above it: 1 is where the choice should turn. Both are timed
in turns, in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, clouds, default_shapes, machine, table, write

import geomsink
from geomsink import choose, costs, engine
from geomsink.path import nearest_cost

ROUNDS = 5
Row = tuple[str, float, float]
"""What is varied, and seconds of the way below the threshold and of the way above."""


def in_turns(*ways: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Medians of seconds; each way has run once before."""
    for way in ways:
        way()
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, spent in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            spent.append(time.perf_counter() - start)
    return [statistics.median(spent) for spent in seconds]


def points(n: int, d: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((n, d))).to(dtype)


def row_sums(n: int, d: int, name: str, dtype: torch.dtype) -> Callable[[], Any]:
    """Ten evaluations each way, on a pair that is new: what a short solve does."""
    x, y = points(n, d, dtype), points(n, d, dtype, 1)

    def run() -> None:
        pair = engine.pair(x, y, costs.get("sqeuclidean"), name)
        for k in range(10):
            u = torch.full((n,), -0.01 * k, dtype=dtype)
            engine.Gibbs(pair, u, u, 0.1 * d).row_sums()
            engine.Gibbs(pair.T, u, u, 0.1 * d).row_sums()

    return run


def solve(n: int, shapes: list[str], **how: Any) -> Callable[[], Any]:
    x, y = clouds(shapes, n)
    return lambda: geomsink.solve(x, y, blur=0.05, **how)


def solve_uniform(n: int, d: int, **how: Any) -> Callable[[], Any]:
    x, y = (points(n, d, torch.float32, seed) for seed in (0, 1))
    return lambda: geomsink.solve(x, y, blur=0.05 * (d / 2) ** 0.5, **how)


def engines(shapes: list[str]) -> list[Row]:
    """Pairs; dense below, KeOps (compiled before) above."""
    found = []
    for power in (16, 18, 20, 22):
        ways = (row_sums(int(2 ** (power / 2)), 3, name, torch.float64) for name in ("dense", "keops"))
        found.append((f"2^{power}", *in_turns(*ways)))
    return found


def products(shapes: list[str]) -> list[Row]:
    """Coordinates, 3,000 points; KeOps' formula below, matrix products above."""
    found = []
    for d in (8, 16, 32, 64):
        ways = (row_sums(3000, d, name, torch.float32) for name in ("keops", "dense"))
        found.append((str(d), *in_turns(*ways)))
    return found


def precisions(shapes: list[str]) -> list[Row]:
    """Pairs, whole solves; float64 below, float32 above."""
    found = []
    for n in (500, 1000, 1400, 2000):
        ways = (solve(n, shapes, dtype=dtype, multiscale=False) for dtype in ("float64", "float32"))
        found.append((f"2^{2 * np.log2(n):.1f}", *in_turns(*ways)))
    return found


def levels(shapes: list[str]) -> list[Row]:
    """Pairs, whole solves; one level below, several above."""
    found = []
    for n in (1000, 1400, 2000, 2800, 4000):
        ways = (solve(n, shapes, multiscale=several) for several in (False, True))
        found.append((f"2^{2 * np.log2(n):.1f}", *in_turns(*ways)))
    return found


def coordinates(shapes: list[str]) -> list[Row]:
    """Coordinates, whole solves of 5,000 uniform points in a cube, σ = 0.05 √(D/2); several levels below, one above."""
    found = []
    for d in (2, 3, 4, 5, 6):
        ways = (solve_uniform(5000, d, multiscale=several) for several in (True, False))
        found.append((str(d), *in_turns(*ways, rounds=3)))
    return found


def spacings(shapes: list[str]) -> list[Row]:
    """Points, σ in spacings and cost to the nearest neighbour in ε, whole solves of uniform points in a cube; updates
    below, the path down the temperatures above."""
    found, decided = [], choose.NEAR

    def at(near: tuple[float, ...], x: torch.Tensor, y: torch.Tensor, blur: float) -> Callable[[], Any]:
        def run() -> None:
            choose.NEAR = near
            try:
                geomsink.solve(x, y, blur=blur)
            finally:
                choose.NEAR = decided

        return run

    for n in (300, 1000, 2500):
        x, y = (points(n, 3, torch.float64, seed) for seed in (0, 1))
        spacing = nearest_cost(x, torch.ones(len(x)), costs.get("sqeuclidean")) ** 0.5
        for part in (1.0, 0.5, 0.35, 0.25):
            ways = (at(near, x, y, part * spacing) for near in ((np.inf,) * 3, (0.0,) * 3))
            found.append((f"{n:,}, {part:g}, {0.5 / part**2:.1f}", *in_turns(*ways, rounds=3)))
    return found


PARTS = {
    "SMALL": engines, "MANY": products, "FEW_PAIRS": precisions, "PAYS": levels, "WIDEST": coordinates,
    "NEAR": spacings,
}  # fmt: skip
"""By the threshold of `geomsink.choose` that each is about."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs=2, metavar="SHAPE", default=default_shapes())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS / "thresholds.json")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "shapes": options.shapes, "rows": {}}
    text = [f"# Where choices turn\n\n{machine()}. Medians of seconds, in turns; a choice should turn at a ratio of 1."]
    for name in options.parts:
        rows = report["rows"][name] = PARTS[name](options.shapes)
        cells = [(value, f"{low:.3g}", f"{high:.3g}", f"{low / high:.2f}") for value, low, high in rows]
        said = f"`{name}` = {getattr(choose, name)}. {PARTS[name].__doc__}"
        text.append(f"{said}\n\n{table(('', 'below, s', 'above, s', 'ratio'), cells)}")
        print(text[-1], end="\n\n", flush=True)
        write(options.out, report, "\n\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
