"""What callers ask of a plan: shares and seeds, refused in a sentence."""

from __future__ import annotations

import numbers
from typing import Any

import torch

from ..counts import number


def share(name: str, value: Any) -> float:
    """A number in ]0, 1].

    Raises
    ------
    TypeError, ValueError
    """
    found = number(name, value)
    if not 0.0 < found <= 1.0:
        raise ValueError(f"{name}: {value} given, expected a share of the row's sum, above 0 and at most 1.")
    return found


def generator(seed: Any) -> torch.Generator:
    """A generator on the CPU, of a seed or as it is.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise ValueError(f"seed: a generator on {seed.device} was given, expected one on the CPU.")
        return seed
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"seed: a {type(seed).__name__} was given, expected a whole number or a torch.Generator.")
    found = int(seed)
    if not 0 <= found < 2**64:
        raise ValueError(f"seed: {found} given, expected a whole number from 0 to 2^64 - 1.")
    return torch.Generator().manual_seed(found)
