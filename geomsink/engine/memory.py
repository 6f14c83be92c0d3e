"""How much of a matrix is in memory at a time."""

from __future__ import annotations

import torch

CHUNK = 2**20
"""Numbers of the largest temporary on a CPU: what its caches hold."""
MOST = 2**27
"""On a GPU, where each piece is a launch and small ones leave it idle; longer ones are no faster."""
SHARE = 256
"""Bytes of a GPU's memory to each such number: eight temporaries in float64 take a quarter."""


def chunk(device: torch.device) -> int:
    """Numbers of the largest temporary of a sum over pairs on a device."""
    if device.type != "cuda":
        return CHUNK
    return max(CHUNK, min(MOST, torch.cuda.get_device_properties(device).total_memory // SHARE))
