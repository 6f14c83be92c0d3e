"""How much of a matrix is in memory at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Found = TypeVar("Found")

CHUNK = 2**20
"""Numbers of the largest temporary on a CPU: what its caches hold."""
MOST = 2**27
"""On a GPU, where each piece is a launch and small ones leave it idle; longer ones are no faster."""
SHARE = 256
"""Bytes of a GPU's memory to each such number: eight temporaries in float64 take a quarter."""
SMALLER = 8, 64
"""What pieces are divided by, one after the other, where a GPU's memory is not enough: others may use it, too."""

_divided_by = [1]


def chunk(device: torch.device) -> int:
    """Numbers of the largest temporary of a sum over pairs on a device."""
    if device.type != "cuda":
        return CHUNK
    share = torch.cuda.get_device_properties(device).total_memory // SHARE
    return max(CHUNK, min(MOST, share) // _divided_by[0])


def fitting(name: str, call: Callable[[], Found]) -> Found:
    """What a call gives; where a GPU's memory is not enough, it is made again with smaller pieces.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        If that is not enough either; in a sentence that begins with ``name``.
    """
    for divided_by in (1, *SMALLER):
        with contextlib.suppress(torch.cuda.OutOfMemoryError), _pieces(divided_by):
            return call()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise torch.cuda.OutOfMemoryError(
        f"{name}: the GPU's memory is not enough for these clouds, with the smallest pieces, too; expected fewer "
        "points, float32 ones, or less else on the GPU."
    )


@contextlib.contextmanager
def _pieces(divided_by: int) -> Iterator[None]:
    before, _divided_by[0] = _divided_by[0], max(divided_by, _divided_by[0])
    try:
        yield
    finally:
        _divided_by[0] = before
