"""A generator fitted to surfaces by S_ε, by GeomLoss, by Chamfer and by an energy distance, at equal wall time.

    pip install -e '.[shapes,plot,peers]'
    python benchmarks/shapes.py [--shapes bunny horse] [--seconds 40] [--long]

Each method trains the same generator (`geomsink.generative.Surface`, from the same weights) with the same optimiser,
the same course of learning rates and the same averaging of weights, on points drawn afresh from the surface for each
step. The methods take turns, step by step, so that they share whatever else the machine does; a turn goes to the one
that has had the least time, and only training counts. GeomLoss has its defaults (blur 0.05, scaling 0.5) and 500 points
a step, with which it comes to about as many steps as geomsink with a thousand; the others have a thousand, too. The
blur of geomsink falls over the time.

All are then measured alike, on points of the surface that none has seen: S_ε; the Chamfer distance, here the mean
distance to the nearest point of the other cloud, of both ways; and coverage, the share of held-out points with a
generated point within a hundredth of the shape's width. Points of the surface itself show what can be had.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, SHARED, machine, number, panels, save, table, write
from scipy.spatial import cKDTree
from torch import Tensor, nn

from geomsink import MMD, SinkhornDivergence, generative, sinkhorn_divergence

SECONDS, LONG = 40.0, 300.0
RATES = (5e-3, 1e-4)
"""Of Adam, at the start and at the end; between them it falls as half a cosine does."""
AVERAGE = 0.98
MEASURED, DRAWN = 5_000, 20_000
BLUR = 0.02
NEAR = 0.01
"""For coverage; all shapes are in the unit cube."""
AXES = {"horse": (1, 2, 0)}
"""Which coordinates point across, up and to the camera in figures, where a file has it otherwise than they do."""
ENOUGH = 10**6
"""Steps that no method gets to."""


@dataclass(frozen=True)
class Method:
    """A loss and what it is used with: points a step, and a blur that may fall from the first to the second."""

    loss: Callable[[], Any]
    batch: int
    blur: tuple[float, float] | None = None


def ours() -> nn.Module:
    """On one level and to 1 %: a step's own points are further off than that."""
    return SinkhornDivergence(blur=0.1, tol=1e-2, dtype="float32", engine="keops")


def theirs() -> nn.Module:
    from geomloss import SamplesLoss

    return SamplesLoss()


def chamfer(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared distances to the nearest points, both ways, with neighbours found by k-d trees."""
    there = torch.from_numpy(cKDTree(y.numpy()).query(x.detach().numpy())[1])
    back = torch.from_numpy(cKDTree(x.detach().numpy()).query(y.numpy())[1])
    return (x - y[there]).square().sum(1).mean() + (y - x[back]).square().sum(1).mean()


METHODS = {
    "geomsink": Method(ours, 1_000, (0.1, 0.03)),
    "GeomLoss": Method(theirs, 500),
    "Chamfer": Method(lambda: chamfer, 1_000),
    "energy distance": Method(lambda: MMD(kernel="energy"), 1_000),
}
NEEDS = {"GeomLoss": "geomloss"}


class Run:
    """One method on one shape, step by step against its own clock.

    The learning rate and the blur follow the share of the time that is spent, not the number of steps.
    """

    def __init__(self, method: Method, shape: generative.Shape, seconds: float, seed: int):
        torch.manual_seed(seed)
        self.method, self.seconds, self.spent = method, seconds, 0.0
        made = generative.Surface()
        self.optimizer = torch.optim.Adam(made.parameters(), lr=RATES[0])
        self.trainer = generative.Trainer(
            made, shape, method.loss(), steps=ENOUGH, batch=method.batch, optimizer=self.optimizer,
            blur=None if method.blur is None else self._blur, average=AVERAGE, seed=seed,
        )  # fmt: skip
        self._rows = self.trainer.run()

    @property
    def share(self) -> float:
        return min(self.spent / self.seconds, 1.0)

    def _blur(self, step: int) -> float:
        assert self.method.blur is not None
        start, end = self.method.blur
        return start * (end / start) ** self.share

    def step(self) -> None:
        first, last = RATES
        for group in self.optimizer.param_groups:
            group["lr"] = last + (first - last) * (1.0 + math.cos(math.pi * self.share)) / 2.0
        start = time.perf_counter()
        next(self._rows)
        self.spent += time.perf_counter() - start

    def sample(self, n: int) -> np.ndarray:
        return generative.sample(self.trainer.result().generator, n, seed=1).numpy()


def source(name: str) -> str:
    """The file of a shape where it lies beside the checkout, or the name as it is."""
    found = sorted(p for end in ("obj", "ply") for p in (SHARED / "data").glob(f"*{name}*.{end}"))
    return str(found[0]) if found and not Path(name).exists() else name


def measure(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Of generated points against held-out ones, as many."""
    back, there = cKDTree(x).query(y)[0], cKDTree(y).query(x)[0]
    return {
        "divergence": float(sinkhorn_divergence(x, y, blur=BLUR).value),
        "chamfer": float((back.mean() + there.mean()) / 2.0),
        "coverage": float((back <= NEAR).mean()),
    }


def compare(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers of a shape, and clouds to draw."""
    from geomsink import shapes as library

    path = source(name)
    y, again = (library.sample(path, MEASURED, 10_000 + k, normalize=True).astype(np.float32) for k in (0, 1))
    shape = generative.Shape(path, normalize=True)
    runs = {
        key: Run(method, shape, options.seconds, options.seed)
        for key, method in METHODS.items()
        if importlib.util.find_spec(NEEDS.get(key, "torch"))
    }
    for method in {run.method for run in runs.values()}:
        Run(method, shape, options.seconds, options.seed).step()  # compiles, outside of all clocks
    while (last := min(runs.values(), key=lambda run: run.spent)).spent < options.seconds:
        last.step()
    clouds = {"the surface": library.sample(path, DRAWN, 20_000, normalize=True)}
    rows = []
    for key, run in runs.items():
        rows.append({"method": key, "steps": run.trainer.step, "batch": run.method.batch, "seconds": run.spent})
        rows[-1] |= measure(run.sample(MEASURED), y)
        clouds[key] = run.sample(DRAWN)
        print(rows[-1], flush=True)
    rows.append({"method": "points of the surface", "steps": None, "batch": None, "seconds": None} | measure(again, y))
    return {"shape": name, "rows": rows}, clouds


HEAD = ("method", "points a step", "steps", f"S_ε, σ = {BLUR:g}", "Chamfer", f"coverage at {NEAR:g}")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["method"], number(row["batch"], ","), number(row["steps"], ","), f"{row['divergence']:.3g}",
        f"{row['chamfer']:.4f}", f"{row['coverage']:.1%}",
    )  # fmt: skip


def verdict(case: dict[str, Any]) -> str:
    """Whether the first method is the best, by each measure."""
    ours, *others = case["rows"][:-1]
    floor = case["rows"][-1]
    parts = []
    for key, what, sign in (
        ("divergence", "S_ε", 1),
        ("chamfer", "the Chamfer distance", 1),
        ("coverage", "coverage", -1),
    ):
        best = min(others, key=lambda row: sign * row[key])
        better = sign * ours[key] <= sign * best[key]
        place, rival = ("the best", "next") if better else ("not the best", "the best")
        parts.append(
            f"by {what} geomsink is {place} ({ours[key]:.3g}; {rival} is {best['method']} with {best[key]:.3g}; "
            f"points of the surface have {floor[key]:.3g})"
        )
    return f"{case['shape'].capitalize()}: " + "; ".join(parts) + "."


def markdown(report: dict[str, Any]) -> str:
    parts = [report["about"]]
    for case in report["cases"]:
        parts += [f"## {case['shape']}", table(HEAD, [cells(row) for row in case["rows"]]), verdict(case)]
    parts += [f"{key} is left out: the package {need} is not installed." for key, need in NEEDS.items()
              if not importlib.util.find_spec(need)]  # fmt: skip
    return "\n\n".join(parts)


def draw(cases: Sequence[dict[str, Any]], clouds: Sequence[dict[str, np.ndarray]], path: Path) -> None:
    """A row of clouds for each shape."""
    from geomsink.plotting import CLOUD_COLORS, plot_clouds

    columns = len(clouds[0])
    figure, axes = panels(len(cases), columns, 3.2, 3.5)
    for i, (case, drawn) in enumerate(zip(cases, clouds, strict=True)):
        measured = {row["method"]: row for row in case["rows"]}
        for j, (key, cloud) in enumerate(drawn.items()):
            ax = axes[i * columns + j]
            color = CLOUD_COLORS[key in METHODS]
            cloud = cloud[:, AXES.get(case["shape"], (0, 1, 2))]
            plot_clouds(cloud[::2], cloud[1::2], ax=ax, colors=(color, color))
            note = f"\nS_ε {measured[key]['divergence']:.2g}" if key in measured else "\n"
            ax.set_title(key + note)
    save(figure, path)


def main() -> int:
    known = (SHARED / "data").is_dir()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", nargs="+", default=["bunny", "horse"] if known else ["knot", "star"],
                        help="files, names of procedural shapes, or parts of names of shared files")  # fmt: skip
    parser.add_argument("--seconds", type=float, help=f"training time of each method (default: {SECONDS:g})")
    parser.add_argument("--long", action="store_true", help=f"{LONG:g} seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "shapes.json", help="with .md and .png beside it")
    options = parser.parse_args()
    options.seconds = options.seconds or (LONG if options.long else SECONDS)
    report: dict[str, Any] = {
        "about": f"{machine()}; {options.seconds:g} seconds of training for each method, in turns; "
        f"{MEASURED:,} points are measured",
        "cases": [],
    }
    print(report["about"])
    clouds = []
    for name in options.shapes:
        case, drawn = compare(name, options)
        report["cases"].append(case)
        clouds.append(drawn)
        write(options.out, report, markdown(report))
        print(verdict(case), flush=True)
    draw(report["cases"], clouds, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
