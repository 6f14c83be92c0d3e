"""GeomLoss's newer interface: ``from geomsink.compat.geomloss import ot``, in the place of GeomLoss's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ... import costs
from ...costs import Cost
from ...counts import flag, one_of
from ...divergences import MAX_ITER
from ...guards import guarded
from ..arguments import penalties, positive
from ..results import EntropicResult, LazyPlan, OTResult, between

__all__ = ["LazyPlan", "OTResult", "OTResultSample", "solve_sample"]

TOL = 1e-4
"""Of a solve, unless another is asked for."""
METHODS = ("auto",)
PENALTIES = {"KL": "kl", "TV": "tv"}


class OTResultSample(EntropicResult):
    """What `solve_sample` returns: see `OTResult`.

    Parameters
    ----------
    solved : object
        What `solve_sample` has solved.

    Attributes
    ----------
    potential_aa, potential_bb : arrays, shapes (N,) and (M,)
        Of the problems within the clouds, with ``debias``.
    density : array, shape (N, M)
        exp((f_i + g_j − C_ij)/ε).
    lazy_density, density_operator, plan_operator : LazyPlan
        With ``@``, and not stored.
    """

    def _constant(self) -> Tensor:
        """GeomLoss's value for fixed marginals is ⟨a, f⟩ + ⟨b, g⟩, which is OT_ε of masses of 1."""
        return self.entropy_of_mass

    @property
    def potential_aa(self) -> Any:
        return self._within("xx")

    @property
    def potential_bb(self) -> Any:
        return self._within("yy")

    def _within(self, name: str) -> Any:
        if self._divergence is None:
            raise ValueError("potential_aa, potential_bb: the problem was solved with debias=False, expected True.")
        return getattr(self._divergence, name).potentials[0]

    @property
    def plan_operator(self) -> LazyPlan:
        return self.lazy_plan

    @property
    def lazy_density(self) -> LazyPlan:
        """As the plan of points of weight 1."""
        plan, mass = self._solution.plan, self.mass.detach()
        epsilon, u, v = plan.operator.epsilon, plan.operator.u, plan.operator.v
        f, g = plan.f.detach() - epsilon * mass.log(), plan.g.detach()
        operator = replace(plan.operator, u=(f / epsilon).to(u), v=(g / epsilon).to(v))
        ones = torch.ones_like(plan.terms.a) / mass, torch.ones_like(plan.terms.b)
        return LazyPlan(replace(plan, operator=operator, terms=replace(plan.terms, a=ones[0], b=ones[1])))

    @property
    def density_operator(self) -> LazyPlan:
        return self.lazy_density

    @cached_property
    def density(self) -> Any:
        return self.lazy_density[:]


@guarded
def solve_sample(
    X_a: Any,
    X_b: Any,
    a: Any = None,
    b: Any = None,
    cost: str | Cost | Callable[[Any, Any], Any] = "sqeuclidean",
    debias: bool = False,
    reg: float | None = None,
    unbalanced: Any = None,
    unbalanced_type: str = "KL",
    method: str = "auto",
    max_iter: int | None = None,
    tol: float | None = None,
    blur: float | None = None,
    reach: float | None = None,
) -> OTResultSample:
    """min_P ⟨P, C⟩ + ε KL(P | a ⊗ b) + ρ KL(P1 | a) + ρ KL(Pᵀ1 | b) between two weighted clouds, as GeomLoss calls it.

    Parameters
    ----------
    X_a : array_like, shape (N, D)
    X_b : array_like, shape (M, D)
        Points: arrays, tensors or lists of lists.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights, of the same sum without ``unbalanced``; None is 1/N each.
    cost : str, Cost or callable, default "sqeuclidean"
        A name of `geomsink.costs.names`, or a function of the arrays of points, (N, D) and (M, D), to costs (N, M).
    debias : bool, default False
        Whether ``value`` is the Sinkhorn divergence; the plan and the potentials are those between the clouds anyway.
    reg : float, optional
        ε, in units of the cost. One of ``reg`` and ``blur`` is given.
    unbalanced : float or pair of float, optional
        ρ, in units of the cost, of both marginals or of each; None and ``inf`` are fixed marginals.
    unbalanced_type : {"KL", "TV"}, default "KL"
        What P1 and Pᵀ1 are compared with a and b by.
    method : {"auto"}
    max_iter : int, optional
        Cycles of updates at most; None is 1000. GeomLoss makes so many in any case, and wants a number.
    tol : float, optional
        What the problem is solved to: see `geomsink.solve`. None is 1e-4.
    blur, reach : float, optional
        Lengths σ in the place of ``reg`` and ``unbalanced``: ε = 2 blur² for ``"sqeuclidean"``, p blur^p for a cost of
        degree p; blur for a function.

    Returns
    -------
    OTResultSample
        ``value`` with autograd history in points and weights. Potentials are in units of the cost.

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Warns
    -----
    ConvergenceWarning
        When the problem was not solved to ``tol``.

    Notes
    -----
    Feydy et al. 2019 (arXiv:1810.08278); Séjourné et al. 2019 (arXiv:1910.12958).

    Examples
    --------
    >>> solution = solve_sample([[0, 0], [0, 2]], [[2, 1], [2, 2]], reg=0.001, max_iter=100)
    >>> solution.plan.round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    >>> print(f"{solution.value:.3f}")
    4.501
    """
    one_of("method", method, METHODS)
    flag("debias", debias)
    one_of("unbalanced_type", unbalanced_type, PENALTIES)
    ground: Any = cost if callable(cost) and not isinstance(cost, Cost) else costs.get(cost)
    for name, value, of, length in (("reg", reg, "blur", blur), ("unbalanced", unbalanced, "reach", reach)):
        if value is not None and length is not None:
            raise ValueError(f"{name}, {of}: both were ({value} and {length}) given, expected one of them.")
    if reg is None and blur is None:
        raise ValueError("reg, blur: neither was given, expected one of them.")
    epsilon = positive("reg", reg) if blur is None else _of_length("blur", blur, ground)
    rho = penalties("unbalanced", unbalanced if reach is None else _of_length("reach", reach, ground))
    solved = between(
        X_a, X_b, a, b, ground, debias, epsilon=epsilon, rho=rho, penalty=PENALTIES[unbalanced_type] if rho else "kl",
        tol=TOL if tol is None else tol, max_iter=MAX_ITER if max_iter is None else max_iter,
    )  # fmt: skip
    return OTResultSample(solved)


def _of_length(name: str, length: Any, cost: Any) -> float:
    """A length in units of the cost."""
    number = positive(name, length)
    return cost.epsilon(number, name) if isinstance(cost, Cost) else number
