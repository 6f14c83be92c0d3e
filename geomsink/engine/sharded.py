"""The Gibbs operator of clouds that are dealt out to processes: rows stay where they are, columns go around a ring.

A process holds its share of the points and one block of another's, whatever N is. A reduction passes K − 1 blocks of
M/K columns on, each of D coordinates, an exponent, and what is multiplied with. Derivatives are such sums again: those
in what rows have, over the same ring; those in what columns have, with columns at rest and rows, with their
cotangents, going around.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..costs import Cost
from ..guards import exactly
from ..processes import Parts, Sharded, deal, local_of, own, told_largest, told_sum
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

ROWS, COLUMNS, ALL = 0, 1, None
"""What a tensor has numbers for: each row, each column, or whatever all processes have alike."""
Kinds = tuple[int | None, ...]


@dataclass(frozen=True)
class _Blocks:
    """A function of two blocks of points, whose results are added up over blocks: to one for each row those of all
    columns, and so on.

    Attributes
    ----------
    function : callable
        From tensors, and which of the results are wanted, to these.
    takes, gives : tuple
        What its tensors, and all its results, have numbers for.
    parts : pair of Parts
        Of rows and columns.
    """

    function: Callable[[tuple[Tensor, ...], tuple[int, ...]], list[Tensor]]
    takes: Kinds
    gives: Kinds
    parts: tuple[Parts, Parts]

    def of_all(self, tensors: tuple[Tensor, ...], wanted: tuple[int, ...]) -> list[Tensor]:
        """The wanted results over all blocks; a call of all processes."""
        own = [self._own(t, kind) for t, kind in zip(tensors, self.takes, strict=True)]
        found: dict[int, Tensor] = {}
        # What rows have is found where these are, while columns go around; and what columns have, the other way.
        for still, moving in ((ROWS, COLUMNS), (COLUMNS, ROWS)):
            some = tuple(k for k in wanted if (self.gives[k] == COLUMNS) == (still == COLUMNS))
            if some:
                found |= dict(zip(some, self._around(own, some, moving), strict=True))
        return [self._whole(found[k], self.gives[k]) for k in wanted]

    def derivative(self, of: tuple[int, ...]) -> _Blocks:
        """From the same tensors, and cotangents of some results, to what the tensors' gradients are made of."""
        count, function = len(self.takes), self.function

        def gradients(given: tuple[Tensor, ...], wanted: tuple[int, ...]) -> list[Tensor]:
            again = any(t.requires_grad for t in given)
            tensors = list(given[:count])
            with torch.enable_grad():
                for k in wanted:
                    if not tensors[k].requires_grad:
                        tensors[k] = tensors[k].detach().requires_grad_()
                results = function(tuple(tensors), of)
                live = [(r, c) for r, c in zip(results, given[count:], strict=True) if r.requires_grad]
                ends, cotangents = [r for r, _ in live], [c for _, c in live]
                found: Any = [None] * len(wanted)
                if live:
                    chosen = [tensors[k] for k in wanted]
                    found = torch.autograd.grad(ends, chosen, cotangents, create_graph=again, allow_unused=True)
            return [torch.zeros_like(tensors[k]) if g is None else g for k, g in zip(wanted, found, strict=True)]

        return _Blocks(gradients, (*self.takes, *(self.gives[k] for k in of)), self.takes, self.parts)

    def _own(self, t: Tensor, kind: int | None) -> Tensor:
        if kind is None:
            return t
        parts = self.parts[kind]
        return local_of(t, parts, -t.ndim).expand(parts.mine, *[-1] * (t.ndim - 1)).contiguous()

    def _around(self, own: list[Tensor], wanted: tuple[int, ...], moving: int) -> list[Tensor]:
        """Sums over the own points of one cloud and all of the other one, whose blocks move."""
        places = [k for k, kind in enumerate(self.takes) if kind == moving]
        total: list[Tensor] | None = None
        for _, block in passed(self.parts[moving], tuple(own[k] for k in places)):
            if self.parts[1 - moving].mine and len(block[0]):
                given = list(own)
                for k, t in zip(places, block, strict=True):
                    given[k] = t
                more = self.function(tuple(given), wanted)
                total = more if total is None else [t + m for t, m in zip(total, more, strict=True)]
        return self._nothing(own, wanted) if total is None else total

    def _nothing(self, own: list[Tensor], wanted: tuple[int, ...]) -> list[Tensor]:
        """Results without any pairs: as between one point of each cloud, but zero and for no point."""
        one = tuple(
            t if kind is None else t.new_zeros((1, *t.shape[1:])) for t, kind in zip(own, self.takes, strict=True)
        )
        shapes = (t.shape for t in self.function(one, wanted))
        kinds = (self.gives[k] for k in wanted)
        return [
            own[0].new_zeros(shape if kind is None else (self.parts[kind].mine, *shape[1:]))
            for shape, kind in zip(shapes, kinds, strict=True)
        ]

    def _whole(self, t: Tensor, kind: int | None) -> Tensor:
        return told_sum(t, self.parts[ROWS]) if kind is None else Sharded(t, self.parts[kind], -t.ndim)


def ring_sums(
    sums: Callable[..., Tensor], x: Tensor, y: Tensor, w: Tensor, u: Tensor, v: Tensor, p: tuple[Tensor, ...]
) -> Tensor:
    """Σ_j k(x_i, y_j, u_i, v_j) w_j over points that are dealt out, shape (N, E), with derivatives to any order.

    Parameters
    ----------
    sums : callable
        The same between two blocks, from x, y, w, u, v and parameters, differentiable to any order.
    x, y : Sharded, shapes (N, D) and (M, D)
    w : Sharded, shape (M, E)
    u, v : Sharded, shapes (N,) and (M,)
    p : tuple of Tensor
        Whole on all processes; so are their derivatives.
    """

    def function(tensors: tuple[Tensor, ...], wanted: tuple[int, ...]) -> list[Tensor]:
        return [sums(*tensors)]

    takes = (ROWS, COLUMNS, COLUMNS, ROWS, COLUMNS, *[ALL] * len(p))
    blocks = _Blocks(function, takes, (ROWS,), (_parts(x), _parts(y)))
    (out,) = _OverBlocks.apply(blocks, (0,), x, y, w, u, v, *p)
    return out  # type: ignore[no-any-return]


class _OverBlocks(torch.autograd.Function):
    """Wanted results of `_Blocks`, whose derivatives are such results again."""

    @staticmethod
    def forward(ctx: Any, blocks: _Blocks, wanted: tuple[int, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.blocks, ctx.wanted = blocks, wanted
        ctx.set_materialize_grads(False)  # zeros for all rows of all processes
        ctx.save_for_backward(*tensors)
        with torch.no_grad():
            return tuple(blocks.of_all(tuple(t.detach() for t in tensors), wanted))

    @staticmethod
    @exactly()
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        given = [(k, c) for k, c in zip(ctx.wanted, cotangents, strict=True) if c is not None]
        of, wanted = tuple(k for k, _ in given), tuple(k for k, need in enumerate(ctx.needs_input_grad[2:]) if need)
        gradients: list[Tensor | None] = [None] * len(ctx.blocks.takes)
        if given and wanted:
            derivative = ctx.blocks.derivative(of)
            found = _OverBlocks.apply(derivative, wanted, *ctx.saved_tensors, *(c for _, c in given))
            for k, gradient in zip(wanted, found, strict=True):
                gradients[k] = gradient
        return None, None, *gradients


def _parts(t: Tensor) -> Parts:
    assert isinstance(t, Sharded)
    return t.parts
