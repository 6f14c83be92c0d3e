"""Sinkhorn divergences and entropic transport costs, as functions of points and weights."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import costs, engine
from .annealing import largest_cost, temperatures
from .costs import Cost
from .engine import Pair
from .measures import Container, Measure, pair_of_measures
from .progress import Progress
from .sinkhorn import ROUNDING, ConvergenceWarning, Problem, Solution, Solver, solve_problem

TOL = 1e-3
MAX_ITER = 1000
FORMS = ("entropic", "sharp")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
FEW_PAIRS = 2**20
"""Up to this many pairs float64 costs nothing that anyone would notice."""
CLOSE = 1e-2
"""A divergence below this many ε is computed again from the self problems' potentials, see `_keep_sign`."""


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
        Cycles of updates, at most, for each problem.
    scaling : float, default 0.5
        Factor of the blur from one temperature to the next while annealing.
    engine : {"auto", "keops", "dense"}, default "auto"
    dtype : {None, "float32", "float64"} or torch.dtype, optional
        Working precision. None takes the points' own, and float64 where float32 cannot reach ``tol``.
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
    setup = _Setup.of(x, y, a, b, blur, epsilon, cost, tol, max_iter, scaling, engine, dtype, "sinkhorn_divergence")
    if not setup.cost.symmetric:
        raise ValueError(f"cost: {setup.cost.name!r} is not symmetric, and a divergence compares a cloud with itself.")
    alpha, beta = setup.alpha, setup.beta
    with Progress(progress) as bar:
        xx, yy = setup.solve("xx", alpha, alpha, bar), setup.solve("yy", beta, beta, bar)
        xy = setup.solve("xy", alpha, beta, bar)
        xy = _keep_sign(setup, xy, xx, yy, bar)
    solutions = [setup.solution(*s) for s in (xy, xx, yy)]
    _warn(dict(zip(("xy", "xx", "yy"), solutions)))
    parts = [float(s.value if form == "entropic" else s.transport_cost) for s in solutions]
    if form == "entropic":
        parts = [s[0].value() for s in (xy, xx, yy)]
    return Divergence(
        setup.container.number(parts[0] - 0.5 * parts[1] - 0.5 * parts[2]),
        form,
        *solutions,
        epsilon=setup.epsilon,
        engine=solutions[0].engine,
        dtype=solutions[0].dtype,
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
    progress: bool = False,
) -> Solution:
    """OT_ε(α, β) = min_P ⟨P, C⟩ + ε KL(P | a ⊗ b) between two weighted point clouds.

    Takes the arguments of `sinkhorn_divergence`; the cost may be asymmetric.

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
    Cuturi 2013 (arXiv:1306.0895), in the log domain, with ε-scaling and over-relaxation.

    Examples
    --------
    >>> import numpy as np
    >>> s = solve(np.zeros((1, 2)), np.array([[3.0, 4.0]]), epsilon=0.1)
    >>> s.value, s.transport_cost
    (25.0, 25.0)
    """
    setup = _Setup.of(x, y, a, b, blur, epsilon, cost, tol, max_iter, scaling, engine, dtype, "solve")
    with Progress(progress) as bar:
        solution = setup.solution(*setup.solve("xy", setup.alpha, setup.beta, bar))
    _warn({"": solution})
    return solution


Solved = tuple[Solver, str, float]


@dataclass(frozen=True)
class _Setup:
    """Validated arguments, and what is shared by the problems between the two measures."""

    alpha: Measure
    beta: Measure
    container: Container
    cost: Cost
    epsilon: float
    tol: float
    max_iter: int
    scaling: float
    engine: str
    dtype: torch.dtype | None
    cost_scale: float

    @classmethod
    def of(
        cls, x: Any, y: Any, a: Any, b: Any, blur: Any, epsilon: Any, cost: Any, tol: float, max_iter: int,
        scaling: float, engine_name: str, dtype: Any, caller: str,
    ) -> _Setup:  # fmt: skip
        ground = costs.get(cost)
        target = costs.temperature(ground, blur, epsilon)
        engine.check_name(engine_name)
        working = _dtype(dtype)
        if not tol > 0:
            raise ValueError(f"tol: {tol} given, expected a positive marginal error.")
        if not (isinstance(max_iter, int) and max_iter >= 1):
            raise ValueError(f"max_iter: {max_iter} given, expected a whole number of at least 1.")
        alpha, beta, container = pair_of_measures(x, y, a, b)
        if any(isinstance(t, Tensor) and t.requires_grad for t in (x, y, a, b)):
            warnings.warn(f"{caller} carries no autograd history: its value is a constant.", stacklevel=3)
        if target == float("inf") and abs(alpha.mass - 1.0) > 1e-6:
            raise ValueError(f"epsilon: inf is given with weights that sum to {alpha.mass:.6g}, expected 1.")
        points = [m.points.double() for m in (alpha, beta)]
        if ground.translation_invariant:
            # Rounding errors of a cost are relative to the coordinates: keep those small.
            centre = 0.5 * (points[0].mean(0) + points[1].mean(0))
            points = [p - centre for p in points]
        features = [ground.map(p) for p in points]
        scale = largest_cost(features[0], features[1], ground)
        temperatures(scale, target, scaling, ground.degree)
        return cls(
            Measure(features[0], alpha.weights), Measure(features[1], beta.weights), container, ground, target,
            tol, max_iter, scaling, engine_name, working, scale,
        )  # fmt: skip

    def solve(self, name: str, alpha: Measure, beta: Measure, bar: Progress, start: Any = None) -> Solved:
        """Solve between two of the measures, in float64 after float32 if the latter does not reach ``tol``."""
        dtype = self._working_dtype(alpha, beta)
        solved = self._solve_in(dtype, name, alpha, beta, bar, start)
        if self.dtype is None and dtype == torch.float32 and "floor" in solved[1]:
            state = solved[0].state
            again = self._solve_in(torch.float64, name, alpha, beta, bar, (state.f, state.g))
            again[0].history[:0] = solved[0].history
            solved = again[0], again[1], solved[2] + again[2]
        return solved

    def _solve_in(
        self, dtype: torch.dtype, name: str, alpha: Measure, beta: Measure, bar: Progress, start: Any
    ) -> Solved:
        steps = temperatures(self.cost_scale, self.epsilon, self.scaling, self.cost.degree)
        x = alpha.points.to(dtype)
        y = x if beta is alpha else beta.points.to(dtype)
        pair: Pair = engine.pair(x, y, self.cost, self.engine)
        bar.begin(name, steps[0], self.epsilon)
        return solve_problem(Problem(alpha, beta, pair, steps, self.cost_scale), self.tol, self.max_iter, bar, start)

    def _working_dtype(self, alpha: Measure, beta: Measure) -> torch.dtype:
        if self.dtype is not None:
            return self.dtype
        if self.container.dtype == torch.float64 or len(alpha.points) * len(beta.points) <= FEW_PAIRS:
            return torch.float64
        # Exponents C/ε are rounded relative to their size; potentials, relative to ε.
        spread = max(self.cost_scale / self.epsilon, self.epsilon / max(self.cost_scale, 1e-300))
        return torch.float32 if ROUNDING[torch.float32] * spread <= self.tol else torch.float64

    def solution(self, solver: Solver, status: str, seconds: float) -> Solution:
        """The report of a solve, in the caller's kind of arrays."""
        alpha, beta, state = solver.problem.alpha, solver.problem.beta, solver.state
        shift = float(beta.weights @ state.g - alpha.weights @ state.f) / (alpha.mass + beta.mass)
        potentials = (self.container.array(state.f + shift), self.container.array(state.g - shift))
        return Solution(
            value=self.container.number(solver.value()),
            potentials=potentials,
            converged=status == "converged",
            status=status,
            marginal_error=solver.marginal_error,
            n_iter=solver.cycles,
            epsilon=self.epsilon,
            temperatures=solver.problem.temperatures,
            tol=self.tol,
            engine=solver.problem.pair.name,
            dtype=solver.dtype,
            seconds=seconds,
            history=tuple(solver.history),
            _plan=solver.plan(),
        )


def _keep_sign(setup: _Setup, xy: Solved, xx: Solved, yy: Solved, bar: Progress) -> Solved:
    """For clouds much closer than the blur: a solution of xy with which S_ε is not negative.

    For any potentials p, q the dual values obey D_xy(p, q) − ½ D_xx(p) − ½ D_yy(q) = ½ ε ‖α e^{p/ε} − β e^{q/ε}‖²
    in the norm of the kernel exp(−C/ε), so that plain updates from the self problems' potentials, which only
    raise D_xy, end above zero (Feydy et al. 2019).
    """
    divergence = xy[0].value() - 0.5 * xx[0].value() - 0.5 * yy[0].value()
    if not divergence < CLOSE * setup.epsilon or setup.epsilon == float("inf"):
        return xy
    start = (xx[0].state.f, yy[0].state.f)
    again = setup.solve("xy", setup.alpha, setup.beta, bar, start)
    return max((xy, again), key=lambda solved: solved[0].value())


def _dtype(dtype: Any) -> torch.dtype | None:
    name = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
    if name is None:
        return None
    if name not in DTYPES:
        raise ValueError(f"dtype: {dtype!r} given, expected None, 'float32' or 'float64'.")
    return DTYPES[name]


def _warn(solutions: dict[str, Solution]) -> None:
    for name, s in solutions.items():
        if not s.converged:
            warnings.warn(
                f"{f'{name}: ' if name else ''}not converged, {s.status}: the marginal error is {s.marginal_error:.2e}, "
                f"tol is {s.tol:.2e}.",
                ConvergenceWarning,
                stacklevel=3,
            )
