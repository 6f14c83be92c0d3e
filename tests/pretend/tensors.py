"""The tensor that says it is on cuda:0; operations on it are those of the tensor inside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing

from .log import note

CUDA = torch.device("cuda", 0)
READS = {
    "_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "histc", "_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_pinv",
}  # fmt: skip
"""Operations after which the host knows a number, a shape or an error that the device has found."""
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"copy_", "_to_copy"}


class Refused(RuntimeError):
    """What a GPU would refuse, or crash on."""


class Pretended(Tensor):
    """A tensor that says it is on cuda:0; ``inner`` is the CPU's that holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> Pretended:
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=inner.device, requires_grad=requires_grad,
        )  # fmt: skip

    def __init__(self, inner: Tensor, requires_grad: bool = False):
        assert not isinstance(inner, Pretended)
        self.inner = inner.detach()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.inner!r})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Pretended, (self.inner, self.requires_grad)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from .overrides import overridden

        found = overridden(function, args, kwargs or {})
        if found is not NotImplemented:
            return found
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, launches, aliases = _kind(operation)
        leaves = list(_leaves((args, kwargs)))
        if any(isinstance(leaf, torch.Generator) for leaf in leaves):
            raise Refused(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
        on_host = [t for t in leaves if isinstance(t, Tensor) and not is_there(t) and t.ndim > 0]
        if name in INDEXING:
            on_host = _indexed(name, args, on_host)
        elif name in READS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            note("read", name)
        if name in COPIES and on_host:
            note("copy" if isinstance(args[0], Pretended) else "read", name)
        elif on_host:
            raise Refused(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        if launches:
            note("launch", name)
        out = mapped(placed, operation(*mapped(inside, args), **mapped(inside, kwargs)))
        return return_and_correct_aliasing(operation, args, kwargs, out) if aliases else out


@functools.cache
def _kind(operation: Any) -> tuple[str, bool, bool]:
    """The name of an operation, whether it is a kernel and no view or read, whether it gives back what it was given."""
    name = operation._schema.name.split("::")[1]
    aliases = [alias for alias in (item.alias_info for item in operation._schema.returns) if alias is not None]
    return name, name != "_local_scalar_dense" and all(alias.is_write for alias in aliases), bool(aliases)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)
    else:
        yield value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """What a function makes of all leaves."""
    if isinstance(value, dict):
        return {key: mapped(function, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)([mapped(function, item) for item in value])
    return function(value)


def _indexed(name: str, args: Any, on_host: list[Tensor]) -> list[Tensor]:
    """The host's tensors of such an operation without its indices, which a GPU takes from the host."""
    indexed, indices = args[0], [t for t in args[1] if t is not None]
    if not isinstance(indexed, Pretended):
        raise Refused(f"{name}: indices should be on the same device as the indexed tensor (cpu)")
    if any(t is index for t in on_host for index in indices):
        note("copy", f"{name} by the host's index")
    masks = [t for t in indices if t.dtype == torch.bool]
    filled = len(masks) == 1 and name not in ("index", "_unsafe_index") and args[2].numel() == 1
    if masks and not filled:
        note("read", f"{name} by a mask")
    return [t for t in on_host if not any(t is index for index in indices)]


def inside(t: Any) -> Any:
    """The tensor inside of a pretended one; anything else as it is."""
    return t.inner if isinstance(t, Pretended) else t


def is_there(t: Any) -> bool:
    """Whether a tensor is on the pretend device; a sparse one, which nothing can hold, has a mark."""
    return isinstance(t, Pretended) or getattr(t, "on_pretend_device", False)


def placed(t: Any) -> Any:
    """A tensor, on the device; anything else as it is."""
    if not isinstance(t, Tensor) or is_there(t):
        return t
    if t.layout == torch.strided:
        return Pretended(t)
    t.on_pretend_device = True  # type: ignore[attr-defined]
    return t


class _ToHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Pretended) -> Tensor:
        return t.inner.view_as(t.inner)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return to_device(cotangent)


class _ToDevice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        return Pretended(t.detach())

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        return to_host(cotangent)


def to_host(t: Tensor) -> Tensor:
    found: Tensor = _ToHost.apply(t) if isinstance(t, Pretended) else t
    return found


def to_device(t: Tensor) -> Tensor:
    found: Tensor = t if isinstance(t, Pretended) else _ToDevice.apply(t)
    return found
