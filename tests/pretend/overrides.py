"""Functions of torch that have to do with devices, as they are where there is a pretend one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .log import note
from .tensors import CUDA, Pretended, Refused, inside, is_there, mapped, placed, to_device, to_host

FACTORIES = {
    torch.arange, torch.asarray, torch.as_tensor, torch.empty, torch.empty_strided, torch.eye, torch.full,
    torch.linspace, torch.ones, torch.rand, torch.randint, torch.randn, torch.randperm, torch.scalar_tensor,
    torch.tensor, torch.tril_indices, torch.triu_indices, torch.zeros,
}  # fmt: skip
"""Tensors from nothing, or from the host's numbers."""
LIKE = {
    Tensor.new_empty, Tensor.new_full, Tensor.new_ones, Tensor.new_zeros, torch.empty_like, torch.full_like,
    torch.ones_like, torch.rand_like, torch.randn_like, torch.zeros_like,
}  # fmt: skip
"""Tensors like another one, and where that is if no device is named."""
FROM_NUMBERS = {torch.tensor, torch.as_tensor, torch.asarray}

Override = Callable[..., Any]
_overrides: dict[Any, Override] = {}


def overriding(*functions: Any) -> Callable[[Override], Override]:
    """Decorates what is called in place of such functions, with the function first; it may say NotImplemented."""

    def register(override: Override) -> Override:
        _overrides.update(dict.fromkeys(functions, override))
        return override

    return register


def overridden(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function says here; NotImplemented where it has nothing to do with the device."""
    override = _overrides.get(function)
    return NotImplemented if override is None else override(function, *args, **kwargs)


class Overrides(TorchFunctionMode):
    """Overrides functions of all tensors."""

    making = 0
    """Whether a factory is at work: what it makes on the host stays there, in a backward pass too."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Overrides.making += function in FACTORIES
        try:
            found = overridden(function, args, kwargs or {})
            if found is not NotImplemented:
                return found
            return _of_sparse(function, args, _plainly(function, *args, **(kwargs or {})))
        finally:
            Overrides.making -= function in FACTORIES


def _of_sparse(function: Any, args: tuple[Any, ...], found: Any) -> Any:
    """What has been found, on the device where a sparse tensor of it was given, which is none of `Pretended`."""
    if not any(is_there(t) and not isinstance(t, Pretended) for t in args):
        return found
    if any(isinstance(t, Tensor) and not is_there(t) and t.ndim > 0 for t in args):
        raise Refused(f"{function}: expected all tensors to be on the same device, but found cuda:0 and cpu")
    return mapped(placed, found)


def _on_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _plainly(function: Any, *args: Any, **kwargs: Any) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return function(*args, **kwargs)


PROPERTIES = {
    Tensor.device.__get__: CUDA,
    Tensor.is_cuda.__get__: True,
    Tensor.is_cpu.__get__: False,
    Tensor.get_device: 0,
}


@overriding(*PROPERTIES)
def _property(function: Any, t: Tensor) -> Any:
    return PROPERTIES[function] if is_there(t) else NotImplemented


@overriding(Tensor.numpy, Tensor.__array__)
def _numpy(function: Any, t: Tensor, *args: Any, **kwargs: Any) -> Any:
    if isinstance(t, Pretended):
        raise Refused("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
    return NotImplemented


class Address:
    """Of memory on the device: it can be compared, and is nothing that the host's code can be given."""

    def __init__(self, number: int):
        self._number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self._number == other._number

    def __hash__(self) -> int:
        return hash(self._number)


@overriding(Tensor.data_ptr)
def _data_ptr(function: Any, t: Tensor) -> Any:
    return Address(t.inner.data_ptr()) if isinstance(t, Pretended) else NotImplemented


@overriding(Tensor.untyped_storage, Tensor.storage)
def _storage(function: Any, t: Tensor) -> Any:
    if isinstance(t, Pretended):
        raise Refused("the memory of a tensor on cuda:0 was asked for")
    return NotImplemented


@overriding(Tensor.tolist)
def _tolist(function: Any, t: Tensor) -> Any:
    if not isinstance(t, Pretended):
        return NotImplemented
    note("read", "tolist")
    return t.inner.tolist()


@overriding(Tensor.__deepcopy__)
def _deepcopy(function: Any, t: Tensor, memo: Any) -> Any:
    return Pretended(t.inner.clone(), t.requires_grad) if isinstance(t, Pretended) else NotImplemented


@overriding(Tensor.cpu)
def _cpu(function: Any, t: Tensor) -> Any:
    return _to(Tensor.to, t, "cpu")


@overriding(Tensor.cuda)
def _cuda(function: Any, t: Tensor) -> Any:
    return _to(Tensor.to, t, "cuda")


@overriding(Tensor.to)
def _to(function: Any, t: Tensor, *args: Any, **kwargs: Any) -> Any:
    copy = kwargs.pop("copy", False)
    if args and isinstance(args[0], Tensor):
        device, dtype = args[0].device, args[0].dtype
    else:
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    t = _plainly(function, t, dtype or t.dtype, copy=copy)
    if device is None or _on_device(device) == is_there(t):
        return t
    note("copy" if _on_device(device) else "read", f"to({device.type})")
    if t.layout != torch.strided:
        return placed(t.clone()) if _on_device(device) else t.clone()
    return to_device(t) if _on_device(device) else to_host(t)


@overriding(*FACTORIES)
def _factory(function: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
    given = args[0] if args and function in FROM_NUMBERS else None
    if isinstance(given, Tensor) and (isinstance(given, Pretended) or _on_device(device)):
        copy = bool(kwargs.get("copy", function is torch.tensor))
        return _to(Tensor.to, given, device or given.device, kwargs.get("dtype") or given.dtype, copy=copy)
    if isinstance(given, (list, tuple)) and any(isinstance(item, Pretended) for item in given):
        return _factory(function, [item.item() for item in given], *args[1:], device=device or "cpu", **kwargs)
    if not _on_device(device):
        return function(*args, device=device, **kwargs)
    if kwargs.get("generator") is not None:
        raise Refused(f"{function.__name__}: expected a 'cuda' device type for generator but found 'cpu'")
    if given is not None:
        note("copy", function.__name__)
    made = function(*args, device="cpu", **kwargs)
    return Pretended(made.detach(), made.requires_grad)


@overriding(torch.sparse_coo_tensor, torch.sparse_csr_tensor)
def _sparse(function: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
    if not _on_device(device):
        return NotImplemented
    if not all(map(is_there, args[: 2 + (function is torch.sparse_csr_tensor)])):
        note("copy", function.__name__)
    return placed(function(*mapped(inside, args), device="cpu", **kwargs))


@overriding(*LIKE)
def _like(function: Any, t: Tensor, *args: Any, device: Any = None, **kwargs: Any) -> Any:
    if device is None:
        return NotImplemented
    made = _plainly(function, inside(t), *args, **kwargs)
    return Pretended(made.detach(), made.requires_grad) if _on_device(device) else made


@overriding(Tensor.new_tensor)
def _new_tensor(function: Any, t: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> Any:
    return _factory(torch.tensor, data, dtype=dtype or t.dtype, device=device or t.device, **kwargs)
