"""The files that commands write: looked at before any work starts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from geomsink.atomic import check, replacing

CLOUDS = (".ply", ".npz")
LABELS = (".npy", ".csv")
PAIRS = (".csv", ".npz")


def check_out(path: str, suffixes: Sequence[str]) -> None:
    """Say why a file cannot be written there, if so.

    Raises
    ------
    ValueError, OSError
        If the extension is not one of these, there is no such folder, or no such file can be there.
    """
    found = Path(path)
    if found.suffix.lower() not in suffixes:
        raise ValueError(f"--out: found {path}, expected a name that ends in one of {', '.join(suffixes)}.")
    check(found, "--out")


def check_dimension(path: str, dimension: int) -> None:
    """Say that ``.ply`` files are of three dimensions, if these points are not."""
    if Path(path).suffix.lower() == ".ply" and dimension != 3:
        raise ValueError(f"--out: found {path} for points in dimension {dimension}, expected 3 of .ply, or .npz.")


def write_rows(path: str, rows: Iterable[Sequence[Any]]) -> None:
    """A ``.csv`` file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())
