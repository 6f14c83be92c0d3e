"""Random numbers that follow from a seed and a place in the training, and from nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

# What numbers are drawn for: the first part of their place.
LATENTS, DATA, ORDER, HELD_OUT, SPLIT, FORWARD, PENALTY, START, SAMPLE, TARGETS = range(10)


def seed_of(*place: int) -> int:
    """The seed of a place: whole numbers, the user's seed first."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> np.uint64(1))


def normal(*shape: int) -> Tensor:
    """Normal numbers: float32, on the CPU, so that a seed has the same ones whatever devices and defaults there are."""
    return torch.randn(*shape, dtype=torch.float32, device="cpu")


def uniform(*shape: int) -> Tensor:
    """Uniform numbers between 0 and 1, as `normal` ones."""
    return torch.rand(*shape, dtype=torch.float32, device="cpu")


@contextmanager
def seeded(*place: int, device: torch.device | None = None) -> Iterator[int]:
    """Draw from torch, NumPy and ``random`` as of ``seed_of(*place)``; afterwards they are as they were.

    With a GPU as ``device``, from torch's random numbers there, too.

    There is no state to save: step 1000 of a resumed run draws what step 1000 of any other draws.

    Examples
    --------
    >>> with seeded(0, DATA, 5):
    ...     first = torch.rand(2)
    >>> with seeded(0, DATA, 5):
    ...     bool((torch.rand(2) == first).all())
    True
    """
    seed = seed_of(*place)
    on_gpu = [device] if device is not None and device.type == "cuda" else []
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (data sets draw from it)
    with torch.random.fork_rng(devices=on_gpu):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would change all GPUs
        for gpu in on_gpu:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield seed
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
