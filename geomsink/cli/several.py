"""Several processes of one command, as ``torchrun`` starts them: who speaks, and how all end when one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

import click
import torch.distributed as dist

from geomsink import Group, ProcessesError
from geomsink.processes import group_of

BAD_USE, LOST = 2, 4
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a process is told by whatever has started it beside others."""
PATIENCE = 1.0
"""Seconds in which the process that speaks does so: launchers end all others as soon as one has failed."""


def started() -> bool:
    """Whether this is one of several processes."""
    return all(name in os.environ for name in VARIABLES) and os.environ["WORLD_SIZE"] != "1"


def group(timeout: float) -> Group | None:
    """All processes, if there are several."""
    return Group(timeout=timeout) if started() else None


def speaks() -> bool:
    """Whether this process writes files and says what there is to say: the only one, or the first."""
    return not started() or dist.get_rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """What several processes do together: the first prints, the others do not, and of a failure one of them does.

    Raises
    ------
    ValueError
        If the processes do not find each other.
    """
    if not started():
        yield
        return
    try:
        dist.init_process_group("gloo")  # what commands read is on the CPU
    except (RuntimeError, ValueError, OSError) as error:
        settings = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES)
        raise ValueError(f"{settings}: found no other processes there, expected torchrun to start them.") from error
    try:
        with _silence(dist.get_rank() > 0):
            yield
    except BaseException as error:
        if not _is_ours_to_say(error):
            time.sleep(PATIENCE)
            raise click.exceptions.Exit(_code(error)) from None
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def _silence(wanted: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if wanted:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def _is_ours_to_say(error: BaseException) -> bool:
    """Whether it is this process that says what has happened, or has said so."""
    rank = dist.get_rank()
    if isinstance(error, ProcessesError):
        others = [other for other in range(dist.get_world_size()) if other not in error.ranks]
        return not error.heard and rank == others[0]
    if isinstance(error, Exception) and not isinstance(error, (click.exceptions.Exit, click.exceptions.Abort)):
        try:
            return group_of(True).tell(error, "geomsink") == rank
        except ProcessesError:  # who could hear of it are not there
            return True
    return rank == 0


def _code(error: BaseException) -> int:
    if isinstance(error, ProcessesError):
        return LOST
    return error.exit_code if isinstance(error, (click.exceptions.Exit, click.ClickException)) else BAD_USE
