"""What processes say to each other, as bytes, and how much of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LONG = 500
"""Characters of another process's failure that are passed on."""


SHORT = 104
"""Bytes of a tensor, at most, that go with the head of an exchange, which has 24 of its own."""


@dataclass
class Traffic:
    """What a process has sent.

    Attributes
    ----------
    messages : int
        Collective calls, and pieces passed on around the ring.
    bytes : int
        Of its own tensors that went out, once each; what a backend sends besides, or passes on for others, is not
        counted, nor what goes to each of the others before every call.
    posts : int
        Messages to one other process each, of which a call has one for each of them or more.
    """

    messages: int = 0
    bytes: int = 0
    posts: int = 0

    def count(self, t: Tensor | None) -> None:
        """One message more, with a tensor or without."""
        self.messages += 1
        self.bytes += 0 if t is None else t.numel() * t.element_size()

    def since(self, before: Traffic) -> Traffic:
        """What was sent after that."""
        return Traffic(self.messages - before.messages, self.bytes - before.bytes, self.posts - before.posts)


def check_timeout(timeout: Any) -> float:
    """Seconds to wait.

    Raises
    ------
    ValueError
        For what is no positive number.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0.0 < timeout < math.inf:
        raise ValueError(f"timeout: {timeout!r} given, expected a positive number of seconds.")
    return float(timeout)


def meant(how: str, dtype: torch.dtype, sizes: Any) -> dict[str, Any]:
    return {"exchange": how, "dtype": str(dtype), "sizes": list(sizes)}


def copied(t: Tensor) -> Tensor:
    """A copy that can be sent, and overwritten."""
    return t.detach().clone(memory_format=torch.contiguous_format)


def is_short(shape: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether a tensor goes with the head of an exchange."""
    return math.prod(shape) * dtype.itemsize <= SHORT


def as_bytes(facts: Any) -> bytes:
    return json.dumps(facts, default=str).encode()


def encoded(words: bytes) -> Tensor:
    return torch.tensor(list(words), dtype=torch.uint8, device="cpu")


def decoded(words: Tensor) -> Any:
    return json.loads(bytes(words.tolist()))
