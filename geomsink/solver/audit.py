"""What rounding does to marginals: in single precision some rows and columns are summed again in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import engine
from ..choose import ROUNDING
from ..engine import Pair
from ..measures import Measure
from ..processes import Sharded
from .iterate import Iterate
from .sums import log_sums

ROUNDINGS = 4.0
DRAWN = 256
"""Rows, and columns, that are summed again."""


@dataclass(frozen=True)
class Rounding:
    """What rounding does to sums, relative to their sizes of 1; shapes () or (B,).

    Attributes
    ----------
    off : Tensor
        By how much marginal errors of the present state may be larger.
    mass : Tensor
        By how much the mass of the plan, as the columns have it, is off where sums are rounded alike.
    """

    off: Tensor
    mass: Tensor


def audited(solver: Iterate) -> Rounding:
    """By float64, for some rows and columns: means, of sizes and with signs, and three standard errors."""
    problem, state = solver.problem, solver.state
    first, second = (problem.alpha, state.f), (problem.beta, state.g)
    columns = rows = _difference(problem.pair.T, *second, *first, state.log_columns, problem.epsilon)
    if not problem.is_self:
        rows = _difference(problem.pair, *first, *second, state.log_rows, problem.epsilon)
    off = sum(t.abs().mean(-1) + _uncertain(t.abs()) for t in (rows, columns))
    return Rounding(off, columns.mean(-1).abs() + _uncertain(columns))  # type: ignore[arg-type]


def of_exponents(solver: Iterate) -> Tensor:
    """By how much marginal errors may be larger of sums in float64: exponents (f + g − C)/ε are rounded like their
    terms."""
    problem, state = solver.problem, solver.state
    sides = (problem.alpha.weights, state.f), (problem.beta.weights, state.g)
    first, second = ((w * h.abs()).sum(-1) / w.sum(-1) for w, h in sides)
    return ROUNDINGS * ROUNDING[torch.float64] * (first + second) / problem.epsilon


def draw(weights: Tensor, count: int) -> Tensor:
    """So many places, drawn with the weights' probability, shape (..., count): the same each time."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(weights, Sharded):  # places in the whole, which all processes agree on
        return torch.multinomial(weights.cpu(), count, replacement=True, generator=generator).to(weights.device)
    # torch.multinomial, which would do for others, takes no more than 2²⁴ weights.
    shape = (*weights.shape[:-1], count)
    chances = torch.rand(shape, dtype=torch.float64, generator=generator, device="cpu").to(weights.device)
    total = weights.cumsum(-1)
    return torch.searchsorted(total, chances * total[..., -1:]).clamp(max=weights.shape[-1] - 1)


def _difference(
    pair: Pair, here: Measure, f: Tensor, other: Measure, g: Tensor, claimed: Tensor, epsilon: float
) -> Tensor:
    """For some points of ``here``, the sum in float64 less the ``claimed`` one, whose logarithm is given."""
    rows = draw(here.weights, DRAWN)
    x = here.points.double().gather(-2, rows[..., None].expand(*rows.shape, here.points.shape[-1]))
    again = engine.pair(x, other.points.double(), pair.cost, pair.name)
    exact = log_sums(again, f.gather(-1, rows) / epsilon, g / epsilon + other.log_weights, epsilon)
    return exact.clamp(max=700.0).exp() - claimed.gather(-1, rows).clamp(max=700.0).exp()


def _uncertain(drawn: Tensor) -> Tensor:
    """Three standard errors of a mean."""
    return 3.0 * drawn.std(-1) / math.sqrt(DRAWN)
