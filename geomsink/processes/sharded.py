"""A tensor whose rows are dealt out to processes: each has its part, and what is said of it is said of the whole.

Its shape is that of the whole. Operations on single numbers are each process's own, sums and extremes over the rows are
told to all, and anything that would need the rows of others is refused. So code for one process runs on it as it is:
what it reads of such tensors, and decides by, is the same number on all processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .group import Group

WHAT = "a sum over all points"
"""What processes were at, in sentences about those that do not answer."""


@dataclass(frozen=True)
class Parts:
    """How many rows of a whole each process has, in the order of processes.

    Attributes
    ----------
    group : Group
    counts : tuple of int
        Some may be 0.
    """

    group: Group
    counts: tuple[int, ...]

    @cached_property
    def total(self) -> int:
        return sum(self.counts)

    @cached_property
    def mine(self) -> int:
        """Rows of this process."""
        return self.counts[self.group.rank]

    @cached_property
    def start(self) -> int:
        """Where they begin in the whole."""
        return sum(self.counts[: self.group.rank])


class Sharded(Tensor):
    """A tensor of which each process has some rows.

    Parameters
    ----------
    local : Tensor
        The rows of this process, without history.
    parts : Parts
    axis : int
        The axis that is dealt out, counted from the end: −1 is the last one.

    Raises
    ------
    RuntimeError
        In operations that would need rows of other processes, and in those that nothing is known of.
    """

    local: Tensor
    parts: Parts
    axis: int

    @staticmethod
    def __new__(cls, local: Tensor, parts: Parts, axis: int) -> Sharded:
        size = list(local.shape)
        size[axis] = parts.total
        made: Sharded = torch.Tensor._make_wrapper_subclass(cls, size, dtype=local.dtype, device=local.device)
        return made

    def __init__(self, local: Tensor, parts: Parts, axis: int):
        self.local, self.parts, self.axis = local.detach(), parts, axis

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Sharded({self.local!r}, rows {self.parts.start} to {self.parts.start + self.parts.mine})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("copies and pickles: points are dealt out to processes, which cannot be kept; keep own parts.")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.expand_as and isinstance(args[1], Sharded):  # which would ask for no rows but for sizes
            return args[0] + torch.zeros_like(args[1], dtype=args[0].dtype)
        if function in _SUMS and isinstance(args[0], Sharded):
            return _summed(function in _MEANS, *args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = operation._schema.name.split("::")[1]
        if name not in _handlers:
            raise RuntimeError(f"{name}: it is not known what this does to points that are dealt out to processes.")
        return _handlers[name](operation, *args, **(kwargs or {}))


Handler = Callable[..., Any]
_handlers: dict[str, Handler] = {}


def handling(*names: str) -> Callable[[Handler], Handler]:
    """Decorates what is called in the place of torch's operations of such names, with the operation first."""

    def register(handler: Handler) -> Handler:
        _handlers.update(dict.fromkeys(names, handler))
        return handler

    return register


def local_of(t: Tensor, parts: Parts, axis: int) -> Tensor:
    """This process's part of a tensor that goes with others of these parts: it is dealt out like them, or has the same
    number for each row.

    Raises
    ------
    RuntimeError
        If it is neither.
    """
    if isinstance(t, Sharded):
        if t.parts != parts or t.axis != axis:
            found = f"axis {t.axis} of {tuple(t.shape)} in parts of {list(t.parts.counts)}"
            raise RuntimeError(
                f"points: {found} meets axis {axis} in parts of {list(parts.counts)}, expected the same."
            )
        return t.local
    if t.ndim < -axis or t.shape[axis] == 1:
        return t
    if t.shape[axis] == parts.total and _is_constant(t, axis):
        return t.narrow(axis, 0, parts.mine)
    raise RuntimeError(
        f"points: a tensor of shape {tuple(t.shape)} meets {parts.total} that are dealt out to processes."
    )


def _is_constant(t: Tensor, axis: int) -> bool:
    """Whether all rows are alike, as what torch makes of a number of all in derivatives, and may have written out."""
    return t.stride(axis) == 0 or bool(torch.isclose(t, t.narrow(axis, 0, 1), rtol=0.0, atol=0.0, equal_nan=True).all())


class _Deal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, parts: Parts, axis: int) -> Sharded:
        ctx.parts, ctx.axis = parts, axis
        return Sharded(rows, parts, axis)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return own_part(cotangent, ctx.parts, ctx.axis), None, None


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Sharded) -> Tensor:
        ctx.parts, ctx.axis = t.parts, t.axis
        return t.local.view_as(t.local)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return _Deal.apply(cotangent, ctx.parts, ctx.axis)


def own_part(t: Tensor, parts: Parts, axis: int) -> Tensor:
    """`local_of`, differentiable."""
    if not isinstance(t, Sharded):
        return local_of(t, parts, axis)
    found: Tensor = _Own.apply(t)
    return found


_MEANS = (torch.mean, Tensor.mean)
_SUMS = (torch.sum, Tensor.sum, *_MEANS)


class _Sum(torch.autograd.Function):
    """As torch's, whose derivative would have numbers for the rows of all processes."""

    @staticmethod
    def forward(ctx: Any, t: Sharded, dims: tuple[int, ...], keepdim: bool) -> Tensor:
        ctx.like, ctx.dims = t.detach(), dims
        return torch.ops.aten.sum.dim_IntList(t.detach(), dims, keepdim)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        shape = [1 if d - ctx.like.ndim in ctx.dims else size for d, size in enumerate(ctx.like.shape)]
        cotangent = cotangent.reshape(shape)
        return torch.zeros_like(ctx.like) + cotangent, None, None


def _summed(mean: bool, t: Sharded, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """A sum or a mean."""
    t = t if dtype is None else t.to(dtype)  # type: ignore[assignment]
    dims = tuple(axes_of(t, dim))
    total: Tensor = _Sum.apply(t, dims, keepdim)
    return total / math.prod(t.shape[d] for d in dims) if mean else total


def axes_of(t: Tensor, dim: Any) -> list[int]:
    """Axes, counted from the end; where none is named, all."""
    given = [dim] if isinstance(dim, int) else list(dim or ())
    return [d if d < 0 else d - t.ndim for d in given] or list(range(-t.ndim, 0))


def parts_of(rows: int, group: Group) -> Parts:
    """Of a whole that this process has so many rows of; a call of all processes."""
    counts = group.gather(torch.tensor([rows], device="cpu"), "the number of points")
    return Parts(group, tuple(torch.cat(counts).tolist()))


def deal(rows: Tensor, parts: Parts) -> Tensor:
    """The whole that a process's rows are part of, along the first axis; differentiable in the own rows."""
    if len(rows) != parts.mine:
        raise ValueError(f"points: {len(rows)} rows given, expected {parts.mine}, as many as this process has points.")
    found: Tensor = _Deal.apply(rows, parts, -rows.ndim)
    return found


def own(t: Tensor) -> Tensor:
    """The rows of this process, of what is dealt out; differentiable. Any other tensor as it is."""
    return own_part(t, t.parts, t.axis) if isinstance(t, Sharded) else t


def told_whole(t: Tensor) -> Tensor:
    """All rows of what is dealt out along its first axis, on all, without history; any other tensor as it is."""
    return told_wholes(t)[0] if isinstance(t, Sharded) else t


def told_wholes(*tensors: Tensor) -> list[Tensor]:
    """The same of several tensors of one precision that are dealt out, in one message."""
    dealt = [t for t in tensors if isinstance(t, Sharded)]
    if len(dealt) < len(tensors) or any(t.axis != -t.ndim for t in dealt):
        raise RuntimeError("points: all rows were asked for of what is not dealt out along its first axis.")
    widths, group = [math.prod(t.shape[1:]) for t in dealt], dealt[0].parts.group
    pieces = group.gather(torch.cat([t.local.reshape(-1) for t in dealt]), WHAT)
    apart = [
        piece.split([width * t.parts.counts[k] for t, width in zip(dealt, widths, strict=True)])
        for k, piece in enumerate(pieces)
    ]
    return [torch.cat(parts).view(t.shape) for t, parts in zip(dealt, zip(*apart, strict=True), strict=True)]


def told_first(t: Tensor, parts: Parts) -> Tensor:
    """The first process's tensor, on all: of one shape on each."""
    return parts.group.first(t, WHAT)


def told_sum(t: Tensor, parts: Parts) -> Tensor:
    """Over all processes, of each one's part of a sum."""
    return parts.group.sum(t, WHAT)


def told_largest(t: Tensor, parts: Parts) -> Tensor:
    """The same of the largest numbers; not a number, where one is none."""
    return parts.group.largest(t, WHAT)
