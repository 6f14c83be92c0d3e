"""What rounding does to marginals: in single precision some rows and columns are summed again in float64."""

from __future__ import annotations

import math

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


def audited(solver: Iterate) -> Tensor:
    """By how much marginal errors of the present state may be larger in float64, shape () or (B,): of both sides the
    mean absolute difference, and three standard errors."""
    problem, state = solver.problem, solver.state
    rows = _off(problem.pair, problem.alpha, problem.beta, state.f, state.g, state.log_rows, problem.epsilon)
    if problem.is_self:
        return 2.0 * rows
    return rows + _off(
        problem.pair.T, problem.beta, problem.alpha, state.g, state.f, state.log_columns, problem.epsilon
    )


def of_exponents(solver: Iterate) -> Tensor:
    """The same for sums in float64: exponents (f + g − C)/ε are rounded like their terms."""
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


def _off(pair: Pair, here: Measure, other: Measure, f: Tensor, g: Tensor, claimed: Tensor, epsilon: float) -> Tensor:
    """Of the marginal of ``here``, whose logarithms over the weights are said to be ``claimed``."""
    rows = draw(here.weights, DRAWN)
    x = here.points.double().gather(-2, rows[..., None].expand(*rows.shape, here.points.shape[-1]))
    again = engine.pair(x, other.points.double(), pair.cost, pair.name)
    exact = log_sums(again, f.gather(-1, rows) / epsilon, g / epsilon + other.log_weights, epsilon)
    off = (exact.clamp(max=700.0).exp() - claimed.gather(-1, rows).clamp(max=700.0).exp()).abs()
    return off.mean(-1) + 3.0 * off.std(-1) / math.sqrt(DRAWN)
