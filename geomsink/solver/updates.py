"""Updates of one potential under its penalty, and of a constant that passes from one potential to the other."""

from __future__ import annotations

import math

from torch import Tensor

from ..measures import Measure
from .penalties import KL, L2, Balanced, Penalty


def change(penalty: Penalty, f: Tensor, log_sums: Tensor, epsilon: float) -> Tensor:
    """What the plain update adds to f, from log(P1/a)."""
    if isinstance(penalty, Balanced):
        return -epsilon * log_sums
    return penalty.update(f - epsilon * log_sums, epsilon) - f


def residual(penalty: Penalty, f: Tensor, log_sums: Tensor, epsilon: float) -> Tensor:
    """log of the marginal over what the potential asks for: log(P1/a) if it is fixed, 0 at the optimum."""
    if isinstance(penalty, Balanced):
        return log_sums
    if penalty.kinked:
        return -change(penalty, f, log_sums, epsilon) / epsilon
    return log_sums.clamp(min=penalty.faintest) - penalty.log_density(f)


def relaxed(
    penalty: Penalty, f: Tensor, log_sums: Tensor, omega: float | Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The update of f extrapolated by ω, and log row sums after it."""
    if isinstance(penalty, Balanced) and isinstance(omega, float):
        new = f.add(log_sums, alpha=-omega * epsilon)
    else:
        new = within(penalty, f + omega * change(penalty, f, log_sums, epsilon))
    return new, log_sums.add(new - f, alpha=1.0 / epsilon)


def within(penalty: Penalty, f: Tensor) -> Tensor:
    """Potentials, moved into the range that they may have."""
    return f if isinstance(penalty, (Balanced, KL)) else f.clamp(min=penalty.low).clamp(max=penalty.high)


def translated(
    penalties: tuple[Penalty, Penalty], measures: tuple[Measure, Measure], f: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """f + t and g − t with the best constant t, which changes no entry of the plan.

    Without it, updates with a large ρ need ρ/ε cycles to find t (Séjourné, Vialard, Peyré 2022, arXiv:2201.00730).
    Along the last axis; other axes are batches.
    """
    first, second = penalties
    if isinstance(first, Balanced) and isinstance(second, Balanced):
        return f, g
    sides = list(zip(penalties, measures, (f, g), strict=True))
    if isinstance(first, L2) or isinstance(second, L2):  # masses that are asked for change linearly
        asked = [(m.weights * (1.0 - h / p.rho if isinstance(p, L2) else 1.0)).sum(-1) for p, m, h in sides]
        t = (asked[0] - asked[1]) / sum(m.weights.sum(-1) / p.rho for p, m, _ in sides if isinstance(p, L2))
    else:
        logs = [_log_mass(p, m, h) for p, m, h in sides]
        slope = sum(1.0 / p.rho for p in penalties if isinstance(p, KL))
        difference = logs[0] - logs[1]
        t = difference / slope if slope else difference.sign().masked_fill(difference.abs() < 1e-9, 0.0) * math.inf
        t = t.nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    if not isinstance(first, (Balanced, KL)):
        t = t.maximum(first.low - f.amin(-1)).minimum(_of_items(first.high) - f.amax(-1))
    if not isinstance(second, (Balanced, KL)):
        t = t.maximum(g.amax(-1) - _of_items(second.high)).minimum(g.amin(-1) - second.low)
    return f + t[..., None], g - t[..., None]


def _of_items(end: float | Tensor) -> float | Tensor:
    """The end of a range, shape (B,) where each item of a batch has its own."""
    return end[..., 0] if isinstance(end, Tensor) else end


def _log_mass(penalty: Penalty, measure: Measure, f: Tensor) -> Tensor:
    """log of the marginal's mass that potentials ask for, if they may be anything."""
    weights = measure.weights if measure.signs is None else measure.weights.abs()
    exponents = weights.log() - f / penalty.rho if isinstance(penalty, KL) else weights.log()
    if measure.signs is None:
        return exponents.logsumexp(-1)
    top = exponents.amax(-1)
    return top + (measure.signs * (exponents - top[..., None]).exp()).sum(-1).log()
