"""GeomLoss's SamplesLoss and its conventions.

Its costs are ‖x − y‖²/2 and ‖x − y‖, with ε = blur^p and ρ = reach^p whatever the cost, and its value without debiasing
is OT_ε − ε m_a m_b + ½ ε (m_a + m_b): see docs/geomloss.md.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ... import costs
from ...costs import Cost
from ...counts import flag, one_of
from ...divergences import (
    MAX_ITER,
    Discrepancy,
    Divergence,
    HausdorffDivergence,
    Options,
    Solution,
    compare,
    hausdorff_divergence,
    mmd,
    transport,
    warn_of,
)
from ...guards import guarded
from ...measures import pair_of_measures
from ..arguments import positive
from ..formulas import cost_of
from ..pairwise import Pairwise, check_symmetric, discrepancy, matrix_cost, of_floats

TOL = 1e-4
"""Marginal error of a solve, unless another is asked for: gradients are then right to about 1e-3."""
LOSSES = ("sinkhorn", "hausdorff", "energy", "gaussian", "laplacian")
ENGINES = {"auto": "auto", "tensorized": "dense", "online": "auto", "multiscale": "auto"}
OPTIONS = (
    "loss", "p", "blur", "reach", "diameter", "scaling", "truncate", "cost", "kernel", "cluster_scale", "debias",
    "potentials", "verbose", "backend", "tol", "max_iter",
)  # fmt: skip


class SamplesLoss(nn.Module):
    """GeomLoss's SamplesLoss: ``loss(x, y)``, ``loss(a, x, b, y)`` or ``loss(l_x, a, x, l_y, b, y)``.

    Points are tensors (N, D) or (B, N, D), weights (N,) or (B, N), with or without a last axis of length 1. Labels are
    hints for GeomLoss's clustering: here they are checked, and not needed.

    Parameters
    ----------
    loss : {"sinkhorn", "hausdorff", "energy", "gaussian", "laplacian"}, default "sinkhorn"
        The last three are half squared discrepancies: see `geomsink.mmd`. GeomLoss announces "hausdorff" without having
        it; here it is `geomsink.hausdorff_divergence`, which knows no ``reach`` and has no potentials.
    p : float, default 2
        The cost is ‖x − y‖^p/p, p in ]0, 2]; with ``cost`` it sets only ε = blur^p and ρ = reach^p.
    blur : float, default 0.05
    reach : float, optional
        Length of the penalty of both marginals. None and ``inf`` are fixed marginals, of the same mass.
    diameter, truncate, cluster_scale : optional
        Accepted, without effect on the result: annealing starts at the largest cost between the points at hand, and
        cells and truncation are chosen and bounded by the solver.
    scaling : float, default 0.5
        Factor of the blur from one temperature to the next. Where a solve converges, the result is right to ``tol``
        whatever it is; where ``max_iter`` ends it first, smaller steps, of 0.9 or so, end nearer to it.
    cost : callable, str, or pair of both, optional
        GeomLoss's three forms, for "sinkhorn" and "hausdorff" alone, symmetric unless ``debias=False``. A function of
        tensors (B, N, D) and (B, M, D), called on the clouds as they are, integers as floating-point numbers, to costs
        (B, N, M), which are kept in memory; it may be of a network, whose parameters have gradients, and of anything
        else. A formula of KeOps in X and Y, as a string: see `geomsink.compat.formulas`. Or a formula and a function of
        tensors (N, D) and (M, D), of which the latter is used.
    kernel : callable, optional
        ``kernel(x, y, blur=blur, use_keops=False, ranges=None)`` from tensors (B, N, D) and (B, M, D) to (B, N, M),
        symmetric, in place of the named kernel, for all losses but "sinkhorn". Memory is quadratic.
    debias : bool, default True
        Whether OT_ε(α, α)/2 and OT_ε(β, β)/2 are subtracted.
    potentials : bool, default False
        Return (F, G) in place of the value: its derivatives in the weights for fixed marginals and for discrepancies,
        differences of potentials with ``reach``. Shapes are GeomLoss's: (B, N), (1, N) without a batch, and (N,) where
        GeomLoss would take its "multiscale" backend.
    verbose : bool, default False
        Show a progress bar while "sinkhorn" is solved, if tqdm is installed.
    backend : {"auto", "tensorized", "online", "multiscale"}, default "auto"
        "tensorized" is plain torch, without a compiler; "auto" and "online" compile from a million pairs on, if
        anything can be compiled; "multiscale" solves "sinkhorn" between cells first, for single clouds on the CPU,
        which the others do where it pays. Memory is linear in the number of points, whichever it is.
    tol : float, default 1e-4
        Not GeomLoss's: what "sinkhorn" and "hausdorff" are solved to, as `geomsink.sinkhorn_divergence` has it.
    max_iter : int, default 1000
        Not GeomLoss's: cycles of updates, at most, for each of the three problems.

    Attributes
    ----------
    report : Divergence, Solution, Discrepancy, HausdorffDivergence or None
        That of the last call; None for a ``kernel`` of one's own.

    Raises
    ------
    TypeError, ValueError
        For bad options here, for bad points when it is called: one sentence each.

    Warns
    -----
    ConvergenceWarning
        When a solve does not converge.

    Notes
    -----
    Feydy et al. 2019 (arXiv:1810.08278); Séjourné et al. 2019 (arXiv:1910.12958).

    Examples
    --------
    >>> import torch
    >>> loss = SamplesLoss("sinkhorn", p=2, blur=0.1)
    >>> x = torch.rand(100, 3, requires_grad=True)
    >>> value = loss(x, x.detach() + 0.2)
    >>> value.backward()
    >>> round(value.item(), 4), loss.report.converged
    (0.06, True)
    """

    report: Divergence | Solution | Discrepancy | HausdorffDivergence | None

    def __init__(
        self,
        loss: str = "sinkhorn",
        p: float = 2,
        blur: float | Tensor = 0.05,
        reach: float | None = None,
        diameter: float | None = None,
        scaling: float = 0.5,
        truncate: float | None = 5,
        cost: Pairwise | str | tuple[str, Pairwise] | None = None,
        kernel: Callable[..., Tensor] | None = None,
        cluster_scale: float | None = None,
        debias: bool = True,
        potentials: bool = False,
        verbose: bool = False,
        backend: str = "auto",
        *,
        tol: float = TOL,
        max_iter: int = MAX_ITER,
    ):
        super().__init__()
        self.loss, self.p, self.blur, self.reach, self.diameter = loss, p, blur, reach, diameter
        self.scaling, self.truncate, self.cost, self.kernel = scaling, truncate, cost, kernel
        self.cluster_scale, self.debias, self.potentials = cluster_scale, debias, potentials
        self.verbose, self.backend, self.tol, self.max_iter = verbose, backend, tol, max_iter
        self.report = None
        self._check()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in OPTIONS)

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle has no report: reports have autograd history."""
        return self.__dict__ | {"report": None}

    @guarded
    def forward(self, *args: Any) -> Tensor | tuple[Tensor, Tensor]:
        """The value, shape () or (B,), or its potentials.

        Parameters
        ----------
        *args : Tensor
            ``(x, y)``, ``(a, x, b, y)`` with weights, or ``(l_x, a, x, l_y, b, y)`` with labels, too.

        Returns
        -------
        Tensor, shape () or (B,), or pair of Tensor, shapes (N,) and (M,)

        Raises
        ------
        TypeError, ValueError
            For bad arguments: one sentence each.
        """
        self._check()  # attributes may have been set since
        x, y, a, b, labelled = _arguments(args)
        if labelled and self.backend not in ("auto", "multiscale"):
            raise ValueError(f"l_x, l_y: labels are given with backend={self.backend!r}, expected auto or multiscale.")
        batch = x.shape[:-2]
        in_cells = self._in_cells(x, y, labelled)
        if x.ndim == y.ndim == 3 and len(x) == len(y) == 1:
            # Levels of cells, and Newton's steps, are for single clouds.
            x, y, a, b = x[0], y[0], *(w if w is None or w.ndim < 2 else w[0] for w in (a, b))
        value, potentials = self._computed(x, y, a, b, in_cells)
        if not self.potentials:
            return value.reshape(batch)
        assert potentials is not None
        F, G = (h if h.ndim > 1 or in_cells else h[None] for h in potentials)
        return F, G

    def _check(self) -> None:
        """Refuse bad options."""
        one_of("loss", self.loss, LOSSES)
        one_of("backend", self.backend, ENGINES)
        flag("debias", self.debias)
        flag("potentials", self.potentials)
        for name in ("diameter", "truncate", "cluster_scale"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name), zero=name == "cluster_scale")
        if self.kernel is not None and not callable(self.kernel):
            raise TypeError(f"kernel: a {type(self.kernel).__name__} was given, expected a callable or None.")
        if self.loss != "energy":
            positive("blur", self.blur)
        if self.loss not in ("sinkhorn", "hausdorff") or (self.loss == "hausdorff" and self.kernel is not None):
            return
        positive("p", self.p)
        if self.reach is not None and self.reach != math.inf:
            positive("reach", self.reach)
        if self.loss == "hausdorff" and self.potentials:
            raise ValueError("potentials: True given with loss='hausdorff', which has none; expected False.")
        if self.loss == "hausdorff" and not self._balanced:
            raise ValueError(
                f"reach: {self.reach} given with loss='hausdorff', which has fixed marginals; expected None."
            )
        self._options(self._ground())

    @property
    def _balanced(self) -> bool:
        return self.reach is None or self.reach == math.inf

    @property
    def _function(self) -> Pairwise | None:
        """That of the user, if there is one, of clouds or batches of them."""
        function = self.cost[1] if isinstance(self.cost, tuple) and len(self.cost) == 2 else self.cost
        return function if callable(function) else None

    def _ground(self) -> Cost:
        """The cost between points, with ε = blur^p and ρ = reach^p; the user's own function has only these."""
        p = float(self.p)
        if self.cost is None:
            if not p <= 2:
                raise ValueError(f"p: {self.p} given, expected 0 < p <= 2, or a cost.")
            return _power(p)
        if self._function is not None:
            return replace(costs.power(2), degree=p, unit=1.0 / p)
        if not isinstance(self.cost, str):
            raise TypeError(
                f"cost: {self.cost!r} was given, expected a callable, a formula, or a pair (formula, callable)."
            )
        return replace(cost_of(self.cost), degree=p, unit=1.0 / p)

    def _options(self, cost: Cost, **more: Any) -> Options:
        # Gradients of potentials take a linear system, that of the value does not.
        differentiation = "implicit" if self.potentials else "envelope"
        return Options(
            blur=self.blur, reach=None if self._balanced else self.reach, cost=cost, scaling=self.scaling, tol=self.tol,
            max_iter=self.max_iter, differentiation=differentiation, **more,
        )  # fmt: skip

    def _in_cells(self, x: Tensor, y: Tensor, labelled: bool) -> bool:
        """Whether GeomLoss would take its "multiscale" backend."""
        if x.ndim == 3 and len(x) > 1:
            return False
        many = x.shape[-2] * y.shape[-2] > 10_000**2 and x.shape[-1] <= 3 and self.loss == "sinkhorn" and self.p == 2
        return self.backend == "multiscale" or labelled or (self.backend == "auto" and many)

    def _computed(
        self, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, in_cells: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Value and potentials."""
        self.report = None
        if self.loss != "sinkhorn" and self.kernel is not None:
            return discrepancy(self.kernel, self.blur, x, y, a, b)
        engine = ENGINES[self.backend]
        if self.loss in ("energy", "gaussian", "laplacian"):
            blur = None if self.loss == "energy" else self.blur
            self.report = kernel_loss = mmd(x, y, a, b, kernel=self.loss, blur=blur, engine=engine)
            return kernel_loss.value, kernel_loss.potentials
        cost = self._ground()
        forced = in_cells and self.backend != "auto" and x.ndim == 2
        levels, debias = True if forced else None, self.debias or self.loss == "hausdorff"
        # Refused before the user's function sees them, and by names that are here.
        remedy = "" if self.loss == "hausdorff" else "reach= for others"
        points, _, container = pair_of_measures(x, y, a, b, self._balanced, remedy=remedy)
        if self._function is not None:
            cost, x, y = matrix_cost(self._function, callable(self.cost), *of_floats((x, y), points), debias)
            cost = replace(cost, degree=float(self.p), unit=1.0 / float(self.p))
            value, potentials = self._solved(x, y, a, b, cost, engine, None)
            found = potentials and (container.array(potentials[0], 0), container.array(potentials[1], 1))
            return container.number(value), found
        if debias and not cost.symmetric:
            cost = check_symmetric(cost, *points)
        return self._solved(x, y, a, b, cost, engine, levels)

    def _solved(
        self, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, cost: Cost, engine: str, levels: bool | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Value and potentials of "sinkhorn" and "hausdorff" with a cost of ours."""
        if self.loss == "hausdorff":
            self.report = apart = hausdorff_divergence(
                x, y, a, b, blur=self.blur, cost=cost, tol=self.tol, max_iter=self.max_iter, engine=engine
            )
            return apart.value, None
        options = self._options(cost, engine=engine, multiscale=levels)
        progress = bool(self.verbose) and importlib.util.find_spec("tqdm") is not None
        if self.debias:
            report, _ = compare(x, y, a, b, options, progress=progress)
            self.report, (xy, xx, yy) = report, (report.xy, report.xx, report.yy)
            warn_of({"xy: ": xy, "xx: ": xx, "yy: ": yy}, options, stacklevel=8, shortfall=report.shortfall)
            potentials = xy.potentials[0] - xx.potentials[0], xy.potentials[1] - yy.potentials[1]
            return report.value, potentials
        solution, _ = transport(x, y, a, b, options, progress=progress)
        self.report = solution
        warn_of({"": solution}, options, stacklevel=8)
        return self._without_constant(solution.value, a, b), solution.potentials

    def _without_constant(self, value: Any, a: Tensor | None, b: Tensor | None) -> Tensor:
        """GeomLoss's value without debiasing: OT_ε − ε m_a m_b + ½ ε (m_a + m_b)."""
        m_a, m_b = (1.0 if w is None else w.sum(-1, dtype=value.dtype) for w in (a, b))
        shifted: Tensor = value + self.blur**self.p * (0.5 * (m_a + m_b) - m_a * m_b)
        return shifted


@functools.lru_cache(maxsize=256)
def _power(p: float) -> Cost:
    """‖x − y‖^p/p; one object, so that the engines compare it with each other once."""
    return costs.power(p).scaled(1.0 / p)


def _arguments(args: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, bool]:
    """Points x and y, their weights, and whether there are labels."""
    if len(args) not in (2, 4, 6):
        raise ValueError(
            f"SamplesLoss: {len(args)} arguments were given, expected (x, y), (a, x, b, y) or (l_x, a, x, l_y, b, y)."
        )
    width = len(args) // 2
    absent: tuple[Any, ...] = (None,) * (3 - width)
    (l_x, a, x), (l_y, b, y) = (*absent, *args[:width]), (*absent, *args[width:])
    a, b = _weights(("l_x", "a", "x"), l_x, a, x), _weights(("l_y", "b", "y"), l_y, b, y)
    return x, y, a, b, not (l_x is None and l_y is None)


def _weights(names: tuple[str, str, str], labels: Any, weights: Any, points: Any) -> Any:
    """Weights without a last axis of length 1; labels and weights may be None, all else has to be tensors that fit."""
    for name, given in zip(names, (labels, weights, points), strict=True):
        if not isinstance(given, Tensor) and (given is not None or name == names[2]):
            raise TypeError(f"{name}: a {type(given).__name__} was given, expected a torch tensor.")
    if points.ndim not in (2, 3):
        raise ValueError(f"{names[2]}: shape is {tuple(points.shape)}, expected (N, D) or (B, N, D).")
    if labels is not None:
        found = (
            f"{names[0]}: labels of shape {tuple(labels.shape)} and dtype {str(labels.dtype).removeprefix('torch.')}"
        )
        if points.ndim == 3:
            raise ValueError(f"{found} are given with a batch, expected none.")
        if labels.shape not in ((len(points),), (len(points), 1)) or labels.is_floating_point():
            raise ValueError(f"{found} are given, expected one whole number a point, shape ({len(points)},).")
    if weights is not None and weights.ndim == points.ndim and weights.shape[-1] == 1:
        return weights[..., 0]
    return weights
