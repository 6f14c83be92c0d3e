"""What torch's operations do to tensors whose rows are dealt out to processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .sharded import Parts, Sharded, axes_of, handling, local_of, told_largest, told_sum

FEW = 2**16
"""Numbers, at most, that are told to all processes where some rows are asked for."""


def _refused(operation: Any, what: str) -> RuntimeError:
    name = operation._schema.name.split("::")[1]
    return RuntimeError(f"{name}: {what} of points that are dealt out to processes.")


def _leaves(values: Sequence[Any]) -> list[Sharded]:
    nested = [item for value in values for item in (value if isinstance(value, (list, tuple)) else (value,))]
    return [item for item in nested if isinstance(item, Sharded)]


def _wrapped(found: Any, like: Sharded, axis: int | None = None) -> Any:
    """Results, dealt out like a tensor."""
    if isinstance(found, (list, tuple)):
        return type(found)(_wrapped(item, like, axis) for item in found)
    return Sharded(found, like.parts, like.axis if axis is None else axis) if isinstance(found, Tensor) else found


# ------------------------------------------------------------ each number by itself


NUMBERS = (
    "abs", "add", "addcdiv", "addcmul", "bitwise_and", "bitwise_not", "bitwise_or", "clamp", "clamp_max",
    "clamp_min", "copy", "cos", "div", "elu", "eq", "erf", "exp", "exp2", "expm1", "fill", "floor", "ge", "gelu",
    "gt", "isfinite", "isinf", "isnan", "le", "leaky_relu", "log", "log1p", "log2", "logical_and", "logical_not",
    "logical_or", "lt", "masked_fill", "maximum", "minimum", "mul", "nan_to_num", "ne", "neg", "nextafter", "pow",
    "reciprocal", "relu", "rsqrt", "rsub", "sgn", "sigmoid", "sign", "silu", "sin", "softplus", "special_xlog1py",
    "sqrt", "square", "sub", "tanh", "where", "xlogy", "zero",
)  # fmt: skip
ALIKE = (
    "_to_copy", "alias", "clone", "detach", "elu_backward", "empty_like", "full_like", "gelu_backward",
    "leaky_relu_backward", "lift_fresh", "ones_like", "sigmoid_backward", "silu_backward", "softplus_backward",
    "tanh_backward", "threshold_backward", "zeros_like",
)  # fmt: skip


@handling(*NUMBERS, *(f"{name}_" for name in NUMBERS), *ALIKE)
def _each(operation: Any, *args: Any, **kwargs: Any) -> Any:
    like = max(_leaves((*args, *kwargs.values())), key=lambda t: t.ndim)

    def inside(value: Any) -> Any:
        return local_of(value, like.parts, like.axis) if isinstance(value, Tensor) else value

    found = operation(*map(inside, args), **{name: inside(value) for name, value in kwargs.items()})
    in_place = operation._schema.name.endswith("_")
    return args[0] if in_place else _wrapped(found, like)


@handling("new_zeros", "new_ones", "new_full", "new_empty")
def _new(operation: Any, like: Sharded, size: Sequence[int], *args: Any, **kwargs: Any) -> Any:
    """Of the rows' number and order, if that is the first size, and otherwise of any."""
    if like.axis == -like.ndim and size and size[0] == like.parts.total:
        return Sharded(operation(like.local, [like.parts.mine, *size[1:]], *args, **kwargs), like.parts, -len(size))
    return operation(like.local, size, *args, **kwargs)


# ------------------------------------------------------------------ over the rows


def _kept(t: Sharded, dims: list[int], keepdim: bool) -> int:
    """The dealt axis after a reduction over others."""
    return t.axis if keepdim else t.axis + sum(d > t.axis for d in dims)


@handling("sum", "amax", "amin", "any", "all", "logsumexp", "max", "min")
def _over(operation: Any, t: Sharded, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    name, dims = operation._schema.name.split("::")[1], axes_of(t, dim)
    if name in ("max", "min") and dim is not None:
        raise _refused(operation, "positions")
    if t.axis not in dims:
        return _wrapped(operation(t.local, dim, keepdim, **kwargs), t, _kept(t, dims, keepdim))
    return _totals(name, t, dims, keepdim, kwargs.get("dtype"))


def _totals(name: str, t: Sharded, dims: list[int], keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    local, parts = t.local, t.parts
    if name == "sum":
        return told_sum(local.sum(dims, keepdim=keepdim, dtype=dtype), parts)
    if name in ("any", "all"):
        whole = local.bool()
        found = _largest(whole if name == "any" else ~whole, parts, dims, keepdim)
        return found if name == "any" else ~found
    if name == "logsumexp":
        top = _largest(local, parts, dims, True)
        top = torch.where(top.isfinite(), top, 0.0)
        total = told_sum((local - top).exp().sum(dims, keepdim=True), parts).log() + top
        return total if keepdim else total.squeeze(dims)
    return _largest(local, parts, dims, keepdim) if name in ("amax", "max") else -_largest(-local, parts, dims, keepdim)


def _largest(local: Tensor, parts: Parts, dims: list[int], keepdim: bool) -> Tensor:
    """Over all processes; some may have no rows."""
    numbers = local if local.dtype != torch.bool else local.to(torch.int32)
    if not numbers.numel():
        least = -math.inf if numbers.is_floating_point() else torch.iinfo(numbers.dtype).min
        shape = [1 if d - local.ndim in dims else size for d, size in enumerate(local.shape)]
        numbers = numbers.new_full(shape, least)
    found = told_largest(numbers.amax(dims, keepdim=keepdim), parts)
    return found > 0 if local.dtype == torch.bool else found


@handling("aminmax")
def _both(operation: Any, t: Sharded, dim: int | None = None, keepdim: bool = False) -> Any:
    dims = axes_of(t, dim)
    if t.axis not in dims:
        return _wrapped(tuple(operation(t.local, dim=dim, keepdim=keepdim)), t, _kept(t, dims, keepdim))
    low, high = _largest(torch.stack((-t.local, t.local)), t.parts, dims, keepdim)
    return -low, high


@handling("linalg_vector_norm")
def _norm(
    operation: Any, t: Sharded, order: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    dims = axes_of(t, dim)
    if t.axis not in dims:
        return _wrapped(operation(t.local, order, dims, keepdim, dtype=dtype), t, _kept(t, dims, keepdim))
    if order != 2:
        raise _refused(operation, f"the norm of order {order}")
    return told_sum(operation(t.local, 2, dims, keepdim, dtype=dtype).square(), t.parts).sqrt()


@handling("argmin", "argmax")
def _place(operation: Any, t: Sharded, dim: int | None = None, keepdim: bool = False) -> Any:
    """Of the first of equal ones."""
    if dim is None or axes_of(t, dim)[0] != t.axis:
        raise _refused(operation, "positions along another axis")
    local, sign = t.local, 1 if operation._schema.name.endswith("max") else -1
    best = _largest(sign * local, t.parts, [t.axis], True)
    places = torch.arange(t.parts.start, t.parts.start + t.parts.mine, device=local.device)
    places = places.reshape(-1, *[1] * (-t.axis - 1)).expand_as(local)
    first = -_largest(-torch.where(sign * local == best, places, t.parts.total), t.parts, [t.axis], keepdim)
    return first.clamp(max=t.parts.total - 1)  # what is not a number is nowhere


@handling("equal")
def _equal(operation: Any, one: Tensor, other: Tensor) -> bool:
    """Whether both are, and dealt out in the same way."""
    if not (isinstance(one, Sharded) and isinstance(other, Sharded)):
        return False
    if one.shape != other.shape or one.parts != other.parts or one.axis != other.axis:
        return False
    differs = torch.tensor([not operation(one.local, other.local)], dtype=torch.int32, device=one.device)
    return not bool(told_largest(differs, one.parts))


@handling("is_same_size")
def _same_size(operation: Any, one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape


@handling("mm", "mv", "dot", "bmm")
def _product(operation: Any, one: Tensor, other: Tensor) -> Any:
    """Of matrices: over rows that are dealt out it is told to all."""
    summed = -1, -min(other.ndim, 2)
    first, second = (isinstance(t, Sharded) and t.axis for t in (one, other))
    if first is not False and second is not False:
        assert isinstance(one, Sharded) and isinstance(other, Sharded)
        if (first, second) != summed or one.parts != other.parts:
            raise _refused(operation, "a product")
        return told_sum(operation(one.local, other.local), one.parts)
    if isinstance(one, Sharded) and one.axis == -2:
        return Sharded(operation(one.local, other), one.parts, -2 if other.ndim > 1 else -1)
    if isinstance(other, Sharded) and other.axis == -1 and other.ndim > 1:
        return Sharded(operation(one, other.local), other.parts, -1)
    raise _refused(operation, "a product")


@handling("addmm")
def _affine(operation: Any, bias: Tensor, one: Tensor, other: Tensor, **kwargs: Any) -> Any:
    if not (isinstance(one, Sharded) and one.axis == -2) or isinstance(other, Sharded):
        raise _refused(operation, "a product")
    return Sharded(operation(local_of(bias, one.parts, -2), one.local, other, **kwargs), one.parts, -2)


# --------------------------------------------------------------------- some rows


def _picked(t: Sharded, places: Tensor) -> Tensor:
    """Rows of the whole, told to all."""
    if places.numel() * (t.numel() // t.parts.total) > FEW:
        raise RuntimeError(f"index: {places.numel():,} rows were asked for of points that are dealt out to processes.")
    here = (places >= t.parts.start) & (places < t.parts.start + t.parts.mine)
    shape = list(t.local.shape)
    shape[t.axis] = len(places)
    found, (where,) = t.local.new_zeros(shape), here.nonzero(as_tuple=True)
    found.index_copy_(t.axis, where, t.local.index_select(t.axis, places[where] - t.parts.start))
    numbers = found.to(torch.int32) if found.dtype == torch.bool else found
    return told_sum(numbers, t.parts).to(found.dtype)


@handling("select")
def _select(operation: Any, t: Sharded, dim: int, index: int) -> Any:
    d = axes_of(t, dim)[0]
    if d != t.axis:
        return _wrapped(operation(t.local, d, index), t, _kept(t, [d], False))
    place = torch.tensor([index % t.parts.total], device=t.device)
    return _picked(t, place).squeeze(d)


@handling("slice")
def _slice(
    operation: Any, t: Sharded, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    d = axes_of(t, dim)[0]
    if d != t.axis:
        return _wrapped(operation(t.local, d, start, end, step), t)
    some = range(t.parts.total)[slice(start, end, step)]
    if not some:
        return t.local.narrow(d, 0, 0)
    if len(some) == t.parts.total:
        return Sharded(t.local, t.parts, t.axis)
    return _picked(t, torch.arange(some.start, some.stop, some.step, device=t.device))


@handling("index")
def _index(operation: Any, t: Tensor, indices: Sequence[Tensor | None]) -> Any:
    given = {k: index for k, index in enumerate(indices) if index is not None}
    if isinstance(t, Sharded) and list(given) == [t.axis + t.ndim]:
        (places,) = given.values()
        if not isinstance(places, Sharded) and places.ndim == 1 and places.dtype == torch.int64:
            return _picked(t, places % t.parts.total)
    raise _refused(operation, "such a choice")


@handling("gather")
def _gather(operation: Any, t: Tensor, dim: int, index: Tensor, **kwargs: Any) -> Tensor:
    if not isinstance(t, Sharded) or isinstance(index, Sharded) or axes_of(t, dim)[0] != t.axis or index.numel() > FEW:
        raise _refused(operation, "such a choice")
    places = index - t.parts.start
    here = (places >= 0) & (places < t.parts.mine)
    if not t.parts.mine:
        return told_sum(t.local.new_zeros(index.shape), t.parts)
    found = operation(t.local, t.axis, torch.where(here, places, 0))
    return told_sum(torch.where(here, found, 0), t.parts)


@handling("multinomial")
def _drawn(operation: Any, t: Sharded, count: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Places in the whole, the same on all processes, if their generators are."""
    if t.ndim != 1 or not replacement:
        raise _refused(operation, "draws without replacement")
    masses = torch.zeros(len(t.parts.counts), dtype=torch.float64, device=t.device)
    masses[t.parts.group.rank] = t.local.sum(dtype=torch.float64)
    masses = told_sum(masses, t.parts)
    ends = masses.cumsum(0)
    chances = torch.rand(count, dtype=torch.float64, generator=generator, device=t.device) * ends[-1]
    of_part = torch.searchsorted(ends, chances, right=True).clamp(max=int(masses.nonzero()[-1]))
    places = torch.zeros(count, dtype=torch.int64, device=t.device)
    if bool((t.local > 0.0).any()):
        within = (chances - (ends - masses)[t.parts.group.rank]).clamp(min=0.0)
        found = torch.searchsorted(t.local.double().cumsum(0), within, right=True)
        found = found.clamp(max=int((t.local > 0.0).nonzero()[-1]))
        places = torch.where(of_part == t.parts.group.rank, found + t.parts.start, 0)
    return told_sum(places, t.parts)


# -------------------------------------------------------------------------- shapes


@handling("unsqueeze")
def _unsqueeze(operation: Any, t: Sharded, dim: int) -> Any:
    d = dim if dim < 0 else dim - t.ndim - 1
    return _wrapped(operation(t.local, d), t, t.axis - (d > t.axis - 1))


@handling("squeeze")
def _squeeze(operation: Any, t: Sharded, *dim: Any) -> Any:
    dims = [d for d in axes_of(t, *dim) if t.shape[d] == 1]
    if not dim or t.axis in dims:
        raise _refused(operation, "such a shape")
    return _wrapped(t.local.squeeze(dims), t, _kept(t, dims, False))


@handling("transpose", "t", "permute")
def _permute(operation: Any, t: Sharded, *args: Any) -> Any:
    order = list(range(-t.ndim, 0))
    if operation._schema.name.endswith("permute"):
        order = axes_of(t, args[0])
    elif t.ndim > 1:
        one, other = axes_of(t, args) if args else (-2, -1)
        order[one], order[other] = other, one
    return Sharded(t.local.permute(order), t.parts, order.index(t.axis) - t.ndim)


@handling("expand")
def _expand(operation: Any, t: Sharded, size: Sequence[int], **kwargs: Any) -> Any:
    size = list(size)
    if size[t.axis] not in (-1, t.parts.total):
        raise _refused(operation, "such a shape")
    size[t.axis] = t.local.shape[t.axis]
    return _wrapped(operation(t.local, size), t)


@handling("view", "_unsafe_view", "reshape", "_reshape_alias")
def _view(operation: Any, t: Sharded, size: Sequence[int], *strides: Any) -> Any:
    size = list(size)
    if -1 in size:
        size[size.index(-1)] = t.numel() // max(1, -math.prod(size))
    place = t.axis + t.ndim
    before, after = math.prod(t.shape[:place]), math.prod(t.shape[place + 1 :])
    for k, length in enumerate(size):
        if length == t.parts.total and math.prod(size[:k]) == before and math.prod(size[k + 1 :]) == after:
            shape = [*size[:k], t.parts.mine, *size[k + 1 :]]
            return Sharded(t.local.reshape(shape), t.parts, k - len(size))
    raise _refused(operation, "such a shape")


@handling("cat", "stack")
def _joined(operation: Any, tensors: Sequence[Tensor], dim: int = 0) -> Any:
    (like, *_), stacked = _leaves(tensors), operation._schema.name.endswith("stack")
    d = dim if dim < 0 else dim - like.ndim - stacked
    if not stacked and d == like.axis:
        raise _refused(operation, "a longer list")
    found = operation([local_of(t, like.parts, like.axis) for t in tensors], d)
    return Sharded(found, like.parts, like.axis - (stacked and d > like.axis - 1))


@handling("unbind", "split", "split_with_sizes")
def _apart(operation: Any, t: Sharded, *args: Any, dim: int = 0) -> Any:
    cut = operation._schema.name.endswith("unbind")
    sizes, d = args[: 0 if cut else 1], axes_of(t, args[-1] if len(args) > (0 if cut else 1) else dim)[0]
    if d == t.axis:
        raise _refused(operation, "single rows")
    return _wrapped(list(operation(t.local, *sizes, d)), t, _kept(t, [d], not cut))


@handling("select_backward", "slice_backward")
def _spread(operation: Any, t: Tensor, size: Sequence[int], dim: int, *args: Any) -> Any:
    """A tensor of the size of what one was chosen from, and zero elsewhere."""
    assert isinstance(t, Sharded)
    d, chosen = dim if dim < 0 else dim - len(size), operation._schema.name.endswith("select_backward")
    axis = t.axis - (d >= t.axis) if chosen else t.axis
    if d == axis or size[axis] != t.parts.total:
        raise _refused(operation, "single rows")
    whole = list(size)
    whole[axis] = t.parts.mine
    return Sharded(operation(t.local, whole, d, *args), t.parts, axis)
