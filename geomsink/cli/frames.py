"""Where the shape of a fit is: kept in its folder, so that samples are put back into the coordinates of the file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomsink import shapes

from .clouds import is_shape, name_of

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
    def of(cls, source: str, normalize: bool) -> Frame:
        """Of a file or a shape, which are in the unit cube already."""
        if is_shape(source):
            return cls(name_of(source), False, [0.5] * 3, 1.0, "float32")
        points = shapes.read(source)
        if points.shape[1] != 3:
            raise ValueError(f"{source}: found points in dimension {points.shape[1]}, expected 3.")
        lower, upper = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
        side = float(np.max(upper - lower)) or 1.0
        return cls(name_of(source), normalize, ((lower + upper) / 2).tolist(), side, points.dtype.name)

    @classmethod
    def read(cls, folder: str) -> Frame | None:
        """Of a folder; None if the fit in it was not made by the command."""
        path = Path(folder) / NAME
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            expected = "expected what the command fit wrote"
            raise ValueError(f"{path}: found what is no frame ({error}), {expected}.") from error

    def write(self, folder: str) -> None:
        path = Path(folder) / NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(part, path)

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
