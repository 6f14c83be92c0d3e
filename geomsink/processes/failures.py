"""What is said where processes do not get on."""

from __future__ import annotations


class ProcessesError(RuntimeError):
    """One of several processes failed, ended, did not answer in time, or asked for something else than the others."""


def silent(rank: int, count: int, what: str, seconds: float) -> ProcessesError:
    """Nothing came for so long."""
    return ProcessesError(
        f"{what}: process {rank} of {count} has waited {seconds:g} s for the others, of which one at least has ended, "
        "hangs or is much slower; see what they printed, or give geomsink.Group a longer timeout."
    )


def gone(rank: int, count: int, what: str, found: str) -> ProcessesError:
    """A connection broke."""
    return ProcessesError(f"{what}: process {rank} of {count} has lost another one, which has ended ({found}).")


def failed(rank: int, count: int, what: str, found: str) -> ProcessesError:
    """Another process has said so."""
    return ProcessesError(f"{what}: process {rank} of {count} failed with {found}")


def different(what: str, name: str, first: object, rank: int, other: object) -> ProcessesError:
    """Processes that should have been asked for the same."""
    return ProcessesError(
        f"{what}: {name} is {first} on process 0 and {other} on process {rank}, expected the same on all processes."
    )
