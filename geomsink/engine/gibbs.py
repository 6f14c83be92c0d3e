"""The Gibbs operator K_ij = exp(u_i + v_j − C_ij/ε): the one object that every solver and tool is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from ..costs import Cost
from .blocks import Blocks


class Pair(Protocol):
    """Two clouds and a cost on one engine, or a batch of them; see `geomsink.engine.pair`."""

    name: str
    x: Tensor
    y: Tensor
    cost: Cost

    @property
    def T(self) -> Pair: ...
    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor: ...
    def row_costs(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor: ...
    def row_max(self, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor: ...
    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Gibbs:
    """K_ij = exp(u_i + v_j − C_ij/ε), never stored.

    With u = f/ε + log a and v = g/ε + log b this is the transport plan of the potentials f and g.

    Parameters
    ----------
    pair : Pair
        Two clouds, (N, D) and (M, D), and a cost, on an engine.
    u : Tensor, shape (N,)
    v : Tensor, shape (M,)
        Exponents, without units. Large negative numbers stand for −∞.
    epsilon : float
        Temperature, in units of the cost; ``inf`` leaves out the cost.
    blocks : Blocks, optional
        The pairs to sum over. Default: all.

    Examples
    --------
    >>> import torch
    >>> from geomsink import costs, engine
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> K = Gibbs(engine.pair(x, x, costs.get("sqeuclidean"), "dense"), torch.zeros(2), torch.zeros(2), 1.0)
    >>> K.row_sums()
    tensor([1.3679, 1.3679])
    """

    pair: Pair
    u: Tensor
    v: Tensor
    epsilon: float
    blocks: Blocks | None = None

    @property
    def T(self) -> Gibbs:
        """The transpose, of all pairs."""
        if self.blocks is not None:
            raise ValueError("blocks: a block-sparse operator has no transpose; make one of the transposed pattern.")
        return replace(self, pair=self.pair.T, u=self.v, v=self.u)

    def row_sums(self) -> Tensor:
        """Σ_j K_ij, shape (N,)."""
        return self.pair.row_sums(self.u, self.v, self.epsilon, self.blocks)

    def apply(self, w: Tensor) -> Tensor:
        """Σ_j K_ij w_j, shape (N, E), for w of shape (M, E)."""
        return self.pair.apply(self.u, self.v, self.epsilon, w, self.blocks)

    def row_costs(self) -> Tensor:
        """Σ_j K_ij C_ij, shape (N,)."""
        return self.pair.row_costs(self.u, self.v, self.epsilon, self.blocks)

    def row_max(self) -> Tensor:
        """max_j (v_j − C_ij/ε), shape (N,): the largest exponent, without u."""
        return self.pair.row_max(self.v, self.epsilon, self.blocks)
