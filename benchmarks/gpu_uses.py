"""Checks of what is made of sums and divergences: plans, maps, kernels, training; rows of gpu.py's report."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import gpu_dense as dense
import numpy as np
import torch
from gpu_checks import DTYPES, EPSILON, SOLVED, WITHIN, Comparisons, clouds, numbers
from gpu_runner import Missing
from torch import Tensor
from torch.autograd import grad

import geomsink
from geomsink import generative, transport

STEPS = 10
OF_SOLVED = {"float64": (1e-6, 1e-5, 1e-4), "float32": (1e-5, 1e-4, 1e-2)}
"""tol, and largest relative errors of the value and of the gradient, on the solved problems."""


def uniform(*points: Tensor) -> list[Tensor]:
    return [torch.full((len(p),), 1 / len(p), dtype=torch.float64) for p in points]


def exact_plan(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P, f and g of the problem that all checks of plans are about."""
    C, epsilon = dense.cost("sqeuclidean", x, y), torch.tensor(EPSILON, dtype=torch.float64)
    f, g = dense.potentials(C, *uniform(x, y), epsilon, (None, None), 2000, x is y)
    return dense.plan(C, *uniform(x, y), epsilon, f, g), f, g


def plan(device: str, name: str, n: int) -> dict[str, Any]:
    """Potentials, marginals, products and the transport cost of a solution."""
    x, y = clouds(n, n - n // 10)
    v, w = numbers(n), numbers(n - n // 10, 4, seed=2)
    P, f, g = exact_plan(x, y)
    s = geomsink.solve(x.to(device), y.to(device), epsilon=EPSILON, engine=name, **SOLVED["float64"])
    compared = Comparisons(device)
    within = WITHIN["float64"][1]
    for what, found, expected in (("f", s.potentials[0], f), ("g", s.potentials[1], g)):
        compared.add(f"{what}, centred", found - found.mean(), expected - expected.mean(), within)
    compared.add("transport cost", s.transport_cost, (P * dense.cost("sqeuclidean", x, y)).sum(), within)
    compared.add("row marginal", s.plan.row_marginal(), P.sum(1), within, each=True)
    compared.add("column marginal", s.plan.column_marginal(), P.sum(0), within, each=True)
    compared.add("plan @ w", s.plan @ w.to(device), P @ w, within)
    compared.add("plan.T @ v", s.plan.T @ v.to(device), P.T @ v, within)
    compared.add("to_dense", s.plan.to_dense(), P, within)
    return compared.result()


def entries(device: str, name: str, n: int) -> dict[str, Any]:
    """The strongest entries of a plan, as a sparse matrix, and pairs drawn from it."""
    x, y = clouds(n, n - n // 10)
    P, *_ = exact_plan(x, y)
    s = geomsink.solve(x.to(device), y.to(device), epsilon=EPSILON, engine=name, **SOLVED["float64"])
    compared = Comparisons(device)
    least = P.topk(4, dim=1).values
    between = 0.5 * (least[:, 2:3] + least[:, 3:4])
    few = s.plan.top_k(3)
    compared.add("top_k(3)", few.matrix.to_dense(), P * (between < P), 1e-6)
    compared.add("share of the mass that top_k keeps", few.kept, least[:, :3].sum() / P.sum(), 1e-6)
    shares = P / P.sum(1, keepdim=True)
    middle = shares.flatten().sort().values[P.numel() // 2 : P.numel() // 2 + 2].mean()
    some = s.plan.to_sparse(float(middle)).matrix.to_dense()
    compared.add("to_sparse", some, P * (middle < shares), 1e-6)
    i, j = s.plan.sample(20_000, seed=0)
    counts = torch.bincount(i, minlength=n).double()
    if int(j.min()) < 0 or int(j.max()) >= len(y):
        raise AssertionError(f"sample: columns from {int(j.min())} to {int(j.max())}, of {len(y)}")
    # Six standard deviations of a count, where each row has 20,000 / n.
    compared.add("rows of a sample", counts / 20_000, P.sum(1), 6 * (n / 20_000) ** 0.5)
    return compared.result()


def maps(device: str, name: str, n: int) -> dict[str, Any]:
    """Barycentric and entropic maps, the debiased displacement, and classes that are carried over."""
    x, y = clouds(n, n - n // 10)
    z = clouds(7, 7, seed=5)[0]
    P, _, g = exact_plan(x, y)
    itself, *_ = exact_plan(x, x)
    r = geomsink.sinkhorn_divergence(x.to(device), y.to(device), epsilon=EPSILON, engine=name, **SOLVED["float64"])
    within = WITHIN["float64"][1]
    towards, back = P @ y / P.sum(1, keepdim=True), itself @ x / itself.sum(1, keepdim=True)
    weights = ((g - dense.cost("sqeuclidean", z, y)) / EPSILON).softmax(1)
    labels = (y[:, 0] > y[:, 0].median()).double()
    compared = Comparisons(device)
    compared.add("barycentric_map", transport.barycentric_map(r.xy), towards, within)
    compared.add("displacement", transport.displacement(r), towards - back, 10 * within)
    compared.add("entropic_map", transport.entropic_map(r.xy, z.to(device)), weights @ y, within)
    compared.add("transfer", transport.transfer(r.xy, labels.to(device)), P @ labels / P.sum(1), within)
    return compared.result()


def mmd(device: str, name: str, kernel: str, dtype: str, n: int) -> dict[str, Any]:
    """A discrepancy and its gradients in points and blur."""
    x, y = clouds(n, n - n // 10, dtype)
    sigma = torch.tensor(0.5, dtype=torch.float64)
    here, there = ([t.to(*place).requires_grad_() for t in (x, y)] for place in (("cpu",), (device, DTYPES[dtype])))
    expected = dense.discrepancy(*here, dense.kernel(kernel, float(sigma)))
    blur = float(sigma) if geomsink.kernels.get(kernel).takes_blur else None
    found = geomsink.mmd(*there, kernel=kernel, blur=blur, engine=name, dtype=dtype).value
    compared = Comparisons(device)
    of_value, of_gradient = (1e-4, 1e-3) if dtype == "float32" else (1e-10, 1e-9)
    compared.add("value", found, expected, of_value)
    for what, a, b in zip("xy", grad(found, there), grad(expected, here), strict=True):
        compared.add(f"gradient in {what}", a, b, of_gradient)
    return compared.result()


def mmd_batch(device: str, name: str, n: int) -> dict[str, Any]:
    """Gaussian discrepancies of a padded batch, and their gradients: sums whose derivatives are in rows and columns."""
    items = [clouds(n, n - 20, seed=seed) for seed in range(3)]
    kernel = dense.kernel("gaussian", 0.5)
    here = [torch.stack([item[k] for item in items]).requires_grad_() for k in (0, 1)]
    there = [t.detach().to(device).requires_grad_() for t in here]
    expected = torch.stack([dense.discrepancy(x, y, kernel) for x, y in zip(*here, strict=True)])
    found = geomsink.mmd(*there, blur=0.5, engine=name).value
    compared = Comparisons(device)
    compared.add("values", found, expected, 1e-10)
    for what, a, b in zip("xy", grad(found.sum(), there), grad(expected.sum(), here), strict=True):
        compared.add(f"gradients in {what}", a, b, 1e-9)
    return compared.result()


def certificate(device: str, name: str, n: int) -> dict[str, Any]:
    """Whether the dense value, and the cost of an optimal assignment, are in their certified intervals."""
    from scipy.optimize import linear_sum_assignment

    x, y = clouds(n, n)
    exact = float(dense.divergence(x, y, *uniform(x, y), torch.tensor(EPSILON, dtype=torch.float64)))
    C = dense.cost("sqeuclidean", x, y).numpy()
    assigned = float(C[linear_sum_assignment(C)].mean())
    there = x.to(device), y.to(device)
    r = geomsink.sinkhorn_divergence(*there, epsilon=EPSILON, engine=name, certify=True)
    bounds = geomsink.wasserstein_bounds(*there, p=2, engine=name)
    error, widths = 0.0, []
    for low, value, high in ((r.lower, exact, r.upper), (bounds.lower, assigned, bounds.upper)):
        low, high = float(low), float(high)
        error = max(error, (low - value) / value, (value - high) / value)
        widths.append((high - low) / value)
    return {
        "error": error, "tolerance": 1e-12,
        "remark": f"how far outside; intervals of S_ε and of W₂² are {widths[0]:.1e} and {widths[1]:.1e} wide",
    }  # fmt: skip


def solved(
    device: str, name: str, dtype: str, problem: str, shared: str, multiscale: bool | None = None
) -> dict[str, Any]:
    """Value and gradient of a solved problem of the reference folder."""
    path = Path(shared) / "reference" / f"{problem}.npz"
    if not path.exists():
        raise Missing(f"{path.name} is not in {path.parent}")
    with np.load(path) as file:
        given = dict(file)
    x, y = (torch.tensor(given[key], device=device) for key in ("x", "y"))
    tol, of_value, of_gradient = OF_SOLVED[dtype]
    options = dict(tol=tol, dtype=dtype, engine=name, multiscale=multiscale)
    try:
        r = geomsink.sinkhorn_divergence(x.requires_grad_(), y, blur=float(given["blur"]), **options)
    except ValueError as error:
        if multiscale and str(error).startswith("multiscale: "):
            raise Missing(str(error)) from error
        raise
    compared = Comparisons(device)
    compared.add("value", r.value.double(), torch.tensor(given["divergence"]), of_value)
    found, expected = grad(r.value, x)[0], torch.tensor(given["grad_x"])
    off = float((found.cpu().double() - expected).norm() / expected.norm())
    compared.add("gradient, 1 + its error in the 2-norm", 1 + off, 1.0, of_gradient)
    return compared.result(f"{r.xy.strategy}, {r.n_iter} cycles, {r.seconds:.2f} s, converged: {r.converged}")


def paths(device: str, n: int) -> dict[str, Any]:
    """Down the temperatures: blurs below the spacing, where an optimal assignment is the limit, and two clusters whose
    masses differ, as on the CPU."""
    from scipy.optimize import linear_sum_assignment

    x, y = clouds(n, n)
    C = dense.cost("sqeuclidean", x, y)
    compared, told = Comparisons(device), []
    blur = 0.01 * float((dense.cost("sqeuclidean", x, x) + 1e9 * torch.eye(n)).amin(1).median() ** 0.5)
    far = x.clone(), y.clone()
    far[0][n // 2 :, 0] += 10.0
    far[1][n // 2 + 2 :, 0] += 10.0
    for what, (p, q), sigma in (("assignment", (x, y), blur), ("clusters", far, 0.02)):
        here, there = (geomsink.solve(p.to(d), q.to(d), blur=sigma, tol=1e-8) for d in ("cpu", device))
        if there.strategy != "path-following" or not there.converged:
            raise AssertionError(f"{what}: {there.strategy}, converged: {there.converged}")
        compared.add(f"value, {what}", there.value, here.value, 1e-9)
        if what == "assignment":
            exact = C.numpy()[linear_sum_assignment(C.numpy())].mean()
            compared.add("cost of an optimal assignment", there.transport_cost, torch.tensor(exact), 1e-6)
        told.append(f"{what} {there.n_iter} cycles, {there.seconds:.2f} s (the CPU {here.seconds:.2f} s)")
    return compared.result("; ".join(told))


def group(device: str, n: int) -> dict[str, Any]:
    """Divergences and a discrepancy of a group of one process, by NCCL on a GPU, beside those without a group."""
    import torch.distributed as dist

    if not dist.is_available() or (device == "cuda" and not dist.is_nccl_available()):
        raise Missing("torch was built without what processes talk by")
    x, y = (points.to(device) for points in clouds(n, n - n // 10))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        together, compared = geomsink.Group(timeout=20.0), Comparisons(device)
        for what, given in (("all pairs", {}), ("euclidean", dict(cost="euclidean")), ("reach", dict(reach=0.5))):
            values, gradients = [], []
            for options in (dict(group=together), {}):
                p = x.clone().requires_grad_()
                found = geomsink.sinkhorn_divergence(p, y, epsilon=EPSILON, tol=1e-8, **given, **options)
                values.append(found.value)
                gradients += grad(found.value, p)
            compared.add(f"value, {what}", values[0], values[1].cpu(), 1e-8)
            compared.add(f"gradient, {what}", gradients[0], gradients[1].cpu(), 1e-5)
        discrepancies = [geomsink.mmd(x, y, blur=0.5, **options).value for options in (dict(group=together), {})]
        compared.add("mmd", discrepancies[0], discrepancies[1].cpu(), 1e-9)
        return compared.result(dist.get_backend())
    finally:
        dist.destroy_process_group()


# --------------------------------------------------------------------------- training


def descent(device: str, name: str, n: int) -> dict[str, Any]:
    """Points that follow the loss's gradient, each solve from the last one's potentials: values against dense ones."""
    x, y = clouds(n, n - n // 10)
    loss = geomsink.SinkhornDivergence(epsilon=EPSILON, engine=name, **SOLVED["float64"])
    target, points = y.to(device), x.to(device).requires_grad_()
    values, path, cycles = [], [], []
    for _ in range(STEPS):
        value = loss(points, target)
        (gradient,) = grad(value, points)
        values.append(value.detach())
        path.append(points.detach().cpu())
        cycles.append(loss.report.n_iter)
        points = (points - 0.2 * n * gradient).detach().requires_grad_()
    epsilon = torch.tensor(EPSILON, dtype=torch.float64)
    expected = torch.stack([dense.divergence(p, y, *uniform(p, y), epsilon) for p in (path[0], path[1], path[-1])])
    compared = Comparisons(device)
    # Relative to each: they fall.
    compared.add("values", torch.stack([values[0], values[1], values[-1]]), expected, 1e-7, each=True)
    if not float(values[-1]) < 0.2 * float(values[0]):
        raise AssertionError(f"values do not fall: {[float(value) for value in values]}")
    return compared.result(f"{cycles[0]} cycles, {cycles[-1]} at the last of {STEPS} steps")


def fit(device: str, name: str, n: int) -> dict[str, Any]:
    """A few steps of a generator, which improve it; the divergence of what it makes, against the dense one."""
    torch.manual_seed(0)
    generator = generative.MLP(2, 3, width=32).to(device)
    data = clouds(n, n, "float32")[0]
    loss = geomsink.SinkhornDivergence(epsilon=EPSILON, engine=name)

    def divergence(points: Tensor) -> Tensor:
        p = points.cpu().double()
        return dense.divergence(p, data, *uniform(p, data), torch.tensor(EPSILON, dtype=torch.float64))

    there = data.float().to(device)
    before = divergence(generative.sample(generator, n))
    trained = generative.fit(generator, there, loss, batch=n // 2, steps=STEPS, optimizer="adam", lr=1e-2)
    points = trained.sample(n)
    after = divergence(points)
    if not float(after) < 0.9 * float(before):
        raise AssertionError(f"the generator does not improve: from {float(before)} to {float(after)}")
    compared = Comparisons(device)
    compared.add("divergence of the samples", loss(points, there), after, 1e-4)
    return compared.result(f"from {float(before):.2g} to {float(after):.2g} in {STEPS} steps")


def round_trip(device: str, name: str, n: int) -> dict[str, Any]:
    """A loss that was pickled, and one that was copied after a call, on the CPU and on the device."""
    x, y = clouds(n, n - n // 10)
    expected = dense.divergence(x, y, *uniform(x, y), torch.tensor(EPSILON, dtype=torch.float64))
    loss = geomsink.SinkhornDivergence(epsilon=EPSILON, engine=name, **SOLVED["float64"])
    loss(x.to(device), y.to(device))
    compared, here = Comparisons(device), Comparisons("cpu")
    for what, copied in (("a pickle", pickle.loads(pickle.dumps(loss))), ("a copy", copy.deepcopy(loss))):
        compared.add(f"{what} on the device", copied(x.to(device), y.to(device)), expected, 1e-9)
        here.add(f"{what} on the CPU, after the device", copied(x, y), expected, 1e-9)
    compared.all += here.all
    return compared.result()
