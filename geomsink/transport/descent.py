"""Minimising a loss with one of torch's optimisers: a stopping rule, a report of how it went, and a progress bar."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..counts import number, one_of, whole
from ..divergences import ConvergenceWarning
from ..guards import own_filters
from ..progress import Progress
from ..shown import Curve, Facts, Shown, seconds, state

OptimizerLike = str | Callable[[list[Tensor]], torch.optim.Optimizer]
"""A name of `OPTIMIZERS`, or what makes an optimiser of the parameters."""

WINDOW = 10
"""Steps in which a loss must have changed little: momentum swings it up and down."""
FLAT = 0.1
"""Of a loss's size, what it must come down by for its fall to be the measure of what is little."""
STILL = 1e-10
"""Share of its size that a loss has to gain, by its gradient, where that is zero but for rounding: parameters are about
1e-5 of their span from the best ones. Optimisers such as Adam would leave them with steps of full size."""

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    # One iteration a step, as with the others; evaluations of a line search count against max_eval.
    "lbfgs": lambda parameters, lr=1.0: torch.optim.LBFGS(
        parameters, lr=lr, max_iter=1, max_eval=30, line_search_fn="strong_wolfe"
    ),
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True, repr=False)
class History(Shown):
    """How a descent went.

    Attributes
    ----------
    values : tuple of float
        The loss after 0, 1, 2, ... steps, the start and the end among them.
    seconds : float
    converged : bool
        Whether the loss came to rest, and was itself solved without a `ConvergenceWarning` all the way.
    status : str
        Why it stopped.
    """

    values: tuple[float, ...]
    seconds: float
    converged: bool
    status: str

    def _facts(self) -> Facts:
        return {
            "loss": self.values[-1],
            "state": state(self.converged, self.status),
            "n_steps": self.n_steps,
            "seconds": seconds(self.seconds),
        }

    def _curve(self) -> Curve:
        return Curve(list(enumerate(self.values)), up="loss")

    @property
    def n_steps(self) -> int:
        return len(self.values) - 1


def descend(
    parameters: Iterable[Tensor],
    loss: Callable[[], Tensor],
    *,
    optimizer: OptimizerLike = "adam",
    lr: float | None = None,
    steps: int = 1000,
    tol: float | None = 1e-4,
    scale: float = 1.0,
    size: float = 0.0,
    span: float = 1.0,
    callback: Callable[[int, float], Any] | None = None,
    progress: bool | Progress = False,
    name: str = "descent",
) -> History:
    """Change the parameters, in place, so that the loss comes down.

    Parameters
    ----------
    parameters : iterable of Tensor
        Leaves that require gradients.
    loss : callable
        Without arguments, to a scalar tensor with history in the parameters.
    optimizer : {"adam", "lbfgs", "rmsprop", "sgd"} or callable, default "adam"
        Of torch.optim, L-BFGS with strong Wolfe line searches and one iteration a step; or what makes a
        `torch.optim.Optimizer` of a list of parameters, such as ``lambda p: torch.optim.NAdam(p, lr=0.1)``.
    lr : float, optional
        Step size of a named optimiser. Default: torch's own.
    steps : int, default 1000
        At most.
    tol : float or None, default 1e-4
        Stop when in 10 steps the loss has changed by no more than this share of all that it came down since the start,
        or a tenth of its ``size``; and at once where the gradient is zero but for rounding. None takes all steps.
    scale : float, default 1
        The optimiser is given this multiple of the loss.
    size : float, default 0
        What the loss is about where parameters are far from the best ones, by ``span``.
    span : float, default 1
        Such a distance of the parameters.
    callback : callable, optional
        Called as ``callback(k, value)`` when the loss after k steps is known, for k = 0 and the end too, before the
        parameters move on.
    progress : bool or Progress, default False
        Show a progress bar (needs tqdm); or that of a larger job.
    name : str, default "descent"
        What it is, in the bar and in sentences.

    Returns
    -------
    History

    Raises
    ------
    TypeError, ValueError
        For bad options, or a loss that is no scalar or has no history: one sentence each.
    RuntimeError
        At the first loss or gradient that is not finite, with the step; the parameters are those of that step.

    Warns
    -----
    ConvergenceWarning
        The first one of the loss; not every step's.

    Examples
    --------
    >>> import torch
    >>> p = torch.ones(3, requires_grad=True)
    >>> history = descend([p], lambda: (p**2).sum(), optimizer="sgd", lr=0.25, steps=4, tol=None)
    >>> history.values
    (3.0, 0.75, 0.1875, 0.046875, 0.01171875)
    >>> history.status
    '4 steps are done'
    """
    leaves = list(parameters)
    check_steps(steps, tol)
    method = _optimizer(optimizer, leaves, lr)
    began, run = time.perf_counter(), _Run(leaves, loss, scale, callback, name)
    why = ""
    bar = progress if isinstance(progress, Progress) else Progress(progress)
    with nullcontext() if bar is progress else bar:
        run.arrive()
        for k in range(steps):
            bar.steps(f"{name}  step {k} of {steps}  loss {run.values[-1]:.4e}", k, steps, tol is not None)
            if tol is not None and (why := _rest(run, tol, size, span)):
                break
            method.step(run.closure)  # type: ignore[arg-type]  # a tensor is as good as a float
            run.arrive()
        else:
            bar.steps(f"{name}  step {steps} of {steps}  loss {run.values[-1]:.4e}", steps, steps, tol is not None)
    status, start, end, rested = why or f"{steps} steps are done", run.values[0], run.values[-1], bool(why)
    if risen := end - start > (tol or 0.0) * max(abs(start), FLAT * size):
        status = f"the loss rose from {start:.4g} to {end:.4g}, a smaller step size may help"
    if run.unsolved:
        status += f"; {run.unsolved} of its evaluations were not converged themselves"
    converged = rested and not risen and not run.unsolved
    return History(tuple(run.values), time.perf_counter() - began, converged, status)


def check_steps(steps: Any, tol: Any) -> None:
    """Refuse what `descend` does not take.

    Raises
    ------
    TypeError, ValueError
        One sentence each.
    """
    whole("steps", steps)
    if tol is not None and not 0 <= number("tol", tol) < 1:
        raise ValueError(f"tol: {tol} given, expected a share from 0 to less than 1, or None.")


class Particles:
    """Points of a measure as a parameter, in coordinates where all of them move at the same pace.

    A loss of measures has a gradient of about a_i in the point x_i. The parameter is z_i = √(a_i N) x_i, for a mean
    weight of 1/N, and the optimiser gets N times the loss: a step against its gradient in z moves x_i by the step size
    times (1/a_i) ∂loss/∂x_i, whatever N is. Line searches see one function and its gradient. Points without mass stay.

    Parameters
    ----------
    points : Tensor, shape (N, D)
    weights : Tensor, shape (N,)

    Attributes
    ----------
    parameter : Tensor, shape (N, D)
        z, a leaf.
    scale : float
        Of the loss.
    """

    def __init__(self, points: Tensor, weights: Tensor):
        share = weights / weights.mean()
        self.scale = 1.0 / float(weights.mean())
        self._root = torch.where(share > 0, share, 1.0).sqrt().to(points.dtype)[:, None]
        self.parameter = (points.detach() * self._root).requires_grad_()

    def span(self, length: float) -> float:
        """How far the parameter is from where it was when all points have moved by a length."""
        return length * math.sqrt(len(self.parameter))

    @property
    def points(self) -> Tensor:
        """x, with history in the parameter."""
        return self.parameter / self._root


@dataclass(frozen=True)
class _Known:
    """A loss, its multiple and the gradients of that, at values of the leaves."""

    leaves: list[Tensor]
    value: float
    scaled: Tensor
    gradients: list[Tensor | None]


class _Run:
    """A loss under an optimiser: its values after each step, what it warned of, and sentences where it fails."""

    def __init__(
        self,
        leaves: Sequence[Tensor],
        loss: Callable[[], Tensor],
        scale: float,
        callback: Callable[[int, float], Any] | None,
        name: str,
    ):
        self.leaves, self.loss, self.scale, self.callback, self.name = leaves, loss, scale, callback, name
        self.values: list[float] = []
        self.unsolved = 0
        self._known: _Known | None = None
        self._warned: set[tuple[str, type[Warning], int]] = set()

    def arrive(self) -> None:
        """Take note of the loss where the last step has led."""
        self._measured(len(self.values), note=True)

    def closure(self) -> Tensor:
        """The scaled loss, with its gradients in the leaves."""
        return self._measured(len(self.values) - 1)

    def gradient(self) -> float:
        """The norm of the scaled loss's gradient."""
        return math.sqrt(sum(float(leaf.grad.double().square().sum()) for leaf in self.leaves if leaf.grad is not None))

    def _measured(self, step: int, note: bool = False) -> Tensor:
        here = [leaf.detach().clone() for leaf in self.leaves]
        # Line searches end where they have evaluated the loss, and the next one begins there.
        if self._known is None or not all(map(torch.equal, here, self._known.leaves)):
            self._known = self._differentiated(here, step)
        for leaf, gradient in zip(self.leaves, self._known.gradients, strict=True):
            leaf.grad = None if gradient is None else gradient.clone()
        if note:
            self.values.append(self._known.value)
            if self.callback is not None:
                self.callback(step, self._known.value)
        return self._known.scaled

    def _differentiated(self, here: list[Tensor], step: int) -> _Known:
        for leaf in self.leaves:
            leaf.grad = None
        loss = self._evaluated()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RuntimeError(f"{self.name}: the loss is {value} at step {step}, expected a finite number.")
        scaled: Tensor = self.scale * loss
        scaled.backward()
        gradients = [leaf.grad for leaf in self.leaves]
        if not all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None):
            raise RuntimeError(
                f"{self.name}: the gradient of the loss has NaN or infinities at step {step}, expected finite numbers."
            )
        return _Known(here, value, scaled.detach(), gradients)

    def _evaluated(self) -> Tensor:
        with own_filters() as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            loss = self.loss()
        unsolved = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
        for warning in caught:
            kind = str(warning.message), warning.category, warning.lineno
            if warning not in unsolved and kind not in self._warned:  # each once, and not at each step
                self._warned.add(kind)
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if unsolved and not self.unsolved:
            warnings.warn(f"{self.name}: {unsolved[0].message}", unsolved[0].category, stacklevel=6)
        self.unsolved += bool(unsolved)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise TypeError(f"{self.name}: the loss gave {found}, expected a tensor with one number.")
        if not loss.requires_grad:
            raise ValueError(f"{self.name}: the loss has no autograd history in the parameters, expected some.")
        return loss.reshape(())


def _rest(run: _Run, tol: float, size: float, span: float) -> str:
    """Why a run is at rest, or nothing."""
    gradient = run.gradient()
    # A loss that is quadratic over the span has so much to gain.
    if gradient == 0.0 or 0.5 * (gradient * span) ** 2 < STILL * (run.scale * size) ** 2:
        return f"the gradient of the loss is zero{' but for rounding' * (gradient > 0.0)}"
    last, fall = run.values[-WINDOW - 1 :], run.values[0] - min(run.values)
    if len(last) > WINDOW and max(last) - min(last) <= tol * max(fall, FLAT * size):
        of = "what it came down since the start" if fall >= FLAT * size else f"{FLAT * size:.3g}"
        return f"in {WINDOW} steps the loss changed by no more than {tol:g} of {of}"
    return ""


def _optimizer(optimizer: Any, leaves: list[Tensor], lr: Any) -> torch.optim.Optimizer:
    if not leaves or not all(isinstance(p, Tensor) and p.is_leaf and p.requires_grad for p in leaves):
        raise ValueError(
            f"parameters: {len(leaves)} given, expected leaf tensors that require gradients, at least one."
        )
    if lr is not None and not 0 < number("lr", lr) < math.inf:
        raise ValueError(f"lr: {lr} given, expected a positive step size.")
    if isinstance(optimizer, str):
        one_of("optimizer", optimizer, OPTIMIZERS)
        return OPTIMIZERS[optimizer](leaves, **({} if lr is None else {"lr": float(lr)}))
    if not callable(optimizer):
        raise TypeError(f"optimizer: a {type(optimizer).__name__} was given, expected a name or a callable.")
    if lr is not None:
        raise ValueError(f"lr: {lr} given with an optimizer of one's own, expected it to have its own step size.")
    made = optimizer(leaves)
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(f"optimizer: it made a {type(made).__name__}, expected a torch.optim.Optimizer.")
    return made
