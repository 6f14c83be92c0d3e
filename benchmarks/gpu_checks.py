"""Checks of sums and divergences on a device against gpu_dense.py; each function is a row of gpu.py's report."""

from __future__ import annotations

import math
from typing import Any

import gpu_dense as dense
import torch
from gpu_runner import Missing
from torch import Tensor
from torch.autograd import grad

import geomsink
from geomsink import costs, engine

DTYPES = {"float32": torch.float32, "float64": torch.float64}
EPSILON = 0.2
SOLVED = {"float64": dict(tol=1e-10), "float32": dict(tol=1e-5)}
WITHIN = {"float64": (1e-9, 1e-7), "float32": (2e-5, 1e-3)}
"""Largest relative errors of values and of gradients, at these tolerances."""
MARGINALS: dict[str, tuple[dict[str, Any], tuple[dense.Penalty, dense.Penalty]]] = {
    "balanced": ({}, (None, None)),
    "reach": (dict(reach=0.6), (("kl", 0.72), ("kl", 0.72))),
    "semi-unbalanced": (dict(reach=(0.6, None)), (("kl", 0.72), None)),
    "total variation": (dict(rho=0.15, penalty="tv"), (("tv", 0.15), ("tv", 0.15))),
}


class Comparisons:
    """What one row compares; its error is the one that is largest against its tolerance."""

    def __init__(self, device: str):
        self.device, self.all = device, []  # type: ignore[var-annotated]

    def add(self, what: str, found: Any, expected: Any, tolerance: float, each: bool = False) -> None:
        """The largest difference, relative to the largest number expected, or to ``each``."""
        if isinstance(found, Tensor) and found.device.type != self.device:
            raise AssertionError(f"{what} is on {found.device}, expected on {self.device}")
        got, truth = (torch.as_tensor(t).detach().double().cpu() for t in (found, expected))
        if got.shape != truth.shape:
            raise AssertionError(f"{what} has shape {tuple(got.shape)}, expected {tuple(truth.shape)}")
        scale = truth.abs() if each else truth.abs().max()
        off = (got - truth).abs() / scale.clamp_min(1e-300)
        worst = int(off.nan_to_num(nan=math.inf).argmax())
        self.all.append({
            "what": what, "error": float(off.flatten()[worst]), "tolerance": tolerance, "at": worst,
            "found": float(got.flatten()[worst]), "expected": float(truth.flatten()[worst]),
        })  # fmt: skip

    def result(self, remark: str = "") -> dict[str, Any]:
        def excess(entry: dict[str, Any]) -> float:
            return math.inf if math.isnan(entry["error"]) else entry["error"] / entry["tolerance"]

        worst = max(self.all, key=excess)
        about = ": ".join(text for text in (remark, worst["what"]) if text)
        return {key: worst[key] for key in ("error", "tolerance")} | {"remark": about, "comparisons": self.all}


def clouds(n: int, m: int, dtype: str = "float64", dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x and y in float64 on the CPU, as they are in ``dtype``."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(k, dim, generator=generator, dtype=torch.float64) for k in (n, m))
    return tuple(t.to(DTYPES[dtype]).double() for t in (x + 0.1, 0.8 * y + 0.4))  # type: ignore[return-value]


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------------------- sums


def names(device: str, known: list[str]) -> dict[str, Any]:
    """Whether each registered cost is among those that are checked."""
    families = {name.partition(":")[0] for name in known}
    missing = {name.partition(":")[0] for name in costs.names()} - families
    remark = f"not in it: {', '.join(sorted(missing))}" if missing else ""
    return {"error": float(len(missing)), "tolerance": 0.0, "remark": remark}


def sums(device: str, name: str, cost: str, dtype: str, n: int) -> dict[str, Any]:
    """All four reductions of the Gibbs operator and of its transpose, on the engine called ``name``."""
    x, y = clouds(n, n + 30, dtype)
    u, v, w = numbers(n), numbers(n + 30, seed=2), numbers(n + 30, 3, seed=3) - 0.3
    x[0] = y[0]  # where a distance has no derivative
    ground = costs.get(cost)
    there = [t.to(device, DTYPES[dtype]) for t in (x, y, u, v, w, numbers(n, 1, seed=4))]
    pair = engine.pair(ground.map(there[0]), ground.map(there[1]), ground, name)
    K = engine.Gibbs(pair, there[2], there[3], EPSILON)
    u, v, w, one = (t.double().cpu() for t in there[2:])  # as they were rounded
    C = dense.cost(cost, x, y)
    P = (u[:, None] + v - C / EPSILON).exp()
    compared = Comparisons(device)
    within = 2e-5 if dtype == "float32" else 1e-11
    for side, A, P_, C_, right, left in (("", K, P, C, w, v), (" of the transpose", K.T, P.T, C.T, one, u)):
        compared.add(f"row_sums{side}", A.row_sums(), P_.sum(1), within, each=True)
        compared.add(f"row_costs{side}", A.row_costs(), (P_ * C_).sum(1), within, each=True)
        compared.add(f"row_max{side}", A.row_max(), (left - C_ / EPSILON).amax(1), within)
        given = there[4] if right is w else there[5]
        compared.add(f"apply{side}", A.apply(given), P_ @ right, within)
    return compared.result()


def blocks(device: str, name: str, dtype: str, n: int) -> dict[str, Any]:
    """Sums over some of the pairs, in ranges of uneven lengths, one of them without columns."""
    x, y = clouds(n, n + 30, dtype)
    cuts = [torch.tensor([0, n // 5, n // 2, n]), torch.tensor([0, n // 3, n // 3 + 7, n + 30])]
    ranges = [torch.stack((cut[:-1], cut[1:]), 1) for cut in cuts]
    keep = torch.tensor([[True, False, True], [False, False, False], [True, True, False]])
    pattern = engine.Blocks.from_mask(*ranges, keep)
    mask = torch.zeros(n, n + 30, dtype=torch.float64)
    for i, (a, b) in enumerate(ranges[0].tolist()):
        for j, (c, d) in enumerate(ranges[1].tolist()):
            mask[a:b, c:d] = float(keep[i, j])
    p, q = (t.to(device, DTYPES[dtype]) for t in (x, y))
    pair = engine.pair(p, q, costs.get("sqeuclidean"), name)
    P = (-dense.cost("sqeuclidean", x, y) / EPSILON).exp() * mask
    w = numbers(n + 30, 3).to(device, DTYPES[dtype])
    K = engine.Gibbs(pair, p.new_zeros(n), p.new_zeros(n + 30), EPSILON, pattern)
    compared = Comparisons(device)
    within = 2e-5 if dtype == "float32" else 1e-11
    compared.add("row_sums", K.row_sums(), P.sum(1), within)
    compared.add("apply", K.apply(w), P @ w.double().cpu(), within)
    return compared.result()


# --------------------------------------------------------------------------- divergences


def divergence(
    device: str,
    name: str,
    dtype: str,
    n: int,
    cost: str = "sqeuclidean",
    marginals: str = "balanced",
    form: str = "entropic",
    mode: str = "envelope",
    iterations: int | None = None,
) -> dict[str, Any]:
    """Value of S_ε and its gradients in points, weights and ε."""
    x, y = clouds(n, n - n // 10, dtype)
    logits = numbers(n), numbers(n - n // 10, seed=2)
    arguments = [x, y, *logits, torch.tensor(EPSILON, dtype=torch.float64)]
    given, penalties = MARGINALS[marginals]

    def weights(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Of mass 1 if a marginal is fixed; else of masses 1.5 and 1.7 or so."""
        fixed = marginals in ("balanced", "semi-unbalanced")
        return (p.softmax(0), q.softmax(0)) if fixed else (p.exp() / (1.1 * n), q.exp() / n)

    here = [t.clone().requires_grad_() for t in arguments]
    expected = dense.divergence(
        *here[:2], *weights(*here[2:4]), here[4], cost, penalties, form == "sharp",
        iterations or 2000, form == "sharp" or mode != "envelope",
    )  # fmt: skip
    there = [t.to(device, DTYPES[dtype]).requires_grad_() for t in arguments]
    options = given | SOLVED[dtype] | ({} if iterations is None else dict(iterations=iterations))
    report = geomsink.sinkhorn_divergence(
        *there[:2], *weights(*there[2:4]), epsilon=there[4], cost=cost, form=form, differentiation=mode,
        engine=name, dtype=dtype, **options,
    )  # fmt: skip
    compared = Comparisons(device)
    of_value, of_gradient = WITHIN[dtype]
    # The sharp form is of first order in the marginal error.
    compared.add("value", report.value, expected, of_gradient if form == "sharp" else of_value)
    for what, found, truth in zip(
        ("x", "y", "logits of a", "logits of b", "ε"), grad(report.value, there), grad(expected, here), strict=True
    ):
        compared.add(f"gradient in {what}", found, truth, of_gradient)
    return compared.result(f"{report.engine}, {report.dtype}, {report.n_iter} cycles")


def hessian(device: str, name: str, n: int) -> dict[str, Any]:
    """A product of the second derivative in x with a vector, implicit against 200 updates of a matrix."""
    x, y = clouds(n, n - n // 10)
    direction = numbers(n, 3) - 0.5
    uniform = tuple(torch.full((k,), 1 / k, dtype=torch.float64) for k in (n, n - n // 10))
    here, there = x.clone().requires_grad_(), x.to(device).requires_grad_()
    epsilon = torch.tensor(EPSILON, dtype=torch.float64)
    value = dense.divergence(here, y, *uniform, epsilon, iterations=200, through=True)
    report = geomsink.sinkhorn_divergence(
        there, y.to(device), epsilon=EPSILON, differentiation="implicit", engine=name, **SOLVED["float64"]
    )
    products = []
    for scalar, points in ((value, here), (report.value, there)):
        (first,) = grad(scalar, points, create_graph=True)
        products.append(grad((first * direction.to(points.device)).sum(), points)[0])
    compared = Comparisons(device)
    compared.add("Hessian times a vector", products[1], products[0], 1e-6)
    solves = report.xy.linear_solves
    return compared.result(f"{solves[-1].iterations} iterations" if solves else "")


def batch(device: str, name: str, form: str, cost: str, n: int, sharp: bool = False) -> dict[str, Any]:
    """Values and gradients of three items: padded (B, N, D), lists of different lengths, or points with an index."""
    sizes = [(n, n - 20)] * 3 if form == "padded" else [(n, n - 30), (n // 2, n), (7, 5)]
    items = [clouds(*size, seed=seed) for seed, size in enumerate(sizes)]
    epsilon = torch.tensor(EPSILON, dtype=torch.float64)
    values, gradients = [], []
    for x, y in items:
        leaves = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        uniform = tuple(torch.full((len(t),), 1 / len(t), dtype=torch.float64) for t in leaves)
        value = dense.divergence(*leaves, *uniform, epsilon, cost, sharp=sharp, through=sharp)
        values.append(value.detach())
        gradients.append(grad(value, leaves))
    xs, ys = ([item[k].to(device) for item in items] for k in (0, 1))
    options = dict(epsilon=EPSILON, cost=cost, engine=name, form="sharp" if sharp else "entropic") | SOLVED["float64"]
    of_value, of_gradient = WITHIN["float64"]
    if form == "list":
        leaves = [t.requires_grad_() for t in (*xs, *ys)]
        value = geomsink.sinkhorn_divergence(xs, ys, **options).value
        found = grad(value.sum(), leaves)
    else:
        join = torch.stack if form == "padded" else torch.cat
        leaves = [join(t).requires_grad_() for t in (xs, ys)]
        if form == "index":
            for key, clouds_ in (("x_batch", xs), ("y_batch", ys)):
                lengths = torch.tensor([len(t) for t in clouds_], device=device)
                options[key] = torch.arange(3, device=device).repeat_interleave(lengths)
        value = geomsink.sinkhorn_divergence(*leaves, **options).value
        found = [
            part
            for whole, parts in zip(grad(value.sum(), leaves), (xs, ys), strict=True)
            for part in (whole if form == "padded" else whole.split([len(t) for t in parts]))
        ]
    compared = Comparisons(device)
    compared.add("values", value, torch.stack(values), of_gradient if sharp else of_value)
    for k in range(3):
        compared.add(f"gradient in x of item {k}", found[k], gradients[k][0], of_gradient)
        compared.add(f"gradient in y of item {k}", found[3 + k], gradients[k][1], of_gradient)
    return compared.result()


def refused(device: str, n: int) -> dict[str, Any]:
    """Clouds on two devices are refused in a sentence."""
    if device == "cpu":
        raise Missing("there is one device")
    x, y = clouds(n, n)
    try:
        geomsink.sinkhorn_divergence(x.to(device), y, blur=0.1)
    except ValueError as error:
        if not str(error).startswith("y: "):
            raise AssertionError(f"refused, but not for y: {error}") from error
    else:
        raise AssertionError("y: not refused")
    return {"remark": "x and y on two devices"}
