"""Handwritten digits: a fixed cost against a cost learned by Algorithm 1, and ε swept from OT to MMD, five seeds each.

    pip install -e '.[digits,plot]'
    python benchmarks/digits.py [--steps 300] [--seeds 5] [--jobs 2] [--constraint clip] [--long]

The digits are scikit-learn's, 8×8 pixels in [0, 1], and the generator a multilayer perceptron whose last step is a
sigmoid. The cost of two images is ‖x − y‖, in pixels or in features φ, which are trained as arXiv:1706.00292 does:
RMSProp, n_c steps of φ for each of the generator, weights clipped; or, in place of that, bounded by a gradient penalty
or spectral normalisation to stretch nothing. ε = ∞ is the limit of S_ε, half a squared MMD with
the kernel −‖x − y‖; an MMD with a Gaussian kernel on pixels, at three widths, stands beside it. All arms have the same
generator, optimiser, batches and number of steps. Scores are of as many generated digits as held-out ones:

- divergence: S_ε in pixels at one ε for all arms;
- classifier score: exp E KL(p(class | x) ‖ p(class)), the inception score with a classifier of the real digits;
- classes: exp of the entropy of the classes of generated digits, 10 at best, and how many of the ten are there at all.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import PALETTE, RESULTS, machine, number, panels, save, table, write
from torch import Tensor, nn

from geomsink import MMD, SinkhornDivergence, generative
from geomsink.costs import Cost, squared_distance

HELD_OUT = 597
NOISE, WIDTH, FEATURES = 16, 128, 32
BATCH, RATE = 100, 6e-3
INNER, BOUND, FEATURES_RATE = 2, 0.015, 3e-3
AVERAGE = 0.98
COMMON = 0.5
"""ε of the held-out divergence."""
GAUSSIAN = (1.0, 2.0, 4.0)
"""Widths of the Gaussian kernel: digits are 3.0 apart on average, and 1.1 from the nearest other one."""
STEPS, LONG = 300, 3_000
PRESENT = 0.02
"""Share of the generated digits from which on a class counts as there; it is 0.1 in the data."""


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return squared_distance(x, y).clamp(min=1e-6).sqrt()


DISTANCE = Cost(name="euclidean by inner products", expression=_distance, degree=1.0, translation_invariant=True)
"""‖x − y‖ for a hundred points of many coordinates, where a matrix product is four times faster than differences."""


@dataclass(frozen=True)
class Arm:
    """What is compared: the cost, and the loss of it."""

    cost: str
    epsilon: float
    kernel: str = "energy"

    @property
    def name(self) -> str:
        if self.kernel == "gaussian":
            return f"{self.cost}, Gaussian MMD"
        return f"{self.cost}, ε = {'∞' if math.isinf(self.epsilon) else f'{self.epsilon:g}'}"

    def loss(self) -> nn.Module:
        if self.kernel == "gaussian":
            return MMD(blur=GAUSSIAN)
        if math.isinf(self.epsilon):
            return MMD(kernel="energy", dtype="float32", engine="keops")
        return SinkhornDivergence(epsilon=self.epsilon, cost=DISTANCE, tol=1e-2, dtype="float32")


@lru_cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and held-out images (n, 64), then their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits need the package scikit-learn: pip install 'geomsink[digits]'") from error
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.data))
    images, labels = torch.tensor(bunch.data[order] / 16.0, dtype=torch.float32), torch.tensor(bunch.target[order])
    return images[HELD_OUT:], images[:HELD_OUT], labels[HELD_OUT:], labels[:HELD_OUT]


@lru_cache
def classifier() -> Any:
    """Of the training images, for the scores."""
    from sklearn.neural_network import MLPClassifier

    images, _, labels, _ = digits()
    return MLPClassifier((128,), max_iter=300, random_state=0).fit(images.numpy(), labels.numpy())


def generator(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(generative.MLP(NOISE, 64, width=WIDTH), nn.Sigmoid())


class Beside(nn.Module):
    """φ(x) = (x, net(x)): what is learned comes beside the pixels, so that no difference of two images is lost."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.net(x)), 1)


CONSTRAINTS: dict[str, Any] = {
    "clip": generative.Clip(BOUND),
    "penalty": generative.GradientPenalty(bound=math.sqrt(2.0)),  # of pixels and what is learned together
    "spectral": generative.SpectralNorm(),
}


def learned(seed: int, constraint: str) -> generative.LearnedCost:
    """φ, with a small perceptron that is bounded."""
    torch.manual_seed(1_000 + seed)
    phi = Beside(nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, FEATURES)))
    return generative.LearnedCost(
        phi, steps=INNER, constraint=CONSTRAINTS[constraint], optimizer="rmsprop", lr=FEATURES_RATE
    )


def train(arm: Arm, seed: int, steps: int, constraint: str) -> tuple[nn.Module, generative.LearnedCost | None, float]:
    """The generator, its features, and seconds."""
    start = time.perf_counter()
    features = learned(seed, constraint) if arm.cost == "learned" else None
    fitted = generative.fit(
        generator(seed), digits()[0], arm.loss(), steps=steps, batch=BATCH, latent=NOISE, optimizer="rmsprop", lr=RATE,
        features=features, average=AVERAGE, seed=seed,
    )  # fmt: skip
    return fitted.generator, features, time.perf_counter() - start


def scores(x: Tensor) -> dict[str, float]:
    """Of generated images (n, 64)."""
    divergence = SinkhornDivergence(epsilon=COMMON, cost=DISTANCE, dtype="float64", engine="dense")
    p = classifier().predict_proba(x.double().numpy()).clip(1e-12)
    score = np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean())
    share = np.bincount(p.argmax(axis=1), minlength=10) / len(p)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    return {
        "divergence": float(divergence(x, digits()[1])), "score": float(score), "classes": float(np.exp(entropy)),
        "present": int((share >= PRESENT).sum()),
    }  # fmt: skip


def measure(arm: Arm, seed: int, steps: int, constraint: str) -> dict[str, Any]:
    """One run: a row, with some samples for the figure."""
    torch.set_num_threads(1)  # runs share the cores, and give the same numbers however many there are
    made, features, seconds = train(arm, seed, steps, constraint)
    x = generative.sample(made, HELD_OUT, latent=NOISE, seed=seed)
    row = asdict(arm) | {"name": arm.name, "seed": seed, "seconds": seconds} | scores(x)
    if features is not None:
        with torch.no_grad():
            f = features.phi(digits()[1])
        row["spread"] = float(torch.cdist(f, f).mean())
    return row | {"samples": x[:40].numpy()}


# -------------------------------------------------------------------- the report

SCORES = {"divergence": 1, "score": -1, "classes": -1, "present": -1}
"""And whether small (1) or large (−1) is good."""
HEAD = ("cost", "loss", f"held-out S_ε, ε = {COMMON:g}", "classifier score", "classes", "of ten", "φ apart", "seconds")


def mean_of(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.fmean(row[key] for row in rows)


def spread_of(rows: list[dict[str, Any]], key: str) -> float:
    """Standard deviation over the seeds."""
    return statistics.stdev(row[key] for row in rows) if len(rows) > 1 else 0.0


def by_arm(rows: list[dict[str, Any]]) -> dict[Arm, list[dict[str, Any]]]:
    arms: dict[Arm, list[dict[str, Any]]] = {}
    for row in rows:
        arms.setdefault(
            Arm(row["cost"], math.inf if row["epsilon"] is None else row["epsilon"], row["kernel"]), []
        ).append(row)
    return arms


def line(arm: Arm, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    def cell(key: str, form: str) -> str:
        return f"{mean_of(rows, key):{form}} ± {spread_of(rows, key):{form}}"

    return (
        arm.cost, arm.name.partition(", ")[2], cell("divergence", ".3f"), cell("score", ".2f"), cell("classes", ".2f"),
        f"{mean_of(rows, 'present'):.1f}", number(mean_of(rows, "spread") if arm.cost == "learned" else None, ".3f"),
        f"{mean_of(rows, 'seconds'):.0f}",
    )  # fmt: skip


def compared(key: str, mine: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """Whether the first is the better by more than the seeds differ (the root of the mean variance)."""
    gain = SCORES[key] * (mean_of(other, key) - mean_of(mine, key))
    spread = math.hypot(spread_of(mine, key), spread_of(other, key)) / math.sqrt(2.0)
    return "is within the spread of" if abs(gain) <= spread else "beats" if gain > 0 else "does not beat"


def verdict(arms: dict[Arm, list[dict[str, Any]]]) -> str:
    """What the table says: learned against fixed, and ε between its ends, for the three scores."""
    said = []
    for key, what in (("score", "classifier score"), ("classes", "number of classes"), ("divergence", "held-out S_ε")):
        best, inner = {}, []
        for cost in ("fixed", "learned"):
            swept = sorted((a for a in arms if a.cost == cost and a.kernel == "energy"), key=lambda a: a.epsilon)
            first, *between, last = swept
            best[cost] = min(swept, key=lambda a: SCORES[key] * mean_of(arms[a], key))
            if between:
                middle = min(between, key=lambda a: SCORES[key] * mean_of(arms[a], key))
                ends = " and ".join(f"{compared(key, arms[middle], arms[end])} {end.name}" for end in (first, last))
                inner.append(f"{middle.name} {ends}")
        found = [f"{a.name} ({mean_of(arms[a], key):.3g} ± {spread_of(arms[a], key):.2g})" for a in best.values()]
        word = compared(key, arms[best["learned"]], arms[best["fixed"]])
        said.append(
            f"By the {what} the best are {' and '.join(found)}: the learned cost {word} the fixed one. "
            + "".join(f"Between the ends of ε, {part}. " for part in inner)
        )
    return "\n".join(f"- {sentence.strip()}" for sentence in said)


def markdown(report: dict[str, Any]) -> str:
    arms = by_arm(report["rows"])
    real = report["real"]
    floor = "as many training digits, which no generator is expected to beat"
    text = (
        f"Mean ± standard deviation, seeds: {report['seeds']}. Of the held-out digits themselves the classifier "
        f"score is {real['score']:.2f} and the classes {real['classes']:.2f}; the classifier is right on "
        f"{report['accuracy']:.1%} of them. Their S_ε from {floor}, is {real['divergence']:.3f}. "
        f"“φ apart” is the mean distance of two digits in learned features, which ε is to be compared with; in pixels "
        f"it is {report['apart']:.3f}. The seconds are of runs that share the machine's cores."
    )
    return "\n\n".join((report["about"], table(HEAD, [line(*item) for item in arms.items()]), text, verdict(arms)))


def draw(report: dict[str, Any], path: Path) -> None:
    """Scores against ε."""
    from geomsink.plotting import FAINT, INK

    arms = by_arm(report["rows"])
    figure, axes = panels(1, 3, 4.2, 3.4)
    titles = {"score": "classifier score (more is better)", "classes": "classes (10 is best)",
              "divergence": f"held-out S_ε, ε = {COMMON:g} (less is better)"}  # fmt: skip
    ticks = sorted({arm.epsilon for arm in arms})
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        for cost, color in zip(("fixed", "learned"), PALETTE, strict=False):
            line_of = sorted((a for a in arms if a.cost == cost and a.kernel == "energy"), key=lambda a: a.epsilon)
            at = [ticks.index(arm.epsilon) for arm in line_of]
            middle = [mean_of(arms[arm], key) for arm in line_of]
            spread = [spread_of(arms[arm], key) for arm in line_of]
            ax.errorbar(at, middle, spread, color=color, marker="o", capsize=3, label=f"{cost} cost")
        for arm in (a for a in arms if a.kernel == "gaussian"):
            ax.axhline(mean_of(arms[arm], key), color=PALETTE[2], linestyle="--", label="Gaussian MMD")
        ax.axhline(report["real"][key], color=FAINT, linestyle=":", label="real digits")
        ax.set_xticks(range(len(ticks)), ["∞" if math.isinf(t) else f"{t:g}" for t in ticks])
        ax.set_xlabel("ε")
        ax.set_title(title)
    axes[0].legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower left")
    save(figure, path)


def draw_samples(sheets: dict[Arm, np.ndarray], path: Path) -> None:
    """A sheet for each arm, and one of real digits."""
    columns = math.ceil((len(sheets) + 1) / 3)
    figure, axes = panels(3, columns, 3.0, 2.2)
    real = {"real digits": digits()[1][:40].numpy()}
    for ax in axes:
        ax.set_axis_off()
    for ax, (name, images) in zip(axes, (real | {arm.name: x for arm, x in sheets.items()}).items(), strict=False):
        ax.imshow(sheet(images), cmap="magma", vmin=0.0, vmax=1.0)
        ax.set_title(name)
    save(figure, path)


def sheet(images: np.ndarray, columns: int = 8) -> np.ndarray:
    """Images (n, 64) side by side, a pixel apart."""
    tiles = np.pad(images.reshape(-1, columns, 8, 8), ((0, 0), (0, 0), (0, 1), (0, 1)))
    return tiles.transpose(0, 2, 1, 3).reshape(len(tiles) * 9, columns * 9)[:-1, :-1]


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: no images, and None for ∞."""
    kept = {key: value for key, value in row.items() if key != "samples"}
    return kept | {"epsilon": None if math.isinf(row["epsilon"]) else row["epsilon"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.05, 0.2, 1.0, math.inf], help="two or more")
    parser.add_argument("--steps", type=int, help=f"of the generator (default: {STEPS})")
    parser.add_argument("--long", action="store_true", help=f"{LONG:,} steps")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--constraint", choices=list(CONSTRAINTS), default="clip", help="of φ (default: clip)")
    parser.add_argument("--out", type=Path, default=RESULTS / "digits.json", help="with .md and two .png beside it")
    options = parser.parse_args()
    if len(set(options.epsilons)) < 2:
        parser.error(f"--epsilons: {options.epsilons} given, expected two or more to compare")
    steps = options.steps or (LONG if options.long else STEPS)
    train_images, held_out, _, labels = digits()
    arms = [Arm(cost, epsilon) for cost in ("fixed", "learned") for epsilon in options.epsilons]
    arms.insert(len(options.epsilons), Arm("fixed", math.inf, "gaussian"))
    report: dict[str, Any] = {
        "about": f"{machine()}, one a run; {steps:,} steps of {BATCH} images, and {INNER} of φ for each, "
        f"constraint: {options.constraint}",
        "seeds": options.seeds, "steps": steps,
        "accuracy": float(classifier().score(held_out.numpy(), labels.numpy())),
        "apart": float(torch.cdist(held_out, held_out).mean()),
        "real": scores(held_out) | {"divergence": scores(train_images[:HELD_OUT])["divergence"]},
        "rows": [],
    }  # fmt: skip
    print(report["about"], flush=True)
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        tasks = {
            pool.submit(measure, arm, seed, steps, options.constraint): (place, seed)
            for seed in range(options.seeds)
            for place, arm in enumerate(arms)
        }
        for done in as_completed(tasks):
            rows[tasks[done]] = row = done.result()
            found = ", ".join(f"{key} {row[key]:.3g}" for key in (*SCORES, "seconds"))
            print(f"{row['name']}, seed {row['seed']}: {found}", flush=True)
            report["rows"] = [plain(row) for _, row in sorted(rows.items())]
            if {place for place, _ in rows} == set(range(len(arms))):
                write(options.out, report, markdown(report))  # a run takes long: what is there is kept
    sheets = {arm: rows[place, 0]["samples"] for place, arm in enumerate(arms)}
    draw(report, options.out.with_suffix(".png"))
    draw_samples(sheets, options.out.with_name(f"{options.out.stem}-samples.png"))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
