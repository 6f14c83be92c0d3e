"""Exponents that an exponential can take: what is multiplied by 0 afterwards must be a number."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

HIGHEST = {torch.float32: 88, torch.float64: 709}
"""Exponents above these overflow."""
ROOMY = {torch.float32: 66, torch.float64: 480}
"""Above these, the exponential times a cost or its derivative may: between points with weight none is so large."""
LOWEST = -1000
"""Of exponents below, the exponential is 0 in both precisions."""


def bounded(exponent: Any, like: Tensor) -> Any:
    """An exponent, tensor or LazyTensor, kept from overflow in the precision of a tensor and on its device."""
    if isinstance(exponent, Tensor):
        return exponent.clamp(max=HIGHEST[like.dtype])
    # The exponential that is compiled for CPUs keeps to these bounds itself.
    return exponent.clamp(LOWEST, HIGHEST[like.dtype]) if like.is_cuda else exponent


def bounded_with_room(exponent: Any, like: Tensor) -> Any:
    """The same for exponentials whose derivatives are multiplied by 0 as well."""
    highest = ROOMY[like.dtype]
    return exponent.clamp(max=highest) if isinstance(exponent, Tensor) else exponent.clamp(LOWEST, highest)


def room(dtype: torch.dtype) -> float:
    """The largest of these exponentials, in a precision."""
    return math.exp(ROOMY[dtype])
