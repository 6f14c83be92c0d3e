"""Divergences between many clouds: each pair once, and the problem of each cloud with itself once."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..copies import Constant, detached
from ..costs import Cost
from ..guards import guarded
from ..measures import Container, measure, promoted
from ..progress import Progress
from ..shown import Facts, Shown, Words, seconds
from ..solver import Solved, rounding
from .comparison import SELF, check_symmetric, compare, difference_of_masses, warn_of_pairs
from .options import MAX_ITER, TOL, Options
from .problems import Problems
from .refining import is_right, nearest, stated_error
from .requests import Request

Cells = NDArray[np.int64]
FEW, TOGETHER = 2**14, 2**19
"""Pairs of two clouds up to which several such problems are solved as a batch, and of all of them together: 50 problems
take a tenth of the time between 20 points a side, a sixth between 50, 0.45 of it between 100; 1.4 times as long between
200 (processor time on one core, by hand)."""


@dataclass(frozen=True, repr=False)
class Pairwise(Shown, Constant):
    """A matrix of Sinkhorn divergences, and how well each is solved. Constants, without autograd history.

    Attributes
    ----------
    values : array, shape (K, L)
        S_ε between cloud i and other j, NumPy's or a tensor as the clouds; symmetric with zeros on its diagonal, where
        clouds are compared with each other.
    solved : array of bool, shape (K, L)
        Whether each has converged, and is as right as ``tol`` asks for.
    marginal_errors : array, shape (K, L)
        The largest of the three problems of each.
    value_errors : array, shape (K, L)
        What each is off by, about and at most.
    epsilon : float
    seconds : float
    """

    values: Any
    solved: Any
    marginal_errors: Any
    value_errors: Any
    epsilon: float
    seconds: float

    def _facts(self) -> Facts:
        bad = int((~self.solved).sum())
        rows, columns = self.values.shape
        return {
            "values": self.values.reshape(-1),
            "state": Words(f"not converged: {bad:,} values" if bad else "converged"),
            "clouds": Words(f"{rows:,} × {columns:,} clouds"),
            "marginal_error": float(self.marginal_errors.max()),
            "seconds": seconds(self.seconds),
        }

    @property
    def converged(self) -> bool:
        """Whether all are."""
        return bool(self.solved.all())


@guarded
def pairwise(
    clouds: Sequence[Any],
    others: Sequence[Any] | None = None,
    weights: Sequence[Any] | None = None,
    other_weights: Sequence[Any] | None = None,
    *,
    blur: float | None = None,
    epsilon: float | None = None,
    cost: str | Cost = "sqeuclidean",
    reach: float | None = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    engine: str = "auto",
    dtype: Any = None,
    normalize: bool = False,
    progress: bool = False,
) -> Pairwise:
    """The matrix of S_ε(α_i, α_j) between clouds, or of S_ε(α_i, β_j) between two lists of them.

    The values are those of `geomsink.sinkhorn_divergence`, to the same errors. The problem of each cloud with itself is
    solved once, and small clouds are solved together: twenty of 50 points take a twelfth of the time that calls one
    by one do, and of 400 points half (``python benchmarks/pairwise.py``).

    Parameters
    ----------
    clouds : sequence of K array_like, shapes (N_i, D)
        Of any sizes, all NumPy arrays or all tensors.
    others : sequence of L array_like, shapes (M_j, D), optional
        Compared with ``clouds``; by default these are compared with each other.
    weights, other_weights : sequence of array_like, shapes (N_i,) and (M_j,), optional
        Of each cloud; None, for all or for one, is 1/N each.
    blur, epsilon, cost, tol, max_iter, engine, dtype, normalize
        As `geomsink.sinkhorn_divergence` takes them; numbers, as results are constants.
    reach : float, optional
        As there, one for both measures.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    Pairwise

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Warns
    -----
    ConvergenceWarning
        Once, if some of the values did not reach ``tol``.

    Notes
    -----
    Where clouds follow each other slowly, as frames of a film do, and only neighbours are compared, a
    `geomsink.SinkhornDivergence` that is called with one pair after the other starts from its last potentials.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((30, 2))
    >>> S = pairwise([x, x + 0.1, x + [0.3, 0.0]], blur=0.1)
    >>> S.values.round(4)
    array([[0.  , 0.02, 0.09],
           [0.02, 0.  , 0.05],
           [0.09, 0.05, 0.  ]])
    >>> S.converged
    True
    """
    began = time.perf_counter()
    if isinstance(reach, (tuple, list)):
        raise ValueError(f"reach: {reach!r} given, expected one number for all clouds.")
    blur, epsilon = detached((blur, epsilon))
    options = Options(
        blur=blur, epsilon=epsilon, cost=cost, reach=reach, tol=tol, max_iter=max_iter, engine=engine, dtype=dtype,
        normalize=normalize,
    )  # fmt: skip
    check_symmetric(options)
    rows = _Clouds.of(clouds, weights, ("clouds", "weights"))
    columns = rows if others is None else _Clouds.of(others, other_weights, ("others", "other_weights"))
    dims = [side.points[0].shape[1] for side in (columns, rows)]
    if dims[0] != dims[1]:
        apart = f"others[0]: {dims[0]} coordinates a point, but clouds[0] has {dims[1]}"
        raise ValueError(f"{apart}; expected the same number.")
    if columns.container.is_numpy != rows.container.is_numpy:
        raise TypeError("clouds, others: torch tensors and other arrays are mixed, expected one kind.")
    if others is None and other_weights is not None:
        raise ValueError("other_weights: given without others, expected both.")
    with torch.no_grad(), Progress(progress) as bar:
        table = _Table(rows, columns, options, bar)
        table.fill()
    found = Pairwise(
        values=rows.array(table.values),
        solved=rows.array(table.solved),
        marginal_errors=rows.array(table.marginal_errors),
        value_errors=rows.errors(table.value_errors, table.values),
        epsilon=float(options.live_epsilon()),
        seconds=time.perf_counter() - began,
    )
    warn_of_pairs(int((~table.solved).sum()), table.solved.size, options)
    return found


def together(pairs: int) -> int:
    """Problems between clouds with so many pairs each that are solved at a time, where there are many."""
    return max(1, TOGETHER // max(1, pairs)) if pairs <= FEW else 1


@dataclass(frozen=True)
class _Clouds:
    """Validated clouds and their weights, as they were given; sizes, and what answers are to be."""

    points: list[Any]
    weights: list[Any]
    sizes: list[int]
    container: Container

    @classmethod
    def of(cls, points: Any, weights: Any, names: tuple[str, str]) -> _Clouds:
        if isinstance(points, (str, bytes)) or not isinstance(points, Sequence) or not len(points):
            found = "an empty sequence" if isinstance(points, Sequence) else f"a {type(points).__name__}"
            raise TypeError(f"{names[0]}: {found} was given, expected a list of clouds (points, coordinates).")
        if not (weights is None or isinstance(weights, Iterable)):
            raise TypeError(f"{names[1]}: a {type(weights).__name__} was given, expected a list, one entry a cloud.")
        given = [None] * len(points) if weights is None else list(weights)
        if len(given) != len(points):
            raise ValueError(f"{names[1]}: {len(given)} given for {len(points)} clouds, expected as many.")
        sizes, containers = list[int](), list[Container]()
        kept = list[Any]()
        for k, (cloud, mass) in enumerate(zip(points, given, strict=True)):
            here, _, container = measure(cloud, mass, (f"{names[0]}[{k}]", f"{names[1]}[{k}]"))
            if here.ndim != 2:
                raise ValueError(f"{names[0]}[{k}]: shape is {tuple(here.shape)}, expected (points, coordinates).")
            if here.shape[1] != (dim := kept[0].shape[1] if kept else here.shape[1]):
                found = f"{names[0]}[{k}]: {here.shape[1]} coordinates a point, but {names[0]}[0] has {dim}"
                raise ValueError(f"{found}; expected the same number.")
            sizes.append(len(here))
            containers.append(container)
            kept.append(detached(here) if isinstance(cloud, Tensor) else here.numpy())
        if len({container.is_numpy for container in containers}) > 1:
            raise TypeError(f"{names[0]}: torch tensors and other arrays are mixed, expected one kind.")
        dtype = promoted(container.dtype for container in containers)
        return cls(kept, detached(given), sizes, Container(containers[0].is_numpy, dtype, containers[0].device))

    def array(self, numbers: NDArray[Any]) -> Any:
        """As the clouds are."""
        if self.container.is_numpy:
            return numbers
        whole = torch.from_numpy(numbers)
        return whole.to(self.container.device) if whole.dtype == torch.bool else self.container.number(whole)

    def errors(self, sizes: NDArray[Any], values: NDArray[Any]) -> Any:
        """What values are off by in the precision of the clouds."""
        if self.container.is_numpy:
            return sizes
        return self.container.error(torch.from_numpy(sizes), torch.from_numpy(values))

    def some(self, which: Sequence[int] | Cells) -> tuple[Any, Any]:
        """Points and weights of one cloud, or a batch of several."""
        points, weights = [self.points[k] for k in which], [self.weights[k] for k in which]
        if len(which) == 1:
            return points[0], weights[0]
        if all(w is None for w in weights):
            return points, None
        return points, [_uniform(p) if w is None else w for p, w in zip(points, weights, strict=True)]


def _uniform(points: Any) -> Any:
    n = len(points)
    return points.new_full((n,), 1.0 / n) if isinstance(points, Tensor) else np.full(n, 1.0 / n)


@dataclass(frozen=True)
class _Values:
    """Of some problems, at mass 1 where marginals are fixed: float64, one each."""

    value: Tensor
    error: Tensor
    rounded: Tensor
    marginal: Tensor

    @classmethod
    def of(cls, problems: Problems, solved: Solved) -> _Values:
        solver = solved.solver
        numbers = (
            solver.value(), stated_error(problems, solved, False), rounding(solver, False),
            solver.marginal_errors(problems.request.epsilon),
        )  # fmt: skip
        return cls(*(number.detach().double().reshape(-1).cpu() for number in numbers))

    def __getitem__(self, which: Any) -> _Values:
        return _Values(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[_Values]) -> _Values:
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class _Table:
    """The matrix as it fills."""

    def __init__(self, rows: _Clouds, columns: _Clouds, options: Options, bar: Progress):
        self.rows, self.columns, self.options, self.bar = rows, columns, options, bar
        shape = len(rows.sizes), len(columns.sizes)
        self.values, self.marginal_errors, self.value_errors = (np.zeros(shape) for _ in range(3))
        self.solved = np.ones(shape, dtype=bool)

    def fill(self) -> None:
        same, shape = self.rows is self.columns, self.values.shape
        cells = np.argwhere(np.triu(np.ones(shape, dtype=bool), 1) if same else np.ones(shape, dtype=bool))
        sizes = [(self.rows.sizes[i], self.columns.sizes[j]) for i, j in cells]
        sides = {"clouds": self.rows} if same else {"clouds": self.rows, "others": self.columns}
        alone = [[(n, n) for n in side.sizes] for side in sides.values()]
        self._parts = itertools.count()
        self.bar.parts(
            [SELF * _pairs(of_one, some) for of_one in alone for some in _groups(of_one)]
            + [_pairs(sizes, some) for some in _groups(sizes)]
        )
        first, *others = (self._within(side, name) for name, side in sides.items())
        second, done = others[0] if others else first, 0
        for some in _groups(sizes):
            self.bar.part(next(self._parts))
            self._between(cells[some], first, second, f"{done + 1:,} of {len(cells):,}")
            done += len(some)
        if same:
            for matrix in (self.values, self.marginal_errors, self.value_errors):
                matrix += matrix.T
            self.solved &= self.solved.T

    def _within(self, side: _Clouds, name: str) -> _Values:
        """Of each cloud with itself."""
        found: dict[int, _Values] = {}
        for some in _groups([(n, n) for n in side.sizes]):
            self.bar.part(next(self._parts))
            points, weights = side.some(some)
            problems = Problems(Request.of(points, points, weights, weights, self.options))
            measured = problems.request.alpha
            values = _Values.of(problems, problems.solve(f"{name} alone", measured, measured, self.bar))
            found |= {k: values[[place]] for place, k in enumerate(some)}
        return _Values.joined([found[k] for k in range(len(side.sizes))])

    def _between(self, cells: Cells, first: _Values, second: _Values, name: str) -> None:
        (x, a), (y, b) = self.rows.some(cells[:, 0]), self.columns.some(cells[:, 1])
        problems = Problems(Request.of(x, y, a, b, self.options))
        request = problems.request
        xx, yy = first[cells[:, 0]], second[cells[:, 1]]
        device, shape = request.alpha.points.device, request.mass.shape
        apart = difference_of_masses(request).detach()
        others = 0.5 * (xx.value + yy.value).to(device).reshape(shape) - apart
        goal = problems.goal(others, nearest(request))
        solved = problems.solve(name, request.alpha, request.beta, self.bar, goal=goal)
        xy, mass = _Values.of(problems, solved), torch.ones(len(cells), dtype=torch.float64, device="cpu")
        if self.options.balanced:
            mass = request.mass.double().reshape(-1).cpu()
        value = mass * (xy.value - 0.5 * (xx.value + yy.value)) + apart.double().reshape(-1).cpu()
        off = mass * (xy.error + 0.5 * (xx.error + yy.error))
        rounded = mass * (xy.rounded + 0.5 * (xx.rounded + yy.rounded))
        marginal = xy.marginal.maximum(xx.marginal).maximum(yy.marginal)
        right = is_right(off, rounded, value, self.options.tol) & (marginal <= self.options.tol)
        value = torch.where((value < 0.0) & (value >= -rounded), 0.0, value)
        for k, (i, j) in enumerate(cells):
            numbers = float(value[k]), float(marginal[k]), float(off[k]), True
            self._set(i, j, numbers if bool(right[k]) else self._alone(i, j))

    def _alone(self, i: int, j: int) -> tuple[float, float, float, bool]:
        """Of two clouds that are close, or hard: solved on as `sinkhorn_divergence` does."""
        (x, a), (y, b) = self.rows.some([i]), self.columns.some([j])
        found, _ = compare(x, y, a, b, self.options)
        return float(found), found.marginal_error, float(found.value_error), found.converged

    def _set(self, i: int, j: int, numbers: tuple[float, float, float, bool]) -> None:
        self.values[i, j], self.marginal_errors[i, j], self.value_errors[i, j], self.solved[i, j] = numbers


def _pairs(sizes: Sequence[tuple[int, int]], some: Sequence[int]) -> int:
    """Of points, in some problems."""
    return sum(math.prod(sizes[k]) for k in some)


def _groups(sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Problems of such sizes that are solved together: about as large ones, so that little is padding."""
    order = sorted(range(len(sizes)), key=lambda k: sizes[k])
    start = 0
    while start < len(order):
        most, stop = [0, 0], start
        while stop < len(order):
            largest = [max(pair) for pair in zip(most, sizes[order[stop]], strict=True)]
            if stop > start and stop - start >= together(math.prod(largest)):
                break
            most, stop = largest, stop + 1
        yield order[start:stop]
        start = stop
