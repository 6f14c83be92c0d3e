"""Sinkhorn divergences and entropic transport costs, as functions of points and weights."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .costs import Cost
from .problems import Setup, Solved
from .progress import Progress
from .solution import ConvergenceWarning, Solution, transport_cost

TOL = 1e-3
MAX_ITER = 1000
FORMS = ("entropic", "sharp")
CLOSE = 0.1
"""A divergence below this many ε is a small difference of three numbers, and they are refined for it."""
SHARE = 1e-5
"""Share of such a divergence that the errors of the three may have."""
REFINEMENTS = 4
FINEST = 1e-12
"""Marginal error that float64 reaches on any problem that converges at all."""


@dataclass(frozen=True)
class Divergence:
    """A Sinkhorn divergence S_ε(α, β), and how well it is solved.

    Attributes
    ----------
    value : float or Tensor
        Float for NumPy input, scalar tensor for torch.
    form : str
        ``"entropic"`` or ``"sharp"``.
    xy, xx, yy : Solution
        The three transport problems; ``xx`` and ``yy`` have f = g.
    epsilon : float
    engine : str
    dtype : str
        The working precision, which is float64 where float32 cannot reach ``tol``.
    seconds : float
    """

    value: float | Tensor
    form: str
    xy: Solution
    xx: Solution
    yy: Solution
    epsilon: float
    engine: str
    dtype: str
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether all three problems are."""
        return all(s.converged for s in (self.xy, self.xx, self.yy))

    @property
    def status(self) -> str:
        """``"converged"``, or which problem stopped why."""
        open_ends = {"xy": self.xy, "xx": self.xx, "yy": self.yy}
        return "; ".join(f"{k}: {s.status}" for k, s in open_ends.items() if not s.converged) or "converged"

    @property
    def marginal_error(self) -> float:
        """The largest of the three."""
        return max(s.marginal_error for s in (self.xy, self.xx, self.yy))

    @property
    def n_iter(self) -> int:
        """Cycles of all three."""
        return sum(s.n_iter for s in (self.xy, self.xx, self.yy))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those that the problem between the two clouds was annealed through."""
        return self.xy.temperatures

    @property
    def tol(self) -> float:
        return self.xy.tol


def sinkhorn_divergence(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    blur: float | None = None,
    epsilon: float | None = None,
    cost: str | Cost = "sqeuclidean",
    form: str = "entropic",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    scaling: float = 0.5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    init: Divergence | None = None,
    progress: bool = False,
) -> Divergence:
    """S_ε(α, β) = OT_ε(α, β) − ½ OT_ε(α, α) − ½ OT_ε(β, β) between two weighted point clouds.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        Points: NumPy arrays, torch tensors or anything that NumPy reads; float32 or float64.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights, of the same sum; None is 1/N each, zeros are allowed.
    blur : float, optional
        Length σ, with ε = p σ^p for a cost of degree p (2 σ² for ``"sqeuclidean"``).
    epsilon : float, optional
        Temperature ε, in units of the cost; ``inf`` is the exact limit. One of the two is given.
    cost : str or Cost, default "sqeuclidean"
        See `geomsink.costs.names`; symmetric.
    form : {"entropic", "sharp"}, default "entropic"
        ``"sharp"`` has ⟨P, C⟩ in place of OT_ε: half of Ē_ε of Genevay et al. 2018.
    tol : float, default 1e-3
        Marginal error ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁, relative to the mass, at which each problem stops. At the
        default, surfaces scanned in the unit cube (blur 0.05, 0.02 and 0.01) come out right to 1e-5 in
        value and to 1 % in the gradient that follows from the potentials. The sharp form is of first
        order in the marginal error and wants a smaller one.
    max_iter : int, default 1000
        Cycles of updates, at most, for each problem; annealing and one cycle after it are done in any case.
    scaling : float, default 0.5
        Factor of the blur from one temperature to the next while annealing.
    engine : {"auto", "keops", "dense"}, default "auto"
    dtype : {None, "float32", "float64"} or torch.dtype, optional
        Working precision. None takes the points' own, and float64 where float32 cannot reach ``tol``.
    multiscale : {None, True, False}, optional
        Whether to solve between cells of points first, and then between the points with far fewer pairs (see
        `Approximation`). None where it pays: for some four million pairs or more, if cells can be about as narrow as
        the blur; on the CPU alone.
    init : Divergence, optional
        An earlier one, of the same or slightly moved clouds, whose potentials are started from.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    Divergence

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.
    BuildError
        If ``engine="keops"`` and nothing can be compiled.

    Warns
    -----
    ConvergenceWarning
        If a problem did not reach ``tol``.

    Notes
    -----
    Values carry no autograd history. Feydy et al. 2019 (arXiv:1810.08278); Genevay et al. 2018
    (arXiv:1706.00292).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((200, 3))
    >>> r = sinkhorn_divergence(x, x + 0.1, blur=0.1)
    >>> round(r.value, 6), r.converged
    (0.03, True)
    """
    began = time.perf_counter()
    if form not in FORMS:
        raise ValueError(f"form: unknown name {form!r}; expected one of {', '.join(FORMS)}.")
    setup = Setup.of(
        x, y, a, b, blur, epsilon, cost, tol, max_iter, scaling, engine, dtype, multiscale, "sinkhorn_divergence"
    )
    if not setup.cost.symmetric:
        raise ValueError(f"cost: {setup.cost.name!r} is not symmetric, and a divergence compares a cloud with itself.")
    alpha, beta = setup.alpha, setup.beta
    starts = _starts(setup, init)
    with Progress(progress) as bar:
        xx = setup.solve("xx, 1 of 3", alpha, alpha, bar, starts["xx"])
        yy = setup.solve("yy, 2 of 3", beta, beta, bar, starts["yy"])
        xy = setup.solve("xy, 3 of 3", alpha, beta, bar, starts["xy"])
        xy, xx, yy = _refined(setup, xy, xx, yy, bar, form)
    solutions = {name: setup.solution(solved) for name, solved in (("xy", xy), ("xx", xx), ("yy", yy))}
    _warn({f"{name}: ": solution for name, solution in solutions.items()})
    # In float64, whatever the caller's precision: the three nearly cancel.
    if form == "entropic":
        parts = [setup.mass * solved.solver.value() for solved in (xy, xx, yy)]
    else:
        parts = [transport_cost(s.plan) for s in solutions.values()]
    return Divergence(
        setup.container.number(parts[0] - 0.5 * parts[1] - 0.5 * parts[2]),
        form,
        **solutions,
        epsilon=setup.epsilon,
        engine=solutions["xy"].engine,
        dtype=solutions["xy"].dtype,
        seconds=time.perf_counter() - began,
    )


def solve(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    blur: float | None = None,
    epsilon: float | None = None,
    cost: str | Cost = "sqeuclidean",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    scaling: float = 0.5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    init: Solution | tuple[Any, Any] | None = None,
    progress: bool = False,
) -> Solution:
    """OT_ε(α, β) = min_P ⟨P, C⟩ + ε KL(P | a ⊗ b) between two weighted point clouds.

    Takes the arguments of `sinkhorn_divergence`; the cost may be asymmetric, and ``init`` is an earlier Solution or
    potentials (f, g) to start from, arrays of shapes (N,) and (M,) in units of the cost.

    Returns
    -------
    Solution
        ``value``, ``transport_cost``, ``potentials`` (f, g), and the report of the solve.

    Raises
    ------
    TypeError, ValueError, BuildError
        As `sinkhorn_divergence`.

    Notes
    -----
    Cuturi 2013 (arXiv:1306.0895), in the log domain, with ε-scaling, over-relaxation and Newton's steps.

    Examples
    --------
    >>> import numpy as np
    >>> s = solve(np.zeros((1, 2)), np.array([[3.0, 4.0]]), epsilon=0.1)
    >>> s.value, s.transport_cost
    (25.0, 25.0)
    """
    setup = Setup.of(x, y, a, b, blur, epsilon, cost, tol, max_iter, scaling, engine, dtype, multiscale, "solve")
    start = None
    if init is not None:
        given = init.potentials if isinstance(init, Solution) else init
        start = setup.start("init", given, setup.alpha, setup.beta)
    with Progress(progress) as bar:
        solution = setup.solution(setup.solve("xy", setup.alpha, setup.beta, bar, start))
    _warn({"": solution})
    return solution


def _starts(setup: Setup, init: Divergence | None) -> dict[str, tuple[Tensor, Tensor] | None]:
    """Potentials to start the three problems from."""
    alpha, beta = setup.alpha, setup.beta
    if init is None:
        return {"xy": None, "xx": None, "yy": None}
    if not isinstance(init, Divergence):
        raise TypeError(f"init: a {type(init).__name__} was given, expected an earlier Divergence.")
    return {
        "xy": setup.start("init.xy", init.xy.potentials, alpha, beta),
        "xx": setup.start("init.xx", init.xx.potentials, alpha, alpha),
        "yy": setup.start("init.yy", init.yy.potentials, beta, beta),
    }


def _refined(
    setup: Setup, xy: Solved, xx: Solved, yy: Solved, bar: Progress, form: str
) -> tuple[Solved, Solved, Solved]:
    """The three solutions, solved further where they nearly cancel: clouds much closer than the blur.

    Dual values are low by about ε times the squared marginal error, and transport costs are off by about ε
    times the error itself: that must be little of S_ε. The problem xy starts again from the self problems'
    potentials p and q, because
    D_xy(p, q) − ½ D_xx(p) − ½ D_yy(q) = ½ ε ‖α e^{p/ε} − β e^{q/ε}‖² in the norm of the kernel exp(−C/ε)
    cannot be negative, and updates raise D_xy from there (Feydy et al. 2019).
    """
    epsilon = xy.solver.problem.epsilon
    for _ in range(REFINEMENTS):
        divergence = xy.solver.value() - 0.5 * xx.solver.value() - 0.5 * yy.solver.value()
        if not divergence < CLOSE * epsilon or epsilon == math.inf:
            break
        share = SHARE * max(divergence, 0.0) / epsilon
        wanted = max(math.sqrt(share) if form == "entropic" else share, FINEST)
        if setup.dtype is not None:
            wanted = max(wanted, 3.0 * xy.solver.problem.floor())
        if max(solved.solver.marginal_error for solved in (xy, xx, yy)) <= wanted:
            break
        finer = replace(setup, tol=wanted)
        xx = finer.solve("xx, refined", setup.alpha, setup.alpha, bar, xx.potentials, xx)
        yy = finer.solve("yy, refined", setup.beta, setup.beta, bar, yy.potentials, yy)
        xy = finer.solve("xy, refined", setup.alpha, setup.beta, bar, (xx.potentials[0], yy.potentials[0]), xy)
    return xy, xx, yy


def _warn(solutions: dict[str, Solution]) -> None:
    for name, s in solutions.items():
        if not s.converged:
            warnings.warn(
                f"{name}not converged, {s.status}: the marginal error is {s.marginal_error:.2e}, tol is {s.tol:.2e}.",
                ConvergenceWarning,
                stacklevel=3,
            )
