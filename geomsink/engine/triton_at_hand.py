"""Whether Triton can be had, and what is done where its kernels do not run: it is said once, and others take over."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Found = TypeVar("Found")

_failed: list[Exception] = []


@functools.lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def is_there() -> bool:
    """Whether there is a Triton whose kernels have not failed."""
    return _installed() and not _failed


def run(
    device: torch.device, launch: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs
) -> Found | None:
    """What a function that launches a kernel on a device gives, or None where Triton cannot be had or does not run."""
    if not is_there():
        return None
    try:
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            return launch(*args, **kwargs)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        _failed.append(error)
        warnings.warn(f"Triton is not used, which is slower: its kernels do not run ({error}).", stacklevel=3)
        return None
