"""Several processes of one command, as ``torchrun`` starts them: who speaks, and how all end when one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta

import click
import torch.distributed as dist

from geomsink import Group, ProcessesError
from geomsink.processes import TIMEOUT, check_timeout, group_of

BAD_USE, LOST = 2, 4
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a process is told by whatever has started it beside others."""
PATIENCE = 1.0
"""Seconds in which the process that speaks does so: launchers end all others as soon as one has failed."""


class NotJoined(ValueError):
    """The processes did not find each other."""


def started() -> bool:
    """Whether this is one of several processes."""
    return all(name in os.environ for name in VARIABLES) and os.environ["WORLD_SIZE"] != "1"


def speaks() -> bool:
    """Whether this process writes files and says what there is to say: the only one, or the first."""
    return not started() or os.environ["RANK"] == "0"


def group(timeout: float) -> Group | None:
    """All processes, if there are several.

    Raises
    ------
    ValueError
        For a time-out that is no positive number, and if the processes do not find each other.
    """
    seconds = check_timeout(timeout)
    if not started():
        return None
    _join(seconds)
    return Group(timeout=seconds)


@contextmanager
def joined() -> Iterator[None]:
    """What several processes do together: the first prints, the others do not, and of a failure one of them does."""
    if not started():
        yield
        return
    try:
        with _silence(not speaks()):
            yield
    except BaseException as error:
        if not _is_ours_to_say(error):
            time.sleep(PATIENCE)
            raise click.exceptions.Exit(_code(error)) from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(seconds: float) -> None:
    if dist.is_initialized():
        return
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=seconds))  # what commands read is on the CPU
    except (RuntimeError, ValueError, OSError) as error:
        settings = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES)
        found = f"{settings}: found no other processes there in {seconds:g} s"
        raise NotJoined(f"{found}, expected torchrun to start them.") from error


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
    if isinstance(error, ProcessesError):
        others = [other for other in range(dist.get_world_size()) if other not in error.ranks]
        return not error.heard and dist.get_rank() == others[0]
    if isinstance(error, NotJoined):
        return True
    if isinstance(error, Exception) and not isinstance(error, (click.exceptions.Exit, click.exceptions.Abort)):
        try:
            _join(TIMEOUT)  # options may be wrong before that
            return group_of(True).tell(error, "geomsink") == dist.get_rank()
        except (ProcessesError, NotJoined):  # who could hear of it are not there
            return True
    return speaks()


def _code(error: BaseException) -> int:
    if isinstance(error, ProcessesError):
        return LOST
    return error.exit_code if isinstance(error, (click.exceptions.Exit, click.ClickException)) else BAD_USE
