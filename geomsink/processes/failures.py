"""What is said where processes do not get on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ProcessesError(RuntimeError):
    """One of several processes failed, ended, did not answer in time, or asked for something else than the others.

    Attributes
    ----------
    ranks : tuple of int
        Which, in their order within the group, as far as that is known.
    heard : bool
        Whether it failed by an error of its own, which it told the others.

    Examples
    --------
    >>> import geomsink
    >>> issubclass(geomsink.ProcessesError, RuntimeError)
    True
    """

    def __init__(self, said: str, ranks: Sequence[int] = (), heard: bool = False):
        super().__init__(said)
        self.ranks, self.heard = tuple(ranks), heard


def silent(rank: int, count: int, what: str, seconds: float, ranks: Sequence[int] = ()) -> ProcessesError:
    """Nothing came for so long."""
    which = "which" if len(ranks) == 1 else "of which one at least"
    return ProcessesError(
        f"{what}: process {rank} of {count} has waited {seconds:g} s for {_named(ranks) or 'the others'}, "
        f"{which} has ended, hangs or is much slower; "
        "see what they printed, or give geomsink.Group a longer timeout.",
        ranks,
    )  # fmt: skip


def gone(rank: int, count: int, what: str, ranks: Sequence[int] = ()) -> ProcessesError:
    """A connection broke."""
    have, they = ("have", "they") if len(ranks) > 1 else ("has", "it")
    return ProcessesError(
        f"{what}: process {rank} of {count} has lost {_named(ranks) or 'another one'}, which {have} ended or given up; "
        f"see what {they} printed.",
        ranks,
    )


def failed(rank: int, count: int, what: str, found: str) -> ProcessesError:
    """Another process has said so."""
    return ProcessesError(f"{what}: process {rank} of {count} failed with {found}", (rank,), heard=True)


def different(what: str, name: str, first: object, rank: int, other: object) -> ProcessesError:
    """Processes that should have been asked for the same."""
    return ProcessesError(
        f"{what}: {name} is {first} on process 0 and {other} on process {rank}, expected the same on all processes.",
        (rank,),
    )


def broken(what: str, before: ProcessesError) -> ProcessesError:
    """Connections that were lost do not come back."""
    return ProcessesError(
        f"{what}: these processes have lost each other before ({str(before).rstrip('.')}); expected processes that are "
        "started anew.",
        before.ranks,
    )


def _named(ranks: Sequence[int]) -> str:
    """Some of them in words."""
    *others, last = (str(rank) for rank in ranks) if ranks else ("",)
    if not others:
        return f"process {last}" if last else ""
    return f"processes {', '.join(others)} and {last}"


def disagreement(reports: list[dict[str, Any]]) -> ProcessesError:
    """Of what all processes say: the failure of one, or the first thing that is not the same."""
    for rank, report in enumerate(reports):
        if report["failure"] is not None:
            return failed(rank, len(reports), report["call"], report["failure"])
    ours = reports[0]
    for rank, report in enumerate(reports):
        for name in {**ours, **report}:
            if report.get(name) != ours.get(name):
                return different(ours["call"], name, ours.get(name), rank, report.get(name))
    raise AssertionError(reports)
