"""Processes that work on one problem: how they meet, and how they fail.

None waits longer than the group's time-out, and the seconds in which all find out who is missing; what a process fails
at by itself it tells the others first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from .exchanges import Exchanges
from .failures import ProcessesError
from .links import Links
from .words import LONG, Traffic, check_timeout

TIMEOUT = 300.0
"""Seconds that a process waits for the others."""


@dataclass(frozen=True, eq=False)
class Group(Exchanges):
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
        Seconds that a process waits for the others before all give up with a `ProcessesError`, in which, a few seconds
        later, all name those that were waited for. Processes wait for the
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

    >>> import torch
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
        object.__setattr__(self, "_links", Links(ranks, world, seconds, self.traffic))
        self._meet("group", {"timeout": seconds})
        key = dist.group.WORLD if world else self.processes
        if key not in _made or _made[key].left:
            _made[key] = self

    def __deepcopy__(self, memo: Any) -> Group:
        """Itself: there is one of it."""
        return self

    @property
    def left(self) -> bool:
        """Whether `torch.distributed` has been shut down since."""
        return self._links.left

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
