"""Files that are there whole or not at all: written beside, and given their name in one step."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO

PART = ".part"
LONGEST = 100
"""Characters of a name that are kept in the name beside it, which must not be too long either."""


@contextlib.contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that becomes ``path`` at the end of the block, in one step.

    Whatever goes wrong before, a full disk or a kill, leaves the file that was there as it was; an error leaves nothing
    else, a kill what `clear` removes. The new file has a random name and must not exist, so that links which others put
    into the folder are not followed; a link at ``path`` itself is replaced.

    Parameters
    ----------
    path : str or path
        In a folder that is there. What is no file, such as a pipe, is written to directly.

    Yields
    ------
    file : binary file
        Its ``name`` is a path in the same folder with the same extension, for what writes to names only.

    Raises
    ------
    OSError
        As the system says it (a full disk, a file that is not to be changed), with ``path`` as ``filename``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(folder + "/a.txt") as file:
    ...         _ = file.write(b"all of it")
    ...     Path(folder, "a.txt").read_text()
    'all of it'
    """
    path = Path(path)
    with about(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as there:
                yield there
            return
        mode = path.stat().st_mode & 0o777 if path.is_file() else None
        if not _may_be_changed(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        part = path.with_name(f".{path.stem[:LONGEST]}.{secrets.token_hex(8)}{PART}{path.suffix}")
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                part.chmod(mode)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        # The new name is to survive a loss of power, too, where folders can be opened.
        with contextlib.suppress(OSError):
            handle = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def check(path: str | PathLike[str], name: str = "path") -> None:
    """Say why no file can be written there, if so: worth asking before a long computation.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError, OSError
        If no file can have the name, none can be made in the folder, or the file that is there is read-only.
    """
    path = Path(path)
    if "\0" in str(path):
        raise ValueError(f"{name}: found {str(path)!r}, expected the name of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name}: there is no folder {path.parent} to write {path.name} into.")
    with contextlib.suppress(FileNotFoundError):
        path.lstat()  # of a name that is too long, the system says so
    if path.is_dir():
        raise IsADirectoryError(f"{name}: found the folder {path}, expected the name of a file.")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{name}: the folder {path.parent} cannot be written to.")
    if not _may_be_changed(path):
        raise PermissionError(f"{name}: the file {path} is there and must not be changed.")


def _may_be_changed(path: Path) -> bool:
    """Files that are not there may be; the system lets even those be replaced that are read-only."""
    return not path.exists() or os.access(path, os.W_OK)


def clear(path: str | PathLike[str]) -> None:
    """Remove what a process that was killed left beside ``path``, whose stem may have ``*`` in it."""
    path = Path(path)
    stem = "*".join(map(glob.escape, path.stem[:LONGEST].split("*")))
    for part in path.parent.glob(f".{stem}.*{PART}{glob.escape(path.suffix)}"):
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """Errors of the system are about ``path``, whatever they happened to."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
