"""Where the bytes of a cloud come from: a file, a compressed one, a pipe, standard input; and what is in them."""

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO

from geomsink.shapes.mesh import memory

FilePath = str | PathLike[str]
STDIN = "-"
MARKS = {
    b"ply": ".ply",
    b"\xef\xbb\xbfply": ".ply",
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"glTF": ".glb",
    b"LASF": ".laz",  # of which .las is the plain form
    b"# .PCD": ".pcd",
    b"VERSION": ".pcd",
    b"solid": ".stl",
}
GZIP = b"\x1f\x8b"
CHUNK = 2**20
KEYWORDS = {b"v": ".obj", b"mtllib": ".obj", b"o": ".obj", b"vn": ".obj", b"vt": ".obj", b"g": ".obj"}

_said: tuple[object, bytes] | None = None


def check_path(path: FilePath) -> None:
    """Refuse what is no path, and folders.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(path, (str, PathLike)) or isinstance(fspath(path), bytes):
        raise TypeError(f"path: found a {type(path).__name__}, expected a path.")
    if fspath(path) == "" or Path(path).is_dir():
        raise ValueError(
            f"path: found {'an empty name' if fspath(path) == '' else f'the folder {path}'}, expected a file."
        )


def name_of(path: FilePath) -> str:
    """What messages call it."""
    return "standard input" if fspath(path) == STDIN else str(path)


def suffix_of(path: FilePath) -> str:
    """Its extension in lower case; of a compressed file that of what is in it, with ``.gz``."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])


def is_stream(path: FilePath) -> bool:
    """Whether it is read once and has no name that says what it is: standard input, or a pipe without extension."""
    return fspath(path) == STDIN or (not Path(path).suffix and Path(path).exists() and not Path(path).is_file())


@contextmanager
def opened(path: FilePath) -> Iterator[tuple[BinaryIO, str]]:
    """The bytes of a source, and the extension that says what they are.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError, EOFError, zlib.error
        If it cannot be read, or unpacked.
    """
    if is_stream(path):
        data = _stdin() if fspath(path) == STDIN else Path(path).read_bytes()
        if data.startswith(GZIP):
            data = _unpacked(BytesIO(data))
        yield BytesIO(data), sniffed(data)
        return
    suffix = suffix_of(path)
    with open(path, "rb") as file:
        if suffix.endswith(".gz"):
            yield BytesIO(_unpacked(file)), suffix.removesuffix(".gz")
        else:
            yield file, suffix


def _unpacked(file: BinaryIO) -> bytes:
    """What a packed file holds: a thousand times its size at most, and no more than memory does."""
    parts, left = list[bytes](), memory() / 2
    with gzip.open(file) as packed:
        while part := packed.read(CHUNK):
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise ValueError(f"it unpacks to more than {memory() / 2**31:,.0f} GiB, half of this machine's memory")
    return b"".join(parts)


def sniffed(data: bytes) -> str:
    """The extension that files which begin so have; a table, if nothing says otherwise."""
    for mark, suffix in MARKS.items():
        if data.startswith(mark):
            return suffix
    for line in data[:4096].splitlines():
        word = line.split(b"#")[0].split()
        if word:
            upper = word[0].upper()
            return ".off" if upper.endswith(b"OFF") and len(upper) < 9 else KEYWORDS.get(word[0], ".xyz")
    return ".xyz"


def _stdin() -> bytes:
    """All of standard input, which comes once, however often it is asked for."""
    global _said
    if _said is None or _said[0] is not sys.stdin:
        _said = sys.stdin, sys.stdin.buffer.read()
    return _said[1]
