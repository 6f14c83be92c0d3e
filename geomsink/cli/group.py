"""The command that all others belong to, and what becomes of errors."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

import click

from geomsink import ConvergenceWarning, __version__, engine

NOT_CONVERGED, BAD_USE, INTERRUPTED = 3, 2, 130


class Commands(click.Group):
    """Turns what the library refuses into one sentence and an exit code, for all commands."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                warnings.simplefilter("always", ConvergenceWarning)
                return super().invoke(ctx)
        except KeyboardInterrupt:
            leave("interrupted.", INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone: click ends quietly
                raise
            leave(str(error), BAD_USE)
        except (ValueError, TypeError, ImportError, engine.BuildError) as error:
            leave(str(error), BAD_USE)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="geomsink")
def cli() -> None:
    """Sinkhorn divergences between large point clouds."""


def leave(message: str, code: int) -> NoReturn:
    click.echo(f"geomsink: {message}", err=True)
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


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line that says what, without the place in the source, which tells a user nothing."""
    click.echo(f"geomsink: {message}", err=True)
