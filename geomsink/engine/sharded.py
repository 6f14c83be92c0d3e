"""The Gibbs operator of clouds that are dealt out to processes: rows stay where they are, columns go around a ring.

A process holds its share of the points and one block of another's, whatever N is. A reduction passes K − 1 blocks of
M/K columns on, each of D coordinates, an exponent, and what is multiplied with. Derivatives are such sums again: those
in what rows have, over the same ring; those in what columns have, with columns at rest and rows, with their
cotangents, going around.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..costs import Cost
from ..guards import exactly
from ..processes import Parts, Sharded, deal, local_of, own, own_part, told_largest, told_sum
from .blocks import Blocks
from .gibbs import Pair

WHAT = "a sum over all pairs"
SUFFIX = "-sharded"
"""Of an engine's name, where its pairs are those of several processes."""

Between = Callable[[Tensor, Tensor, Cost, bool], Pair]
"""Two blocks of points and a cost on an engine; the last one says whether they will be there again."""


class ShardedPair:
    """Two clouds, of which one at least is dealt out to processes, and a cost.

    Parameters
    ----------
    x : Tensor, shape (N, D)
    y : Tensor, shape (M, D)
        `geomsink.processes.Sharded`, or one of them whole on all processes.
    cost : Cost
    name : str
        Of the engine, which sums between blocks.
    between : callable
        From two blocks of points and a cost to a `Pair` on it.
    """

    def __init__(self, x: Tensor, y: Tensor, cost: Cost, name: str, between: Between):
        self.x, self.y, self.cost = x, y, cost
        self.name = name.removesuffix(SUFFIX) + SUFFIX
        self._between = between
        self._kept: Pair | None = None
        self._transpose: ShardedPair | None = None

    @property
    def T(self) -> ShardedPair:
        if self._transpose is None:
            self._transpose = ShardedPair(self.y, self.x, self.cost.transpose(), self.name, self._between)
            self._transpose._transpose = self
        return self._transpose

    def certain(self, of_pair: Callable[[Pair], Pair]) -> ShardedPair:
        """The same between blocks on another engine."""

        def between(x: Tensor, y: Tensor, cost: Cost, stays: bool) -> Pair:
            return of_pair(self._between(x, y, cost, stays))

        return ShardedPair(self.x, self.y, self.cost, self.name, between)

    def row_sums(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._summed(lambda pair, u, v, _: pair.row_sums(u, v, epsilon)[:, None], u, v, None)[..., 0]

    def row_costs(self, u: Tensor, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        return self._summed(lambda pair, u, v, _: pair.row_costs(u, v, epsilon)[:, None], u, v, None)[..., 0]

    def apply(self, u: Tensor, v: Tensor, epsilon: float, w: Tensor, blocks: Blocks | None = None) -> Tensor:
        return self._summed(lambda pair, u, v, w: pair.apply(u, v, epsilon, w), u, v, w)

    def row_max(self, v: Tensor, epsilon: float, blocks: Blocks | None = None) -> Tensor:
        found: Tensor | None = None
        for pair, (v_,) in self._pairs((v,)):
            part = pair.row_max(v_, epsilon)
            found = part if found is None else found.maximum(part)
        if found is None:
            found = own(self.x).new_full((len(own(self.x)),), -math.inf)
        return self._whole(found, told_largest)

    def _summed(self, part: Callable[..., Tensor], u: Tensor, v: Tensor, w: Tensor | None) -> Tensor:
        """Sums of the parts between blocks, in float64: each is rounded once."""
        rows = self._of_rows(u)
        total = own(self.x).new_zeros((len(rows), 1 if w is None else w.shape[1]), dtype=torch.float64)
        for pair, (v_, *rest) in self._pairs((v,) if w is None else (v, w)):
            total += part(pair, rows, v_, rest[0] if rest else None)
        return self._whole(total, told_sum).to(self.x.dtype)

    def _whole(self, found: Tensor, told: Callable[[Tensor, Parts], Tensor]) -> Tensor:
        """What is known of the own rows, dealt out; or of rows that all have, from each process's columns."""
        if isinstance(self.x, Sharded):
            return deal(found, self.x.parts)
        assert isinstance(self.y, Sharded)
        return told(found, self.y.parts)

    def _of_rows(self, u: Tensor) -> Tensor:
        return local_of(u, self.x.parts, -1) if isinstance(self.x, Sharded) else u

    def _pairs(self, of_columns: tuple[Tensor, ...]) -> Iterator[tuple[Pair, tuple[Tensor, ...]]]:
        """The own rows with each block of columns and what these have, where there are any."""
        x, y = own(self.x), own(self.y)
        if not isinstance(self.y, Sharded):
            blocks = iter([(True, (y, *of_columns))])
        else:
            columns = tuple(local_of(t, self.y.parts, -t.ndim) for t in of_columns)
            blocks = iter([(True, (y, *columns))])
            if isinstance(self.x, Sharded):
                blocks = passed(self.y.parts, (y, *columns))
        for is_own, (block, *rest) in blocks:
            if len(x) and len(block):
                yield self._own_pair() if is_own else self._between(x, block, self.cost, False), tuple(rest)

    def _own_pair(self) -> Pair:
        if self._kept is None:
            x, y = own(self.x), own(self.y)
            self._kept = self._between(x, x if self.x is self.y else y, self.cost, True)
        return self._kept


def passed(parts: Parts, tensors: tuple[Tensor, ...]) -> Iterator[tuple[bool, tuple[Tensor, ...]]]:
    """The blocks of all processes, the own one first, of tensors with one row a point: as one message each.

    Yields whether they are the own ones, and the tensors.
    """
    widths = [1 if t.ndim == 1 else t.shape[1] for t in tensors]
    message = torch.cat([t.reshape(len(t), width) for t, width in zip(tensors, widths, strict=True)], 1)
    for owner, (block,) in parts.group.ring((message,), WHAT):
        columns = block.split(widths, 1)
        shaped = (c[:, 0] if t.ndim == 1 else c for t, c in zip(tensors, columns, strict=True))
        yield owner == parts.group.rank, tuple(c.contiguous() for c in shaped)


# ------------------------------------------------------------------- differentiable

Sums = Callable[..., Tensor]
"""From x, y, w, u, v and parameters to Σ_j k(x_i, y_j, u_i, v_j) w_j, differentiable."""


def ring_sums(sums: Sums, x: Tensor, y: Tensor, w: Tensor, u: Tensor, v: Tensor, p: tuple[Tensor, ...]) -> Tensor:
    """Σ_j k(x_i, y_j, u_i, v_j) w_j over points that are dealt out, shape (N, E), with first derivatives.

    Parameters
    ----------
    sums : callable
        The same between two blocks.
    x, y : Sharded, shapes (N, D) and (M, D)
    w : Sharded, shape (M, E)
    u, v : Sharded, shapes (N,) and (M,)
    p : tuple of Tensor
        Whole on all processes; so are their derivatives.
    """
    out: Tensor = _RingSums.apply(sums, x, y, w, u, v, *p)
    return out


class _RingSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Sums, *tensors: Tensor) -> Tensor:
        ctx.sums = sums
        ctx.save_for_backward(*tensors)
        x, y, w, u, v, *p = _locals(tensors)
        total = x.new_zeros(len(x), w.shape[1])
        for _, (y_, w_, v_) in passed(_parts(tensors[1]), (y, w, v)):
            if len(x) and len(y_):
                total += sums(x, y_, w_, u, v_, *p)
        return Sharded(total, _parts(tensors[0]), -2)

    @staticmethod
    @exactly()
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[1:]
        found = iter(_RingGradients.apply(ctx.sums, wanted, cotangent, *ctx.saved_tensors))
        return None, *(next(found) if want else None for want in wanted)


class _RingGradients(torch.autograd.Function):
    """Of the wanted arguments; these have no derivatives themselves."""

    @staticmethod
    def forward(ctx: Any, sums: Sums, wanted: tuple[bool, ...], cotangent: Tensor, *tensors: Tensor) -> Any:
        x, y, w, u, v, *p = _locals(tensors)
        rows, columns = _parts(tensors[0]), _parts(tensors[1])
        given = own_part(cotangent, rows, -2).contiguous()
        found: dict[int, Tensor] = {}

        def add(at: dict[int, Tensor], arguments: tuple[Tensor, ...], c: Tensor) -> None:
            """Derivatives of the sums between two blocks in some of x, y, w, u, v and parameters."""
            if not (len(arguments[0]) and len(arguments[1])):
                return
            with torch.enable_grad():
                arguments = tuple(t.detach().requires_grad_(k in at) for k, t in enumerate(arguments))
                out = sums(*arguments)
                of = torch.autograd.grad(out, [arguments[k] for k in at], c, allow_unused=True)
            for k, more in zip(at, of, strict=True):
                at[k] += 0.0 if more is None else more

        of_rows = {k: torch.zeros_like(t) for k, t in ((0, x), (3, u), *enumerate(p, 5)) if wanted[k]}
        of_columns = {k: torch.zeros_like(t) for k, t in ((1, y), (2, w), (4, v)) if wanted[k]}
        if of_rows:
            for _, (y_, w_, v_) in passed(columns, (y, w, v)):
                add(of_rows, (x, y_, w_, u, v_, *p), given)
        if of_columns:
            for _, (x_, u_, c_) in passed(rows, (x, u, given)):
                add(of_columns, (x_, y, w, u_, v, *p), c_)
        for k, t in (of_rows | of_columns).items():
            if k >= 5:
                found[k] = told_sum(t, rows)
            else:
                found[k] = Sharded(t, columns if k in of_columns else rows, -t.ndim)
        return tuple(found[k] for k in sorted(found))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise RuntimeError(
            "second derivatives were asked for, of points that are dealt out to processes; expected first ones."
        )


def _locals(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """This process's parts; parameters are whole."""
    x, y, w, u, v, *p = tensors
    rows, columns = _parts(x), _parts(y)
    return [
        own(x), own(y), local_of(w, columns, -2).expand(columns.mine, -1), local_of(u, rows, -1).expand(rows.mine),
        local_of(v, columns, -1).expand(columns.mine), *p,
    ]  # fmt: skip


def _parts(t: Tensor) -> Parts:
    assert isinstance(t, Sharded)
    return t.parts
