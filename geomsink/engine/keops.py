"""The Gibbs operator on KeOps: LazyTensor formulas, compiled by `build` on CPUs and by KeOps on CUDA."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import torch
from torch import Tensor

from ..costs import Cost
from . import build, codegen
from .blocks import Blocks

PAIRS_PER_CALL = 2**33
"""A longer reduction is cut into calls of this many pairs (seconds each), so that Ctrl-C is answered."""
WIDTHS = (1, 4, 16)
"""Columns of ``w`` in one pass of ``apply``: each width is one compilation."""


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
        cost = self.cost.expression(xi, yj)
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
        parts, done = [], 0
        while done < w.shape[1]:
            left = w.shape[1] - done
            width = next((size for size in WIDTHS if size >= left), WIDTHS[-1])
            part = w[:, done : done + width]
            part = torch.nn.functional.pad(part, (0, width - part.shape[1])).contiguous()
            product = exponent.exp() * build.keops().Vj(part)
            parts.append(self._reduce(product, "Sum", blocks)[:, : min(width, left)])
            done += width
        return torch.cat(parts, dim=1)

    def _reduce(self, lazy: Any, kind: str, blocks: Blocks | None) -> Tensor:
        """Reduce over j: by KeOps on CUDA, by our own build of KeOps' formula on a CPU."""
        if self.x.is_cuda:
            ranges = None if blocks is None else blocks.keops_ranges(self.x.device)
            reduced: Tensor = lazy.reduction(kind, axis=1, ranges=ranges)
            return reduced
        reduction = lazy.reduction(kind, axis=1, call=False)
        variables: tuple[Tensor, ...] = reduction.variables
        real = {torch.float32: "float", torch.float64: "double"}[self.x.dtype]
        formula = codegen.Formula(reduction.callfun.formula, tuple(reduction.callfun.aliases), len(variables), real)
        library = build.load(formula)
        over_j = {int(k) for k in re.findall(r"Var\((\d+),\d+,1\)", formula.text)}
        arguments = [self._by_columns(t) if k in over_j else t.contiguous() for k, t in enumerate(variables)]
        out = torch.empty(len(self.x), reduction.ndim, dtype=self.x.dtype)
        for part in (blocks or Blocks.whole(len(self.x), len(self.y))).parts(PAIRS_PER_CALL):
            pattern = (part.row_begin, part.row_end, part.first, part.begin, part.end)
            library.geomsink_reduce(
                ctypes.c_int64(_stride(self.y)),
                ctypes.c_int64(len(part.row_begin)),
                *(ctypes.c_void_p(t.data_ptr()) for t in pattern),
                ctypes.c_void_p(out.data_ptr()),
                (ctypes.c_void_p * len(arguments))(*(t.data_ptr() for t in arguments)),
                ctypes.c_int(torch.get_num_threads()),
            )
        return out

    def _by_columns(self, t: Tensor) -> Tensor:
        """A j-variable, coordinate by coordinate; the points', which every reduction reads, are kept."""
        if t.shape[1] == 1:
            return t.contiguous()
        is_points = t.data_ptr() == self.y.data_ptr() and t.shape == self.y.shape
        if self._columns is not None and is_points:
            return self._columns
        columns = t.new_empty(t.shape[1], _stride(t))
        columns[:, : len(t)] = t.t()
        if is_points:
            self._columns = columns
        return columns


def _stride(t: Tensor) -> int:
    """Numbers from one coordinate of a j-variable to the next: an odd number of cache lines.

    With 16 coordinates and a stride of a power of two, all would compete for the same places in the
    cache, which was measured to be 2 to 3 times slower.
    """
    per_line = 64 // t.element_size()
    return (-(-len(t) // per_line) | 1) * per_line
