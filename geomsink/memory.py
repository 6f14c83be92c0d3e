"""How much of a matrix is in memory at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

CHUNK = 2**20
"""Numbers of the largest temporary on a CPU: what its caches hold."""
MOST = 2**27
"""On a GPU, where each piece is a launch and small ones leave it idle; longer ones are no faster."""
SHARE = 256
"""Bytes of a GPU's memory to each such number: eight temporaries in float64 take a quarter."""
SMALLER = 8, 64
"""What pieces are divided by, one after the other, where a GPU's memory is not enough: others may use it, too."""

_divided_by = [1]
"""Of all calls at present, in any thread; the largest counts."""


def chunk(device: torch.device) -> int:
    """Numbers of the largest temporary of a sum over pairs on a device."""
    if device.type != "cuda":
        return CHUNK
    share = torch.cuda.get_device_properties(device).total_memory // SHARE
    return max(CHUNK, min(MOST, share) // max(_divided_by))


def attempts(name: str) -> Iterator[contextlib.AbstractContextManager[None]]:
    """Contexts for a call, one after the other, with smaller pieces from each to the next: what a GPU has too little
    memory for ends them without an error, but for the last.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        If that is not enough either; in a sentence that begins with ``name``.
    """
    for divided_by in (1, *SMALLER):
        yield _pieces(divided_by)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise torch.cuda.OutOfMemoryError(
        f"{name}: the GPU's memory is not enough for these clouds, with the smallest pieces, too; expected fewer "
        "points, float32 ones, or less else on the GPU."
    )


@contextlib.contextmanager
def _pieces(divided_by: int) -> Iterator[None]:
    _divided_by.append(divided_by)
    try:
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            yield
    finally:
        _divided_by.remove(divided_by)
