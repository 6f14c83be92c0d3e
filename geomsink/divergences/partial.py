"""Partial transport: a part of the mass is transported, the one that costs least, and how much of it is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..costs import Cost
from ..guards import guarded
from ..measures import tensor
from ..progress import Progress
from ..solver import Partial, Penalty, Potentials, Solved, log_sums
from .comparison import warn_of
from .kinds import by_kind
from .options import MAX_ITER, TOL, Options
from .problems import Problems
from .reports import solution_of
from .requests import Request
from .solution import Solution

LEAST_LEFT = 1e-6
"""Share of the smaller mass that has to be left: the price of the last of it is infinite."""
SEARCHED = 60
"""Prices that are tried, at most."""


@by_kind
@guarded
def partial_transport(
    x: Any,
    y: Any,
    a: Any = None,
    b: Any = None,
    *,
    mass: Any,
    blur: float | Tensor | None = None,
    epsilon: float | Tensor | None = None,
    cost: str | Cost = "sqeuclidean",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    scaling: float = 0.5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    x_batch: Any = None,
    y_batch: Any = None,
    progress: bool = False,
) -> Solution:
    """min ⟨P, C⟩ + ε KL(P | a ⊗ b) over plans with P1 ≤ a, Pᵀ1 ≤ b and ΣP = ``mass``.

    Parameters
    ----------
    x, y, a, b, blur, epsilon, cost, tol, max_iter, scaling, engine, dtype, multiscale, x_batch, y_batch, progress
        As in `geomsink.solve`. Masses of a and b may differ.
    mass : float, or array_like, shape (B,)
        What is transported: above 0, and less than both masses. Of a batch, one number or one for each item.

    Returns
    -------
    Solution
        ``value`` has gradients in points, weights and ε, at this mass. Potentials are at most the price ρ of the least
        mass that is transported, of each of the two marginals; where they are ρ, mass is left. ``plan.mass`` is the
        mass, to within ``tol``, or the solution says that it has not converged.

    Raises
    ------
    TypeError, ValueError, BuildError
        As `geomsink.solve`, and for a mass that is not in that range.

    Notes
    -----
    The dual is concave in ρ: with the penalties ρ (m_a − ΣP) + ρ (m_b − ΣP), ``penalty="partial"``, the mass grows
    with ρ, which is found by the Illinois method, and bisection where it is slow. Benamou, Carlier, Cuturi, Nenna,
    Peyré 2015 (arXiv:1412.5154), with the entropy against a ⊗ b.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.array([[0.0], [9.0]]), np.array([[0.1], [1.0]])
    >>> s = partial_transport(x, y, mass=0.5, epsilon=1e-3, tol=1e-6)
    >>> s.plan.to_dense().round(3)
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    began = time.perf_counter()
    options = _Priced(
        blur=blur, epsilon=epsilon, cost=cost, tol=tol, max_iter=max_iter, scaling=scaling, engine=engine, dtype=dtype,
        multiscale=multiscale, price=0.0,
    )  # fmt: skip
    options.check_finite()
    request = Request.of(x, y, a, b, options, x_batch, y_batch)
    wanted = _mass(mass, request)
    with Progress(progress) as bar:
        bar.unforeseen()
        search = _Search(Problems(request), options, wanted, bar)
        price = search.run()
    found = solution_of(search.problems, search.solved)
    inputs = request.inputs
    # At the best price the value does not depend on it: gradients are those at a fixed price.
    left = price * (inputs.a.sum(-1) + inputs.b.sum(-1) - 2.0 * wanted)
    value = found.in_difference - left
    solution = replace(
        found, value=request.container.number(value), in_difference=value, n_iter=search.cycles,
        seconds=time.perf_counter() - began, tol=options.tol,
    )  # fmt: skip
    warn_of({"": solution}, options)
    return solution


@dataclass(frozen=True, kw_only=True)
class _Priced(Options):
    """Options at a price ρ, shape () or (B,)."""

    price: float | Tensor

    @cached_property
    def penalties(self) -> tuple[Penalty, Penalty]:
        of_items = isinstance(self.price, Tensor) and self.price.ndim > 0
        penalty = Partial(self.price[:, None] if of_items else float(self.price))  # type: ignore[index]
        return penalty, penalty


def _mass(given: Any, request: Request) -> Tensor:
    """What is to be transported, shape () or (B,), float64."""
    try:
        mass = tensor("mass", given).detach().double()
    except (TypeError, ValueError) as error:
        raise TypeError(f"mass: a {type(given).__name__} was given, expected a number.") from error
    least = torch.minimum(request.alpha.weights.sum(-1), request.beta.weights.sum(-1))
    if mass.ndim and mass.shape != least.shape:
        raise ValueError(
            f"mass: shape is {tuple(mass.shape)}, expected one number, or {tuple(least.shape)} of a batch."
        )
    mass = mass.to(least.device).expand_as(least)
    wrong = ~((mass > 0.0) & (mass < (1.0 - LEAST_LEFT) * least))
    if bool(wrong.any()):
        one, most = (float(t.reshape(-1)[wrong.reshape(-1)][0]) for t in (mass, least))
        raise ValueError(
            f"mass: {one:.9g} given, expected more than 0 and less than the smaller mass, {most:.9g}; for equal masses "
            "geomsink.solve transports all."
        )
    return mass


class _Search:
    """For the price at which so much mass is transported; each item of a batch has its own.

    Parameters
    ----------
    problems : Problems
    options : _Priced
    mass : Tensor, shape () or (B,)
    bar : Progress

    Attributes
    ----------
    problems : Problems
        At the last price.
    solved : Solved
    excess : Tensor, shape () or (B,)
        log of the mass that is transported at that price over the one that is wanted.
    cycles : int
        Of all prices together.
    """

    solved: Solved
    excess: Tensor

    def __init__(self, problems: Problems, options: _Priced, mass: Tensor, bar: Progress):
        self.problems, self.options, self.mass, self.bar, self.cycles = problems, options, mass, bar, 0
        self._start: Potentials | None = None

    def run(self) -> Tensor:
        """The price, shape () or (B,), float64."""
        request = self.problems.request
        low = self._least()
        step = torch.full_like(low, max(request.epsilon, 0.05 * request.cost_scale))
        high = low + step
        excess = [self._excess(low), self._excess(high)]
        for _ in range(SEARCHED):
            below = excess[1] < 0.0
            if not bool(below.any()):
                break
            step = torch.where(below, 2.0 * step, step)
            low, excess[0] = torch.where(below, high, low), torch.where(below, excess[1], excess[0])
            high = torch.where(below, high + step, high)
            excess[1] = self._excess(high)
        tol = request.options.tol
        price = _illinois(self._excess, low, high, (excess[0], excess[1]), tol)
        off = float(self.excess.abs().max())
        if self.solved.converged and off > tol:
            self.solved = replace(self.solved, status=f"the mass that is transported is off by {off:.1e} of itself")
        return price

    def _least(self) -> Tensor:
        """The price of so much mass if the marginals did not matter, which make it dearer."""
        request = self.problems.request
        alpha, beta, epsilon = request.alpha, request.beta, request.epsilon
        pair = self.problems.pair(alpha, beta, torch.float64)
        rows = log_sums(pair, torch.zeros_like(alpha.weights), beta.log_weights, epsilon)
        return 0.5 * epsilon * (self.mass.log() - (rows + alpha.log_weights).logsumexp(-1))

    def _excess(self, price: Tensor) -> Tensor:
        """log of the mass that is transported at a price over the one that is wanted."""
        request = replace(self.problems.request, options=replace(self.options, price=price))
        self.problems = replace(self.problems, request=request)
        alpha, beta = request.alpha, request.beta
        left = price * (alpha.weights.sum(-1) + beta.weights.sum(-1) - 2.0 * self.mass)
        start = self._start and (self._start[0].minimum(price[..., None]), self._start[1].minimum(price[..., None]))
        self.solved = self.problems.solve("partial", alpha, beta, self.bar, start, goal=self.problems.goal(left))
        self._start, solver = self.solved.potentials, self.solved.solver
        self.cycles += solver.cycles
        transported = (beta.weights * solver.state.log_columns.clamp(max=700.0).exp()).sum(-1)
        self.excess = transported.clamp(min=1e-300).log() - self.mass.log()
        return self.excess


def _illinois(
    function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, values: tuple[Tensor, Tensor], tol: float
) -> Tensor:
    """Roots of an increasing function, item by item, from brackets and the values there; ends where all values are
    within ``tol``, and the function was called last at what is returned."""
    below, above = values
    side, before = torch.zeros_like(low), [torch.full_like(low, torch.inf)] * 2
    for _ in range(SEARCHED):
        point, middle = (low * above - high * below) / (above - below), 0.5 * (low + high)
        slow = high - low > 0.5 * before[0]  # two steps have not halved it: where the mass saturates
        before = [before[1], high - low]
        point = torch.where((point > low) & (point < high) & ~slow, point, middle)
        point = torch.where(below.abs() <= 0.5 * tol, low, torch.where(above.abs() <= 0.5 * tol, high, point))
        value = function(point)
        if bool((value.abs() <= tol).all()):
            break
        negative = value < 0.0
        # The end that stays for a second time counts half.
        above = torch.where(negative, torch.where(side < 0.0, 0.5 * above, above), value)
        below = torch.where(negative, value, torch.where(side > 0.0, 0.5 * below, below))
        low, high = torch.where(negative, point, low), torch.where(negative, high, point)
        side = torch.where(negative, -1.0, 1.0).to(low)
    return point
