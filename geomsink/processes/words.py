"""What processes say to each other, as bytes, and how much of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LONG = 500
"""Characters of another process's failure that are passed on."""


@dataclass
class Traffic:
    """What a process has sent.

    Attributes
    ----------
    messages : int
        Collective calls, and pieces passed on around the ring.
    bytes : int
        Of its own tensors that went out, once each; what a backend sends besides, or passes on for others, is not
        counted, nor are the 24 bytes to each of the others that go before every call.
    """

    messages: int = 0
    bytes: int = 0


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


def as_bytes(facts: Any) -> bytes:
    return json.dumps(facts, default=str).encode()


def encoded(words: bytes) -> Tensor:
    return torch.tensor(list(words), dtype=torch.uint8, device="cpu")


def decoded(words: Tensor) -> Any:
    return json.loads(bytes(words.tolist()))
