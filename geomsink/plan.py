"""A solved transport plan as a linear operator that is never stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .engine import Gibbs
from .gradients import Terms
from .measures import Container


@dataclass(frozen=True)
class Clouds:
    """The two clouds of a plan as the caller gave them.

    Attributes
    ----------
    x, y : Tensor, shapes (..., N, D) and (..., M, D)
        float64.
    features : callable
        From points (..., K, D) to what the cost's expression is evaluated on, as the terms of the plan have it.
    """

    x: Tensor
    y: Tensor
    features: Callable[[Tensor], Tensor]

    @property
    def T(self) -> Clouds:
        return replace(self, x=self.y, y=self.x)


@dataclass(frozen=True)
class Plan:
    """P_ij = a_i b_j exp((f_i + g_j − C_ij)/ε), shape (N, M), through its products; of a batch (B, N, M).

    Attributes
    ----------
    operator : Gibbs
        P on its engine, in the working precision; constants.
    terms : Terms
        What the plan depends on, with history if it is ``live``.
    f, g : Tensor, shapes (N,) and (M,)
        Potentials for the terms.
    live : bool
        Whether products and costs have autograd history.
    clouds : Clouds
    """

    operator: Gibbs
    container: Container
    terms: Terms
    f: Tensor
    g: Tensor
    live: bool
    clouds: Clouds

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.operator.u.shape, self.operator.v.shape[-1])

    @property
    def T(self) -> Plan:
        """The transpose, a plan from the second measure to the first."""
        layouts = self.container.layouts
        container = replace(self.container, layouts=layouts and layouts[::-1])
        return Plan(self.operator.T, container, self.terms.T, self.g, self.f, self.live, self.clouds.T)

    def cost(self) -> Tensor:
        """⟨P, C⟩, float64, with the history that potentials have."""
        if self.live:
            return self.terms.transport_cost(self.f, self.g)
        return self.operator.row_costs().double().sum(-1)

    def sharp(self) -> Tensor:
        """⟨P, C⟩ and the penalties of the marginals, float64, with the history that potentials have."""
        return self.terms.sharp_value(self.f, self.g)

    @property
    def sharp_value(self) -> float | Tensor:
        """⟨P, C⟩ + D₁(P1 | a) + D₂(Pᵀ1 | b)."""
        number: float | Tensor = self.container.number(self.sharp())
        return number

    @property
    def transport_cost(self) -> float | Tensor:
        """⟨P, C⟩."""
        number: float | Tensor = self.container.number(self.cost())
        return number

    def __matmul__(self, w: Any) -> Any:
        """P w, shape (N,) or (N, E), for w of shape (M,) or (M, E); of a batch, in the form of its points.

        Differentiable in w, and in all that the plan depends on where the potentials have autograd history.
        """
        columns, items = torch.as_tensor(self.container.padded("plan", w, 1)), len(self.shape) - 2
        if columns.ndim - items not in (1, 2) or columns.shape[: items + 1] != (*self.shape[:-2], self.shape[-1]):
            raise ValueError(f"plan: P has shape {self.shape}, and cannot be multiplied by {tuple(columns.shape)}.")
        vector = columns.ndim == items + 1
        wide = columns[..., None] if vector else columns
        if self.live or (wide.requires_grad and torch.is_grad_enabled()):
            product = self.terms.product(self.f, self.g, wide)
        else:
            pair = self.operator.pair
            product = self.operator.apply(wide.detach().to(pair.x)).double()
        return self.container.array(product[..., 0] if vector else product, 0)
