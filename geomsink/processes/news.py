"""Who was lost, passed on: a process that gives up tells the others why, so that all of them name the same one."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

TAG = 4
NAMED = 8
"""Processes, at most, that are named in a message."""
PATIENCE = 3.0
"""Seconds in which others are told, and in which those that give up at about the same time have said why."""


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
        self._came = {k: torch.full((2 + NAMED,), -1, dtype=torch.int64, device="cpu") for k in others}
        self._waits: dict[int, Any] = {k: dist.irecv(t, ranks[k], group, TAG) for k, t in self._came.items()}

    def tell(self, found: Found) -> None:
        """Let all others hear of it, as far as they are there."""
        named = [*found.ranks[:NAMED], *[-1] * (NAMED - len(found.ranks))]
        said = torch.tensor([found.late, found.teller, *named], dtype=torch.int64, device="cpu")
        sends: list[Any] = []
        end = time.monotonic() + PATIENCE
        for k in self._came:
            with contextlib.suppress(RuntimeError):  # it has ended
                sends.append(dist.isend(said, self._ranks[k], self._group, TAG))
        for send in sends:
            with contextlib.suppress(RuntimeError):
                send.wait(timedelta(seconds=max(end - time.monotonic(), 0.001)))

    def behind(self, found: Found) -> Found:
        """What one that is lost has found itself, if it has only given up; and so on, to one that has said nothing.

        Others must have been told before: a wait that is too long closes the connections.
        """
        end, seen = time.monotonic() + PATIENCE, {self._rank}
        while True:
            said = [self._heard(k, end) for k in found.ranks if k not in seen]
            seen.update(found.ranks)
            further = [one for one in said if one is not None and not seen.issuperset(one.ranks)]
            if not further:
                return found
            found = further[0]

    def _heard(self, k: int, end: float) -> Found | None:
        """What a process has said, by then; None of one that has ended, or is silent."""
        try:
            self._waits[k].wait(timedelta(seconds=max(end - time.monotonic(), 0.001)))
        except RuntimeError:
            return None
        late, teller, *named = self._came[k].tolist()
        return Found(teller, tuple(rank for rank in named if rank >= 0), bool(late))
