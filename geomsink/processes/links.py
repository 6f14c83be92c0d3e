"""Connections of one process to the others, on torch's process groups: no wait is longer than the time-out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .failures import ProcessesError, broken, gone, silent

HEAD, BODY = 1, 2
"""Tags of messages: what a process comes for, and what it brings."""
SHORT = 4096
"""Numbers of each process up to which all get all of them to add up: one round of messages, where it takes two else."""
SLACK, AT_ONCE = timedelta(milliseconds=20), timedelta(milliseconds=1)
"""What a wait may be too short by, and the shortest."""
Pending = list[tuple[Any, int | None]]
"""Works of torch's, and the process that each waits for, where it is one."""


@dataclass(frozen=True)
class Head:
    """What a process says before an exchange.

    Attributes
    ----------
    fingerprint : int
        Of the words in which it says what it has come for.
    rows : int
        Of its tensor.
    length : int
        Of its words.
    failed : bool
    """

    fingerprint: int
    rows: int
    length: int
    failed: bool

    @classmethod
    def of(cls, words: bytes, rows: int, failed: bool) -> Head:
        digest = hashlib.blake2b(words, digest_size=8).digest()
        return cls(int.from_bytes(digest, "little", signed=True), rows, len(words), failed)


class Links:
    """Connections between some processes.

    All messages go from one process to another, so that it is known who is missing. The collectives of gloo would not
    say; and they work in threads of their own, which may still hold a tensor when Python ends, and abort the process
    then. Gloo waits for as long as it is told, and NCCL does not: where tensors go by that, heads go by gloo before
    them, and no kernel is launched that waits for a process which is not there.

    Parameters
    ----------
    ranks : list of int
        Of the processes among all.
    world : bool
        Whether these are all.
    seconds : float
        How long to wait.
    """

    def __init__(self, ranks: list[int], world: bool, seconds: float):
        self._ranks, self._seconds = ranks, seconds
        self.rank, self.count = ranks.index(dist.get_rank()), len(ranks)
        self.lost: ProcessesError | None = None
        self._others = [rank for rank in range(self.count) if rank != self.rank]
        self._tensors = self._joined(world, None)
        self._words = self._tensors if dist.get_backend(self._tensors) == "gloo" else self._joined(world, "gloo")
        self._world = dist.group.WORLD

    def _joined(self, world: bool, backend: str | None) -> Any:
        """A group of torch's own, whose connections give up in time, too, so that processes can end."""
        span, began = timedelta(seconds=self._seconds), time.monotonic()
        try:
            if world:  # its name is a count of the groups of all, which are as many on each
                return dist.new_group(timeout=span, backend=backend)
            return dist.new_group(self._ranks, timeout=span, backend=backend, use_local_synchronization=True)
        except RuntimeError as error:
            late = time.monotonic() - began >= self._seconds
            raise self._silent("group") if late else gone(self.rank, self.count, "group") from error

    @property
    def left(self) -> bool:
        return not dist.is_initialized() or dist.group.WORLD is not self._world

    # ------------------------------------------------------------------ from each to each

    def heads(self, words: bytes, rows: int, failed: bool, what: str) -> list[Head]:
        """Of all processes."""
        self._check(what)
        mine = Head.of(words, rows, failed)
        if self.count == 1:
            return [mine]
        sent = torch.tensor([mine.fingerprint, rows, 2 * len(words) + failed], dtype=torch.int64, device="cpu")
        found = self._from_each(sent, [sent.shape] * self.count, HEAD, what)
        numbers = torch.stack(found).tolist()
        return [Head(fingerprint, n, length // 2, bool(length % 2)) for fingerprint, n, length in numbers]

    def exchange(self, mine: Tensor, shapes: Sequence[Sequence[int]], what: str) -> list[Tensor]:
        """A tensor of each process, whose shapes are known."""
        return self._from_each(mine, shapes, BODY, what)

    def pass_on(self, mine: Tensor, shape: Sequence[int], what: str) -> Tensor:
        """One tensor to the process after this one; and that of the process before, which has this shape."""
        into = mine.new_empty(tuple(shape))
        after, before = (self.rank + 1) % self.count, (self.rank - 1) % self.count
        self._finish(lambda: self._started({after: mine}, {before: into}), what)
        return into

    def _from_each(self, mine: Tensor, shapes: Sequence[Sequence[int]], tag: int, what: str) -> list[Tensor]:
        parts = [mine if k == self.rank else mine.new_empty(tuple(shape)) for k, shape in enumerate(shapes)]
        sends, receives = dict.fromkeys(self._others, mine), {k: parts[k] for k in self._others}
        self._finish(lambda: self._started(sends, receives, tag), what)
        return parts

    def _started(self, sends: dict[int, Tensor], receives: dict[int, Tensor], tag: int = BODY) -> Pending:
        """Messages under way; nothing is sent of what is empty."""
        operations: list[tuple[Any, Tensor, int]] = [(dist.irecv, t, k) for k, t in receives.items() if t.numel()]
        operations += [(dist.isend, t, k) for k, t in sends.items() if t.numel()]
        if any(t.device.type != "cpu" for _, t, _ in operations):  # NCCL wants them together
            messages = [dist.P2POp(how, t, self._ranks[k], self._tensors) for how, t, k in operations]
            return [(work, None) for work in dist.batch_isend_irecv(messages)]
        pending: Pending = []
        for how, t, k in operations:
            try:
                pending.append((how(t, self._ranks[k], self._words, tag), k))
            except RuntimeError:  # a connection that is closed; the others are to get theirs
                pending.append((None, k))
        return pending

    # ------------------------------------------------------------------ of all

    def combine(self, t: Tensor, operation: Callable[[Tensor, Tensor], Tensor], what: str) -> Tensor:
        """Tensors of one shape put together in the order of the processes, which all do alike: the same bits."""
        if t.numel() <= SHORT * self.count:
            return reduce(operation, self.exchange(t, [t.shape] * self.count, what))
        # Each puts one piece together, for all.
        flat = t.reshape(-1)
        pieces = list(flat.tensor_split(self.count))
        mine = torch.empty((self.count, len(pieces[self.rank])), dtype=t.dtype, device=t.device)
        mine[self.rank] = pieces[self.rank]
        receives = {k: mine[k] for k in self._others}
        self._finish(lambda: self._started({k: pieces[k] for k in self._others}, receives), what)
        ours = reduce(operation, mine)
        parts = self.exchange(ours, [piece.shape for piece in pieces], what)
        return torch.cat(parts).view(t.shape)

    def broadcast(self, t: Tensor, what: str) -> None:
        """The first process's, in the place of the tensor."""
        sends = dict.fromkeys(self._others, t) if self.rank == 0 else {}
        receives = {} if self.rank == 0 else {0: t}
        self._finish(lambda: self._started(sends, receives), what)

    def there(self, t: Tensor) -> tuple[Tensor, torch.device]:
        """A tensor where it can be sent from, and where it was: what is on the CPU goes by gloo, in any case."""
        return t.cpu() if self._tensors is self._words else t, t.device

    # ------------------------------------------------------------------ waiting

    def _finish(self, start: Callable[[], Pending], what: str) -> None:
        """Wait for what is started; that which fails is the last."""
        self._check(what)
        end = time.monotonic() + self._seconds
        waiting: Pending = []
        try:
            waiting = start()
            while waiting:
                work, _ = waiting[0]
                if work is None:
                    raise RuntimeError
                work.wait(timedelta(seconds=max(end - time.monotonic(), 0.001)))
                waiting.pop(0)
        except RuntimeError as error:
            late = time.monotonic() >= end - SLACK.total_seconds()
            missing = [rank for work, rank in (waiting if late else waiting[:1]) if not (late and _done(work))]
            ranks = sorted({rank for rank in missing if rank is not None})
            self.lost = self._silent(what, ranks) if late else gone(self.rank, self.count, what, ranks)
            raise self.lost from error

    def _check(self, what: str) -> None:
        if self.lost is not None:
            raise broken(what, self.lost)
        if self.left:
            raise ProcessesError(f"{what}: these processes have left each other by destroy_process_group().")

    def _silent(self, what: str, ranks: Sequence[int] = ()) -> ProcessesError:
        return silent(self.rank, self.count, what, self._seconds, ranks)


def _done(work: Any) -> bool:
    """Whether a message has come, in spite of all."""
    try:
        work.wait(AT_ONCE)
    except (RuntimeError, AttributeError):
        return False
    return True
