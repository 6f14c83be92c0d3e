"""What torch has besides tensors: a GPU to ask for, a backward pass in C++, checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.autograd.graph
import torch.utils.checkpoint
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .overrides import Overrides
from .tensors import Pretended, inside, mapped

MADE_BY_FORMULAS = {"zeros", "ones", "full", "empty", "new_zeros", "arange", "eye"}


@contextlib.contextmanager
def hardware() -> Iterator[None]:
    """One GPU with one stream and 64 GB; its random numbers are the CPU's."""
    stream = SimpleNamespace(synchronize=lambda: None)
    answers = dict(
        device=lambda *_: contextlib.nullcontext(),
        current_stream=lambda *_: stream,
        default_stream=lambda *_: stream,
        get_device_properties=lambda *_: SimpleNamespace(total_memory=2**36),
        get_rng_state=lambda *_: torch.zeros(1, dtype=torch.uint8),
        set_rng_state=lambda *_: None,
        manual_seed=lambda *_: None,
        synchronize=lambda *_: None,
    )
    with mock.patch.multiple(torch.cuda, **answers):
        yield


class _MadeByFormulas(TorchDispatchMode):
    """In a backward pass, C++ makes tensors where it believes that a gradient is: on the CPU."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = operation(*args, **(kwargs or {}))
        made = not Overrides.making and operation._schema.name.split("::")[1] in MADE_BY_FORMULAS
        return Pretended(out) if made and type(out) is Tensor and out.ndim else out


@contextlib.contextmanager
def autograd() -> Iterator[None]:
    """A backward pass in which overrides are as they are outside: those of tensors turn them off."""
    run = torch.autograd.graph._engine_run_backward

    def engine(*args: Any, **kwargs: Any) -> Any:
        with torch._C._EnableTorchFunction(), Overrides(), _MadeByFormulas():
            return run(*args, **kwargs)

    with contextlib.ExitStack() as stack:
        for module in (torch.autograd.graph, torch.autograd):
            stack.enter_context(mock.patch.object(module, "_engine_run_backward", engine))
        yield


@contextlib.contextmanager
def checkpoints() -> Iterator[None]:
    """Recomputed tensors are compared with the first ones, but for devices: in C++, overrides are off."""
    checks = torch.utils.checkpoint._allowed_determinism_checks_to_fns
    with mock.patch.dict(checks, default=lambda t: {"shape": t.shape, "dtype": t.dtype}):
        yield


@contextlib.contextmanager
def files() -> Iterator[None]:
    """What is saved may be read again, onto the CPU where that is asked for."""
    load = torch.load

    def loaded(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        found = load(*args, map_location=map_location, **kwargs)
        return mapped(inside, found) if map_location == "cpu" else found

    with torch.serialization.safe_globals([Pretended]), mock.patch.object(torch, "load", loaded):
        yield
