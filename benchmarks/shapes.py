"""A generator fitted to surfaces by S_ε, by GeomLoss, by Chamfer and by an energy distance, at equal wall time.

    pip install -e '.[shapes,plot,peers]'
    python benchmarks/shapes.py [--shapes bunny horse] [--seconds 40] [--seeds 3] [--long]

Each method trains the same generator (`geomsink.generative.Surface`, from the same weights) with Adam, the same course
of learning rates and a moving average of the weights, on points drawn afresh from the surface. The methods take turns,
step by step, so that they share whatever else the machine does; a turn goes to the one that has had the least time, and
only training counts. A method is done when its next step is expected to go beyond its time.

geomsink evaluates S_ε on clouds of 10,000 points, with a blur that falls over the time, and has 400 steps of the
optimiser for each evaluation (`geomsink.generative.Targets`); its average of weights is over ten times as many steps.
The others are losses of each step's points: GeomLoss with its defaults (blur 0.05, scaling 0.5) and 500 points, for
more steps than a thousand would allow; the mean squared distance to nearest points, of both ways (Chamfer); and the
energy distance. To tell the loss from the scheme, there are S_ε by steps of its own, too, and Chamfer with targets.

All are then measured alike, on points of the surface that none has seen: S_ε; the Chamfer distance, here the mean
distance to the nearest point of the other cloud, of both ways; and coverage, the share of held-out points with a
generated point within 1/200 of the shape's width. There are 50,000 of them because clouds of 5,000 from the surface
itself differ by more than the methods do. Points of the surface show what can be had.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, SHARED, machine, number, panels, save, table, write
from scipy.spatial import cKDTree
from torch import Tensor, nn

from geomsink import MMD, SinkhornDivergence, generative, sinkhorn_divergence
from geomsink.generative.schedules import geometric, half_cosine

SECONDS, LONG = 40.0, 300.0
RATES = (1e-2, 1e-4)
"""Of Adam, at the start and at the end; between them it falls as half a cosine does."""
MEASURED, DRAWN = 50_000, 20_000
BLUR = 0.02
NEAR = 0.005
"""For coverage; all shapes are in the unit cube."""
AXES = {"horse": (1, 2, 0)}
"""Which coordinates point across, up and to the camera in figures, where a file has it otherwise than they do."""
ENOUGH = 10**6
"""Steps that no method gets to."""


@dataclass(frozen=True)
class Method:
    """A loss and what it is used with.

    Attributes
    ----------
    loss : callable
        Makes it.
    batch : int
        Points for an evaluation of the loss.
    blur : pair of float, or None
        Falls from the first to the second.
    targets : Targets or None
    average : float
        Decay of the average of weights, each step of the optimiser.
    """

    loss: Callable[[], Any]
    batch: int
    blur: tuple[float, float] | None = None
    targets: generative.Targets | None = None
    average: float = 0.98


def ours() -> nn.Module:
    """To 1 %: clouds of points are further from the surface's law than that."""
    return SinkhornDivergence(blur=0.1, tol=1e-2, dtype="float32", engine="keops")


def theirs() -> nn.Module:
    from geomloss import SamplesLoss

    return SamplesLoss()


def chamfer(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared distances to the nearest points, both ways, with neighbours found by k-d trees."""
    there = torch.from_numpy(cKDTree(y.numpy()).query(x.detach().numpy())[1])
    back = torch.from_numpy(cKDTree(x.detach().numpy()).query(y.numpy())[1])
    return (x - y[there]).square().sum(1).mean() + (y - x[back]).square().sum(1).mean()


TARGETS = generative.Targets(400, 250)
METHODS = {
    "geomsink": Method(ours, 10_000, (0.1, 0.01), TARGETS, average=0.998),
    "GeomLoss": Method(theirs, 500),
    "Chamfer": Method(lambda: chamfer, 1_000),
    "energy distance": Method(lambda: MMD(kernel="energy"), 1_000),
    "S_ε by steps of its own": Method(ours, 1_000, (0.1, 0.03)),
    "Chamfer with targets": Method(lambda: chamfer, 10_000, targets=TARGETS, average=0.998),
}
NEEDS = {"GeomLoss": "geomloss"}


class Run:
    """One method on one shape, step by step against its own clock.

    The learning rate and the blur follow the share of the time that is spent at the end of a step. Steps get longer as
    the blur falls: the next is expected to be so much longer than the last as that was longer than the one before,
    but no more than twice as long.
    """

    def __init__(self, method: Method, shape: generative.Shape, seconds: float, seed: int):
        torch.manual_seed(seed)
        self.method, self.seconds, self.spent, self._next, self._last = method, seconds, 0.0, 0.0, 0.0
        made = generative.Surface()
        self.optimizer = torch.optim.Adam(made.parameters(), lr=RATES[0], fused=True)
        self.trainer = generative.Trainer(
            made, shape, method.loss(), steps=ENOUGH, batch=method.batch, optimizer=self.optimizer,
            blur=None if method.blur is None else self._blur, targets=method.targets, average=method.average, seed=seed,
        )  # fmt: skip
        self._rows = self.trainer.run()

    @property
    def done(self) -> bool:
        return self.spent + self._next > self.seconds

    @property
    def updates(self) -> int:
        """Steps of the optimiser."""
        return self.trainer.step * (self.method.targets.steps if self.method.targets else 1)

    @property
    def share(self) -> float:
        return min((self.spent + self._next) / self.seconds, 1.0)

    def _blur(self, step: int) -> float:
        assert self.method.blur is not None
        return geometric(*self.method.blur, self.share)

    def step(self) -> None:
        first, last = RATES
        for group in self.optimizer.param_groups:
            group["lr"] = half_cosine(first, last, self.share)
        start = time.perf_counter()
        next(self._rows)
        took = time.perf_counter() - start
        self._next = took * min(max(1.0, took / self._last), 2.0) if self._last else took
        self._last, self.spent = took, self.spent + took

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


def compare(name: str, seed: int, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Numbers of a shape for one seed, and clouds to draw."""
    from geomsink import shapes as library

    path = source(name)
    y, again = (library.sample(path, MEASURED, 10_000 + k, normalize=True).astype(np.float32) for k in (0, 1))
    shape = generative.Shape(path, normalize=True)
    runs = {
        key: Run(method, shape, options.seconds, seed)
        for key, method in METHODS.items()
        if importlib.util.find_spec(NEEDS.get(key, "torch"))
    }
    for method in {run.method for run in runs.values()}:
        Run(method, shape, options.seconds, seed).step()  # compiles, outside of all clocks
    while waiting := [run for run in runs.values() if not run.done]:
        min(waiting, key=lambda run: run.spent).step()
    clouds = {"the surface": library.sample(path, DRAWN, 20_000, normalize=True)}
    rows = []
    for key, run in runs.items():
        rows.append({"method": key, "seed": seed, "batch": run.method.batch, "evaluations": run.trainer.step})
        rows[-1] |= {"updates": run.updates, "seconds": run.spent} | measure(run.sample(MEASURED), y)
        clouds[key] = run.sample(DRAWN)
        print(rows[-1], flush=True)
    rows.append({"method": FLOOR, "seed": seed} | measure(again, y))
    return rows, clouds


FLOOR = "points of the surface"
HEAD = ("method", "points", "evaluations", "steps", "seconds", f"S_ε, σ = {BLUR:g}", "Chamfer", f"coverage at {NEAR:g}")


def of_seeds(rows: Iterable[dict[str, Any]], key: str, form: str, scale: float = 1.0) -> str:
    """Mean and standard deviation of a number."""
    found = [scale * row[key] for row in rows]
    spread = f" ± {statistics.stdev(found):{form}}" if len(found) > 1 else ""
    return f"{statistics.mean(found):{form}}{spread}"


def cells(method: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Of all seeds."""
    counts = [number(statistics.mean(row[key] for row in rows), ",.0f") if key in rows[0] else ""
              for key in ("batch", "evaluations", "updates", "seconds")]  # fmt: skip
    measured = of_seeds(rows, "divergence", ".2f", 1e4) + "e-4", of_seeds(rows, "chamfer", ".2f", 1e3) + "e-3"
    return (method, *counts, *measured, of_seeds(rows, "coverage", ".1f", 100.0) + " %")


def by_method(case: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = dict.fromkeys(row["method"] for row in case["rows"])
    return {name: [row for row in case["rows"] if row["method"] == name] for name in names}


def verdict(case: dict[str, Any]) -> str:
    """Whether the first method is the best, by the mean of each measure and seed by seed."""
    methods, parts = by_method(case), []
    for key, what, sign in (
        ("divergence", "S_ε", 1),
        ("chamfer", "the Chamfer distance", 1),
        ("coverage", "coverage", -1),
    ):
        means = {name: statistics.mean(row[key] for row in rows) for name, rows in methods.items() if name != FLOOR}
        ours, *others = means
        best = min(others, key=lambda name: sign * means[name])
        won = [
            all(sign * row[key] <= sign * methods[name][k][key] for name in others)
            for k, row in enumerate(methods[ours])
        ]
        better = sign * means[ours] <= sign * means[best]
        place, rival = ("the best", "next") if better else ("not the best", "the best")
        parts.append(
            f"by {what} {ours} is {place} ({means[ours]:.3g}; {rival} is {best} with {means[best]:.3g}), and first for "
            f"{sum(won)} of {len(won)} seeds"
        )
    return f"{case['shape'].capitalize()}: " + "; ".join(parts) + "."


def markdown(report: dict[str, Any]) -> str:
    parts = [report["about"]]
    for case in (case for case in report["cases"] if case["rows"]):
        parts += [f"## {case['shape']}", table(HEAD, [cells(*pair) for pair in by_method(case).items()]), verdict(case)]
    parts += [f"{key} is left out: the package {need} is not installed." for key, need in NEEDS.items()
              if not importlib.util.find_spec(need)]  # fmt: skip
    return "\n\n".join(parts)


def draw(cases: Sequence[dict[str, Any]], clouds: Sequence[dict[str, np.ndarray]], path: Path) -> None:
    """A row of clouds for each shape."""
    from geomsink.plotting import CLOUD_COLORS, plot_clouds

    columns = len(clouds[0])
    figure, axes = panels(len(cases), columns, 3.2, 3.5)
    for i, (case, drawn) in enumerate(zip(cases, clouds, strict=True)):
        measured = {key: rows[0] for key, rows in by_method(case).items()}
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
    parser.add_argument("--seeds", type=int, default=1, help="runs of everything, from 0 on")
    parser.add_argument("--out", type=Path, default=RESULTS / "shapes.json", help="with .md and .png beside it")
    options = parser.parse_args()
    options.seconds = options.seconds or (LONG if options.long else SECONDS)
    report: dict[str, Any] = {
        "about": f"{machine()}; {options.seconds:g} seconds of training for each method, in turns; "
        f"{MEASURED:,} points are measured; seeds: {options.seeds}",
        "cases": [{"shape": name, "rows": []} for name in options.shapes],
    }
    print(report["about"])
    clouds: list[dict[str, np.ndarray]] = []
    for seed in range(options.seeds):
        for case in report["cases"]:
            rows, drawn = compare(case["shape"], seed, options)
            case["rows"] += rows
            if seed == 0:
                clouds.append(drawn)
            write(options.out, report, markdown(report))
            print(verdict(case), flush=True)
    draw(report["cases"], clouds, options.out.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
