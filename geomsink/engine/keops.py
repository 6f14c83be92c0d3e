"""The Gibbs operator on KeOps: LazyTensor formulas, reduced without storing a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..costs import Cost
from . import build
from .blocks import Blocks
from .exponents import bounded
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
        self._prepared: dict[str, _Prepared] = {}

    @property
    def T(self) -> KeopsPair:
        if self._transpose is None:
            self._transpose = type(self)(self.y, self.x, self.cost.transpose())
            self._transpose._transpose = self
        return self._transpose

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._reduce("sums", _given(u, v, epsilon), blocks)[:, 0]

    def row_costs(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._reduce("costs", _given(u, v, epsilon), blocks)[:, 0]

    def row_max(self, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        given = _given(v, v, epsilon)
        del given["u"]
        return self._reduce("max", given, blocks)[:, 0]

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        widths = apart(w.shape[1])
        padded = torch.nn.functional.pad(w, (0, sum(widths) - w.shape[1]))
        given = _given(u, v, epsilon)
        parts = (given | {"w": part.contiguous()} for part in padded.split(widths, 1))
        return torch.cat([self._reduce("products", part, blocks) for part in parts], dim=1)[:, : w.shape[1]]

    def _lazy(self, what: str, given: dict[str, Tensor]) -> Any:
        """What is reduced: of the exponents u_i + v_j − C_ij/ε and the costs C_ij, as a LazyTensor."""
        lazy = build.keops()
        xi, yj = lazy.Vi(self.x), lazy.Vj(self.y)
        cost = self.cost.expression(xi, yj, *(lazy.Pm(p.detach().to(self.x).reshape(-1)) for p in self.cost.parameters))
        exponent = lazy.Vj(given["v"]) - cost * lazy.Pm(given["inverse"].to(self.x))
        if what == "max":
            return exponent
        exponent = lazy.Vi(given["u"]) + exponent
        if what == "sums":
            return exponent.exp()
        weight = bounded(exponent, self.x).exp()  # e^∞ times a cost or a column of 0 would not be a number
        return weight * cost if what == "costs" else weight * lazy.Vj(given["w"])

    def _reduce(self, what: str, given: dict[str, Tensor], blocks: Blocks | None) -> Tensor:
        kind = "Max" if what == "max" else "Sum"
        width = given["w"].shape[1] if "w" in given else 1
        key = f"{what} {width}"
        if key not in self._prepared:
            # LazyTensors are slow to make, and only their variables change: copies show which is which.
            copies = {name: t.to(self.x.dtype, copy=True) for name, t in given.items()}
            self._prepared[key] = _Prepared.of(self._lazy(what, copies).reduction(kind, axis=1, call=False), copies)
        prepared, sizes = self._prepared[key], (len(self.x), len(self.y))
        variables = prepared.filled(given, self.x.dtype)
        return reduce(
            prepared.formula, prepared.aliases, variables, sizes, prepared.dimension, blocks, self._by_columns
        )

    def _by_columns(self, t: Tensor) -> Tensor:
        """A j-variable, coordinate by coordinate; the points', which every reduction reads, are kept."""
        is_points = t.data_ptr() == self.y.data_ptr() and t.shape == self.y.shape
        if not is_points:
            return columns(t)
        if self._columns is None:
            self._columns = columns(t)
        return self._columns


@dataclass(frozen=True)
class _Prepared:
    """A formula and its variables: names of those that each call gives, and the others themselves."""

    formula: str
    aliases: tuple[str, ...]
    dimension: int
    variables: tuple[Tensor | str, ...]

    @classmethod
    def of(cls, reduction: Any, given: dict[str, Tensor]) -> _Prepared:
        call, names = reduction.callfun, {t.data_ptr(): name for name, t in given.items()}
        variables = tuple(names.get(t.data_ptr(), t) for t in reduction.variables)
        assert {v for v in variables if isinstance(v, str)} == set(given), "KeOps has copied a variable"
        return cls(call.formula, tuple(call.aliases), reduction.ndim, variables)

    def filled(self, given: dict[str, Tensor], dtype: torch.dtype) -> list[Tensor]:
        return [given[v].to(dtype) if isinstance(v, str) else v for v in self.variables]


def _given(u: Tensor, v: Tensor, epsilon: float) -> dict[str, Tensor]:
    return {
        "u": u.reshape(-1, 1),
        "v": v.reshape(-1, 1),
        "inverse": torch.full((1,), 1.0 / epsilon, dtype=torch.float64, device=u.device),
    }
