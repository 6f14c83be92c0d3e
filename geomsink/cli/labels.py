"""Labels of points, one a row, in ``.npy`` and ``.csv`` files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .outputs import LABELS

Labels = NDArray[Any]


def read_labels(path: str, n: int, cloud: str) -> Labels:
    """Labels (N,) or (N, E) of the points of a cloud.

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
    labels = np.load(found, allow_pickle=False) if suffix == ".npy" else _read_csv(found)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or len(labels) != n:
        found_shape = f"{labels.shape} in {path}"
        raise ValueError(f"--labels: found shape {found_shape}, expected a row for each of the {n} points of {cloud}.")
    if labels.dtype.kind not in "fiubU" or (labels.ndim == 2 and labels.dtype.kind != "f"):
        raise ValueError(
            f"--labels: found {labels.dtype} of shape {labels.shape} in {path}, expected a column of whole numbers or "
            "of names, or floating-point numbers."
        )
    return labels


def write_labels(path: str, labels: Labels) -> None:
    """Write labels as `read_labels` reads them."""
    if Path(path).suffix.lower() == ".npy":
        np.save(path, labels)
        return
    rows = labels if labels.ndim == 2 else labels[:, None]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows.tolist())


def _read_csv(path: Path) -> Labels:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [[field.strip() for field in row] for row in csv.reader(file) if row]
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"--labels: found rows of different lengths in {path}, expected the same number of columns.")
    single = bool(rows) and len(rows[0]) == 1
    for kind in (np.int64, np.float64) if single else (np.float64,):
        try:
            return np.array(rows, dtype=kind)
        except (ValueError, OverflowError):
            continue
    return np.array(rows, dtype=str)
