"""The command that all others belong to, and what becomes of errors."""

from __future__ import annotations

import errno
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import click

from geomsink import ConvergenceWarning, ProcessesError, __version__, engine

from . import several
from .several import BAD_USE, LOST

NOT_CONVERGED, INTERRUPTED, TERMINATED = 3, 130, 143
SEVERAL = ("divergence", "fit")
"""Commands that several processes can do together."""
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""What torch says, in errors of no kind of their own."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, after which files are left as after Ctrl-C: whole, or as they were before."""


class Commands(click.Group):
    """Turns what the library refuses into one sentence and an exit code, for all commands."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings(), several.joined(), _terminable():
                warnings.showwarning = _show_warning
                warnings.simplefilter("always", ConvergenceWarning)
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            leave(f"{ending(error)[0]}.", ending(error)[1])
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone: click ends quietly
                raise
            leave(f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error), BAD_USE)
        except MemoryError as error:
            leave(_no_memory(error), BAD_USE)
        except (ValueError, TypeError, OverflowError, ImportError, engine.BuildError) as error:
            leave(str(error), BAD_USE)
        except ProcessesError as error:
            leave(str(error), LOST)
        except RuntimeError as error:
            if not any(words in str(error).lower() for words in NO_MEMORY):
                raise
            leave(_no_memory(error), BAD_USE)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = super().resolve_command(ctx, args)
        if several.started() and found[0] not in SEVERAL:
            raise ValueError(f"{found[0]}: started as one of several processes, expected one; those can do "
                             f"{' and '.join(SEVERAL)} together.")  # fmt: skip
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="geomsink")
def cli() -> None:
    """Sinkhorn divergences between large point clouds."""


def printable(text: str) -> str:
    """Text of files and names without the codes that terminals obey: these are shown as Python writes them."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def ending(error: KeyboardInterrupt) -> tuple[str, int]:
    """What ended a command from outside, and its exit code."""
    return ("terminated", TERMINATED) if isinstance(error, Terminated) else ("interrupted", INTERRUPTED)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is an exception, where a handler can be set. Not of several processes, which wait for each other outside
    of Python: they would not end before those answer."""
    if several.started() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(message: str, code: int) -> NoReturn:
    click.echo(f"geomsink: {printable(message)}", err=True)
    raise click.exceptions.Exit(code)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Of a loss that ceases to be finite, which is for the user to mend: smaller steps, or another blur."""
    try:
        yield
    except RuntimeError as error:
        leave(str(error), NOT_CONVERGED)


def exit_unless(converged: bool) -> None:
    if not converged:
        raise click.exceptions.Exit(NOT_CONVERGED)


def _no_memory(error: Exception) -> str:
    said = str(error).strip().partition("\n")[0]
    return f"there is not enough memory for this{f' ({said})' if said else ''}; expected smaller clouds or numbers."


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line that says what, without the place in the source, which tells a user nothing."""
    click.echo(f"geomsink: {printable(str(message))}", err=True)
