"""One-to-one matchings, and sparse plans, of least cost: exact, with the potentials that prove it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from ..assignment import CANDIDATES, Optimum
from ..copies import Constant
from ..costs import Cost
from ..counts import number, whole
from ..divergences import PROPOSED, Request, exact_transport, proposing
from ..guards import guarded
from ..progress import Progress
from ..shown import Facts, Valued, Words, seconds, sizes


@dataclass(frozen=True, repr=False)
class Matching(Valued, Constant):
    """A plan of least cost, and how close to the least it is proven to be. Constants, without autograd history.

    Attributes
    ----------
    rows, columns : array, shape (K,), int64
        Pairs (i, j) with mass, in the order of i. One-to-one, K = N and ``rows`` is 0, 1, …: x_i goes to
        ``y[columns[i]]``.
    mass : array, shape (K,)
        P_ij of each pair, in units of the weights: 1/N each by default.
    cost : float
        ⟨P, C⟩ = Σ P_ij C_ij, in units of the cost times those of the weights: one-to-one and without weights, the mean
        cost of a pair.
    lower : float
        ⟨a, f⟩ + ⟨b, g⟩: no plan costs less, but for rounding.
    potentials : tuple of arrays, shapes (N,) and (M,)
        f and g, in units of the cost, f_i + g_j ≤ C_ij for all pairs, and equal for pairs with mass if the plan is
        exact; ⟨a, f⟩ = ⟨b, g⟩.
    exact : bool
        Whether ``cost`` and ``lower`` are the same but for rounding in float64, 1e-12 of the sums that they are.
    status : str
        ``"exact"``; ``"within tol_gap"``; or why neither.
    one_to_one : bool
        Whether each x is matched to one y.
    rounds : int
        Times that the least plan between candidates was found, and all pairs were looked at.
    candidates : int
        Pairs that were candidates at the end.
    epsilon : float
        Of the entropic solve that proposed the first ones.
    seconds : float
    shape : tuple of two int
        (N, M).
    """

    rows: Any
    columns: Any
    mass: Any
    cost: float
    lower: float
    potentials: tuple[Any, Any]
    exact: bool
    status: str
    one_to_one: bool
    rounds: int
    candidates: int
    epsilon: float
    seconds: float
    shape: tuple[int, int]

    def _number(self) -> float:
        return self.cost

    def _facts(self) -> Facts:
        return {
            "cost": self.cost,
            "state": Words(self.status),
            "gap": None if self.exact else self.gap,
            "points": sizes(self.shape),
            "pairs": Words(f"{len(self.rows):,} pairs{', one to one' if self.one_to_one else ''}"),
            "seconds": seconds(self.seconds),
        }

    @property
    def gap(self) -> float:
        """``cost`` − ``lower``, absolute, and not below 0, where rounding may put it: the plan costs at most this more
        than the least."""
        return max(self.cost - self.lower, 0.0)

    @property
    def relative_gap(self) -> float:
        """``gap`` as a share of the cost's size: 0 where there is no gap, infinite where there is one and no cost."""
        if self.gap == 0.0:
            return 0.0
        return self.gap / abs(self.cost) if self.cost != 0.0 else math.inf

    @property
    def matrix(self) -> Any:
        """The plan as a scipy.sparse.csr_array, shape (N, M), float64."""
        mass = self.mass.double() if isinstance(self.mass, Tensor) else self.mass  # NumPy has no bfloat16
        mass, rows, columns = (
            item.cpu().numpy() if isinstance(item, Tensor) else item for item in (mass, self.rows, self.columns)
        )
        return scipy.sparse.csr_array((mass.astype(np.float64), (rows, columns)), shape=self.shape)


@guarded
def matching(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    cost: str | Cost = "sqeuclidean",
    one_to_one: bool | None = None,
    tol_gap: float | None = None,
    candidates: int = CANDIDATES,
    blur: float | None = None,
    epsilon: float | None = None,
    engine: str = "auto",
    progress: bool = False,
) -> Matching:
    """The plan of least cost min_P ⟨P, C⟩ between two clouds, not regularised, with the potentials that prove it.

    Between clouds of one size without weights it is an assignment: each x_i goes to one y_j. Memory is linear in the
    number of points.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        As `geomsink.solve` takes them; single clouds.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights, of the same sum; None is 1/N each, zeros are allowed. They count in units of 2⁻⁵⁰ of their sum.
    cost : str or Cost, default "sqeuclidean"
        Any: see `geomsink.costs.names`. It may be asymmetric, and negative.
    one_to_one : bool, optional
        Whether a one-to-one matching is wanted, which is refused where there is none: for clouds of different sizes, or
        with weights that differ. None takes one where there is one.
    tol_gap : float, optional
        Stop once the gap is at most this share of the cost. Default: go on until the plan is exact.
    candidates : int, default 8
        Pairs of each row and of each column that are looked at first; more that a round adds to rows that lack some.
    blur, epsilon : float, optional
        Temperature of the entropic solve whose potentials propose them, one of the two at most: as a length, or in
        units of the cost. The answer does not depend on it, but the time does. Default: three times the distance to the
        next point.
    engine : {"auto", "keops", "dense"}, default "auto"
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    Matching

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Notes
    -----
    The least flow between candidates, by successive shortest paths (Jonker, Volgenant 1987; Edmonds, Karp 1972), has
    potentials that are feasible for them. One reduction over the pairs says for which others they are not,
    f_i + g_j > C_ij; those join, and so on, until there are none. Weak duality then gives the gap,
    ⟨P, C⟩ − ⟨a, f⟩ − ⟨b, g⟩ (Peyré, Cuturi 2019, arXiv:1803.00567, sections 2.5 and 3; candidates: Schmitzer 2016,
    arXiv:1510.05466). On the CPU, in float64; without a C++ compiler, some hundred times as slow.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> m = matching(x, np.array([[2.5], [0.5], [1.5]]))
    >>> m.columns, m.cost, m.lower, m.exact
    (array([1, 2, 0]), 0.25, 0.25, True)
    """
    began = time.perf_counter()
    _check(tol_gap, candidates, one_to_one)
    how: dict[str, Any] = dict(cost=cost, engine=engine, **PROPOSED)
    request = Request.single(x, y, a, b, blur, epsilon, how)
    shape = len(request.alpha.weights), len(request.beta.weights)
    single = _one_to_one(request, one_to_one)
    request = proposing(request, how) if blur is None and epsilon is None else request
    with Progress(progress) as bar:
        optimum, *_ = exact_transport(request, bar, candidates=int(candidates), tol_gap=tol_gap)
    container, mass = request.container, float(request.mass)
    pairs = [torch.from_numpy(part) for part in (optimum.i, optimum.j, optimum.mass * mass, optimum.f, optimum.g)]
    rows, columns = (pair.numpy() if container.is_numpy else pair.to(container.device) for pair in pairs[:2])
    return Matching(
        rows, columns, container.array(pairs[2], 0), mass * optimum.cost, mass * optimum.lower,
        (container.array(pairs[3], 0), container.array(pairs[4], 1)), optimum.exact, _status(optimum, tol_gap), single,
        optimum.rounds, optimum.edges, request.epsilon, time.perf_counter() - began, shape,
    )  # fmt: skip


def _status(optimum: Optimum, tol_gap: float | None) -> str:
    if optimum.exact:
        return "exact"
    gap = optimum.cost - optimum.lower
    if tol_gap is not None and gap <= tol_gap * abs(optimum.cost):
        return "within tol_gap"
    return f"{optimum.rounds} rounds have left a gap of {gap:.2e}"


def _check(tol_gap: Any, candidates: Any, one_to_one: Any) -> None:
    if tol_gap is not None and not number("tol_gap", tol_gap, "a number or None") > 0.0:
        raise ValueError(f"tol_gap: {tol_gap} given, expected a positive share of the cost, or None for exact.")
    whole("candidates", candidates)
    if not (one_to_one is None or isinstance(one_to_one, bool)):
        raise TypeError(f"one_to_one: a {type(one_to_one).__name__} was given, expected None, True or False.")


def _one_to_one(request: Request, wanted: bool | None) -> bool:
    """Whether the least plan is a matching of single points.

    Raises
    ------
    ValueError
        If that is wanted and cannot be.
    """
    a, b = request.alpha.weights, request.beta.weights
    equal = all(bool((w == w[0]).all()) for w in (a, b))
    if wanted and len(a) != len(b):
        found = f"one_to_one: True given with clouds of {len(a)} and {len(b)} points"
        raise ValueError(f"{found}, expected the same number.")
    if wanted and not equal:
        raise ValueError("one_to_one: True given with weights that differ, expected none or equal ones.")
    return equal and len(a) == len(b)
