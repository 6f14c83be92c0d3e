"""From optimal transport (ε → 0) to a kernel discrepancy (ε → ∞): errors of S_ε and its gradient from small batches.

    python benchmarks/interpolation.py [--long] [--batches 64 256]

α is the law of x = A z + c with z standard normal, β is standard normal. A batch draws n points of each; its value and
its gradients in c, in A and in the points are compared with those of the measures themselves: with S_ε's, which is what
the batch estimates, and with those of optimal transport. For the squared distance both are known in closed form (Janati
et al. 2020, arXiv:2006.02572); for the distance they are those of large quasi-random samples. At ε = 0 batches are
matched by SciPy, at ε = ∞ S_ε is a discrepancy with kernel −c. arXiv:1706.00292 says that a sweet spot is between.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import PALETTE, RESULTS, machine, number, panels, plain_ticks, publish, save, table
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from geomsink import mmd, plotting, sinkhorn_divergence

SCALES, SHIFT = (0.6, 1.4), 0.5
"""Diagonal of A, one after the other, and the first coordinate of c."""
EPSILONS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, math.inf)
QUANTITIES = {"value": "value", "c": "gradient in c", "A": "gradient in A", "points": "gradient in the points"}
DRAWN = ("value", "A")
TOL, MAX_ITER = 1e-4, 5_000
EXACT_FROM = 0.02
"""ε of S_ε that stands in for optimal transport where that has no closed form."""
LARGE, SCRAMBLES = 1 << 13, 2


@dataclass(frozen=True)
class Case:
    name: str
    cost: str
    dim: int

    @property
    def scales(self) -> Tensor:
        return torch.tensor([SCALES[k % 2] for k in range(self.dim)], dtype=torch.float64)

    @property
    def shift(self) -> Tensor:
        return SHIFT * torch.eye(self.dim, dtype=torch.float64)[0]


CASES = (
    Case("squared distance, D = 2", "sqeuclidean", 2),
    Case("squared distance, D = 8", "sqeuclidean", 8),
    Case("distance, D = 2", "euclidean", 2),
)


# ------------------------------------------------------------------ the measures themselves


def gaussian(case: Case, epsilon: float) -> dict[str, Tensor]:
    """Value, gradients in c and A, and the slope of the gradient in the points, for the squared distance.

    The conditional mean of the plan is affine, and so is the gradient of the first potential:
    2 (x − E[y | x]) of α with β, less that of α with itself, is 2 (c + slope · (x − c)).
    """
    a, b = case.scales.square(), torch.ones(case.dim, dtype=torch.float64)
    if math.isinf(epsilon):
        slope, value = torch.zeros_like(a), torch.zeros(())
    else:
        t = epsilon / 2

        def transport(a: Tensor, b: Tensor) -> Tensor:
            d = (4 * a * b + t * t).sqrt()
            return a + b - d + (t * (1 - math.log(2 * t)) + t * (d + t).log() if t else 0.0)

        def regression(a: Tensor, b: Tensor) -> Tensor:
            return ((4 * a * b + t * t).sqrt() - t) / (2 * a)

        slope = regression(a, a) - regression(a, b)
        value = (transport(a, b) - 0.5 * transport(a, a) - 0.5 * transport(b, b)).sum()
    return {
        "value": value + case.shift.square().sum(), "c": 2 * case.shift, "A": torch.diag(2 * slope * case.scales),
        "slope": slope,
    }  # fmt: skip


def large_sample(case: Case, epsilon: float, n: int) -> dict[str, Tensor]:
    """The same but the slope, from quasi-random samples."""
    found: list[dict[str, Tensor]] = []
    for seed in range(SCRAMBLES):
        uniform = torch.quasirandom.SobolEngine(2 * case.dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)
        z, y = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).chunk(2, 1)
        values, gradients = evaluate(case, (z * case.scales + case.shift)[None], y[None], epsilon or EXACT_FROM)
        found.append(summed(values, gradients, z[None]))
    return {key: torch.stack([one[key][0] for one in found]).mean(0) for key in ("value", "c", "A")}


def population(case: Case, epsilon: float, n: int) -> dict[str, Tensor]:
    return gaussian(case, epsilon) if case.cost == "sqeuclidean" else large_sample(case, epsilon, n)


# ------------------------------------------------------------------------------- batches


def evaluate(case: Case, x: Tensor, y: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Values (B,) of S_ε of a batch of clouds (B, n, D), and gradients in x."""
    x = x.detach().requires_grad_()
    if epsilon == 0.0:
        return matched(case, x.detach(), y)
    if math.isinf(epsilon):
        values = mmd(x, y, kernel="energy" if case.cost == "euclidean" else "-sqeuclidean").value
    elif len(x) == 1:
        values = sinkhorn_divergence(x[0], y[0], epsilon=epsilon, cost=case.cost, tol=TOL).value
    else:
        values = sinkhorn_divergence(x, y, epsilon=epsilon, cost=case.cost, tol=TOL, max_iter=MAX_ITER).value
    assert isinstance(values, Tensor)
    (gradients,) = torch.autograd.grad(values.sum(), x)
    return values.detach().reshape(len(x)), gradients


def matched(case: Case, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Optimal transport between clouds of equal numbers of points: an assignment."""
    squared = torch.cdist(x, y).square()
    costs = squared if case.cost == "sqeuclidean" else squared.sqrt()
    order = torch.stack([torch.as_tensor(linear_sum_assignment(cost.numpy())[1]) for cost in costs])
    difference = x - y.gather(1, order[..., None].expand_as(y))
    lengths = difference.norm(dim=-1)
    if case.cost == "sqeuclidean":
        return lengths.square().mean(1), 2 * difference / x.shape[1]
    return lengths.mean(1), difference / lengths[..., None].clamp(min=1e-12) / x.shape[1]


def summed(values: Tensor, gradients: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Gradients in the generator's parameters."""
    return {"value": values[:, None], "c": gradients.sum(1), "A": gradients.mT @ z}


def deviation(found: Tensor, true: Tensor) -> dict[str, float]:
    """Bias, standard deviation and root mean square error, relative to the size of what is estimated."""
    samples, size = found.flatten(1), float(true.norm())
    if not size:
        return {}
    variance = float(samples.var(0).sum())
    bias = float((samples.mean(0) - true.flatten()).square().sum())
    return {
        "bias": math.sqrt(max(bias - variance / len(samples), 0.0)) / size,  # less what the mean's own noise adds
        "deviation": math.sqrt(variance) / size,
        "error": math.sqrt(float((samples - true.flatten()).square().sum(1).mean())) / size,
    }


def measure(
    case: Case, epsilon: float, n: int, replicates: int, own: dict[str, Tensor], ot: dict[str, Tensor]
) -> dict[str, Any]:
    """All errors at one ε, which is kept as JSON can, and one batch size."""
    random = torch.Generator().manual_seed(n)  # the same batches for each ε
    z, y = torch.randn(2, replicates, n, case.dim, generator=random, dtype=torch.float64)
    x = z * case.scales + case.shift
    values, gradients = evaluate(case, x, y, epsilon)
    found = summed(values, gradients, z)
    row: dict[str, Any] = {"epsilon": str(epsilon), "batch": n}
    for target, true in (("own", own), ("ot", ot)):
        row[target] = {key: deviation(found[key], true[key]) for key in found}
        if "slope" in true:
            field = 2 * (case.shift + true["slope"] * (x - case.shift))
            error, size = (n * gradients - field).square().sum(-1).mean(), field.square().sum(-1).mean()
            row[target]["points"] = {"error": float((error / size).sqrt())}
    return row


# -------------------------------------------------------------------------------- report


def temperature(row: dict[str, Any]) -> float:
    return float(row["epsilon"])


def name_of(epsilon: float) -> str:
    return "∞" if math.isinf(epsilon) else f"{epsilon:g}"


def verdict(rows: list[dict[str, Any]], target: str, key: str) -> str:
    """Where the error is smallest, and what it is there and at both ends."""
    errors = {temperature(row): row[target][key]["error"] for row in rows if row[target].get(key)}
    best, ends = min(errors, key=lambda e: errors[e]), (min(errors), max(errors))
    at_ends = ", ".join(f"{errors[end]:.0%} at ε = {name_of(end)}" for end in ends if end != best)
    return f"smallest at ε = {name_of(best)}: {errors[best]:.0%}, against {at_ends}"


def markdown(report: dict[str, Any]) -> str:
    parts = [
        report["about"],
        f"Root mean square errors of {report['replicates']} batches, relative to the exact value's or gradient's size. "
        "“Own” is what S_ε of the measures themselves gives at the same ε, and bias and deviation are parts of that "
        f"error; “OT” is what optimal transport gives. A has the diagonal {SCALES} again and again, c is {SHIFT:g} in "
        "one coordinate. At ε = ∞ the squared distance sees means alone: the gradient in A that it estimates is 0.",
    ]
    for case in report["cases"]:
        parts.append(f"## {case['name']}")
        rows = []
        for row in case["rows"]:
            own, ot = row["own"], row["ot"]
            cells = [str(row["batch"]), name_of(temperature(row))]
            for key in DRAWN:
                cells += [percent(own[key].get(part)) for part in ("bias", "deviation", "error")]
                cells.append(percent(ot[key]["error"]))
            cells.append(percent(own["c"]["error"]))
            cells += [percent(target.get("points", {}).get("error")) for target in (own, ot)]
            rows.append(tuple(cells))
        heads = [
            f"{QUANTITIES[key]}: {part}" for key in DRAWN for part in ("bias", "deviation", "own error", "OT error")
        ]
        heads += ["gradient in c: own error", "in the points: own error", "OT error"]
        parts.append(table(("n", "ε", *heads), rows))
        lines = []
        for n in dict.fromkeys(row["batch"] for row in case["rows"]):
            of_n = [row for row in case["rows"] if row["batch"] == n]
            for key in (k for k in QUANTITIES if k in of_n[0]["own"] and k != "c"):
                for target, of in (("own", "own"), ("ot", "OT")):
                    lines.append(f"- n = {n}, {QUANTITIES[key]}, {of} error: {verdict(of_n, target, key)}.")
        parts.append("\n".join(lines))
    return "\n\n".join((*parts, conclusion(report)))


def percent(value: float | None) -> str:
    return number(value, ".3g" if value is not None and value >= 10 else ".1%")


def conclusion(report: dict[str, Any]) -> str:
    """In how many comparisons an ε between the ends is the best, by at least a tenth."""
    counts = {}
    for target in ("own", "ot"):
        inside = total = 0
        for case in report["cases"]:
            for n in {row["batch"] for row in case["rows"]}:
                for key in QUANTITIES:
                    errors = {
                        temperature(row): row[target][key]["error"]
                        for row in case["rows"]
                        if row["batch"] == n and row[target].get(key) and key != "c"
                    }
                    if errors:
                        total += 1
                        inside += min(errors.values()) < 0.9 * min(errors[min(errors)], errors[max(errors)])
        counts[target] = f"{inside} of {total}"
    return (
        "## Is there a sweet spot?\n\nAn ε strictly between the ends has an error that is smaller than at both ends by "
        f"a tenth or more in {counts['own']} comparisons with S_ε itself, and in {counts['ot']} with "
        "optimal transport. An error against optimal transport may be small because two cancel: batches give too large "
        "a value, and S_ε is below optimal transport; of S_ε itself nothing cancels. A bias within its own noise is "
        "given as 0."
    )


def draw(report: dict[str, Any], path: Path) -> None:
    from matplotlib.ticker import PercentFormatter

    cases = report["cases"]
    figure, axes = panels(len(DRAWN), len(cases), 4.4, 3.3)
    lines = (
        ("own", "bias", PALETTE[1], "bias"), ("own", "deviation", PALETTE[2], "deviation"),
        ("own", "error", PALETTE[0], "error against $S_ε$ itself"), ("ot", "error", PALETTE[4], "error against OT"),
    )  # fmt: skip
    batches = list(dict.fromkeys(row["batch"] for row in cases[0]["rows"]))
    between = [e for e in dict.fromkeys(temperature(row) for row in cases[0]["rows"]) if 0 < e < math.inf]
    place = {0.0: between[0] / 4, math.inf: between[-1] * 4} | {e: e for e in between}
    for k, key in enumerate(DRAWN):
        for ax, case in zip(axes[k * len(cases) :], cases, strict=False):
            for target, part, color, label in lines:
                for n, style in zip(batches, ("-", (0, (4, 2)), ":"), strict=False):
                    of_n = [r for r in case["rows"] if r["batch"] == n and r[target][key].get(part)]
                    x, y = [place[temperature(r)] for r in of_n], [r[target][key][part] for r in of_n]
                    ax.plot(x, y, color=color, lw=1.7, ls=style, marker="o", ms=3, label=f"{label}, n = {n}")
            ax.set(xscale="log", yscale="log", title=f"{QUANTITIES[key]}: {case['name']}", xlabel="ε")
            ax.set_xticks([place[0.0], *between[::2], place[math.inf]])
            ax.set_xticklabels(["OT", *(f"{e:g}" for e in between[::2]), "MMD"])
            ax.minorticks_off()
            plain_ticks(ax.yaxis)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            if ax in axes[:: len(cases)]:
                ax.set_ylabel("relative to what is estimated")
    handles, labels = axes[0].get_legend_handles_labels()
    style = {"frameon": False, "labelcolor": plotting.INK, "fontsize": 9}
    figure.legend(handles, labels, loc="outside upper center", ncols=len(lines), **style)
    save(figure, path)


def experiment(options: argparse.Namespace) -> dict[str, Any]:
    replicates, large = (1_000, 4 * LARGE) if options.long else (100, LARGE)
    cases = (*CASES, Case("squared distance, D = 32", "sqeuclidean", 32)) if options.long else CASES
    report: dict[str, Any] = {"about": machine(), "replicates": replicates, "cases": []}
    for case in cases:
        start, rows = time.perf_counter(), []
        exact = {epsilon: population(case, epsilon, large) for epsilon in EPSILONS}
        for n in options.batches:
            rows += [measure(case, epsilon, n, replicates, exact[epsilon], exact[0.0]) for epsilon in EPSILONS]
        report["cases"].append({"name": case.name, "rows": rows})
        print(f"{case.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="ten times the batches, and D = 32")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256], help="points of each cloud")
    parser.add_argument("--out", type=Path, default=RESULTS / "interpolation.json", help="with .md and .png beside it")
    options = parser.parse_args()
    report = experiment(options)
    print(publish(options.out, report, markdown, draw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
