"""Sketches in files: .npz, without pickles; what they say is looked at before it is believed."""

from __future__ import annotations

import math
import zipfile
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import costs, shapes
from ..atomic import check, replacing

FORMAT = "geomsink sketch 1"
"""What a file says that it is."""
NODES = "nodes"
"""What its points are called there, so that nobody takes them for a cloud."""


@dataclass(frozen=True)
class Stored:
    """What is in a file: see `geomsink.Sketch`."""

    points: NDArray[Any]
    weights: NDArray[Any]
    nearby: NDArray[Any]
    epsilon: float
    cost: str
    accuracy: float
    count: int
    weighted: bool
    normalized: bool


def write_sketch(path: str | PathLike[str], stored: Stored) -> None:
    """Write a sketch, whole or not at all.

    Raises
    ------
    ValueError, OSError
        If no such file can be there.
    """
    check_name(path)
    with replacing(path) as file:
        members = asdict(stored)
        np.savez(file, format=FORMAT, **{NODES: members.pop("points")}, **members)


def check_name(path: str | PathLike[str], name: str = "path") -> None:
    """Say why no sketch can be written there, if so.

    Raises
    ------
    ValueError, OSError
    """
    if Path(path).suffix.lower() != ".npz":
        raise ValueError(f"{name}: found {path}, expected a name that ends in .npz.")
    check(path, name)


def read_sketch(path: str | PathLike[str]) -> Stored:
    """Read what `write_sketch` has written.

    Raises
    ------
    FileNotFoundError, ValueError
        One sentence.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"path: there is no file {path}.")
    if not holds_sketch(path):
        raise ValueError(f"{path}: found no sketch, expected a file that geomsink.Sketch.save has written.")
    return shapes.whole(path, _parsed)


def holds_sketch(path: str | PathLike[str]) -> bool:
    """Whether a file says that it is a sketch; points and all else are not."""
    if not Path(path).is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with np.load(path, allow_pickle=False) as members:
            found = members.get("format")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return False
    return found is not None and found.shape == () and str(found) == FORMAT


def _parsed(file: BinaryIO, suffix: str) -> Stored:
    """What an archive holds, if that is a sketch."""
    found = shapes.read_members(file, [NODES if name == "points" else name for name in Stored.__annotations__])
    found["points"] = found.pop(NODES)
    single = {name: array.item() for name, array in found.items() if name not in ("points", "weights", "nearby")}
    stored = Stored(**found | single)
    n = len(stored.points)
    if stored.points.ndim != 2 or 0 in stored.points.shape or stored.points.dtype.kind != "f":
        raise ValueError(f"it has points of shape {stored.points.shape} of {stored.points.dtype}")
    for name in ("weights", "nearby"):
        array = found[name]
        if array.shape != (n,) or array.dtype != np.float64:
            raise ValueError(f"it has {name} of shape {array.shape} of {array.dtype} for {n} points")
    if not all(np.isfinite(found[name]).all() for name in ("points", "weights", "nearby")):
        raise ValueError("it has numbers that are not finite")
    if stored.nearby.min() < 0.0 or not stored.weights.sum() > 0.0:
        raise ValueError("its weights are those of no cloud")
    if not (0.0 < stored.epsilon < math.inf and 0.0 < stored.accuracy < 1.0 and stored.count >= 1):
        raise ValueError(f"it is for epsilon {stored.epsilon}, accuracy {stored.accuracy} and {stored.count} points")
    if costs.get(stored.cost).quadratic is None:
        raise ValueError(f"it has the cost {stored.cost!r}")
    return stored
