"""Where the shape of a fit is: kept in its folder, so that samples are put back into the coordinates of the file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomsink.atomic import replacing
from geomsink.generative import finite

from .clouds import Reading, is_shape, name_of

NAME = "frame.json"


@dataclass(frozen=True)
class Frame:
    """Where a shape is that a generator was fitted to: kept beside the checkpoints, for what is sampled from it.

    Attributes
    ----------
    shape : str
        The name of the file, or of the shape.
    scaled : bool
        Whether a file's coordinates were moved and scaled into the unit cube for the fit.
    middle, side : list of float and float
        The centre and the longest side of the box around the file's points.
    dtype : str
        Of the file's points.
    """

    shape: str
    scaled: bool
    middle: list[float]
    side: float
    dtype: str

    @classmethod
    def of(cls, source: str, reading: Reading) -> Frame:
        """Of a file or a shape, which are in the unit cube already."""
        if is_shape(source):
            return cls(name_of(source), False, [0.5] * 3, 1.0, "float32")
        (cloud,) = replace(reading, normalize=False).load(source)
        points = cloud.points
        if points.shape[1] != 3:
            raise ValueError(f"{source}: found points in dimension {points.shape[1]}, expected 3.")
        lower, upper = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
        with np.errstate(over="ignore"):
            side = float(np.max(upper - lower)) or 1.0
        if not math.isfinite(side):
            found = f"coordinates from {lower.min():g} to {upper.max():g}"
            raise ValueError(f"{source}: found {found}, expected smaller ones.")
        return cls(name_of(source), reading.normalize, (lower / 2 + upper / 2).tolist(), side, points.dtype.name)

    @classmethod
    def read(cls, folder: str) -> Frame | None:
        """Of a folder; None if the fit in it was not made by the command."""
        path = Path(folder) / NAME
        if not path.exists():
            return None
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            found._check()
        except (ValueError, TypeError, RecursionError) as error:
            expected = "expected what the command fit wrote"
            raise ValueError(f"{path}: found what is no frame ({error}), {expected}.") from error
        return found

    def _check(self) -> None:
        """Say which entry is none that `of` makes, if so."""
        right = {
            "shape": isinstance(self.shape, str),
            "scaled": isinstance(self.scaled, bool),
            "middle": isinstance(self.middle, list) and len(self.middle) == 3 and all(map(finite, self.middle)),
            "side": finite(self.side) and self.side > 0,
            "dtype": self.dtype in ("float32", "float64"),
        }
        wrong = [name for name, is_right in right.items() if not is_right]
        if wrong:
            raise ValueError(f"its {wrong[0]} is {getattr(self, wrong[0])!r}"[:200])

    def write(self, folder: str) -> None:
        path = Path(folder) / NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(asdict(self)).encode())

    @property
    def box(self) -> tuple[list[float], float]:
        """Middle and side of what the generator is fitted to."""
        return ([0.5] * 3, 1.0) if self.scaled else (self.middle, self.side)

    def undo(self, points: Tensor) -> NDArray[Any]:
        """Generated points in the coordinates of the file."""
        if not self.scaled:
            return points.numpy().astype(self.dtype)
        moved = (points.double().numpy() - 0.5) * self.side + np.array(self.middle)
        return np.asarray(moved, dtype=self.dtype)
