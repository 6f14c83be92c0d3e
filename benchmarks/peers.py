"""Sinkhorn divergences by geomsink and by other libraries, all in the same form, for `against_peers.py`.

A method is a function of points (float32) and blur, and gives what is to be called and timed. A library is
imported by its own methods only, and is left at its defaults where its label does not say otherwise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from common import peak_memory, timed

Array = np.ndarray
WARM = 5_000
"""Points a side for which libraries that compile formulas run once before they are timed."""
ONLINE_ROWS = 1_000
"""Rows of the cost matrix that OTT-JAX holds at a time."""


class Method(NamedTuple):
    """What one library does with two clouds.

    ``value()`` gives S_ε for the cost ‖x − y‖², and a remark; ``gradient()`` gives S_ε and its gradient in x.
    ``warm(want)`` makes the calls of either kind ("value" or "gradient") free of compilation, and ``again()`` is called
    before each of them, untimed.
    """

    warm: Callable[[str], None]
    value: Callable[[], tuple[float, str]]
    gradient: Callable[[], tuple[float, Array]] | None
    again: Callable[[], None] | None = None


def geomsink(x: Array, y: Array, blur: float, **options: Any) -> Method:
    """The gradient is that of torch autograd, by the envelope theorem."""
    import torch

    import geomsink as library

    p, q = torch.from_numpy(x), torch.from_numpy(y)
    solve = partial(library.sinkhorn_divergence, blur=blur, **options)

    def value(n: int | None = None) -> tuple[float, str]:
        r = solve(p[:n], q[:n])
        return float(r.value), "" if r.converged else f"not converged: marginal error {r.marginal_error:.1e}"

    def gradient(n: int | None = None) -> tuple[float, Array]:
        points = p[:n].clone().requires_grad_()
        found = solve(points, q[:n]).value
        found.backward()
        return float(found.detach()), points.grad.numpy()

    return Method(lambda want: value(WARM) if want == "value" else gradient(WARM), value, gradient)


def geomsink_warm(x: Array, y: Array, blur: float) -> Method:
    """The same as a module in a training loop: the target's self problem is kept, and potentials of the last step."""
    import torch

    import geomsink as library

    loss = library.SinkhornDivergence(blur=blur)
    points, target = torch.from_numpy(x), torch.from_numpy(y)
    step = 1e-3 * float(points.std())
    noise = torch.Generator().manual_seed(0)

    def gradient() -> tuple[float, Array]:
        moved = points.clone().requires_grad_()
        value = loss(moved, target)
        value.backward()
        return float(value.detach()), moved.grad.numpy()

    def before(_: str) -> None:  # the last step was from points nearby
        loss(points + step * torch.randn(points.shape, generator=noise), target)

    return Method(before, lambda: (gradient()[0], ""), gradient, again=lambda: before(""))


def geomloss(x: Array, y: Array, blur: float, backend: str, scaling: float) -> Method:
    """Its cost is half of ‖x − y‖² and its ε is σ²: twice its value is S_ε."""
    import torch
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=blur, backend=backend, scaling=scaling)
    p, q = torch.from_numpy(x), torch.from_numpy(y)

    def value(n: int | None = None) -> tuple[float, str]:
        return 2 * float(loss(p[:n], q[:n])), ""

    def gradient(n: int | None = None) -> tuple[float, Array]:
        points = p[:n].clone().requires_grad_()
        found = 2 * loss(points, q[:n])
        found.backward()
        return float(found.detach()), points.grad.numpy()

    return Method(lambda want: value(WARM) if want == "value" else gradient(WARM), value, gradient)


def ott(x: Array, y: Array, blur: float, batch_size: int | None = ONLINE_ROWS) -> Method:
    """With jax before 0.9, whose internals OTT-JAX 0.6 uses where it evaluates costs online."""
    import jax
    from ott.tools.sinkhorn_divergence import sinkdiv

    def divergence(p: Any, q: Any) -> tuple[Any, Any]:
        value, out = sinkdiv(p, q, epsilon=2 * blur**2, batch_size=batch_size)
        return value, out.converged

    functions = {"value": divergence, "gradient": jax.value_and_grad(divergence, has_aux=True)}
    compiled: dict[str, Any] = {}

    def warm(want: str) -> None:
        compiled[want] = jax.jit(functions[want]).lower(x, y).compile()

    def value() -> tuple[float, str]:
        found, converged = compiled["value"](x, y)
        return float(found), "" if all(bool(c) for c in converged) else "says that it has not converged"

    def gradient() -> tuple[float, Array]:
        (found, _), gradient = compiled["gradient"](x, y)
        return float(found), np.asarray(gradient)

    return Method(warm, value, gradient)


def pot(x: Array, y: Array, blur: float, **options: Any) -> Method:
    """`ot.solve_sample` on torch tensors, which stores matrices; its stopping rule is a 2-norm."""
    import ot
    import torch

    p, q = torch.from_numpy(x), torch.from_numpy(y)
    solve = partial(ot.solve_sample, reg=2 * blur**2, debias=True, **options)

    def gradient() -> tuple[float, Array]:
        points = p.clone().requires_grad_()
        found = solve(points, q, grad="envelope").value
        found.backward()
        return float(found.detach()), points.grad.numpy()

    return Method(lambda want: None, lambda: (float(solve(p, q).value), ""), gradient)


def pot_lazy(x: Array, y: Array, blur: float, tol: float) -> Method:
    """Without matrices `ot.solve_sample` has no value of the regularised problem: it is made of the potentials."""
    import ot
    import torch

    epsilon = 2 * blur**2

    def cost(p: Array, q: Array) -> float:
        """⟨a, f⟩ + ⟨b, g⟩; the potentials are exponents that contain the logarithms of the weights."""
        found = ot.solve_sample(torch.from_numpy(p), torch.from_numpy(q), reg=epsilon, lazy=True, tol=tol)
        u, v = (potential.double() for potential in found.potentials)
        return epsilon * float((u + np.log(len(p))).mean() + (v + np.log(len(q))).mean())

    return Method(lambda want: None, lambda: (cost(x, y) - 0.5 * cost(x, x) - 0.5 * cost(y, y), ""), None)


METHODS: dict[str, dict[str, Callable[..., Method]]] = {
    "geomsink": {
        "geomsink": geomsink,
        "geomsink, tol 1e-2": partial(geomsink, tol=1e-2),
        "geomsink, tol 1e-4": partial(geomsink, tol=1e-4),
    },
    **{
        f"geomloss-{backend}": {
            f"GeomLoss {backend}, scaling {scaling}": partial(geomloss, backend=backend, scaling=scaling)
            for scaling in (0.5, 0.9)
        }
        for backend in ("online", "multiscale")
    },
    "ott": {"OTT-JAX online": ott},
    "pot": {
        "POT": pot,
        "POT, tol 1e-5": partial(pot, tol=1e-5),
        "POT lazy, tol 1e-3": partial(pot_lazy, tol=1e-3),
    },
}
STEPS: dict[str, dict[str, Callable[..., Method]]] = {
    "geomsink": {"geomsink": geomsink, "geomsink, warm start": geomsink_warm},
    **{
        f"geomloss-{backend}": {
            f"GeomLoss {backend}, scaling {scaling}": partial(geomloss, backend=backend, scaling=scaling)
            for scaling in (0.5, 0.9, 0.99)
        }
        for backend in ("tensorized", "multiscale")
    },
    "ott": {"OTT-JAX online": ott, "OTT-JAX, stored costs": partial(ott, batch_size=None)},
}
"""For `training_step.py`: the same methods, and settings that are slower and more accurate."""
NOTES = {
    "geomsink": f"warmed up on {WARM:,} of the points; gradient by torch autograd",
    **dict.fromkeys(
        ("geomloss-online", "geomloss-multiscale"),
        f"warmed up on {WARM:,} of the points; gradient by torch autograd; its value times 2",
    ),
    "ott": "compiled ahead for the same shapes, which is not timed; gradient by jax.value_and_grad; "
    f"batch_size={ONLINE_ROWS}",
    "pot": "compiles nothing; ot.solve_sample(debias=True) on torch tensors, gradient by torch autograd "
    "(grad='envelope'); lazy has no value of its own and no gradient: the value is made of its potentials",
}


def measure(task: dict[str, Any], report: Callable[..., None]) -> None:
    """The worker: seconds, value, peak memory; then the same with the gradient, which is left in a file."""
    with np.load(task["points"]) as points:
        x, y = points["x"], points["y"]
    if task["library"] == "reference":
        return _reference(x, y, task, report)
    method = METHODS[task["library"]][task["method"]](x, y, task["blur"])
    report(memory_imports=peak_memory())
    method.warm("value")
    seconds, (value, remark) = timed(method.value)
    report(seconds=seconds, value=value, remark=remark, memory=peak_memory())
    if method.gradient is not None:
        method.warm("gradient")
        seconds, (_, gradient) = timed(method.gradient)
        np.save(task["gradient"], gradient)
        report(gradient_seconds=seconds, gradient_memory=peak_memory())
    return None


def _reference(x: Array, y: Array, task: dict[str, Any], report: Callable[..., None]) -> None:
    single = max(len(x), len(y)) <= task["single_up_to"]
    options = {"dtype": "float64", "multiscale": False if single else None, "max_iter": 100_000}
    method = geomsink(x, y, task["blur"], tol=task["tol"], **options)
    assert method.gradient is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value, gradient = method.gradient()
    np.save(task["gradient"], gradient)
    doubts = "".join(f" ({w.message})" for w in caught if w.category.__name__ == "ConvergenceWarning")
    how = "single-scale" if single else "multiscale"
    report(value=value, how=f"geomsink's own {how} solve in float64, tol {task['tol']:.0e}{doubts}")
