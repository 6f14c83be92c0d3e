"""Losses for training loops, as torch modules: they remember the last solve, so that the next one has little to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..costs import Cost, kernels
from ..costs.kernels import Kernel
from ..counts import flag
from ..guards import guarded
from ..processes import group_of
from .comparison import Memory, check_symmetric, compare, transport, warn_of
from .functions import Reach
from .mmd import TRUNCATE, Discrepancy, mmd, scales_of, truncation
from .options import MAX_ITER, TOL, Options
from .solution import Divergence, Solution


class _Transport(nn.Module):
    """What `SinkhornDivergence` and `EntropicOT` have in common: options, the report, and one warning."""

    def __init__(self, options: Options, **more: Any):
        super().__init__()
        for name, value in more.items():
            flag(name, value)
        self._options, self._more = options, more
        self.blur, self.epsilon = options.blur, options.epsilon  # as parameters of the module, if they are any
        self._warned = False

    @property
    def options(self) -> Options:
        """With the module's present blur and epsilon, which may be set between calls."""
        if self.blur is self._options.blur and self.epsilon is self._options.epsilon:
            return self._options
        return replace(self._options, blur=self.blur, epsilon=self.epsilon)

    def extra_repr(self) -> str:
        shown = {f.name: getattr(self.options, f.name) for f in fields(Options)} | self._more
        return ", ".join(f"{name}={_shown(value)}" for name, value in shown.items())

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle starts afresh: reports have autograd history."""
        return self.__dict__ | {"report": None, "_memory": None}

    def _warn(self, solutions: dict[str, Solution], shortfall: str = "") -> None:
        if not self._warned and (shortfall or not all(s.converged for s in solutions.values())):
            self._warned = True
            warn_of(solutions, self.options, stacklevel=8, shortfall=shortfall)


class SinkhornDivergence(_Transport):
    """S_ε(α, β) as a loss: ``loss(x, y)``, or ``loss(a, x, b, y)`` with weights.

    Parameters
    ----------
    blur, epsilon, cost, reach, rho, penalty, form, differentiation, iterations, recompute, tol, max_iter, scaling, \
engine, dtype, multiscale, normalize, nan_policy
        As `geomsink.sinkhorn_divergence` takes them.
    warm_start : bool, default True
        Start each solve from the potentials of the last one. Results agree to ``tol`` either way.
    reuse : bool, default True
        Keep the self problem of a cloud that is the same as in the last call, such as a fixed target.
    group : optional
        As `geomsink.sinkhorn_divergence` takes it: each process calls the loss, and ``backward``, with its part of both
        clouds, and has the loss of the unions; what parameters get is to be summed over the processes, and not
        averaged.

    Attributes
    ----------
    report : Divergence or None
        That of the last call.

    Raises
    ------
    TypeError, ValueError
        For bad options here, for bad points when it is called: one sentence each.
    ProcessesError
        As `geomsink.sinkhorn_divergence`.

    Warns
    -----
    ConvergenceWarning
        Once, when a solve does not converge.

    Notes
    -----
    A call returns a scalar, or shape (B,) for batches: tensors (B, N, D), lists of clouds, or all points with
    ``x_batch`` and ``y_batch``. A fixed target may be a `geomsink.Sketch`. Genevay, Peyré, Cuturi 2018
    (arXiv:1706.00292); Feydy et al. 2019 (arXiv:1810.08278).

    Examples
    --------
    >>> import torch
    >>> loss = SinkhornDivergence(blur=0.1)
    >>> x = torch.rand(100, 3, requires_grad=True)
    >>> loss(x, x.detach() + 0.1).backward()
    >>> bool((x.grad.sum(0) + 0.2).abs().max() < 1e-3), loss.report.converged
    (True, True)
    """

    report: Divergence | None

    def __init__(
        self,
        *,
        blur: float | Tensor | None = None,
        epsilon: float | Tensor | None = None,
        cost: str | Cost = "sqeuclidean",
        reach: Reach = None,
        rho: Reach = None,
        penalty: str = "kl",
        form: str = "entropic",
        differentiation: str = "envelope",
        iterations: int | None = None,
        recompute: bool = False,
        tol: float = TOL,
        max_iter: int = MAX_ITER,
        scaling: float = 0.5,
        engine: str = "auto",
        dtype: Any = None,
        multiscale: bool | None = None,
        normalize: bool = False,
        nan_policy: str = "raise",
        warm_start: bool = True,
        reuse: bool = True,
        group: Any = None,
    ):
        options = Options(
            blur=blur, epsilon=epsilon, cost=cost, reach=reach, rho=rho, penalty=penalty, form=form,
            differentiation=differentiation, iterations=iterations, recompute=recompute, tol=tol, max_iter=max_iter,
            scaling=scaling, engine=engine, dtype=dtype, multiscale=multiscale, normalize=normalize,
            nan_policy=nan_policy,
        )  # fmt: skip
        check_symmetric(options)
        super().__init__(options, warm_start=warm_start, reuse=reuse)
        self.group = None if group is None else group_of(group)
        self.warm_start, self.reuse = warm_start, reuse
        self.report = None
        self._memory: Memory | None = None

    @guarded
    def forward(self, *clouds: Any, x_batch: Any = None, y_batch: Any = None) -> Tensor:
        """The loss of ``(x, y)`` or ``(a, x, b, y)``.

        Parameters
        ----------
        *clouds : array_like
            ``(x, y)``, or ``(a, x, b, y)`` with weights; shapes as in `geomsink.sinkhorn_divergence`.
        x_batch, y_batch : array_like, shape (N,) and (M,), int64, optional
            The item of a batch that each point belongs to, in order.

        Returns
        -------
        Tensor, shape () or (B,)
            With autograd history; a float for arrays of NumPy.

        Raises
        ------
        TypeError, ValueError
            As `geomsink.sinkhorn_divergence`, and for another number of arguments.
        """
        x, y, a, b = _clouds(clouds)
        keep = (self.warm_start or self.reuse) and self.options.iterations is None
        report, memory = compare(
            x, y, a, b, self.options, (x_batch, y_batch),
            memory=self._memory if keep else None, warm=self.warm_start, reuse=self.reuse, group=self.group,
        )  # fmt: skip
        # Tensors of inference mode cannot be used in a training step.
        self._memory = memory if keep and not torch.is_inference_mode_enabled() else None
        self.report = report  # of whichever thread comes last
        self._warn({"xy: ": report.xy, "xx: ": report.xx, "yy: ": report.yy}, report.shortfall)
        value: Tensor = report.value
        return value


class EntropicOT(_Transport):
    """OT_ε(α, β) as a loss, or ⟨P, C⟩ of its plan with ``form="sharp"``: ``loss(x, y)`` or ``loss(a, x, b, y)``.

    Parameters
    ----------
    blur, epsilon, cost, reach, rho, penalty, form, differentiation, iterations, recompute, tol, max_iter, scaling, \
engine, dtype, multiscale, normalize, nan_policy
        As `geomsink.sinkhorn_divergence` takes them; the cost may be asymmetric.
    warm_start : bool, default True
        Start each solve from the potentials of the last one. Results agree to ``tol`` either way.
    group : optional
        As `SinkhornDivergence` takes it; all pairs are summed.

    Attributes
    ----------
    report : Solution or None
        That of the last call.

    Raises
    ------
    TypeError, ValueError
        As `SinkhornDivergence`.

    Warns
    -----
    ConvergenceWarning
        As `SinkhornDivergence`.

    Notes
    -----
    Cuturi 2013 (arXiv:1306.0895).

    Examples
    --------
    >>> import torch
    >>> loss = EntropicOT(epsilon=0.1, form="sharp")
    >>> loss(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor(25.)
    """

    report: Solution | None

    def __init__(
        self,
        *,
        blur: float | Tensor | None = None,
        epsilon: float | Tensor | None = None,
        cost: str | Cost = "sqeuclidean",
        reach: Reach = None,
        rho: Reach = None,
        penalty: str = "kl",
        form: str = "entropic",
        differentiation: str = "envelope",
        iterations: int | None = None,
        recompute: bool = False,
        tol: float = TOL,
        max_iter: int = MAX_ITER,
        scaling: float = 0.5,
        engine: str = "auto",
        dtype: Any = None,
        multiscale: bool | None = None,
        normalize: bool = False,
        nan_policy: str = "raise",
        warm_start: bool = True,
        group: Any = None,
    ):
        options = Options(
            blur=blur, epsilon=epsilon, cost=cost, reach=reach, rho=rho, penalty=penalty, form=form,
            differentiation=differentiation, iterations=iterations, recompute=recompute, tol=tol, max_iter=max_iter,
            scaling=scaling, engine=engine, dtype=dtype, multiscale=multiscale, normalize=normalize,
            nan_policy=nan_policy,
        )  # fmt: skip
        super().__init__(options, warm_start=warm_start)
        self.group = None if group is None else group_of(group)
        self.warm_start = warm_start
        self.report = None
        self._memory: tuple[Tensor, Tensor] | None = None

    @guarded
    def forward(self, *clouds: Any, x_batch: Any = None, y_batch: Any = None) -> Tensor:
        """The loss of ``(x, y)`` or ``(a, x, b, y)``.

        Parameters
        ----------
        *clouds : array_like
            ``(x, y)``, or ``(a, x, b, y)`` with weights; shapes as in `geomsink.solve`.
        x_batch, y_batch : array_like, shape (N,) and (M,), int64, optional
            The item of a batch that each point belongs to, in order.

        Returns
        -------
        Tensor, shape () or (B,)
            With autograd history; a float for arrays of NumPy.

        Raises
        ------
        TypeError, ValueError
            As `geomsink.solve`, and for another number of arguments.
        """
        x, y, a, b = _clouds(clouds)
        keep = self.warm_start and self.options.iterations is None
        start = self._memory if keep else None
        report, potentials = transport(x, y, a, b, self.options, (x_batch, y_batch), start=start, group=self.group)
        self._memory = potentials if keep and not torch.is_inference_mode_enabled() else None
        self.report = report
        self._warn({"": report})
        value: Tensor = report.loss(self.options.form)
        return value


class MMD(nn.Module):
    """½ ⟨α − β, k(α − β)⟩ as a loss, half a squared maximum mean discrepancy: ``loss(x, y)`` or ``loss(a, x, b, y)``.

    Parameters
    ----------
    kernel, blur, engine, dtype, truncate, nan_policy
        As `geomsink.mmd` takes them.
    group : optional
        As `SinkhornDivergence` takes it; all pairs are summed.

    Attributes
    ----------
    report : Discrepancy or None
        That of the last call.

    Raises
    ------
    TypeError, ValueError
        For bad options and for bad points when it is called: one sentence each.
    ProcessesError
        As `geomsink.mmd`.

    Examples
    --------
    >>> import torch
    >>> MMD(kernel="energy")(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor(5.)
    """

    report: Discrepancy | None

    def __init__(
        self,
        *,
        kernel: str | Kernel = "gaussian",
        blur: float | Sequence[float] | Tensor | None = None,
        engine: str = "auto",
        dtype: Any = None,
        truncate: float = TRUNCATE,
        nan_policy: str = "raise",
        group: Any = None,
    ):
        super().__init__()
        scales_of(kernels.get(kernel), blur)
        Options(epsilon=1.0, engine=engine, dtype=dtype, nan_policy=nan_policy)  # refused now, as `mmd` does
        truncation(truncate)
        self.kernel, self.blur, self.engine, self.dtype, self.truncate = kernel, blur, engine, dtype, truncate
        self.nan_policy = nan_policy
        self.group = None if group is None else group_of(group)
        self.report = None

    def extra_repr(self) -> str:
        names = ("kernel", "blur", "engine", "dtype", "truncate", "nan_policy")
        return ", ".join(f"{name}={_shown(getattr(self, name))}" for name in names)

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle starts afresh: reports have autograd history."""
        return self.__dict__ | {"report": None}

    def forward(self, *clouds: Any, x_batch: Any = None, y_batch: Any = None) -> Tensor:
        """The loss of ``(x, y)`` or ``(a, x, b, y)``.

        Parameters
        ----------
        *clouds : array_like
            ``(x, y)``, or ``(a, x, b, y)`` with weights; shapes as in `geomsink.mmd`.
        x_batch, y_batch : array_like, shape (N,) and (M,), int64, optional
            The item of a batch that each point belongs to, in order.

        Returns
        -------
        Tensor, shape () or (B,)
            With autograd history; a float for arrays of NumPy.

        Raises
        ------
        TypeError, ValueError
            As `geomsink.mmd`, and for another number of arguments.
        """
        x, y, a, b = _clouds(clouds)
        self.report = report = mmd(
            x, y, a, b, kernel=self.kernel, blur=self.blur, engine=self.engine, dtype=self.dtype,
            truncate=self.truncate, nan_policy=self.nan_policy, x_batch=x_batch, y_batch=y_batch, group=self.group,
        )  # fmt: skip
        value: Tensor = report.value
        return value


def _clouds(given: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
    """Points and weights (x, y, a, b) of a call."""
    if len(given) == 2:
        return given[0], given[1], None, None
    if len(given) == 4:
        a, x, b, y = given
        return x, y, a, b
    raise TypeError(f"loss: {len(given)} arguments were given, expected (x, y) or (a, x, b, y).")


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{float(value.detach()):g}" if value.numel() == 1 else f"tensor of shape {tuple(value.shape)}"
    return f"<{value.name}>" if isinstance(value, (Cost, Kernel)) else repr(value)
