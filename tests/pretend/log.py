"""What happens on the pretend device: kernels that are launched, reads by the host, copies to the device."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

PLACES = 2
"""Lines of the library that an event is told with: where it happens, and who has called that."""


@dataclass(frozen=True)
class Event:
    """``kind`` is "launch" for a kernel of torch, "keops" for one of KeOps, "read" for what the host reads, "copy" for
    what it has copied to the device; ``what`` the operation; ``where`` the lines of the library."""

    kind: str
    what: str
    where: str


@dataclass
class Log:
    """Events in the order in which they happened."""

    events: list[Event] = field(default_factory=list)

    def count(self, *kinds: str) -> int:
        return sum(event.kind in kinds for event in self.events)

    @property
    def waits(self) -> int:
        """Times that the host waits for the device: where it reads, and where it copies memory of its own there."""
        return self.count("read", "copy")

    def lines(self) -> Counter[Event]:
        return Counter(self.events)


_log: Log | None = None


@contextlib.contextmanager
def logging() -> Iterator[Log]:
    """What is noted within goes to the log that it gives."""
    global _log
    before, _log = _log, Log()
    try:
        yield _log
    finally:
        _log = before


def note(kind: str, what: str) -> None:
    if _log is not None:
        _log.events.append(Event(kind, what, _where()))


def _where() -> str:
    frame, places = sys._getframe(1), []
    while frame is not None and len(places) < PLACES:
        _, package, file = frame.f_code.co_filename.rpartition("/geomsink/")
        if package and "/tests/" not in file:
            places.append(f"{file}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(places) or "the caller"
