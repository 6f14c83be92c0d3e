"""Intervals for transport costs without regularisation, from one entropic solve."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Generic

import torch
from torch import Tensor

from ..certificates import Interval, Scaled, Sides, Total, balanced, rest_cost
from ..costs import power
from ..counts import flag, number
from ..guards import guarded
from ..measures import Value
from ..progress import Progress
from ..shown import Curve, Facts, Shown, interval, seconds, sizes
from .comparison import warn_of
from .exact import PROPOSED, exact_transport, proposing
from .kinds import by_kind
from .narrowing import sides_of
from .options import MAX_ITER, TOL, Options
from .problems import Problems
from .reports import solution_of
from .requests import Request
from .solution import Solution

FRACTION = 0.01
"""Of the largest distance, the default blur."""
ROUGH = 0.2
"""Share of an interval that rounding in float32 may have before the plan is summed in float64."""


@dataclass(frozen=True, repr=False)
class WassersteinBounds(Shown, Generic[Value]):
    """Where an optimal transport cost is, for certain.

    Attributes
    ----------
    lower, upper : float or Tensor
        min ⟨P, C⟩ over the plans between the two measures, C_ij = ‖x_i − y_j‖^p, is between them: W_p^p if the measures
        have mass 1.
    distance : tuple of two floats or Tensors
        The same of W_p, for the measures scaled to mass 1.
    p : float
    epsilon : float
        Of the entropic solve.
    solution : Solution
        That solve.
    seconds : float
    """

    lower: Value
    upper: Value
    distance: tuple[Value, Value]
    p: float
    epsilon: float
    solution: Solution[Value]
    seconds: float

    def _facts(self) -> Facts:
        return {
            "cost": interval(self.lower, self.upper, "cost"),
            "distance": interval(*self.distance, "distance"),
            "p": self.p,
            "points": sizes(self.solution.plan.shape),
            "seconds": seconds(self.seconds),
        }

    def _curve(self) -> Curve:
        return self.solution._curve()

    @property
    def gap(self) -> Value:
        """The width of the interval of the cost."""
        width: Any = self.upper
        found: Value = width - self.lower
        return found


@by_kind
@guarded
def wasserstein_bounds(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    p: float = 2.0,
    blur: float | None = None,
    epsilon: float | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    scaling: float = 0.5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    exact: bool = False,
    progress: bool = False,
) -> WassersteinBounds:
    """An interval that contains the optimal transport cost min_P ⟨P, C⟩ with C_ij = ‖x_i − y_j‖^p, not regularised.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        As `geomsink.sinkhorn_divergence` takes them; single clouds.
    p : float, default 2
        In ]0, 2].
    blur, epsilon : float, optional
        Of the entropic solve, one of them at most. The smaller, the narrower the interval and the longer the solve; by
        default the blur is a hundredth of about the largest distance; three times the distance to the next point, with
        ``exact``.
    tol, max_iter, scaling, engine, dtype, multiscale, progress
        As `geomsink.sinkhorn_divergence` takes them.
    exact : bool, default False
        Whether to find the cost itself, as `geomsink.transport.matching` does: the interval is then as narrow as
        rounding in float64 allows. The entropic solve only proposes pairs, and at the default blur it is solved to a
        marginal error of 0.1, in 20 cycles at most, where ``tol`` and ``max_iter`` are not given.

    Returns
    -------
    WassersteinBounds
        Constants, without autograd history.

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Warns
    -----
    ConvergenceWarning
        If the solve did not reach ``tol``. The interval is right all the same.

    Notes
    -----
    From below: potentials of the solve made feasible by c-transforms, f_i = min_j (C_ij − g_j) and then
    g_j = min_i (C_ij − f_i), from each of the two, give ⟨a, f⟩ + ⟨b, g⟩ (Peyré, Cuturi 2019, arXiv:1803.00567,
    section 5). From above: the cost of the entropic plan after rounding it to the marginals (Altschuler, Weed, Rigollet
    2017, arXiv:1705.09634). Truncation and rounding errors are accounted for.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((100, 2))
    >>> bounds = wasserstein_bounds(x, x + 0.5, blur=0.01)
    >>> bounds.lower <= 0.5 <= bounds.upper, round(bounds.lower, 3), round(bounds.upper, 3)
    (True, 0.5, 0.5)
    """
    began = time.perf_counter()
    p = number("p", p)
    cost = power(p)
    flag("exact", exact)
    how: dict[str, Any] = dict(
        cost=cost, tol=tol, max_iter=max_iter, scaling=scaling, engine=engine, dtype=dtype, multiscale=multiscale
    )
    request = Request.single(x, y, a, b, blur, epsilon, how)
    if blur is None and epsilon is None:
        scale = request.cost_scale
        if exact:
            rough = {name: value for name, value in PROPOSED.items() if how[name] == getattr(Options, name)}
            request = proposing(request, how | rough)
        else:  # points that are all in one place have no scale, and any temperature will do
            request = request.at(Options(blur=FRACTION * scale ** (1.0 / p) if scale > 0.0 else 1.0, **how))
    solution, lower, upper = (_exactly if exact else _between)(request, progress)
    container, mass = request.container, request.mass
    lengths = [bound.clamp(min=0.0) ** (1.0 / p) for bound in (lower, upper)]
    return WassersteinBounds(
        container.bound(mass * lower, -1),
        container.bound(mass * upper, 1),
        (container.bound(lengths[0] * (1.0 - 1e-15), -1), container.bound(lengths[1] * (1.0 + 1e-15), 1)),
        p,
        request.epsilon,
        solution,
        time.perf_counter() - began,
    )


def _between(request: Request, progress: bool) -> tuple[Solution, Tensor, Tensor]:
    """An entropic solve and the interval that follows from it, for measures of mass 1."""
    problems = Problems(request)
    with Progress(progress) as bar:
        solved = problems.solve("xy", request.alpha, request.beta, bar)
    sides = sides_of(problems, solved)
    interval = transport_bounds(sides, *solved.potentials)
    if sides.dtype == torch.float32 and bool(interval.uncertain > ROUGH * interval.gap):
        finer = _cost_above(sides_of(problems, solved, torch.float64), *solved.potentials)
        interval = replace(interval, upper=torch.minimum(interval.upper, finer[0]))
    solution = solution_of(problems, solved)
    warn_of({"": solution}, request.options)
    return solution, interval.lower, interval.upper


def _exactly(request: Request, progress: bool) -> tuple[Solution, Tensor, Tensor]:
    """The solve that candidates come from, and the ends of what rounding leaves of the interval."""
    with Progress(progress) as bar:
        optimum, problems, solved = exact_transport(request, bar)
    off = optimum.rounding
    lower, upper = (request.mass.new_tensor(end) for end in (optimum.lower - off, optimum.cost + off))
    return solution_of(problems, solved), lower, upper


def transport_bounds(sides: Sides, f: Tensor, g: Tensor) -> Interval:
    """An interval that contains min ⟨P, C⟩, for costs that are not negative and measures of mass 1.

    Parameters
    ----------
    sides : Sides
    f, g : Tensor, shapes (N,) and (M,), float64
        Potentials, of an entropic problem.
    """
    upper, uncertain = _cost_above(sides, f, g)
    return Interval(torch.maximum(_below(sides, g), _below(sides.T, f)), upper, uncertain)


def _cost_above(sides: Sides, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The cost of the entropic plan, completed, or of a ⊗ b; and what uncertainty has of it."""
    plan, problem = Scaled.of(sides, f, g), sides.problem
    u, v = plan.f / problem.epsilon, plan.g / problem.epsilon + problem.beta.log_weights
    left, certain = balanced(plan.left)
    rest = rest_cost(sides, left, (torch.zeros_like(f), torch.zeros_like(g)))
    upper = Total(problem.alpha.weights, sides.rows.cost_sums(u, v)).plus_number(rest)
    coupled = sides.product_cost(left[0].certain, left[1].certain, certain)[1]
    whole = sides.product_cost(*_weights(sides), certain.new_ones(()))[1]
    return torch.minimum(upper.plus_number(coupled).high, whole), rest


def _below(sides: Sides, g: Tensor) -> Tensor:
    """The dual value of g and its c-transform, or of the transform and its own."""
    a, b = _weights(sides)
    f = _transform(sides, g)
    once = Total(a, f).plus(b, g)
    # In columns without weight g is free, and any other is not above the transform of f.
    twice = Total(a, f).plus(b, _transform(sides.T, f))
    return torch.maximum(once.low, twice.low)


def _transform(sides: Sides, g: Tensor) -> Tensor:
    """A lower bound of min_j (C_ij − g_j), over columns that have weight."""
    epsilon, there = sides.problem.epsilon, sides.problem.beta.weights > 0.0
    exponents = (g / epsilon).masked_fill(~there, -1e30)
    # Rounded up, exponents belong to a larger g, whose transform is smaller.
    rounded = exponents.to(sides.dtype)
    rounded = torch.where(rounded.double() < exponents, torch.nextafter(rounded, rounded.new_tensor(math.inf)), rounded)
    return -epsilon * sides.costs[0].largest(rounded.double())


def _weights(sides: Sides) -> tuple[Tensor, Tensor]:
    return sides.problem.alpha.weights, sides.problem.beta.weights
