"""Connections of one process to the others, on torch's process groups: waits for messages end with the time-out."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .failures import ProcessesError, broken, gone, silent
from .news import Found, News
from .words import SHORT, Traffic, copied, is_short

HEAD, BODY, NOTHING = 1, 2, 3
"""Tags of messages: what a process comes for, and what it brings; and one of messages that never come."""
FEW = 4096
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
    short : Tensor, shape (SHORT,), uint8
        The tensor itself, where it is short enough.
    """

    fingerprint: int
    rows: int
    length: int
    failed: bool
    short: Tensor

    @staticmethod
    def packed(words: bytes, rows: int, failed: bool, t: Tensor | None) -> Tensor:
        """As it is sent."""
        fingerprint = int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little", signed=True)
        head = torch.zeros(3 + SHORT // 8, dtype=torch.int64, device="cpu")
        head[:3] = torch.tensor([fingerprint, rows, 2 * len(words) + failed], device="cpu")
        if t is not None and is_short(t.shape, t.dtype):
            own = copied(t).cpu().reshape(-1).view(torch.uint8)
            head[3:].view(torch.uint8)[: len(own)] = own
        return head

    @classmethod
    def read(cls, packed: Tensor) -> Head:
        fingerprint, rows, length = packed[:3].tolist()
        return cls(fingerprint, rows, length // 2, bool(length % 2), packed[3:].view(torch.uint8))


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
    traffic : Traffic
        Where messages are counted.

    Attributes
    ----------
    lost : ProcessesError or None
        What has made them useless.
    passing : Passing
        Blocks that this process has begun to pass on around the ring.
    """

    def __init__(self, ranks: list[int], world: bool, seconds: float, traffic: Traffic):
        self._ranks, self._seconds, self.traffic = ranks, seconds, traffic
        self.rank, self.count = ranks.index(dist.get_rank()), len(ranks)
        self.lost: ProcessesError | None = None
        self.passing = Passing(self, (), (), "")  # of nothing
        self._others = [rank for rank in range(self.count) if rank != self.rank]
        self._tensors = self._joined(world, None)
        self._words = self._tensors if dist.get_backend(self._tensors) == "gloo" else self._joined(world, "gloo")
        self._news = News(self._joined(world, "gloo"), ranks)  # their waits, when they fail, leave these as they are
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

    def heads(self, words: bytes, rows: int, failed: bool, what: str, short: Tensor | None = None) -> list[Head]:
        """Of all processes, with what each brings, where that is short enough."""
        mine = Head.packed(words, rows, failed, short)
        return [Head.read(head) for head in self._from_each(mine, [mine.shape] * self.count, HEAD, what)]

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
        self.traffic.posts += sum(how is dist.isend for how, _, _ in operations)
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
        if t.numel() <= FEW * self.count:
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
            self.lost = self._fault(sorted({rank for rank in missing if rank is not None}), late, what)
            raise self.lost from error

    def _fault(self, ranks: list[int], late: bool, what: str) -> ProcessesError:
        """What is said of processes that are missing, or of those that they have missed themselves. The others are
        told, and wait for this one no more."""
        found = Found(self.rank, tuple(ranks), late)
        self._news.tell(found)
        self._close()
        found = self._news.behind(found)
        if found.late:
            return silent(found.teller, self.count, what, self._seconds, found.ranks)
        return gone(self.rank, self.count, what, found.ranks)

    def _close(self) -> None:
        """Close all connections: gloo does so where a wait for a message is too long."""
        for k in self._others:
            with contextlib.suppress(RuntimeError):
                never: Any = dist.irecv(torch.empty(1, device="cpu"), self._ranks[k], self._words, NOTHING)
                never.wait(AT_ONCE)

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


class Passing:
    """Blocks of tensors on their way around the ring; an iterator over their owners and them.

    Parameters
    ----------
    links : Links
    rows : sequence of int
        Of the block of each process.
    tensors : tuple of Tensor
        The own one.
    what : str

    Attributes
    ----------
    whole : bool
        Whether all that have come were taken.
    """

    def __init__(self, links: Links, rows: Sequence[int], tensors: tuple[Tensor, ...], what: str):
        self._links, self._rows, self._held, self._what, self._step = links, rows, tensors, what, 0
        self.whole = True

    def __iter__(self) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        return self

    def __next__(self) -> tuple[int, tuple[Tensor, ...]]:
        links = self._links
        self._step += 1
        if self._step >= links.count or links.lost is not None:
            self._held = ()
            raise StopIteration
        owner, coming = (links.rank - self._step) % links.count, []
        for t in self._held:
            out, back = links.there(copied(t))
            links.traffic.count(out)
            coming.append(links.pass_on(out, (self._rows[owner], *t.shape[1:]), self._what).to(back))
        self._held = tuple(coming)
        return owner, self._held

    def finish(self) -> None:
        """Pass on what is left, which others wait for, where this process has failed at a block before the last one."""
        for _ in self:
            self.whole = False
