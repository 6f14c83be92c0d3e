"""Small clouds, for `training_step.py`: cold steps and gradient flows beside GeomLoss at its defaults, in one process.

Uniform points of the unit square and cube, float32, one thread: calls of the libraries take turns, and the least of
their times counts, which other programs on the machine disturb least.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from common import number, table

SIZES, QUICK = (200, 500, 1_000, 2_000, 5_000), (200, 1_000)
BLURS, DIMENSIONS = (0.05, 0.01), (2, 3)
EXACT_UP_TO = 1_000
"""Points up to which errors are found, from a solution at a marginal error of 1e-8."""
ROUNDS, ENOUGH = 5, 20.0
"""Turns, and seconds after which there are no more."""
BATCHES = (64, 200), (8, 2_048)
"""Items and points of batches, as completion networks have them."""
FLOW_STEPS, FLOW_POINTS, FLOW_BLUR, RATE = 100, 500, 0.05, 0.5
HEAD = (
    "points", "D", "blur", "geomsink, ms", "tensorized, ms", "multiscale, ms", "of the faster peer", "converged",
    "value error", "GeomLoss' value error", "GeomLoss' gradient error",
)  # fmt: skip

OF_BATCHES = (
    "clouds", "D", "blur", "geomsink, ms", "drop-in, ms", "tensorized, ms", "geomsink/tensorized", "drop-in/tensorized",
    "converged",
)  # fmt: skip

Step = Callable[[Any, Any], tuple[float, Any, bool]]


def steps(blur: float) -> dict[str, Step]:
    """A value, its gradient and whether the solve says that it has converged, by library."""
    import torch
    from geomloss import SamplesLoss

    import geomsink

    def ours(x: Any, y: Any, **options: Any) -> tuple[float, Any, bool]:
        points = x.clone().requires_grad_()
        report = geomsink.sinkhorn_divergence(points, y, blur=blur, **options)
        (gradient,) = torch.autograd.grad(report.value, points)
        return float(report.value.detach()), gradient, report.converged

    def peer(backend: str) -> Step:
        loss = SamplesLoss("sinkhorn", p=2, blur=blur, backend=backend)

        def step(x: Any, y: Any) -> tuple[float, Any, bool]:
            points = x.clone().requires_grad_()
            value = 2 * loss(points, y)  # its cost is half of the squared distance
            (gradient,) = torch.autograd.grad(value, points)
            return float(value.detach()), gradient, False

        return step

    return {"geomsink": ours, "tensorized": peer("tensorized"), "multiscale": peer("multiscale")}


def small(task: dict[str, Any], report: Callable[..., None]) -> None:
    """The worker: a case of the table, or the flow."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if task["flow"]:
        flow(report)
        return
    if task["batch"]:
        batch(task["batch"], task["n"], task["blur"], report)
        return
    n, dimension, blur = task["n"], task["dimension"], task["blur"]
    x, y = (torch.rand(n, dimension, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    found, libraries, errors = dict[str, Any](), steps(blur), dict[str, float]()
    seconds: dict[str, list[float]] = {name: [] for name in libraries}
    for step in libraries.values():
        step(x[:50], y[:50])
    for _ in range(ROUNDS):
        for name, step in libraries.items():
            began = time.process_time()
            found[name] = step(x, y)
            seconds[name].append(time.process_time() - began)
        if sum(map(sum, seconds.values())) > ENOUGH:
            break
    value, _, converged = found["geomsink"]
    peer = found["tensorized"]
    if n <= EXACT_UP_TO:
        exact, right, sure = libraries["geomsink"](x.double(), y.double(), tol=1e-6)  # type: ignore[call-arg]
        if sure:
            errors = {
                "value_error": abs(value / exact - 1.0),
                "peer_error": abs(peer[0] / exact - 1.0),
                "peer_gradient_error": float((peer[1] - right).norm() / right.norm()),
            }
    report(seconds={name: min(times) for name, times in seconds.items()}, converged=converged, **errors)


def flow(report: Callable[..., None]) -> None:
    """Points that descend their divergence from others, a step a gradient."""
    import torch
    from geomloss import SamplesLoss

    import geomsink

    x, y = (torch.rand(FLOW_POINTS, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    x = 0.3 * x
    losses = {
        "geomsink": geomsink.SinkhornDivergence(blur=FLOW_BLUR),
        "tensorized": SamplesLoss("sinkhorn", p=2, blur=FLOW_BLUR, backend="tensorized"),
        "multiscale": SamplesLoss("sinkhorn", p=2, blur=FLOW_BLUR, backend="multiscale"),
    }
    moving = dict.fromkeys(losses, x)
    seconds = dict.fromkeys(losses, 0.0)
    for _ in range(FLOW_STEPS):
        for name, loss in losses.items():
            points = moving[name].clone().requires_grad_()
            began = time.process_time()
            value = loss(points, y) * (1 if name == "geomsink" else 2)
            (gradient,) = torch.autograd.grad(value, points)
            seconds[name] += time.process_time() - began
            moving[name] = moving[name] - RATE * FLOW_POINTS * gradient / 2
    report(seconds=seconds, converged=losses["geomsink"].report.converged)


def batch(items: int, n: int, blur: float, report: Callable[..., None]) -> None:
    """Clouds in a box beside others in a smaller one; each library, and the drop-in, at its defaults."""
    import torch
    from geomloss import SamplesLoss

    import geomsink
    from geomsink.compat.geomloss import SamplesLoss as DropIn

    x, y = (torch.rand(items, n, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    y = 0.8 * y + 0.1
    losses = {
        "geomsink": geomsink.SinkhornDivergence(blur=blur),
        "drop-in": DropIn("sinkhorn", p=2, blur=blur),
        "tensorized": SamplesLoss("sinkhorn", p=2, blur=blur, backend="tensorized"),
    }
    seconds = {}
    for name, loss in losses.items():
        loss(x[:, :50], y[:, :50])  # compiles, if anything has to be
        points = x.clone().requires_grad_()
        began = time.process_time()
        torch.autograd.grad(loss(points, y).sum(), points)
        seconds[name] = time.process_time() - began
    report(seconds=seconds, converged=losses["geomsink"].report.converged)


def cases(quick: bool) -> list[dict[str, Any]]:
    """Tasks for `small`."""
    grid = [
        {"flow": False, "batch": 0, "n": n, "dimension": dimension, "blur": blur}
        for n in (QUICK if quick else SIZES)
        for dimension in DIMENSIONS
        for blur in (BLURS[:1] if quick else BLURS)
    ]
    flow = {"flow": True, "batch": 0, "n": FLOW_POINTS, "dimension": 2, "blur": FLOW_BLUR}
    batches = [{"flow": False, "batch": k, "n": n, "dimension": 3, "blur": BLURS[0]} for k, n in BATCHES]
    return [*grid, flow, *batches]


def cells(task: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    name = f"{task['n']:,}" + (f", {FLOW_STEPS} steps of a flow" if task["flow"] else "")
    if "seconds" not in row:
        return (name, str(task["dimension"]), f"{task['blur']:g}", row.get("failed", ""), *[""] * (len(HEAD) - 4))
    times = row["seconds"]
    if task["batch"]:
        ratios = (f"{times['geomsink'] / times['tensorized']:.2f}", f"{times['drop-in'] / times['tensorized']:.2f}")
        numbers = (f"{1e3 * times[name]:.3g}" for name in ("geomsink", "drop-in", "tensorized"))
        name = f"{task['batch']} items of {name}"
        known = "yes" if row["converged"] else "no"
        return (name, str(task["dimension"]), f"{task['blur']:g}", *numbers, *ratios, known)
    ratio = times["geomsink"] / min(times["tensorized"], times["multiscale"])
    return (
        name, str(task["dimension"]), f"{task['blur']:g}", *(f"{1e3 * t:.3g}" for t in times.values()), f"{ratio:.2f}",
        "yes" if row["converged"] else "no", number(row.get("value_error"), ".0e"),
        number(row.get("peer_error"), ".0e"), number(row.get("peer_gradient_error"), ".0e"),
    )  # fmt: skip


def markdown(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    about = (
        "Cold calls, value and gradient; uniform points, one thread, the least of five turns; GeomLoss at its default "
        f"scaling 0.5. Errors are of solutions at a tolerance of 1e-6, up to {EXACT_UP_TO:,} points."
    )
    single, batches = ([row for row in rows if bool(row[0]["batch"]) == wanted] for wanted in (False, True))
    ratios = [ours / min(peers) for _, row in single if "seconds" in row for ours, *peers in [row["seconds"].values()]]
    worst = f"At most {max(ratios, default=0.0):.2f} times as long as the faster peer."
    parts = ["## Small clouds", about, table(HEAD, [cells(*row) for row in single]), worst]
    if batches:
        text = "Batches, one call of each library, after one of 50 points an item:"
        parts += [text, table(OF_BATCHES, [cells(*row)[:9] for row in batches])]
    return "\n\n".join(parts)
