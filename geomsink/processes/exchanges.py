"""What processes tell each other: sums, extremes, tables, and blocks that go around.

Each exchange begins with a head of every process to every other one, which says what it has come for. What is short
travels within it, so that such an exchange is one message to each of the others, and one wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .failures import disagreement
from .links import Links, Passing
from .words import Traffic, as_bytes, copied, decoded, encoded, is_short, meant


class Exchanges:
    """The exchanges of a `geomsink.Group`.

    All processes call the same ones in the same order, with ``what`` they are for, in messages; and each raises a
    `ProcessesError` if another process has failed, does not answer in time, or has come for something else. What a
    process gets is the same on all, to the bit.
    """

    traffic: Traffic
    _links: Links
    _known: tuple[Exception | None, int]

    @property
    def rank(self) -> int:
        return self._links.rank

    @property
    def count(self) -> int:
        return self._links.count

    def sum(self, t: Tensor, what: str) -> Tensor:
        """Of the tensors of all processes, which have one shape; in their order.

        Parameters
        ----------
        t : Tensor
        what : str

        Returns
        -------
        Tensor, of that shape
        """
        return self._combined(t, what, "sum", torch.add)

    def largest(self, t: Tensor, what: str) -> Tensor:
        """As `sum`, of the largest numbers; NaN where one process has it."""
        return self._combined(t, what, "largest", torch.maximum)

    def smallest(self, t: Tensor, what: str) -> Tensor:
        """As `sum`, of the smallest numbers; NaN where one process has it."""
        return self._combined(t, what, "smallest", torch.minimum)

    def first(self, t: Tensor, what: str) -> Tensor:
        """The first process's tensor, on all; the others give one of its shape."""
        parts, _ = self._met(t[None], "first", what, counted=self.rank == 0)
        if parts is not None:
            return parts[0][0]
        sent, back = self._links.there(copied(t))
        self._links.broadcast(sent, what)
        return sent.to(back)

    def gather(self, t: Tensor, what: str) -> list[Tensor]:
        """The tensors of all processes, in their order.

        Parameters
        ----------
        t : Tensor, shape (rows, ...)
            The number of rows may differ, the other sizes not.
        what : str

        Returns
        -------
        list of Tensor

        Raises
        ------
        ValueError
            For a number, which has no rows.
        """
        if t.ndim == 0:
            raise ValueError(f"{what}: a tensor without rows was given, expected one of shape (rows, ...).")
        parts, rows = self._met(t, "gather", what)
        if parts is not None:
            return parts
        sent, back = self._links.there(copied(t))
        return [part.to(back) for part in self._links.exchange(sent, [(n, *t.shape[1:]) for n in rows], what)]

    def told(self, facts: Any, what: str) -> list[Any]:
        """What each process says, in their order: ``facts`` that JSON holds."""
        return [decoded(part) for part in self.gather(encoded(as_bytes(facts)), what)]

    def ring(self, tensors: tuple[Tensor, ...], what: str) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """The tensors of each process, beginning with the own ones: each has one neighbour's in memory besides, while
        they are passed on. No other exchange comes before the last of them.

        Parameters
        ----------
        tensors : tuple of Tensor, shapes (rows, ...)
            Those of one process have one number of rows, which may be another on the others.
        what : str

        Yields
        ------
        owner : int
        tensors : tuple of Tensor
        """
        yield self.rank, tensors
        rows = self._meet(what, {"ring": [meant("ring", t.dtype, t.shape[1:]) for t in tensors]}, len(tensors[0]))[0]
        self._links.passing = passing = Passing(self._links, rows, tensors, what)
        yield from passing
        if not passing.whole:
            raise RuntimeError(f"{what}: another exchange came before the last block had gone around.")

    # ------------------------------------------------------------------ below

    def _combined(self, t: Tensor, what: str, how: str, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        parts, _ = self._met(t[None], how, what)
        if parts is not None:
            return reduce(operation, (part[0] for part in parts))
        sent, back = self._links.there(copied(t))
        return self._links.combine(sent, operation, what).to(back)

    def _met(self, t: Tensor, how: str, what: str, counted: bool = True) -> tuple[list[Tensor] | None, list[int]]:
        """The tensors of all, where each is short enough to go with the heads, and otherwise None; and how many rows
        they have."""
        rows, short = self._meet(what, meant(how, t.dtype, t.shape[1:]), len(t), t)
        self.traffic.count(t if counted else None)
        shapes = [(n, *t.shape[1:]) for n in rows]
        if not all(is_short(shape, t.dtype) for shape in shapes):
            return None, rows
        parts = (
            words[: torch.Size(shape).numel() * t.element_size()].clone().view(t.dtype).view(shape)
            for words, shape in zip(short, shapes, strict=True)
        )
        return [part.to(t.device) for part in parts], rows

    def _meet(
        self, what: str, facts: dict[str, Any], rows: int = 0, short: Tensor | None = None, failure: str | None = None
    ) -> tuple[list[int], list[Tensor]]:
        """The numbers of rows of all, which have come for the same, and what was short enough to be told at once; or
        all hear who has not, or has failed."""
        self._links.passing.finish()
        words = as_bytes({"call": what, "failure": failure} | facts)
        heads = self._links.heads(words, rows, failure is not None, what, short)
        if not any(head.failed for head in heads) and len({head.fingerprint for head in heads}) == 1:
            return [head.rows for head in heads], [head.short for head in heads]
        said = self._links.exchange(encoded(words), [(head.length,) for head in heads], what)
        error = disagreement([decoded(part) for part in said])
        object.__setattr__(self, "_known", (error, error.ranks[0]))
        raise error
