"""The Gibbs operator on KeOps: LazyTensor formulas, compiled by `build` on CPUs and by KeOps on CUDA."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..costs import Cost
from . import build
from .blocks import Blocks
from .reduction import apart, columns, reduce


class KeopsPair:
    """Two clouds and a cost, reduced without ever storing a matrix.

    Parameters
    ----------
    x : Tensor, shape (N, D)
    y : Tensor, shape (M, D)
    cost : Cost
    """

    name = "keops"

    def __init__(self, x: Tensor, y: Tensor, cost: Cost):
        self.x, self.y, self.cost = x.contiguous(), y.contiguous(), cost
        self._columns: Tensor | None = None
        self._transpose: KeopsPair | None = None

    @property
    def T(self) -> KeopsPair:
        if self._transpose is None:
            self._transpose = KeopsPair(self.y, self.x, self.cost.transpose())
            self._transpose._transpose = self
        return self._transpose

    def _exponent(self, u: Tensor | None, v: Tensor, epsilon: float) -> tuple[Any, Any]:
        """The LazyTensors u_i + v_j - C_ij / epsilon and C_ij."""
        lazy = build.keops()
        xi, yj = lazy.Vi(self.x), lazy.Vj(self.y)
        cost = self.cost.expression(xi, yj, *(lazy.Pm(p.detach().to(self.x).reshape(-1)) for p in self.cost.parameters))
        inverse = torch.tensor([1.0 / epsilon], dtype=self.x.dtype, device=self.x.device)
        exponent = lazy.Vj(v.reshape(-1, 1)) - cost * lazy.Pm(inverse)
        return (exponent if u is None else lazy.Vi(u.reshape(-1, 1)) + exponent), cost

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        exponent, _ = self._exponent(u, v, epsilon)
        return self._reduce(exponent.exp(), "Sum", blocks)[:, 0]

    def row_costs(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        exponent, cost = self._exponent(u, v, epsilon)
        return self._reduce(exponent.exp() * cost, "Sum", blocks)[:, 0]

    def row_max(self, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        exponent, _ = self._exponent(None, v, epsilon)
        return self._reduce(exponent, "Max", blocks)[:, 0]

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        exponent, _ = self._exponent(u, v, epsilon)
        widths = apart(w.shape[1])
        padded = torch.nn.functional.pad(w, (0, sum(widths) - w.shape[1]))
        products = (exponent.exp() * build.keops().Vj(part.contiguous()) for part in padded.split(widths, 1))
        return torch.cat([self._reduce(product, "Sum", blocks) for product in products], dim=1)[:, : w.shape[1]]

    def _reduce(self, lazy: Any, kind: str, blocks: Blocks | None) -> Tensor:
        """Reduce over j: by KeOps on CUDA, by our own build of KeOps' formula on a CPU."""
        if self.x.is_cuda:
            ranges = None if blocks is None else blocks.keops_ranges(self.x.device)
            reduced: Tensor = lazy.reduction(kind, axis=1, ranges=ranges)
            return reduced
        reduction = lazy.reduction(kind, axis=1, call=False)
        call, sizes = reduction.callfun, (len(self.x), len(self.y))
        return reduce(call.formula, call.aliases, reduction.variables, sizes, reduction.ndim, blocks, self._by_columns)

    def _by_columns(self, t: Tensor) -> Tensor:
        """A j-variable, coordinate by coordinate; the points', which every reduction reads, are kept."""
        is_points = t.data_ptr() == self.y.data_ptr() and t.shape == self.y.shape
        if not is_points:
            return columns(t)
        if self._columns is None:
            self._columns = columns(t)
        return self._columns
