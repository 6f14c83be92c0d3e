"""What the solution of a transport problem says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

import torch
from torch import Tensor

from ..certificates import Interval
from ..copies import Constant
from ..counts import one_of
from ..measures import Array, Value
from ..plan import Plan
from ..processes import Traffic
from ..shown import Curve, Facts, Valued, interval, seconds, sizes, state
from ..solver import Approximation, Balanced, LinearSolve, Step


class ConvergenceWarning(UserWarning):
    """A solve stopped before its marginal error, or the error of its value, was what ``tol`` asks for."""


class Scattered(Plan):
    """In the place of a plan whose rows and columns lie on several processes: it has a shape, and says so to whatever
    else it is asked."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Without any of a plan's numbers."""
        object.__setattr__(self, "whole", shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Points of the two whole clouds."""
        found: tuple[int, ...] = self.__dict__["whole"]
        return found

    def _facts(self) -> Facts:
        return {"shape": sizes(self.shape, "entries"), "on": "several processes"}

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError("plan: it was asked for after a solve with group=, whose processes have parts of it each.")


@dataclass(frozen=True, repr=False)
class Solution(Valued, Constant, Generic[Value, Array]):
    """A solved problem OT_ε(α, β), and how well it is solved. Deep copies and pickles are constants, without history.

    ``float(solution)`` and ``format(solution, ".3f")`` are those of its value.

    Attributes
    ----------
    value : float or Tensor
        The dual value, ⟨a, f⟩ + ⟨b, g⟩ − ε (Σ P_ij − m²) for fixed marginals of mass m; of a batch (B,). It is a lower
        bound of OT_ε(α, β).
    potentials : tuple of arrays, shapes (N,) and (M,)
        f and g, in units of the cost, shifted so that ⟨a, f⟩ = ⟨b, g⟩ if both marginals are fixed. They have autograd
        history with implicit differentiation, and unrolled.
    converged : bool
    status : str
        ``"converged"``, or why not.
    marginal_error : float
        ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of the plan P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), relative to the mass; of a batch,
        the largest. With penalties, a and b are what the potentials ask for, and the mass is theirs: what is
        transported.
    marginal_errors : array, shape (B,), or None
        Of each item of a batch.
    value_error : float or Tensor
        What the value is off by, about and at most: Newton's decrement at the potentials found, with rounding, or,
        where that tells nothing, the distance to a certified bound.
    n_iter : int
        Cycles, of one update of each potential; annealing included.
    epsilon : float
    temperatures : tuple of float
        Annealed through.
    tol : float
    strategy : str
        How it was solved: ``"one-level"``, over all pairs; ``"coarse-to-fine"``, between cells first; ``"sketched"``,
        between a few points of each cloud; ``"path-following"``, down the temperatures, and ``"item-by-item"``, the
        same of each item of a batch; ``"unrolled"``, by chosen iterations; ``"limit"``, the closed form at ε = ∞.
    engine : str
    dtype : str
        The working precision.
    seconds : float
    lower, upper : float or Tensor, or None
        OT_ε(α, β) is certain to be between them, whatever the solve: truncation and rounding are accounted for. Only
        with ``certify=True`` or ``tol_gap``. Constants, rounded outwards.
    approximation : Approximation or None
        The levels, truncation and sketches of a solve on several levels; None is one over all pairs.
    history : tuple of Step
    plan : Plan
        P, as an operator: ``plan @ w``. Not after solves with ``group=``.
    linear_solves : list of LinearSolve
        Those of implicit differentiation so far: it grows with every backward pass.
    in_difference : Tensor
        The value in float64, whatever the caller's precision, without what cancels in a divergence.
    interval : Interval or None
        The same of the certified bounds.
    """

    value: Value
    potentials: tuple[Array, Array]
    converged: bool
    status: str
    marginal_error: float
    marginal_errors: Any
    value_error: Value
    n_iter: int
    epsilon: float
    temperatures: tuple[float, ...]
    tol: float
    strategy: str
    engine: str
    dtype: str
    seconds: float
    lower: Value | None
    upper: Value | None
    approximation: Approximation | None
    history: tuple[Step, ...]
    plan: Plan[Value, Array]
    linear_solves: list[LinearSolve]
    in_difference: Tensor
    interval: Interval | None

    def _facts(self) -> Facts:
        return _solved(self)

    def _curve(self) -> Curve:
        points = [(step.evaluations, step.marginal_error) for step in self.history]
        return Curve(points, self.tol, "marginal error", "evaluations")

    @property
    def gap(self) -> Value | None:
        """The width of the certified interval, or None."""
        width: Value | None = _gap(self.lower, self.upper)
        return width

    def loss(self, form: str) -> Value:
        """The value, or ⟨P, C⟩ and the penalties of the marginals for the form ``"sharp"``.

        Parameters
        ----------
        form : {"entropic", "sharp"}

        Returns
        -------
        float or Tensor
            Of a batch (B,).

        Raises
        ------
        ValueError
            For another form.
        """
        one_of("form", form, ("entropic", "sharp"))
        return self.plan.sharp_value if form == "sharp" else self.value

    @cached_property
    def transport_cost(self) -> Value:
        """⟨P, C⟩, by one reduction when first asked for; its error is of first order in that of the plan, which the
        solve did not look at.

        It has autograd history where the potentials have: with implicit differentiation, and unrolled.
        """
        return self.plan.transport_cost


class OfProblems(Valued, Constant):
    """What is made of several transport problems, and as well solved as the worst of them."""

    def _problems(self) -> dict[str, Solution[Any, Any]]:
        """By their names."""
        raise AssertionError("each result says its own")

    @property
    def converged(self) -> bool:
        """Whether all problems are."""
        return all(s.converged for s in self._problems().values())

    @property
    def status(self) -> str:
        """``"converged"``, or which problem stopped why."""
        return "; ".join(f"{k}: {s.status}" for k, s in self._problems().items() if not s.converged) or "converged"

    @property
    def marginal_error(self) -> float:
        """The largest of them."""
        return max(s.marginal_error for s in self._problems().values())

    @property
    def n_iter(self) -> int:
        """Cycles of all."""
        return sum(s.n_iter for s in self._problems().values())

    @property
    def tol(self) -> float:
        return next(iter(self._problems().values())).tol


@dataclass(frozen=True, repr=False)
class Divergence(OfProblems, Generic[Value, Array]):
    """A Sinkhorn divergence S_ε(α, β), and how well it is solved. Deep copies and pickles are constants.

    ``float(divergence)`` and ``format(divergence, ".3f")`` are those of its value.

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
    lower, upper : float or Tensor, or None
        S_ε(α, β) is certain to be between them: from the intervals of the three. Only with ``certify=True`` or
        ``tol_gap``.
    value_error : float or Tensor
        What the value is off by, about and at most.
    shortfall : str
        Why the value is less right than ``tol`` asks for, or the interval wider than ``tol_gap`` does; empty if they
        are not.
    traffic : Traffic or None
        With ``group=``, what this process has sent to the others for it: ``messages`` and ``bytes``.
    """

    value: Value
    form: str
    xy: Solution[Value, Array]
    xx: Solution[Value, Array]
    yy: Solution[Value, Array]
    epsilon: float
    engine: str
    dtype: str
    seconds: float
    lower: Value | None
    upper: Value | None
    value_error: Value
    shortfall: str
    traffic: Traffic | None = None

    def _facts(self) -> Facts:
        return _solved(self)

    def _curve(self) -> Curve:
        return self.xy._curve()

    @property
    def plan(self) -> Plan[Value, Array]:
        """That between the two clouds, of ``xy``."""
        return self.xy.plan

    @property
    def length(self) -> Value | None:
        """About how far mass moves, in the units of the coordinates: (S_ε/(λ m))^(1/p) for a cost of λ times the p-th
        power of a length and marginals of mass m, so √S_ε of two probability measures and the squared distance.

        None where the cost is no power of a length, where marginals are not fixed, and after solves with ``group=``.
        """
        if self.traffic is not None:
            return None
        terms = self.plan.terms
        if terms.cost.degree is None or not all(isinstance(penalty, Balanced) for penalty in terms.penalties):
            return None
        value = torch.as_tensor(self.value, dtype=torch.float64, device=terms.a.device).detach().clamp(min=0.0)
        length = (value / (terms.cost.unit * terms.a.detach().sum(-1))) ** (1.0 / terms.cost.degree)
        found: Value = self.plan.container.number(length)
        return found

    @property
    def potentials(self) -> tuple[Array, Array]:
        """f and g of ``xy``, shapes (N,) and (M,), in units of the cost."""
        return self.xy.potentials

    def plot(self, names: tuple[str, str] = ("x", "y")) -> Any:
        """Both clouds with their debiased potentials, and the convergence: `geomsink.plotting.plot_divergence`.

        Parameters
        ----------
        names : tuple of two str
            What to call the clouds.

        Returns
        -------
        figure : matplotlib figure

        Raises
        ------
        ValueError
            For a batch.
        ImportError
            Without matplotlib.
        """
        from .. import plotting

        if len(self.plan.shape) > 2:
            raise ValueError(f"plot: a batch of {self.plan.shape[0]} divergences was given, expected a single one.")
        clouds = self.plan.clouds
        return plotting.plot_divergence(self, clouds.x.detach().cpu(), clouds.y.detach().cpu(), names)

    @property
    def gap(self) -> Value | None:
        """The width of the certified interval, or None."""
        width: Value | None = _gap(self.lower, self.upper)
        return width

    def _problems(self) -> dict[str, Solution[Any, Any]]:
        return {"xy": self.xy, "xx": self.xx, "yy": self.yy}

    @property
    def converged(self) -> bool:
        """Whether all three problems are, the value is right, and the interval is as narrow as was asked for."""
        return super().converged and not self.shortfall

    @property
    def status(self) -> str:
        """``"converged"``, or which problem stopped why, and what the value falls short of."""
        if not self.shortfall:
            return super().status
        return self.shortfall if super().converged else f"{super().status}; {self.shortfall}"

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Those that the problem between the two clouds was annealed through."""
        return self.xy.temperatures


def _solved(result: Any) -> Facts:
    """What is shown of a solution, and of a divergence."""
    return {
        "value": result.value,
        "state": state(result.converged, result.status),
        "interval": interval(result.lower, result.upper),
        "marginal_error": result.marginal_error,
        "points": sizes(result.plan.shape),
        "seconds": seconds(result.seconds),
    }


def _gap(lower: Any, upper: Any) -> Any:
    return None if lower is None or upper is None else upper - lower
