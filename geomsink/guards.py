"""What torch's transformations may do to a loss: leave it alone, or be refused in a sentence."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from .memory import attempts

F = TypeVar("F", bound=Callable[..., Any])
HALVES = (torch.float16, torch.bfloat16)


def guarded(function: F) -> F:
    """For functions from points to a loss: no autocast within, no tracing by ``torch.compile``, no ``torch.func``, no
    forward-mode differentiation.

    Under ``torch.autocast``, half-precision arguments, which a network's output may be, become float32. A compiler
    breaks its graph at the call and runs the function as it is. Where a GPU's memory is not enough, it is called again
    with smaller pieces of matrices at a time.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        Where that is not enough.
    RuntimeError
        Within transforms of ``torch.func``, whose tensors have no numbers that a solver could look at, and where
        tensors have forward-mode tangents, which would be dropped.
    """

    name = function.__qualname__.removesuffix(".forward")

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            raise RuntimeError(
                f"{name}: it was called within a torch.func transform (grad, vmap, jacrev, ...), where a solve cannot "
                "test its convergence; expected a plain call, with torch.autograd.grad for derivatives and batches "
                "(B, N, D) for vmap."
            )
        if torch.autograd.forward_ad._current_level >= 0:
            raise RuntimeError(
                f"{name}: it was called within forward_ad.dual_level, and has no forward-mode derivatives; expected a "
                "plain call, with torch.autograd.grad for derivatives."
            )
        if _autocasts():
            args = tuple(_widened(value) for value in args)
            kwargs = {key: _widened(value) for key, value in kwargs.items()}
        with exactly():  # no further frames: warnings name the caller's line
            for attempt in attempts(name):
                with attempt:
                    return function(*args, **kwargs)
        raise AssertionError("the last attempt ends with a result or an error")

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # The compiler takes a second to import: those who do not compile need not wait for it.
        return (
            torch.compiler.disable(plain)(*args, **kwargs) if torch.compiler.is_compiling() else plain(*args, **kwargs)
        )

    return wrapper  # type: ignore[return-value]


_turns = [threading.RLock()]
if hasattr(os, "register_at_fork"):  # a thread of the parent may have had its turn
    os.register_at_fork(after_in_child=lambda: _turns.__setitem__(0, threading.RLock()))


@contextlib.contextmanager
def own_filters() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings of the body, in a list. Filters are those of all threads, and are put back in the order in which they
    were changed only if threads take turns."""
    with _turns[0], warnings.catch_warnings(record=True) as caught:
        yield caught


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Without autocast, in whose narrow formats sums over points would be rounded, and with what classes of tensors
    make of torch's functions, which torch switches off within derivatives in such tensors."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch._C._EnableTorchFunction())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _autocasts() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


def _widened(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(_widened(item) for item in value)
    return value.float() if isinstance(value, Tensor) and value.dtype in HALVES else value
