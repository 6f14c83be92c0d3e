"""POT's `ot.solve_sample`, for what is entropic or exact: ``import geomsink.compat.pot as ot`` in its place.

Its costs are not halved, and its ``reg`` is ε: see docs/pot.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from .. import costs
from ..costs import Cost
from ..counts import known
from ..divergences import MAX_ITER
from ..guards import guarded
from ..transport import Matching, matching
from .arguments import penalties, positive
from .formulas import cost_of
from .results import EntropicResult, LazyPlan, OTResult, as_matrix, between, checked

__all__ = ["LazyPlan", "OTResult", "solve_sample"]

TOL = 1e-6
"""Of a solve, unless another is asked for."""
METRICS = {
    "sqeuclidean": costs.power(2),
    "euclidean": costs.power(1),
    "cosine": costs.get("cosine"),
    "cityblock": replace(cost_of("Sum(Abs(X-Y))"), name="cityblock", symmetric=True, translation_invariant=True),
    "chebyshev": replace(cost_of("Max(Abs(X-Y))"), name="chebyshev", symmetric=True, translation_invariant=True),
}
"""Metrics that are costs of ours; SciPy's others are a matrix."""
METHODS = ("sinkhorn", "sinkhorn_log", "geomloss", "geomloss_auto", "geomloss_tensorized", "geomloss_online",
           "geomloss_multiscale")  # fmt: skip
GRADIENTS = {"autodiff": "implicit", "last_step": "implicit", "envelope": "envelope", "detach": "envelope"}
PENALTIES = ("kl", "tv", "l2")


class _Regularised(EntropicResult):
    """Of an entropic problem, with POT's value and potentials."""

    entropy = False

    def _constant(self) -> Any:
        """Σ P log P less Σ P log(P/ab) is Σ a log a + Σ b log b, for fixed marginals."""
        constant = self.entropy_of_mass
        if self.entropy:
            constant = constant + self._solution.epsilon * sum(torch.xlogy(w, w).sum() for w in self._weights)
        return constant

    @cached_property
    def potentials(self) -> tuple[Any, Any]:
        """u and v with P_ij = exp(u_i + v_j − C_ij/ε) for fixed marginals, and else a_i b_j times that."""
        plan, epsilon = self._solution.plan, self._solution.epsilon
        u, v = plan.f / epsilon, plan.g / epsilon
        if self.fixed:
            u, v = u + plan.terms.a.log(), v + plan.terms.b.log()
        return self._container.array(u, 0), self._container.array(v, 1)


class _WithEntropy(_Regularised):
    entropy = True


class _Exact(OTResult):
    """Of an exact problem; the plan is sparse."""

    def __init__(self, clouds: tuple[Any, Any], found: Matching, value: Any, log: dict[str, Any]):
        super().__init__(clouds, value, found.status, {"report": found} | log)
        self.found = found

    @cached_property
    def value_linear(self) -> Any:
        return self.value

    @cached_property
    def potentials(self) -> tuple[Any, Any]:
        return self.found.potentials

    @cached_property
    def sparse_plan(self) -> Any:
        return self.found.matrix

    @cached_property
    def plan(self) -> Any:
        dense, like = self.found.matrix.toarray(), self.found.mass
        if isinstance(like, Tensor):
            return torch.from_numpy(dense).to(like)
        return dense.astype(like.dtype)

    @cached_property
    def marginals(self) -> tuple[Any, Any]:
        return self.plan.sum(1), self.plan.sum(0)

    def _product(self, side: int, w: Any) -> Any:
        return (self.plan.T if side else self.plan) @ w


@guarded
def solve_sample(
    X_a: Any,
    X_b: Any,
    a: Any = None,
    b: Any = None,
    metric: str | Cost | Callable[[Any, Any], float] = "sqeuclidean",
    reg: float | None = None,
    c: None = None,
    reg_type: str = "KL",
    unbalanced: Any = None,
    unbalanced_type: str = "KL",
    lazy: bool = False,
    batch_size: int | None = None,
    method: str | None = None,
    n_threads: int = 1,
    max_iter: int | None = None,
    plan_init: Any = None,
    rank: int = 100,
    scaling: float = 0.95,
    potentials_init: Any = None,
    X_init: Any = None,
    tol: float | None = None,
    verbose: bool = False,
    grad: str = "autodiff",
    random_state: int | None = None,
    debias: bool = False,
    n_projections: int = 50,
    projections: Any = None,
    scaler: None = None,
) -> OTResult:
    """min_P ⟨P, C⟩ + ε R(P) + ρ D(P1, a) + ρ D(Pᵀ1, b) between two weighted clouds, as POT calls it.

    Parameters
    ----------
    X_a : array_like, shape (N, D)
    X_b : array_like, shape (M, D)
        Points: arrays, tensors or lists of lists.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights, of the same sum without ``unbalanced``; None is 1/N each.
    metric : str, Cost or callable, default "sqeuclidean"
        C: "sqeuclidean", "euclidean", "cosine", "cityblock" or "chebyshev", without a matrix; any other metric of
        `scipy.spatial.distance.cdist`, or a function of two points, whose matrix is made, constant as in POT; or a cost
        of geomsink, or its name.
    reg : float, optional
        ε, in units of the cost. None and 0 are exact transport, without ``unbalanced``.
    reg_type : {"KL", "entropy"}, default "KL"
        R: Σ P log(P/ab), with which ``unbalanced`` is; or Σ P log P, which has the same plan and another value.
    unbalanced : float or pair of float, optional
        ρ, in units of the cost, of both marginals or of each; None and ``inf`` are fixed marginals.
    unbalanced_type : {"KL", "TV", "L2"}, default "KL"
        "L2" is ½ ρ ‖P1 − a‖², for weights that are all alike.
    method : {None, "sinkhorn", "sinkhorn_log", "geomloss", ...}, optional
        One of those whose answer this is; how it is found is chosen by geomsink.
    max_iter : int, optional
        Cycles of updates at most; None is 1000.
    tol : float, optional
        What the problem is solved to: see `geomsink.solve`. None is 1e-6.
    verbose : bool, default False
        Show a progress bar, if tqdm is installed.
    grad : {"autodiff", "envelope", "last_step", "detach"}, default "autodiff"
        Of tensors: what has autograd history, everything, the value alone or nothing. Derivatives are those of the
        solution, by implicit differentiation, however it was found. That of an exact value is at its plan and
        potentials, and the rest of an exact result is constant.
    debias : bool, default False
        Whether ``value`` and ``value_linear`` are less half of those within the clouds; with ``unbalanced``,
        ½ ε (m_a − m_b)² is added, which makes it positive.
    c, scaler, projections : None
        Accepted as None alone.
    lazy, batch_size, n_threads, rank, scaling, random_state, n_projections, plan_init, potentials_init, X_init
        Without effect on the result: memory is linear in the points, both plans are there when they are asked for, and
        no start is needed.

    Returns
    -------
    OTResult
        Potentials are POT's: with ``reg``, u and v with P_ij = exp(u_i + v_j − C_ij/ε) for fixed marginals, and
        a_i b_j times that with ``unbalanced``; of an exact problem in units of the cost.

    Raises
    ------
    TypeError, ValueError
        For bad input, and for what geomsink does not solve: one sentence that says which argument, what was found and
        what was expected.

    Warns
    -----
    ConvergenceWarning
        When the problem was not solved to ``tol``.

    Notes
    -----
    Flamary et al. 2021 (JMLR 22(78)). With ``unbalanced`` the Kullback-Leibler divergences have their masses,
    KL(p | q) = Σ p log(p/q) − p + q, without which POT's Sinkhorn solvers report about 0 whatever the measures.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0]])
    >>> exact = solve_sample(x, x + 0.5)
    >>> float(exact.value), exact.plan.tolist()
    (0.25, [[0.5, 0.0], [0.0, 0.5]])
    >>> float(solve_sample(x, x + 0.5, reg=1.0).value.round(4))
    0.6299
    """
    if method is not None:
        known("method", method, METHODS)
    known("grad", grad, GRADIENTS)
    for name, value in (("c", c), ("scaler", scaler), ("projections", projections)):
        if value is not None:
            raise ValueError(f"{name}: a {type(value).__name__} was given, expected None, which is all that is solved.")
    if not isinstance(debias, bool):
        raise ValueError(f"debias: {debias!r} given, expected True or False.")
    kind, penalty = str(reg_type).lower(), str(unbalanced_type).lower()
    known("reg_type", kind, ("kl", "entropy"))
    rho = penalties("unbalanced", unbalanced)
    if rho is not None:
        known("unbalanced_type", penalty, PENALTIES)
    if grad == "detach":
        X_a, X_b, a, b = (t.detach() if isinstance(t, Tensor) else t for t in (X_a, X_b, a, b))
    live = torch.is_grad_enabled() and any(isinstance(X, Tensor) and X.requires_grad for X in (X_a, X_b))
    cost = _cost(metric, live)
    if reg is None or positive("reg", reg, zero=True) == 0.0:
        if rho is not None:
            raise ValueError(f"reg: {reg} given with unbalanced={unbalanced}, expected a positive number.")
        return _exact(X_a, X_b, a, b, cost, debias)
    if rho is not None and penalty == "l2":
        rho = _of_squares(rho, checked(X_a, X_b, a, b, False)[1])
    if rho is not None and kind == "entropy":
        raise ValueError("reg_type: 'entropy' given with unbalanced, expected 'KL'.")
    solved = between(
        X_a, X_b, a, b, cost, debias, bool(verbose), "metric", epsilon=float(reg), rho=rho,
        penalty=penalty if rho else "kl", differentiation=GRADIENTS[grad],
        tol=TOL if tol is None else tol, max_iter=MAX_ITER if max_iter is None else max_iter,
    )  # fmt: skip
    return (_WithEntropy if kind == "entropy" else _Regularised)(solved)


def _of_squares(
    rho: tuple[float | None, float | None], weights: tuple[Tensor, Tensor]
) -> tuple[float | None, float | None]:
    """From ½ ρ Σ (t_i a_i − a_i)² to the penalty ½ ρ' Σ a_i (t_i − 1)² of ours, where all a_i are alike."""
    found = []
    for name, each, given in zip("ab", rho, weights, strict=True):
        w = given.detach()
        if each is not None and float(w.max() - w.min()) > 1e-6 * float(w.max()):
            raise ValueError(
                f"unbalanced_type: 'L2' given with {name} from {float(w.min()):.3g} to {float(w.max()):.3g}, expected "
                "weights that are all alike, or 'KL' or 'TV'."
            )
        if each is not None and given.requires_grad:  # ρ' is one number, and depends on the weights
            raise ValueError(
                f"unbalanced_type: 'L2' given with {name} that requires a gradient, expected weights without, 'KL' or "
                "'TV'."
            )
        found.append(None if each is None else each * float(w.mean()))
    return found[0], found[1]


def _cost(metric: Any, live: bool) -> Cost | Callable[[Any, Any], Any]:
    """A cost of ours, or a function of whole clouds, whose matrix is constant."""
    if isinstance(metric, Cost):
        return metric
    if isinstance(metric, str):
        if metric in METRICS:
            return METRICS[metric]
        if metric in costs.names() or ":" in metric:
            return costs.get(metric)
    try:
        cdist([[0.25, 0.75]], [[0.5, 0.5]], metric)
    except Exception as error:
        raise ValueError(
            f"metric: {metric!r} was given, expected one of {', '.join(METRICS)}, a metric of SciPy's cdist, or a "
            f"function of two points ({error})."
        ) from error
    if live:
        raise ValueError(
            f"metric: {metric!r} is computed by SciPy, without derivatives, but points require gradients; expected one "
            f"of {', '.join(METRICS)}, or a geomsink.costs.Cost."
        )

    def costs_between(x: Any, y: Any) -> Any:
        x, y = (p.cpu().numpy() if isinstance(p, Tensor) else p for p in (x, y))
        return cdist(x, y, metric)

    return costs_between


def _exact(X_a: Any, X_b: Any, a: Any, b: Any, cost: Cost | Callable[[Any, Any], Any], debias: bool) -> OTResult:
    """The exact problem."""
    between_clouds = _matched(X_a, X_b, a, b, cost)
    if not debias:
        return between_clouds
    within = _matched(X_a, X_a, a, a, cost), _matched(X_b, X_b, b, b, cost)
    value = between_clouds.value - 0.5 * within[0].value - 0.5 * within[1].value
    log = {"res_ab": between_clouds, "res_aa": within[0], "res_bb": within[1]}
    return _Exact((X_a, X_b), between_clouds.found, value, log)


def _matched(X_a: Any, X_b: Any, a: Any, b: Any, cost: Cost | Callable[[Any, Any], Any]) -> _Exact:
    points, _, container = checked(X_a, X_b, a, b)
    x, y = X_a, X_b
    if not isinstance(cost, Cost):
        cost, x, y = as_matrix(cost, points, container.is_numpy, False, "metric")
    found = matching(x, y, a, b, cost=cost)
    value = torch.tensor(found.cost, dtype=torch.float64, device=container.device)
    if not container.is_numpy and torch.is_grad_enabled():  # at the plan and the potentials
        if any(p.requires_grad for p in points):
            ends = (cost.map(p[k].double()) for p, k in zip(points, (found.rows, found.columns), strict=True))
            value = value + _change((found.mass.double() * cost.between(*ends)).sum())
        for weights, potential in zip((a, b), found.potentials, strict=True):
            if weights is not None and weights.requires_grad:
                value = value + _change((weights.double() * potential.double()).sum())
    return _Exact((X_a, X_b), found, container.scalar(value), {})


def _change(value: Tensor) -> Tensor:
    """0, with the derivatives of a value."""
    return value - value.detach()
