"""Processes that work on one problem, and the few ways in which they talk.

Every call here is made by all processes of a group, in the same order. None waits longer than the group's time-out, and
what a process fails at by itself it tells the others first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .failures import ProcessesError, disagreement
from .links import Links
from .words import LONG, Traffic, as_bytes, check_timeout, copied, decoded, encoded, meant

TIMEOUT = 300.0
"""Seconds that a process waits for the others."""


@dataclass(frozen=True, eq=False)
class Group:
    """Processes that solve one problem together, each with its part of the points.

    Its making is the first call of all of them. Before each exchange every process says to every other which one it
    means, so that one that is missing, or has failed, or is elsewhere, is named on all, and none goes on with what does
    not belong together. After a connection is lost, or a time-out, the group is of no use any more.

    Parameters
    ----------
    processes : torch.distributed.ProcessGroup, optional
        Default: all, which ``torchrun`` has started and ``torch.distributed.init_process_group`` has joined. The first
        group of all is also that which ``group=True`` means, and `geomsink.generative.fit`.
    timeout : float, default 300
        Seconds that a process waits for the others before all give up with a `ProcessesError`. Processes wait for the
        slowest, so that it should be more than their work differs by. The same on all.

    Attributes
    ----------
    rank, count : int
        Which of the processes this one is, from 0 on, and how many there are.
    left : bool
        Whether ``torch.distributed.destroy_process_group`` has been called since.
    traffic : Traffic
        What this process has sent so far.

    Raises
    ------
    RuntimeError
        If `torch.distributed` is not initialised.
    ValueError
        For a time-out that is no positive number, and in a process that is not one of the group.
    TypeError
        For processes that are no group of torch's.
    ProcessesError
        If the others do not come in time.

    Examples
    --------
    A group of one, which needs no ``torchrun``:

    >>> import torch.distributed as dist
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> group = Group(timeout=60)
    >>> group.rank, group.count
    (0, 1)
    >>> group.sum(torch.ones(2), "example")
    tensor([1., 1.])
    >>> dist.destroy_process_group()
    """

    processes: Any = None
    timeout: float = TIMEOUT
    traffic: Traffic = field(default_factory=Traffic, init=False, repr=False)
    _links: Links = field(init=False, repr=False)
    _known: tuple[Exception | None, int] = field(default=(None, 0), init=False, repr=False)
    """The last failure that all have heard of, and the first process that has failed so."""

    def __post_init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "group: given without processes that know each other, expected torch.distributed.init_process_group() "
                "first, as in scripts that torchrun starts."
            )
        seconds = check_timeout(self.timeout)
        if self.processes is not None and not isinstance(self.processes, dist.ProcessGroup):
            raise TypeError(
                f"processes: a {type(self.processes).__name__} was given, expected a torch.distributed.ProcessGroup."
            )
        world = self.processes is None or self.processes is dist.group.WORLD
        ranks = dist.get_process_group_ranks(dist.group.WORLD if world else self.processes)
        if dist.get_rank() not in ranks:
            raise ValueError(f"group: this process, {dist.get_rank()}, is none of its processes, {ranks}.")
        object.__setattr__(self, "_links", Links(ranks, world, seconds))
        self._meet("group", {"timeout": seconds})
        key = dist.group.WORLD if world else self.processes
        if key not in _made or _made[key].left:
            _made[key] = self

    def __deepcopy__(self, memo: Any) -> Group:
        """Itself: there is one of it."""
        return self

    @property
    def rank(self) -> int:
        return self._links.rank

    @property
    def count(self) -> int:
        return self._links.count

    @property
    def left(self) -> bool:
        """Whether `torch.distributed` has been shut down since."""
        return self._links.left

    # ------------------------------------------------------------------ what they say

    def sum(self, t: Tensor, what: str) -> Tensor:
        """Of the tensors of all processes, which have one shape; in their order, the same bits on all.

        Parameters
        ----------
        t : Tensor
            Of one shape on all.
        what : str
            What it is for, in messages.

        Returns
        -------
        Tensor, of that shape

        Raises
        ------
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        return self._combined(t, what, "sum", torch.add)

    def largest(self, t: Tensor, what: str) -> Tensor:
        """The same of the largest numbers; NaN where one process has it.

        Parameters
        ----------
        t : Tensor
            Of one shape on all.
        what : str
            What it is for, in messages.

        Returns
        -------
        Tensor, of that shape

        Raises
        ------
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        return self._combined(t, what, "largest", torch.maximum)

    def smallest(self, t: Tensor, what: str) -> Tensor:
        """The same of the smallest numbers; NaN where one process has it.

        Parameters
        ----------
        t : Tensor
            Of one shape on all.
        what : str
            What it is for, in messages.

        Returns
        -------
        Tensor, of that shape

        Raises
        ------
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        return self._combined(t, what, "smallest", torch.minimum)

    def first(self, t: Tensor, what: str) -> Tensor:
        """The first process's tensor, on all.

        Parameters
        ----------
        t : Tensor
            On the others, one of its shape.
        what : str
            What it is for, in messages.

        Returns
        -------
        Tensor, of that shape

        Raises
        ------
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        self._meet(what, meant("first", t.dtype, t.shape))
        sent, back = self._links.there(copied(t))
        self._count(sent if self.rank == 0 else None)
        self._links.broadcast(sent, what)
        return sent.to(back)

    def gather(self, t: Tensor, what: str) -> list[Tensor]:
        """The tensors of all processes, in their order.

        Parameters
        ----------
        t : Tensor, shape (rows, ...)
            The number of rows may differ, the other sizes not.
        what : str
            What it is for, in messages.

        Returns
        -------
        list of Tensor

        Raises
        ------
        ValueError
            For a number, which has no rows.
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        if t.ndim == 0:
            raise ValueError(f"{what}: a tensor without rows was given, expected one of shape (rows, ...).")
        rows = self._meet(what, meant("gather", t.dtype, t.shape[1:]), len(t))
        sent, back = self._links.there(copied(t))
        self._count(sent)
        parts = self._links.exchange(sent, [(n, *t.shape[1:]) for n in rows], what)
        return [part.to(back) for part in parts]

    def told(self, facts: Any, what: str) -> list[Any]:
        """What each process says.

        Parameters
        ----------
        facts
            What JSON holds.
        what : str
            What it is for, in messages.

        Returns
        -------
        list, in the order of the processes

        Raises
        ------
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        return [decoded(part) for part in self.gather(encoded(as_bytes(facts)), what)]

    def ring(self, tensors: tuple[Tensor, ...], what: str) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The tensors of each process, beginning with the own ones: each has one neighbour's in memory besides, while
        they are passed on.

        Parameters
        ----------
        tensors : tuple of Tensor, shapes (rows, ...)
            Those of one process have one number of rows, which may be another on the others.
        what : str
            What it is for, in messages.

        Yields
        ------
        owner : int
        tensors : tuple of Tensor

        Raises
        ------
        ProcessesError
            If another process has failed, does not answer in time, or came for something else.
        """
        yield self.rank, tensors
        rows = self._meet(what, {"ring": [meant("ring", t.dtype, t.shape[1:]) for t in tensors]}, len(tensors[0]))
        held = tensors
        for step in range(1, self.count):
            if step > 1:
                self._meet(what, {"ring": step})  # all are still there, or hear why one is not
            owner = (self.rank - step) % self.count
            coming = []
            for t in held:
                out, back = self._links.there(copied(t))
                self._count(out)
                coming.append(self._links.pass_on(out, (rows[owner], *t.shape[1:]), what).to(back))
            held = tuple(coming)
            yield owner, held

    # ------------------------------------------------------------------ how they fail

    @contextlib.contextmanager
    def step(self, what: str, **same: Any) -> Iterator[None]:
        """Work that each process does by itself. Where one fails, all do, and say which and why.

        Parameters
        ----------
        what : str
            What it is for, in messages.
        **same
            What all were asked for: where it differs, all fail. They hear of it at their next exchange, wherever that
            is.

        Returns
        -------
        context manager

        Raises
        ------
        ProcessesError
            On all processes but the one that failed, which raises its own error.
        """
        try:
            yield
        except Exception as error:
            self.tell(error, what)
            raise
        self._meet(what, {"step": what} | same)

    def tell(self, error: Exception, what: str) -> int:
        """Let the others hear of a failure, unless they have, or are lost.

        Parameters
        ----------
        error : Exception
        what : str
            What it is for, in messages.

        Returns
        -------
        int
            The first of the processes that fail at once.
        """
        if error is self._known[0] or self._links.lost is not None:
            return self._known[1]
        first = self.rank
        try:
            self._meet(what, {}, failure=f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONG])
        except ProcessesError as heard:
            first = heard.ranks[0] if heard.heard else first
        object.__setattr__(self, "_known", (error, first))
        return first

    # ------------------------------------------------------------------ below

    def _meet(self, what: str, facts: dict[str, Any], rows: int = 0, failure: str | None = None) -> list[int]:
        """The numbers of rows of all, which have come for the same; or all hear who has not, or has failed."""
        words = as_bytes({"call": what, "failure": failure} | facts)
        heads = self._links.heads(words, rows, failure is not None, what)
        if not any(head.failed for head in heads) and len({head.fingerprint for head in heads}) == 1:
            return [head.rows for head in heads]
        said = self._links.exchange(encoded(words), [(head.length,) for head in heads], what)
        error = disagreement([decoded(part) for part in said])
        object.__setattr__(self, "_known", (error, error.ranks[0]))
        raise error

    def _combined(self, t: Tensor, what: str, how: str, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        self._meet(what, meant(how, t.dtype, t.shape))
        sent, back = self._links.there(copied(t))
        self._count(sent)
        return self._links.combine(sent, operation, what).to(back)

    def _count(self, t: Tensor | None) -> None:
        self.traffic.messages += 1
        self.traffic.bytes += 0 if t is None else t.numel() * t.element_size()


_made: dict[Any, Group] = {}
"""The first of each of torch's groups."""


def group_of(group: Any) -> Group:
    """What callers give as ``group``: a `Group`, True for all processes, or a process group of torch's.

    Of the last two there is one, the first that was made, or else a new one with the time-out that is the default.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(group, Group):
        return group
    if group is True:
        group = dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
    elif not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            f"group: {group!r} given, expected geomsink.Group, True for all processes, or a ProcessGroup of torch."
        )
    for key in [key for key, made in _made.items() if made.left]:
        del _made[key]
    return _made[group] if group in _made else Group(group)  # making one is a call of all of them
