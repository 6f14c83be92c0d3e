"""The results of GeomLoss's and POT's newer interfaces, by the names that both use, made of ours."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..costs import Cost
from ..divergences import Divergence, Options, Solution, compare, transport, warn_of
from ..measures import Container, is_list, pair_of_measures, tensor
from ..plan import Plan
from ..solver import Balanced
from .pairwise import Pairwise, matrix_cost

LEAST = 1e-6
"""Share of its row's sum that an entry of a sparse plan has."""


class LazyPlan:
    """A plan that is not stored: rows and columns of it, sums and products.

    Parameters
    ----------
    plan : Plan

    Examples
    --------
    >>> import geomsink
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> P = LazyPlan(geomsink.solve(x, x, epsilon=0.05).plan)
    >>> P[:2].round(decimals=3)
    tensor([[0.3330, 0.0000, 0.0000],
            [0.0000, 0.3330, 0.0000]])
    """

    ndim = 2

    def __init__(self, plan: Plan):
        self._plan = plan

    @property
    def shape(self) -> tuple[int, ...]:
        return self._plan.shape

    @property
    def dtype(self) -> Any:
        return self._plan.dtype

    @property
    def T(self) -> LazyPlan:
        return LazyPlan(self._plan.T)

    def __getitem__(self, key: Any) -> Any:
        """Some rows and columns as a matrix; a whole number stands for a slice of length one."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > 2 or not all(isinstance(k, (int, slice)) for k in keys):
            raise TypeError(f"lazy_plan: {key!r} given, expected one or two slices or whole numbers.")
        found: list[slice] = []
        for k, size in zip((*keys, slice(None))[:2], self.shape, strict=True):
            if isinstance(k, int) and not -size <= k < size:
                raise IndexError(f"lazy_plan: {k} given, expected less than {size}.")
            found.append(k if isinstance(k, slice) else slice(k % size, k % size + 1))
        return self._plan.to_dense(*found)

    def __matmul__(self, w: Any) -> Any:
        """P w, shape (N,) or (N, E), for w of shape (M,) or (M, E)."""
        return self._plan @ w

    def sum(self, axis: int | None = None) -> Any:
        """The sum of all entries, of columns or of rows.

        Parameters
        ----------
        axis : {None, 0, 1}, default None
            None sums all entries, 0 those of each column, 1 those of each row.

        Returns
        -------
        scalar, or array, shape (M,) or (N,)
        """
        if axis is None:
            return self._plan.mass
        return self._plan.row_marginal() if axis % 2 else self._plan.column_marginal()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


class OTResult(ABC):
    """A solved problem; what its value does not need is computed when it is asked for first.

    Parameters
    ----------
    clouds : object
        What `solve_sample`, which makes these, keeps of the clouds.

    Attributes
    ----------
    value : scalar
        Of the problem, with regularisation and penalties; with ``debias`` the divergence.
    value_linear : scalar
        ⟨P, C⟩; with ``debias`` less half of those within the clouds.
    potentials : pair of arrays, shapes (N,) and (M,)
        Also ``potential_a`` and ``potential_b``. What they are the function says that solved it.
    plan : array, shape (N, M)
        Up to 2^26 entries.
    lazy_plan : LazyPlan or None
        None of an exact plan, which is sparse.
    sparse_plan : scipy.sparse.csr_array or sparse torch.Tensor
        Of an entropic plan, the entries of at least a millionth of their rows' sums.
    marginals : pair of arrays
        P1 and Pᵀ1; also ``marginal_a`` and ``marginal_b``.
    a_to_b, b_to_a : arrays, shapes (N, D) and (M, D)
        Displacements of the points to the means of what they are sent to; NaN of points without weight.
    status : str
        ``"converged"`` or ``"exact"``, or why not.
    log : dict
        ``"report"`` is ours: a `Solution`, `Divergence` or `Matching`. With ``debias`` there are also ``"res_ab"``,
        ``"res_aa"`` and ``"res_bb"``, the results of the three problems.
    """

    value_linear: Any
    potentials: Any
    plan: Any
    lazy_plan: Any = None
    sparse_plan: Any
    marginals: Any

    def __init__(self, clouds: tuple[Any, Any], value: Any, status: str, log: dict[str, Any]):
        self._clouds, self.value, self.status, self.log = clouds, value, status, log

    @abstractmethod
    def _product(self, side: int, w: Any) -> Any:
        """P w, or Pᵀ w."""

    @cached_property
    def a_to_b(self) -> Any:
        return self._displacement(0)

    @cached_property
    def b_to_a(self) -> Any:
        return self._displacement(1)

    def _displacement(self, side: int) -> Any:
        (x, y), _, container = pair_of_measures(*self._clouds, names=("X_a", "X_b"))
        here, there = (container.array(p, k) for k, p in enumerate((x, y)))
        if side:
            here, there = there, here
        with np.errstate(invalid="ignore"):
            return self._product(side, there) / self.marginals[side][:, None] - here

    @property
    def potential_a(self) -> Any:
        return self.potentials[0]

    @property
    def potential_b(self) -> Any:
        return self.potentials[1]

    @property
    def marginal_a(self) -> Any:
        return self.marginals[0]

    @property
    def marginal_b(self) -> Any:
        return self.marginals[1]

    def __repr__(self) -> str:
        return f"OTResult(value={self.value}, status={self.status!r})"


@dataclass(frozen=True)
class Entropic:
    """A solved entropic problem.

    Attributes
    ----------
    clouds : pair of arrays
        The points as the caller gave them.
    weights : pair of Tensor
        float64, with history.
    solution : Solution
        Of the problem between the clouds.
    divergence : Divergence, optional
        With ``debias``.
    """

    clouds: tuple[Any, Any]
    weights: tuple[Tensor, Tensor]
    solution: Solution
    divergence: Divergence | None

    def parts(self) -> dict[str, Entropic]:
        """The three problems of a divergence."""
        if self.divergence is None:
            return {}
        solutions = {
            "ab": (self.solution, (0, 1)),
            "aa": (self.divergence.xx, (0, 0)),
            "bb": (self.divergence.yy, (1, 1)),
        }
        return {
            name: Entropic((self.clouds[i], self.clouds[j]), (self.weights[i], self.weights[j]), solution, None)
            for name, (solution, (i, j)) in solutions.items()
        }


class EntropicResult(OTResult):
    """Of an entropic problem."""

    def __init__(self, solved: Entropic):
        self._solution, self._divergence, self._weights = solved.solution, solved.divergence, solved.weights
        report = solved.divergence or solved.solution
        log = {"report": report} | {f"res_{name}": type(self)(part) for name, part in solved.parts().items()}
        constant = 0.0 if solved.divergence else self._container.number(self._constant())
        value = self._container.scalar(report.value + constant)
        super().__init__(solved.clouds, value, report.status, log)

    @abstractmethod
    def _constant(self) -> Tensor:
        """What the interface adds to OT_ε."""

    @property
    def fixed(self) -> bool:
        """Whether both marginals are."""
        return all(isinstance(penalty, Balanced) for penalty in self._solution.plan.terms.penalties)

    @property
    def mass(self) -> Tensor:
        """Of either measure, where both marginals are fixed; otherwise 1. float64."""
        a, b = self._weights
        return 0.5 * (a.sum() + b.sum()) if self.fixed else a.new_ones(())

    @property
    def entropy_of_mass(self) -> Tensor:
        """ε (m − m²), by which ⟨P, C⟩ + ε Σ P log(P/ab) of fixed marginals is more than OT_ε."""
        return self._solution.epsilon * (self.mass - self.mass**2)

    @property
    def _container(self) -> Container:
        return self._solution.plan.container

    @cached_property
    def value_linear(self) -> Any:
        if self._divergence is None:
            return self._container.scalar(self._solution.transport_cost)
        xy, xx, yy = (s.transport_cost for s in (self._solution, self._divergence.xx, self._divergence.yy))
        return self._container.scalar(xy - 0.5 * xx - 0.5 * yy)

    @cached_property
    def potentials(self) -> tuple[Any, Any]:
        return self._solution.potentials

    @cached_property
    def plan(self) -> Any:
        return self._solution.plan.to_dense()

    @cached_property
    def lazy_plan(self) -> LazyPlan:
        return LazyPlan(self._solution.plan)

    @cached_property
    def sparse_plan(self) -> Any:
        return self._solution.plan.to_sparse(LEAST).matrix

    @cached_property
    def marginals(self) -> tuple[Any, Any]:
        return self._solution.plan.row_marginal(), self._solution.plan.column_marginal()

    def _product(self, side: int, w: Any) -> Any:
        plan = self._solution.plan
        return (plan.T if side else plan) @ w


def between(
    X_a: Any, X_b: Any, a: Any, b: Any, cost: Cost | Pairwise, debias: bool, progress: bool = False, name: str = "cost",
    **options: Any,
) -> Entropic:  # fmt: skip
    """The entropic problem between two clouds, and with ``debias`` their divergence, with a warning where it is due.

    ``cost`` is one of ours, or a function of arrays (N, D) and (M, D) to costs (N, M), called on whole clouds; ``name``
    is what it is called in sentences.
    """
    remedy = "unbalanced= for others"
    points, weights, container = checked(X_a, X_b, a, b, options.get("rho") is None, remedy)
    x, y = X_a, X_b
    if not isinstance(cost, Cost):
        cost, x, y = as_matrix(cost, points, container.is_numpy, debias, name)
    chosen = Options(cost=cost, **options)
    progress = progress and importlib.util.find_spec("tqdm") is not None
    if not debias:
        solution = _of_points(transport(x, y, a, b, chosen, progress=progress)[0], container, (0, 1))
        warn_of({"": solution}, chosen, stacklevel=7)
        return Entropic((X_a, X_b), weights, solution, None)
    divergence = _divergence_of_points(compare(x, y, a, b, chosen, progress=progress)[0], container)
    problems = {"ab: ": divergence.xy, "aa: ": divergence.xx, "bb: ": divergence.yy}
    warn_of(problems, chosen, stacklevel=7, shortfall=divergence.shortfall)
    return Entropic((X_a, X_b), weights, divergence.xy, divergence)


def _of_points(solution: Solution, container: Container, sides: tuple[int, int]) -> Solution:
    """A solution between positions in a matrix, as one of the points that they stand for, in their precision."""
    if solution.plan.container.dtype == container.dtype:
        return solution
    f, g = (container.array(tensor("potentials", h), k) for h, k in zip(solution.potentials, sides, strict=True))
    plan = replace(solution.plan, container=container)
    return replace(solution, value=_number(solution.value, container), potentials=(f, g), plan=plan)


def _divergence_of_points(divergence: Divergence, container: Container) -> Divergence:
    xy, xx, yy = (
        _of_points(solution, container, sides)
        for solution, sides in ((divergence.xy, (0, 1)), (divergence.xx, (0, 0)), (divergence.yy, (1, 1)))
    )
    return replace(divergence, value=_number(divergence.value, container), xy=xy, xx=xx, yy=yy)


def _number(value: Any, container: Container) -> Any:
    return container.number(value) if isinstance(value, Tensor) else value


def checked(
    X_a: Any, X_b: Any, a: Any, b: Any, equal_masses: bool = True, remedy: str = ""
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Container]:
    """Two single clouds, as `pair_of_measures` has them."""
    for name, cloud in (("X_a", X_a), ("X_b", X_b)):
        if getattr(cloud, "ndim", 2) != 2 or is_list(cloud):
            found = f"shape is {tuple(cloud.shape)}" if hasattr(cloud, "shape") else "a list of clouds was given"
            raise ValueError(f"{name}: {found}, expected (points, coordinates).")
    points, weights, container = pair_of_measures(X_a, X_b, a, b, equal_masses, names=("X_a", "X_b"), remedy=remedy)
    return points, weights, container


def as_matrix(
    function: Pairwise, points: tuple[Tensor, Tensor], is_numpy: bool, debias: bool, name: str
) -> tuple[Cost, Any, Any]:
    """The costs that a function of whole clouds gives, and what stands for the points."""

    def called(x: Tensor, y: Tensor) -> Tensor:
        C: Any = function(x.numpy(), y.numpy()) if is_numpy else function(x, y)  # type: ignore[arg-type]
        return C.to(x) if isinstance(C, Tensor) else torch.as_tensor(C, dtype=x.dtype, device=x.device)

    return matrix_cost(called, False, *points, debias, is_numpy, name)
