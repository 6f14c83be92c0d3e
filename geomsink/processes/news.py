"""Who was lost, passed on: a process that gives up tells the others why, so that all of them name the same one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

TAG = 4
NAMED = 8
"""Processes, at most, that are named in a message."""
PATIENCE = 2.0
"""Seconds in which that which has closed its connections has said why, and in which the others are told."""


@dataclass(frozen=True)
class Found:
    """What a process has found when it gave up.

    Attributes
    ----------
    teller : int
        Which process that is.
    ranks : tuple of int
        Whom it has lost.
    late : bool
        Whether they had not come in time; or else a connection broke.
    """

    teller: int
    ranks: tuple[int, ...]
    late: bool


class News:
    """Connections beside those of the exchanges, whose messages come only when a process gives up.

    Parameters
    ----------
    group : ProcessGroup
        On gloo, and used for nothing else.
    ranks : list of int
        Of its processes among all.
    """

    def __init__(self, group: Any, ranks: list[int]):
        self._group, self._ranks, self._rank = group, ranks, ranks.index(dist.get_rank())
        others = [rank for rank in range(len(ranks)) if rank != self._rank]
        self._came = {k: torch.full((3 + NAMED,), -1, dtype=torch.int64, device="cpu") for k in others}
        self._waits = {k: dist.irecv(t, ranks[k], group, TAG) for k, t in self._came.items()}

    def of(self, ranks: Sequence[int], late: bool) -> Found | None:
        """What the first of these has said, that has said anything; one whose connection broke, and not only was
        ``late``, may be about to."""
        for k in ranks:
            if not late:
                try:
                    self._waits[k].wait(timedelta(seconds=PATIENCE))
                except RuntimeError:  # it has ended without a word
                    continue
            late_, teller, *named, said = self._came[k].tolist()
            named = tuple(rank for rank in named if rank >= 0)
            if said > 0 and self._rank not in named:
                return Found(teller, named, bool(late_))
        return None

    def tell(self, found: Found) -> None:
        """Let all others hear of it, as far as they are there."""
        named = [*found.ranks[:NAMED], *[-1] * (NAMED - len(found.ranks))]
        said = torch.tensor([found.late, found.teller, *named, 1], dtype=torch.int64, device="cpu")
        end, sends = time.monotonic() + PATIENCE, []
        for k in self._came:
            if k not in found.ranks:
                with contextlib.suppress(RuntimeError):  # that is gone, too
                    sends.append(dist.isend(said, self._ranks[k], self._group, TAG))
        for send in sends:
            with contextlib.suppress(RuntimeError):
                send.wait(timedelta(seconds=max(end - time.monotonic(), 0.001)))
