"""The Gibbs operator in plain torch: nothing to compile, any number of batch dimensions, bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..costs import Cost
from ..memory import chunk
from .blocks import Blocks
from .gibbs import Gibbs, Pair

STORED = 2**25
"""A cost matrix of at most this many entries is computed once and kept."""


class DensePair:
    """Two clouds and a cost, reduced by rows of the matrix.

    Parameters
    ----------
    x : Tensor, shape (..., N, D)
    y : Tensor, shape (..., M, D)
    cost : Cost
    stays : bool, default True
        Whether it will be reduced again, so that few costs are worth keeping.
    """

    name = "dense"

    def __init__(self, x: Tensor, y: Tensor, cost: Cost, stays: bool = True):
        self.x, self.y, self.cost, self._stays = x, y, cost, stays
        self._stored: Tensor | None = None
        self._transpose: DensePair | None = None

    @property
    def T(self) -> DensePair:
        if self._transpose is None:
            self._transpose = DensePair(self.y, self.x, self.cost.transpose())
            self._transpose._transpose = self
            if self._stored is not None:
                self._transpose._stored = self._stored.transpose(-1, -2).contiguous()
        return self._transpose

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        # torch sums in a cascade, whose rounding hardly grows with the number of columns.
        return self._by_rows(lambda K, *_: K.sum(-1), u, v, epsilon, blocks)

    def row_costs(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._by_rows(lambda K, C, _: (K * C).sum(-1, dtype=torch.float64).to(K.dtype), u, v, epsilon, blocks)

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        return self._by_rows(lambda K, _, columns: K @ w[..., columns, :], u, v, epsilon, blocks, axis=-2)

    def row_max(self, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        u = torch.zeros(self.x.shape[:-1], dtype=self.x.dtype, device=self.x.device)
        return self._by_rows(lambda z, *_: _max(z), u, v, epsilon, blocks, exponential=False)

    def _by_rows(
        self,
        reduce: Callable[[Tensor, Tensor, slice | Tensor], Tensor],
        u: Tensor,
        v: Tensor,
        epsilon: float,
        blocks: Blocks | None,
        axis: int = -1,
        exponential: bool = True,
    ) -> Tensor:
        """What ``reduce`` makes of exponentials, or exponents, of some rows, their costs, and their columns."""
        n, whole = self.x.shape[-2], None
        for rows, columns in self._selections(blocks):
            C = self._costs(rows, columns)
            # Not in place where autograd may want the exponent later; here nothing is differentiated.
            z = torch.add(v[..., None, columns], C, alpha=-1.0 / epsilon).add_(u[..., rows, None])
            part = reduce(z.exp_() if exponential else z, C, columns)
            if part.shape[axis] == n:
                return part
            # Results have their place from the start: small ones kept between large temporaries would leave holes of
            # these, as large as the matrix in all.
            if whole is None:
                whole = part.new_empty(*part.shape[:axis], n, *part.shape[axis:][1:])
            whole.narrow(axis, rows.start, rows.stop - rows.start).copy_(part)
        assert whole is not None
        return whole

    def _costs(self, rows: slice, columns: slice | Tensor) -> Tensor:
        n, m = self.x.shape[-2], self.y.shape[-2]
        most = STORED if self.x.device.type == "cpu" else max(STORED, chunk(self.x.device))
        if self._stays and self._stored is None and math.prod(self.x.shape[:-1]) * m <= most:
            self._stored = self.x.new_empty(*self.x.shape[:-1], m)
            for part in self._row_chunks():
                self._stored[..., part, :] = self._cost_rows(part, slice(None))
        if self._stored is not None:
            rows_of = self._stored if rows == slice(0, n) else self._stored[..., rows, :]
            return rows_of if columns == slice(None) else rows_of[..., columns]
        return self._cost_rows(rows, columns)

    def _cost_rows(self, rows: slice, columns: slice | Tensor) -> Tensor:
        return self.cost.between(self.x[..., rows, None, :], self.y[..., None, columns, :])

    def _selections(self, blocks: Blocks | None) -> Iterator[tuple[slice, slice | Tensor]]:
        """Some rows at a time, with the columns that they see."""
        if blocks is None:
            yield from ((rows, slice(None)) for rows in self._row_chunks())
            return
        ends = (t.tolist() for t in (blocks.row_begin, blocks.row_end, blocks.first[:-1], blocks.first[1:]))
        ranges = list(zip(blocks.begin.tolist(), blocks.end.tolist(), strict=True))
        for begin, end, first, last in zip(*ends, strict=True):
            seen = [torch.arange(*some, device="cpu") for some in ranges[first:last]]
            columns = torch.cat(seen) if seen else torch.zeros(0, dtype=torch.int64, device="cpu")
            yield from ((rows, columns) for rows in self._row_chunks(begin, end, len(columns)))

    def _row_chunks(self, begin: int = 0, end: int | None = None, columns: int | None = None) -> Iterator[slice]:
        """Some of the rows from ``begin`` to ``end``, of all by default, that see so many columns."""
        n, (m, d) = self.x.shape[-2], self.y.shape[-2:]
        end, seen = n if end is None else end, m if columns is None else columns
        step = max(1, chunk(self.x.device) // max(1, math.prod(self.x.shape[:-2]) * seen * self.cost.temporaries(d)))
        return (slice(i, min(i + step, end)) for i in range(begin, end, step))


def costs(pair: Pair) -> Tensor:
    """C_ij of all pairs, shape (..., N, M), in the pair's precision and with the rounding of this engine: not to be
    changed, since the pair may keep it."""
    whole = pair if isinstance(pair, DensePair) else DensePair(pair.x, pair.y, pair.cost)
    return whole._costs(slice(0, whole.x.shape[-2]), slice(None))


def in_single(pair: Pair) -> DensePair:
    """The same on this engine in float32: costs are rounded, which are found in the pair's own precision."""
    out = DensePair(pair.x.float(), pair.y.float(), pair.cost)
    out._stored = costs(pair).float()
    return out


def matrix(K: Gibbs, out: Tensor | None = None) -> Tensor:
    """The entries of an operator, shape (..., N, M), in its precision and with the rounding of this engine; in the
    memory ``out`` of an earlier one, if it is given."""
    pair = K.pair if isinstance(K.pair, DensePair) else DensePair(K.pair.x, K.pair.y, K.pair.cost)
    out = K.u.new_empty(*K.u.shape, K.v.shape[-1]) if out is None else out
    for rows in pair._row_chunks():
        z, C = out[..., rows, :], pair._costs(rows, slice(None))
        torch.add(K.v[..., None, :], C, alpha=-1.0 / K.epsilon, out=z).add_(K.u[..., rows, None]).exp_()
    return out


def _max(z: Tensor) -> Tensor:
    """Maxima over columns; −∞ for rows without any."""
    return z.amax(-1) if z.shape[-1] else z.new_full(z.shape[:-1], -math.inf)
