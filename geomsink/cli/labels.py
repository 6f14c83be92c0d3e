"""Labels of points, one a row, in ``.npy`` and ``.csv`` files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomsink import shapes
from geomsink.atomic import replacing

from .outputs import LABELS, write_rows

Labels = NDArray[Any]


def read_labels(path: str, cloud: shapes.Contents, name: str) -> Labels:
    """Labels (N,) or (N, E) of the points of a cloud, which may have lost some that were not finite.

    Of a ``.csv``, a column of whole numbers or of names are classes, anything else is numbers.

    Raises
    ------
    ValueError
        If the extension or the content is another one, or if there are not as many as points.
    FileNotFoundError
        If there is no such file.
    """
    found = Path(path)
    suffix = found.suffix.lower()
    if suffix not in LABELS:
        raise ValueError(f"--labels: found {path}, expected a name that ends in one of {', '.join(LABELS)}.")
    if not found.exists():
        raise FileNotFoundError(f"--labels: there is no file {path}.")
    labels = shapes.whole(path, _parsed)
    n = len(cloud.points) if cloud.kept is None else len(cloud.kept)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or len(labels) != n:
        found_shape = f"{labels.shape} in {path}"
        raise ValueError(f"--labels: found shape {found_shape}, expected a row for each of the {n} points of {name}.")
    if labels.dtype.kind not in "fiubU" or (labels.ndim == 2 and labels.dtype.kind != "f"):
        raise ValueError(
            f"--labels: found {labels.dtype} of shape {labels.shape} in {path}, expected a column of whole numbers or "
            "of names, or floating-point numbers."
        )
    kept = labels if cloud.kept is None else labels[cloud.kept]
    if kept.dtype.kind == "f" and not np.isfinite(kept).all():
        row = np.flatnonzero(~np.isfinite(kept.reshape(len(kept), -1)).all(axis=1))[0]
        raise ValueError(f"--labels: found {kept[row]} in row {row} of {path}, expected finite numbers.")
    return kept


def write_labels(path: str, labels: Labels) -> None:
    """Write labels as `read_labels` reads them."""
    if Path(path).suffix.lower() == ".npy":
        whole = io.BytesIO()  # NumPy says of a full disk how many numbers it has written
        np.save(whole, labels)
        with replacing(path) as file:
            file.write(whole.getbuffer())
        return
    write_rows(path, (labels if labels.ndim == 2 else labels[:, None]).tolist())


def _parsed(file: BinaryIO, suffix: str) -> Labels:
    if suffix == ".npy":
        return shapes.read_array(file)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    rows = [[field.strip() for field in row] for row in csv.reader(text, strict=True) if row]
    text.detach()
    if len({len(row) for row in rows}) > 1:
        raise ValueError("it has rows of different lengths, expected the same number of columns")
    single = bool(rows) and len(rows[0]) == 1
    for kind in (np.int64, np.float64) if single else (np.float64,):
        try:
            return np.array(rows, dtype=kind)
        except (ValueError, OverflowError):
            continue
    return np.array(rows, dtype=str)
