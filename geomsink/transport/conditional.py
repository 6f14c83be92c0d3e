"""Averages over the conditional plan, which maps and transfers of a solved plan are made of.

The conditional plan is the distribution that a point z is sent to,

    p_j(z) = b_j exp((g_j − c(z, y_j))/ε) / Σ_k b_k exp((g_k − c(z, y_k))/ε),

which at z = x_i is P_ij / Σ_k P_ik, and needs no more of the plan than the potential g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import engine
from ..choose import RANGE, ROUNDING
from ..counts import flag
from ..derivatives import Terms
from ..divergences import Divergence, Solution
from ..engine import Gibbs, Pair, Pairs
from ..measures import Arrays, Container, Layout, Measure, check_finite, is_list, promoted
from ..plan import Plan
from ..solver import largest_cost

SAFE = 1e12
"""Row sums outside of [1/SAFE, SAFE] are not used: the largest term of each is then made 1."""
ROUGH = 1e-2
"""Largest rounding of exponents at new points: beyond it they are worked on in float64."""


@dataclass(frozen=True)
class Conditional:
    """The conditional plan at the first cloud's points, or at others: averages are over the second cloud.

    Attributes
    ----------
    plan : Plan
    container : Container
        Of what is found, on side 0.
    pair : Pair
        The points on an engine, in the working precision.
    terms : Terms
        The same with history.
    z : Tensor, shape (..., K, D)
        The points as the caller gave them, float64.
    """

    plan: Plan
    container: Container
    pair: Pair
    terms: Terms
    z: Tensor

    @classmethod
    def of(cls, plan: Plan, points: Any = None) -> Conditional:
        """At the first cloud's points, or at those that the caller gave as ``points``, once they are validated."""
        if points is None:
            return cls(plan, plan.container, plan.operator.pair, plan.terms, plan.clouds.x)
        z, container = _new_points(points, plan)
        kept, clouds = plan.operator.pair, plan.clouds
        x, y, dtype = clouds.features(z), plan.terms.y, kept.x.dtype
        if not (plan.live or z.requires_grad):  # features may have parameters with history
            x = x.detach()
        scale = largest_cost(x.detach().flatten(0, -2), y.detach().flatten(0, -2), kept.cost)
        if not scale < RANGE[torch.float64]:
            raise ValueError(f"points: costs reach {scale:.3g}, expected less than {RANGE[torch.float64]:.0e}.")
        if ROUNDING[dtype] * scale > ROUGH * plan.operator.epsilon:
            dtype = torch.float64
            y = clouds.features(clouds.y)
            y = y if plan.live else y.detach()
        x, y = x.to(dtype), y.to(dtype)
        layouts = container.layouts
        lengths = layouts and (layouts[0].counts, layouts[1].counts)
        pair = engine.pair(x.detach(), y.detach(), kept.cost, kept.name, lengths)
        a = plan.terms.a.detach().new_ones(x.shape[:-1])
        return cls(plan, container, pair, replace(plan.terms, x=x, y=y, a=a, pairs=Pairs.of(pair)), z)

    def images(self) -> Tensor:
        """Means of the second cloud's points, (..., K, D), float64."""
        y = self.plan.clouds.y
        return self.mean(y if self.plan.live else y.detach())

    def mean(self, w: Tensor) -> Tensor:
        """`average`, with numbers made of size 1 about 0, so that the working precision rounds their spread alone."""
        centre = w.detach().mean(-2, keepdim=True)
        spread = (w.detach() - centre).abs().amax(-2, keepdim=True)
        spread = torch.where(spread > 0, spread, 1.0)
        return centre + spread * self.average((w - centre) / spread)

    def average(self, w: Tensor) -> Tensor:
        """Σ_j p_j w_j for w of shape (..., M, E): (..., K, E), float64, with history where there is any."""
        columns, terms = torch.cat((torch.ones_like(w[..., :1]), w), -1), self.terms
        live = torch.is_grad_enabled() and (self.plan.live or w.requires_grad or terms.x.requires_grad)
        if live or self.plan.is_signed:
            sums = terms.sums(self._near, self.plan.g, terms.b[..., None] * columns)
        else:
            sums = self._operator(self._near).apply(columns.detach().to(self.pair.x.dtype)).double()
        return sums[..., 1:] / sums[..., :1]

    @cached_property
    def _near(self) -> Tensor:
        """In the place of f, which cancels: a constant with which row sums are neither very large nor very small."""
        f, epsilon = self.plan.f.detach(), self.plan.operator.epsilon
        if self.pair is self.plan.operator.pair:
            sums = self._operator(f).row_sums()
            if bool(((sums > 1 / SAFE) & (sums < SAFE)).all()):
                return f
        zeros = f.new_zeros(self.pair.x.shape[:-1])
        # In the limit ε = ∞ the plan is a ⊗ b, and there is nothing to balance.
        return zeros if epsilon == math.inf else -epsilon * self._operator(zeros).row_max().double()

    def _operator(self, f: Tensor) -> Gibbs:
        """exp((f_i + g_j − C_ij)/ε) |b_j|."""
        epsilon, dtype = self.plan.operator.epsilon, self.pair.x.dtype
        v = self.plan.g.detach() / epsilon + Measure(self.pair.y, self.terms.b.detach().abs()).log_weights
        return Gibbs(self.pair, (f / epsilon).to(dtype), v.to(dtype), epsilon)


# --------------------------------------------------------------------- arguments


def solution_plan(solution: Any, reverse: bool) -> Plan:
    if not isinstance(solution, Solution):
        hint = ", such as its xy" if isinstance(solution, Divergence) else " of geomsink.solve"
        raise TypeError(f"solution: a {type(solution).__name__} was given, expected a Solution{hint}.")
    return solution.plan.T if flag("reverse", reverse) else solution.plan


def divergence_plans(divergence: Any, reverse: bool) -> tuple[Plan, Plan]:
    """From the one cloud to the other, and to itself."""
    if not isinstance(divergence, Divergence):
        found = f"divergence: a {type(divergence).__name__} was given"
        raise TypeError(f"{found}, expected a Divergence of geomsink.sinkhorn_divergence.")
    return solution_plan(divergence.xy, flag("reverse", reverse)), (divergence.yy if reverse else divergence.xx).plan


def _new_points(points: Any, plan: Plan) -> tuple[Tensor, Container]:
    """New points, (..., K, D), float64, and the container of what is found at them."""
    container, d, batch = plan.container, plan.clouds.y.shape[-1], plan.shape[:-2]
    listed = container.layouts is not None and is_list(points)
    given = {f"points[{k}]": p for k, p in enumerate(points)} if listed else {"points": points}
    found = [_new(name, p, container) for name, p in given.items()]
    items = [item for item, _ in found]
    container = replace(container, dtype=promoted([container.dtype, *(dtype for _, dtype in found)]))
    if listed and len(items) != batch[0]:
        raise ValueError(f"points: {len(items)} arrays were given, expected {batch[0]}, one a pair of clouds.")
    for name, item in zip(given, items, strict=True):
        leading = () if listed else batch
        if item.ndim != len(leading) + 2 or item.shape[:-2] != leading or item.shape[-1] != d or 0 in item.shape:
            expected = ", ".join([*map(str, leading), "points", str(d)])
            raise ValueError(f"{name}: shape is {tuple(item.shape)}, expected ({expected}).")
        check_finite(name, item)
    if container.layouts is None:
        return items[0].double(), container
    layout = Layout("list", tuple(map(len, items))) if listed else Layout("tensor", (items[0].shape[1],) * batch[0])
    z = layout.pad(items, fill=True) if listed else items[0]
    return z.double(), replace(container, layouts=(layout, container.layouts[1]))


def _new(name: str, given: Any, container: Container) -> tuple[Tensor, torch.dtype]:
    """An array of the kind and on the device of the clouds, and its precision beside theirs."""
    if isinstance(given, Tensor) == container.is_numpy:
        found, kind = type(given).__name__, "NumPy arrays" if container.is_numpy else "torch tensors"
        raise TypeError(f"{name}: a {found} was given, but the clouds are {kind}; expected the same kind.")
    arrays = Arrays.read({name: given}, name)
    array = arrays.tensors[name]
    if isinstance(given, Tensor) and array.device != container.device:
        raise ValueError(
            f"{name}: device is {array.device}, but that of the clouds is {container.device}; expected it too."
        )
    return array, arrays.dtype
