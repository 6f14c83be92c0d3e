"""Gradient flows: particles that follow the gradient of a loss from one cloud to another."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..counts import whole
from ..divergences import ConvergenceWarning, SinkhornDivergence
from ..guards import own_filters
from ..measures import pair_of_measures
from ..shown import Curve, Facts, Shown, Words
from .descent import History, OptimizerLike, Particles, check_steps, descend

Loss = Callable[..., Any]

SAMPLE = 64
"""Points of a target that the size of a loss is found from."""


@dataclass(frozen=True, repr=False)
class Flow(Shown):
    """Particles at the end of a flow, and on the way.

    Attributes
    ----------
    points : array, shape (N, D)
    frames : tuple of arrays, shape (N, D)
        Where they were at each of the ``times``: the start first, the end last.
    times : tuple of float
        The step size times the steps so far, with Euler's method (``"sgd"``); the steps with other optimisers, which do
        not keep the flow's time.
    history : History
    """

    points: Any
    frames: tuple[Any, ...]
    times: tuple[float, ...]
    history: History

    def _facts(self) -> Facts:
        found = self.history._facts()
        return {"points": Words(f"{len(self.points):,} points"), "frames": len(self.frames)} | found

    def _curve(self) -> Curve:
        return self.history._curve()


def gradient_flow(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    loss: Loss | None = None,
    blur: float | None = None,
    optimizer: OptimizerLike = "sgd",
    lr: float | None = None,
    steps: int = 200,
    tol: float | None = 1e-5,
    frames: int = 10,
    progress: bool = False,
) -> Flow:
    """Move the points x, which keep their weights, down the gradient of a loss towards y.

    ẋ_i = −(1/a_i) ∂loss/∂x_i, the gradient flow of the loss in the geometry of Wasserstein, by Euler's explicit method
    or another optimiser of torch. With a Sinkhorn divergence of squared distances, a step of 1/2 brings x_i to
    x_i + T_xy(x_i) − T_xx(x_i), where T are the barycentric projections of the plans.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        NumPy arrays, torch tensors or anything that NumPy reads.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights, of the same sum; None is 1/N each.
    loss : callable, optional
        A module such as `geomsink.SinkhornDivergence`, `geomsink.EntropicOT` or `geomsink.MMD`, or anything to be
        called as they are, ``loss(x, y)`` or, where weights are given, ``loss(a, x, b, y)``, that gives a scalar tensor
        or an object that has one as its ``value``: ``functools.partial(hausdorff_divergence, blur=0.1)`` for example.
    blur : float, optional
        Instead of a loss: that of ``SinkhornDivergence(blur=blur)``. One of the two is given.
    optimizer : {"sgd", "adam", "lbfgs", "rmsprop"} or callable, default "sgd"
        As `descend` takes it. Line searches want a loss that is solved to a ``tol`` of 1e-6 or so.
    lr : float, optional
        Step size in time. Default: 1/2 with ``"sgd"``, which suits squared distances; torch's own with others.
    steps : int, default 200
        At most.
    tol : float or None, default 1e-5
        Stop when in 10 steps the loss has changed by no more than this share of all that it came down since the start,
        or of a tenth of its size; and at once where the gradient is zero but for rounding. None takes all steps.
    frames : int, default 10
        Steps from one frame to the next.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    Flow
        Constants, without autograd history.

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.
    RuntimeError
        If the loss or its gradient ceases to be finite.

    Warns
    -----
    ConvergenceWarning
        Once, if the loss was not solved to its tolerance on the way.

    Notes
    -----
    Feydy et al. 2019 (arXiv:1810.08278), section 4; Arbel et al. 2019 (arXiv:1906.04370) for MMD.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((100, 2))
    >>> flow = gradient_flow(x, 0.5 * x + 3.0, blur=0.2)
    >>> flow.history.values[-1] < 1e-4 * flow.history.values[0], flow.history.converged
    (True, True)
    """
    check_steps(steps, tol)
    whole("frames", frames)
    measure = loss_of(loss, blur)
    (points, target), (mass, target_mass), container = pair_of_measures(x, y, a, b)
    if points.ndim != 2:
        raise ValueError(f"x: a batch of {len(points)} clouds was given, expected one cloud.")
    points, target, mass, target_mass = (t.detach() for t in (points, target, mass, target_mass))
    particles = Particles(points, mass)
    dtype, weighted = points.dtype, not (a is None and b is None)
    weights = (mass.to(dtype), target_mass.to(dtype))
    named_rate = 0.5 if optimizer == "sgd" and lr is None else lr
    kept: dict[int, Tensor] = {}
    size, length = size_of(measure, points, (target, target_mass), weighted)

    def evaluate() -> Tensor:
        if weighted:
            return measured(measure, weights[0], particles.points, weights[1], target)
        return measured(measure, particles.points, target)

    def keep(step: int, value: float) -> None:
        if step % frames == 0:
            kept[step] = particles.points.detach().clone()

    history = descend(
        [particles.parameter], evaluate, optimizer=optimizer, lr=named_rate, steps=steps, tol=tol,
        scale=particles.scale, size=size, span=particles.span(length), callback=keep, progress=progress,
        name="gradient flow",
    )  # fmt: skip
    clock = float(named_rate) if optimizer == "sgd" and named_rate is not None else 1.0
    kept[0] = points.clone()
    kept[history.n_steps] = end = particles.points.detach().clone()
    return Flow(
        points=container.array(end, 0),
        frames=tuple(container.array(frame, 0) for _, frame in sorted(kept.items())),
        times=tuple(clock * step for step in sorted(kept)),
        history=history,
    )


def loss_of(loss: Any, blur: Any) -> Loss:
    """The loss that was given, or a Sinkhorn divergence with this blur.

    Raises
    ------
    TypeError, ValueError
        If none or both are given, or if the loss cannot be called.
    """
    if (loss is None) == (blur is None):
        raise ValueError(f"loss, blur: {'neither' if loss is None else 'both'} given, expected one of the two.")
    if loss is None:
        return SinkhornDivergence(blur=blur)
    if not callable(loss):
        raise TypeError(f"loss: a {type(loss).__name__} was given, expected a callable such as SinkhornDivergence.")
    called: Loss = loss
    return called


def size_of(loss: Loss, points: Tensor, target: tuple[Tensor, Tensor], weighted: bool = True) -> tuple[float, float]:
    """What a loss is about between clouds that are far apart, for their extent, and that distance: from one point of
    the cloud to some of the target. Zeros where it cannot be evaluated on these.

    Parameters
    ----------
    loss : callable
    points : Tensor, shape (N, D)
    target : pair of Tensor, shapes (M, D) and (M,)
        Points and weights.
    weighted : bool, default True
        Whether the loss is called with weights.
    """
    y, b = target
    some = b.nonzero()[:, 0]
    some = some[:: max(1, len(some) // SAMPLE)][:SAMPLE]
    y, b = y[some], b[some] * (b.sum() / b[some].sum())
    point = points[:1].expand(len(y), -1)
    arguments = (b.to(y), point, b.to(y), y) if weighted else (point, y)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), own_filters():
            warnings.simplefilter("ignore")
            found = float(measured(copy.deepcopy(loss), *arguments))
    except Exception:  # a loss of one's own may take nothing but its own clouds
        return 0.0, 0.0
    length = math.sqrt(float((b / b.sum()) @ (y - point).double().square().sum(-1)))
    return (found, length) if 0.0 < found < math.inf else (0.0, 0.0)


def measured(loss: Loss, *clouds: Tensor) -> Tensor:
    """The loss of clouds, and a warning each time that it was not solved: modules of this library give one in all."""
    found = loss(*clouds)
    report: Any = getattr(loss, "report", found)
    if getattr(report, "converged", True) is False:
        status = getattr(report, "status", "no reason given")
        warnings.warn(f"the loss is not converged, {status}.", ConvergenceWarning, stacklevel=2)
    value: Any = getattr(found, "value", found)
    return value  # type: ignore[no-any-return]  # `descend` looks what it is
