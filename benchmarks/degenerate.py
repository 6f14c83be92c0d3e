"""Measures on disjoint circles in fifty dimensions: which divergences say where to go?

    python benchmarks/degenerate.py [--long] [--dim 50]

β is uniform on a unit circle, α on the same circle moved by θ along a normal of its plane. Their Jensen-Shannon
divergence is log 2 for every θ ≠ 0 (Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875, example 1), and S_ε is θ² for
the squared distance. Value and derivative in θ from samples: of S_ε, of kernel discrepancies, of a density estimate's
Jensen-Shannon divergence, and of a discriminator's, as generative adversarial networks have it. Then two descents with
each of them: of θ alone, from afar, and of a circle's image under any affine map from the plane, from another place,
size and plane. Each loss has the best of several step sizes.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import PALETTE, RESULTS, machine, number, panels, publish, save, table
from torch import Tensor, nn

from geomsink import MMD, SinkhornDivergence, generative, plotting
from geomsink.generative import Ellipse

BLUR = 0.1
"""Of S_ε, and the width of the Gaussian kernel and of the density estimate: a tenth of the radius."""
STARTED, FOUND = 3.0, 0.1
"""θ at first, and distance to the circle at which it counts as found."""
FAR = 3.0
"""Times its first distance from the circle: a descent that comes there is given up."""
RATES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Step sizes; a descent's result is the best of theirs."""
LINES = {  # those that stay where they are lie on each other
    "S_ε": (PALETTE[0], "-"),
    "MMD, energy": (PALETTE[2], "-"),
    "MMD, Gaussian": (PALETTE[1], "-"),
    "JS, kernel density": (PALETTE[3], (0, (3, 3))),
    "JS, discriminator": (PALETTE[4], (3, (3, 3))),
}
Loss = Callable[[Tensor, Tensor], Tensor]


def kernel_density_js(x: Tensor, y: Tensor) -> Tensor:
    """Jensen-Shannon divergence of Gaussian kernel density estimates, each point left out of its own."""

    def log_density(at: Tensor, of: Tensor) -> Tensor:
        exponents = (at @ of.T - 0.5 * at.square().sum(1, keepdim=True) - 0.5 * of.square().sum(1)) / BLUR**2
        if at is of:
            exponents = exponents.masked_fill(torch.eye(len(at), dtype=torch.bool), -math.inf)
            return exponents.logsumexp(1) - math.log(len(of) - 1)
        return exponents.logsumexp(1) - math.log(len(of))

    def part(own: Tensor, other: Tensor) -> Tensor:
        """E log(p / ((p + q) / 2)) under p."""
        ratio = log_density(own, other) - log_density(own, own)
        return math.log(2) - nn.functional.softplus(ratio).mean()

    return 0.5 * part(x, y) + 0.5 * part(y, x)


class DiscriminatorJS:
    """The bound of the Jensen-Shannon divergence that a network trained on the two clouds gives (arXiv:1406.2661)."""

    def __init__(self, dim: int, steps: int):
        self.dim, self.steps = dim, steps

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(self.dim, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
        net = net.to(x.dtype)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(self.steps):
            loss = -self.bound(net, x.detach(), y.detach())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return self.bound(net, x, y)

    @staticmethod
    def bound(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """log 2 + ½ E log D(y) + ½ E log(1 − D(x)) with D = sigmoid ∘ net."""
        return math.log(2) - 0.5 * (nn.functional.softplus(-net(y)).mean() + nn.functional.softplus(net(x)).mean())


def losses(dim: int, steps: int) -> dict[str, Loss]:
    """By name; ``steps`` are the discriminator's."""
    return {
        "S_ε": SinkhornDivergence(blur=BLUR),
        "MMD, energy": MMD(kernel="energy"),
        "MMD, Gaussian": MMD(blur=BLUR),
        "JS, kernel density": kernel_density_js,
        "JS, discriminator": DiscriminatorJS(dim, steps),
    }


class Moved(nn.Module):
    """A circle in the first two coordinates, moved by θ along the third; the latent variable is the angle."""

    def __init__(self, dim: int, theta: float = 0.0):
        super().__init__()
        self.theta, self.dim = nn.Parameter(torch.tensor(theta, dtype=torch.float64)), dim

    def latent(self, n: int) -> Tensor:
        return 2 * math.pi * torch.rand(n)

    def forward(self, z: Tensor) -> Tensor:
        moved = self.theta.expand(len(z))
        return nn.functional.pad(torch.stack((z.cos(), z.sin(), moved), 1), (0, self.dim - 3))


class Affine(nn.Module):
    """The image of the unit circle under any affine map from the plane."""

    def __init__(self, dim: int):
        super().__init__()
        random = torch.Generator().manual_seed(3)
        frame = torch.linalg.qr(torch.randn(dim, 2, generator=random, dtype=torch.float64))[0]
        place = torch.randn(dim, generator=random, dtype=torch.float64)
        self.matrix, self.centre = nn.Parameter(0.5 * frame), nn.Parameter(2.0 * place / place.norm())

    def latent(self, n: int) -> Tensor:
        return Ellipse(base="ring").latent(n)

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.matrix.T + self.centre


def from_circle(x: Tensor) -> float:
    """Root mean square distance of points from the unit circle in the first two coordinates."""
    out = (x[:, :2].norm(dim=1) - 1.0).square() + x[:, 2:].square().sum(1)
    return math.sqrt(float(out.mean()))


def distance(generator: nn.Module) -> float:
    """That of its points."""
    return from_circle(generative.sample(generator, 500))


def circle(dim: int, n: int, seed: int) -> Tensor:
    return generative.sample(Moved(dim), n, seed=seed)


# ------------------------------------------------------------------ value and gradient


def profile(loss: Loss, thetas: list[float], dim: int, n: int) -> dict[str, list[float]]:
    """Value and derivative in θ of two fixed samples, one of which is moved."""
    y, generator = circle(dim, n, 1), Moved(dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        z = generator.latent(n).double()
    values, gradients = [], []
    for theta in thetas:
        with torch.no_grad():
            generator.theta.fill_(theta)
        value = loss(generator(z), y)
        (gradient,) = torch.autograd.grad(value, generator.theta)
        values.append(float(value.detach()))
        gradients.append(float(gradient))
    return {"values": values, "gradients": gradients}


# ---------------------------------------------------------------------------- descents


def descend(make: Callable[[], nn.Module], loss: Loss, dim: int, n: int, steps: int) -> dict[str, Any]:
    """The best of several step sizes: distance from the circle at the end, and along its way."""
    best: dict[str, Any] = {}
    data = circle(dim, n, 4)
    for rate in RATES:
        generator = make()
        path = [distance(generator)]
        trainer = generative.Trainer(
            generator, data, loss, steps=steps, samples=n, optimizer="sgd", lr=rate, average=0.9
        )  # fmt: skip
        for _ in trainer.run():
            assert trainer.average is not None
            path.append(distance(trainer.average))
            if not path[-1] <= FAR * path[0]:  # steps so large that they lead away
                break
        else:
            if not best or path[-1] < best["path"][-1]:
                best = {"rate": rate, "path": path}
    return best


# ------------------------------------------------------------------------------ report


def markdown(report: dict[str, Any]) -> str:
    thetas, rows, moves = report["thetas"], [], []
    shown = [thetas.index(t) for t in report["shown"]]
    for name, case in report["losses"].items():
        rows.append(
            (
                name,
                *(number(case["values"][k], ".3g") for k in shown),
                *(number(case["gradients"][k], ".1e") for k in shown),
            )
        )
        cells = []
        for key in ("shift", "affine"):
            cells += [number(case[key]["path"][-1], ".2g"), number(case[key]["rate"], "g")]
        moves.append((name, *cells, f"{case['seconds']:.0f}"))
    found = {
        key: [n for n, c in report["losses"].items() if c[key]["path"][-1] <= FOUND] for key in ("shift", "affine")
    }
    exact = max(
        abs(g - 2 * t) / (2 * abs(t)) for t, g in zip(thetas, report["losses"]["S_ε"]["gradients"], strict=True) if t
    )
    first = {key: next(iter(report["losses"].values()))[key]["path"][0] for key in ("shift", "affine")}
    return "\n\n".join((
        report["about"],
        f"Two samples of {report['n']} points in R^{report['dim']}; blur of S_ε, width of the Gaussian kernel and of "
        f"the density estimate {BLUR:g}, for circles of radius 1. The exact Jensen-Shannon divergence is 0 at θ = 0 "
        f"and log 2 = {math.log(2):.3f} elsewhere, with derivative 0; the exact S_ε is θ², with derivative 2θ.",
        "## Value, and derivative in θ",
        table(("loss", *(f"{what}, θ = {thetas[k]:g}" for what in ("value", "derivative") for k in shown)), rows),
        f"The derivative of S_ε is 2θ to {exact:.0e}.",
        "## Descents",
        f"{report['steps']} steps of gradient descent, each with new points of α and the same of β; distance of "
        f"points of the averaged generator from the circle at the end, and the step size that gave the best, of "
        f"{', '.join(f'{rate:g}' for rate in RATES)}. At first it is {first['shift']:.2g} (θ alone) and "
        f"{first['affine']:.2g} (any affine map).",
        table(("loss", "θ alone", "step size", "any affine map", "step size", "seconds"), moves),
        f"Found, to {FOUND:g}: θ by {'; '.join(found['shift']) or 'none'}. The affine map by "
        f"{'; '.join(found['affine']) or 'none'}.",
    ))  # fmt: skip


def draw(report: dict[str, Any], path: Path) -> None:
    figure, axes = panels(2, 2, 5.2, 3.6)
    value, gradient, shift, affine = axes
    thetas = report["thetas"]
    for name, case in report["losses"].items():
        color, line = LINES[name]
        style = {"color": color, "ls": line, "lw": 1.8, "label": name.replace("S_ε", "$S_ε$")}
        value.plot(thetas, [v / max(case["values"]) for v in case["values"]], **style)
        size = [(t, abs(g)) for t, g in zip(thetas, case["gradients"], strict=True) if t > 0]
        gradient.plot(*zip(*size, strict=True), **style)
        for ax, key in ((shift, "shift"), (affine, "affine")):
            ax.plot(case[key]["path"], **style)
    value.set(xlabel="θ", ylabel="value, of its largest", title="Value")
    gradient.set(xlabel="θ", yscale="log", ylim=(1e-12, 1e2), ylabel="|derivative|", title="Derivative in θ")
    shift.set(title=f"Descent in θ from {STARTED:g}")
    affine.set(title=f"Descent in an affine map to $R^{{{report['dim']}}}$")
    for ax in (shift, affine):
        ax.set(xlabel="step", ylabel="distance from the circle", yscale="log")
        ax.axhline(FOUND, color=plotting.FAINT, lw=1, ls=(0, (4, 4)))
    handles, labels = value.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=5, frameon=False, labelcolor=plotting.INK, handlelength=3
    )
    save(figure, path)


def experiment(options: argparse.Namespace) -> dict[str, Any]:
    dim, n = options.dim, 500 if options.long else 200
    count = 121 if options.long else 31
    thetas = [round(-STARTED + 2 * STARTED * k / (count - 1), 6) for k in range(count)]
    report: dict[str, Any] = {
        "about": machine(), "dim": dim, "n": n, "thetas": thetas, "shown": [0.0, 0.2, 1.0, 3.0],
        "steps": 1_000 if options.long else 100, "losses": {},
    }  # fmt: skip
    for name, loss in losses(dim, 200 if options.long else 50).items():
        start = time.perf_counter()
        case: dict[str, Any] = profile(loss, thetas, dim, n)
        case["shift"] = descend(lambda: Moved(dim, STARTED), loss, dim, n, report["steps"])
        case["affine"] = descend(lambda: Affine(dim), loss, dim, n, report["steps"])
        case["seconds"] = time.perf_counter() - start
        report["losses"][name] = case
        ends = ", ".join(
            f"{key} {case[key]['path'][-1]:.2g} (step size {case[key]['rate']:g})" for key in ("shift", "affine")
        )
        print(f"{name}: {ends}, {case['seconds']:.0f} s", flush=True)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help="more points, steps and values of θ")
    parser.add_argument("--dim", type=int, default=50, help="of the space, 3 at least")
    parser.add_argument("--out", type=Path, default=RESULTS / "degenerate.json", help="with .md and .png beside it")
    options = parser.parse_args()
    if options.dim < 3:
        parser.error(f"--dim: {options.dim} given, expected 3 or more")
    report = experiment(options)
    print(publish(options.out, report, markdown, draw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
