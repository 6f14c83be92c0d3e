"""Processes that work on one problem, and the few ways in which they talk.

Every call here is made by all processes of a group, in the same order. None waits longer than the group's time-out, and
what a process fails at by itself it tells the others first.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .failures import ProcessesError, different, failed, gone, silent

TIMEOUT = 300.0
"""Seconds that a process waits for the others."""
LONG = 500
"""Characters of another process's failure that are passed on."""


@dataclass
class Traffic:
    """What a process has sent.

    Attributes
    ----------
    messages : int
        Collective calls, and pieces passed on around the ring.
    bytes : int
        Of its own tensors that went out; what a backend sends besides, or passes on for others, is not counted.
    """

    messages: int = 0
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class Group:
    """Processes that solve one problem together, each with its part of the points.

    Parameters
    ----------
    processes : torch.distributed.ProcessGroup, optional
        Default: all, which ``torchrun`` has started and ``torch.distributed.init_process_group`` has joined.
    timeout : float, default 300
        Seconds that a process waits for the others before all give up with a `ProcessesError`. Processes wait for the
        slowest, so that it should be more than their work differs by.

    Attributes
    ----------
    traffic : Traffic
        What this process has sent so far.

    Raises
    ------
    RuntimeError
        If `torch.distributed` is not initialised.
    ValueError
        For a time-out that is no positive number, and in a process that is not one of the group.
    ProcessesError
        If the others do not come in time.
    """

    processes: Any = None
    timeout: float = TIMEOUT
    traffic: Traffic = field(default_factory=Traffic, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "group: given without processes that know each other, expected torch.distributed.init_process_group() "
                "first, as in scripts that torchrun starts."
            )
        if isinstance(self.timeout, bool) or not 0.0 < float(self.timeout) < math.inf:
            raise ValueError(f"timeout: {self.timeout!r} given, expected a positive number of seconds.")
        if self.processes is not None and not isinstance(self.processes, dist.ProcessGroup):
            raise TypeError(
                f"processes: a {type(self.processes).__name__} was given, expected a torch.distributed.ProcessGroup."
            )
        ranks = dist.get_process_group_ranks(self.processes or dist.group.WORLD)
        if dist.get_rank() not in ranks:
            raise ValueError(f"group: this process, {dist.get_rank()}, is none of its processes, {ranks}.")
        # One of their own, whose connections give up in time as well, so that processes can end.
        span = timedelta(seconds=float(self.timeout))
        try:
            own = dist.new_group(ranks, timeout=span, use_local_synchronization=True)
        except (RuntimeError, ValueError) as error:
            raise silent(dist.get_rank(), len(ranks), "group", self.timeout) from error
        object.__setattr__(self, "_own", own)

    @property
    def rank(self) -> int:
        return dist.get_rank(self._handle)

    @property
    def count(self) -> int:
        return dist.get_world_size(self._handle)

    # ------------------------------------------------------------------ what they say

    def sum(self, t: Tensor, what: str) -> Tensor:
        """Of the tensors of all processes, which have one shape; the same bits on all."""
        return self._reduced(t, what, dist.ReduceOp.SUM)

    def largest(self, t: Tensor, what: str) -> Tensor:
        """The same of the largest numbers."""
        return self._reduced(t, what, dist.ReduceOp.MAX)

    def smallest(self, t: Tensor, what: str) -> Tensor:
        return -self.largest(-t, what)

    def first(self, t: Tensor, what: str) -> Tensor:
        """The first process's tensor, on all; the others give one of its shape."""
        sent, back = self._sent(t.detach().clone())
        self._count(sent if self.rank == 0 else None)
        self._wait(dist.broadcast(sent, group_src=0, group=self._handle, async_op=True), what)
        return sent.to(back)

    def gather(self, t: Tensor, what: str) -> list[Tensor]:
        """The tensors of all processes, in their order; the number of rows may differ, the other sizes not."""
        lengths = self._gathered(torch.tensor([len(t)], device=t.device), what)
        most = max(sizes := [int(length) for length in torch.cat(lengths).tolist()])
        filled = t.new_zeros((most, *t.shape[1:]))  # collectives want equal shapes
        filled[: len(t)] = t.detach()
        return [part[:size] for part, size in zip(self._gathered(filled, what), sizes, strict=True)]

    def told(self, facts: Any, what: str) -> list[Any]:
        """What each process says, in what JSON holds."""
        encoded = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8, device="cpu")
        return [json.loads(bytes(part.tolist())) for part in self.gather(encoded, what)]

    def ring(self, tensors: tuple[Tensor, ...], what: str) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The tensors of each process, beginning with the own ones, and whose they are: each has one neighbour's in
        memory besides, while they are passed on. Shapes may differ in the number of rows."""
        yield self.rank, tensors
        sizes = [int(part) for part in torch.cat(self.gather(torch.tensor([len(tensors[0])], device="cpu"), what))]
        ranks = dist.get_process_group_ranks(self._handle)
        after, before = ranks[(self.rank + 1) % self.count], ranks[(self.rank - 1) % self.count]
        held = tensors
        for step in range(1, self.count):
            owner = (self.rank - step) % self.count
            coming, works = [], []
            for t in held:
                out, back = self._sent(t.detach().contiguous())
                into = out.new_empty((sizes[owner], *t.shape[1:]))
                pair = [
                    dist.P2POp(dist.isend, out, after, self._handle),
                    dist.P2POp(dist.irecv, into, before, self._handle),
                ]
                works += dist.batch_isend_irecv(pair)
                self._count(out)
                coming.append((into, back))
            for work in works:
                self._wait(work, what)
            held = tuple(into.to(back) for into, back in coming)
            yield owner, held

    # ------------------------------------------------------------------ how they fail

    @contextlib.contextmanager
    def step(self, what: str, **same: Any) -> Iterator[None]:
        """Work that each process does by itself. Where one fails, all do, and say which and why; and where ``same``,
        what they were asked for, differs.

        Raises
        ------
        ProcessesError
            On all processes but the one that failed, which raises its own error.
        """
        error: BaseException | None = None
        try:
            yield
        except Exception as found:
            error = found
        report = {"failed": error and f"{type(error).__name__}: {error}"[:LONG], "same": {"call": what} | same}
        if isinstance(error, ProcessesError):  # the others are not there to be told, or know
            raise error
        reports = self.told(report, what)
        if error is not None:
            raise error
        for rank, other in enumerate(reports):
            if other["failed"]:
                raise failed(rank, self.count, what, other["failed"])
        for rank, other in enumerate(reports):
            for name, value in reports[0]["same"].items():
                if other["same"].get(name) != value:
                    raise different(what, name, value, rank, other["same"].get(name))

    # ------------------------------------------------------------------ below

    @property
    def _handle(self) -> Any:
        return self._own  # type: ignore[attr-defined]

    def _reduced(self, t: Tensor, what: str, how: Any) -> Tensor:
        sent, back = self._sent(t.detach().clone())
        self._count(sent)
        self._wait(dist.all_reduce(sent, how, group=self._handle, async_op=True), what)
        return sent.to(back)

    def _gathered(self, t: Tensor, what: str) -> list[Tensor]:
        sent, back = self._sent(t.contiguous())
        parts = [torch.empty_like(sent) for _ in range(self.count)]
        self._count(sent)
        self._wait(dist.all_gather(parts, sent, group=self._handle, async_op=True), what)
        return [part.to(back) for part in parts]

    def _sent(self, t: Tensor) -> tuple[Tensor, torch.device]:
        """A tensor where the backend can take it, and where it was."""
        name = dist.get_backend(self._handle)
        if name == "gloo" and t.device.type != "cpu":
            return t.cpu(), t.device
        if name == "nccl" and t.device.type != "cuda":
            return t.cuda(), t.device
        return t, t.device

    def _count(self, t: Tensor | None) -> None:
        self.traffic.messages += 1
        self.traffic.bytes += 0 if t is None else t.numel() * t.element_size()

    def _wait(self, work: Any, what: str) -> None:
        """Until it is there, or the time is over."""
        try:
            work.wait(timedelta(seconds=self.timeout))
        except RuntimeError as error:
            found = str(error).strip().splitlines()[0]
            if "imed out" in found or "imeout" in found:
                raise silent(self.rank, self.count, what, self.timeout) from error
            raise gone(self.rank, self.count, what, found[:LONG]) from error


_made: dict[tuple[Any, ...], Group] = {}


def group_of(group: Any) -> Group:
    """What callers give as ``group``: a `Group`, True for all processes, or a process group of torch's.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(group, Group):
        return group
    if group is True:
        group = None
    elif not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            f"group: {group!r} given, expected geomsink.Group, True for all processes, or a ProcessGroup of torch."
        )
    key = (id(group), dist.is_available() and dist.is_initialized() and id(dist.group.WORLD))
    if key not in _made:  # making one is a call of all of them
        _made[key] = Group(group)
    return _made[key]
