"""Clouds of which each of several processes reads its part."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomsink import Group, shapes
from geomsink.divergences import holds_sketch

from .clouds import SHAPE_SAMPLES, Cloud, Reading, is_shape, name_of


def load(reading: Reading, group: Group, *sources: str) -> list[Cloud]:
    """This process's part of each cloud, as `Reading.load` reads the whole: in the frame of that, and in the precision
    of the most precise.

    A ``.npy`` is read where the part is, and no further; the files of a folder are dealt out, or each of them where
    they are fewer than processes; other files are read by all, and cut. Points that are drawn are drawn by all.

    Raises
    ------
    ValueError, OSError
        As `Reading.load`; and for what cannot be cut: standard input, sketches, and fewer points than processes.
    """
    what, share = "reading", (group.rank, group.count)
    with group.step(what, clouds=sources, reading=asdict(reading)), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", shapes.FileWarning)
        found = [_part(replace(reading, seed=reading.seed + k), source, share) for k, source in enumerate(sources)]
    heard = group.told([str(warning.message) for warning in said], what)
    for message in dict.fromkeys(message for each in heard for message in each):
        warnings.warn(message, shapes.FileWarning, stacklevel=2)
    facts = group.told([_facts(points) for points, _ in found], what)
    dtype = np.result_type(*(fact["dtype"] for each in facts for fact in each))
    clouds = []
    for k, (source, (points, framed)) in enumerate(zip(sources, found, strict=True)):
        parts = [each[k] for each in facts]
        dimensions = sorted({len(part["low"]) for part in parts})
        if len(dimensions) > 1:
            raise ValueError(f"{name_of(source)}: found points of dimensions {dimensions} in it, expected one.")
        if reading.normalize and not framed:
            box = np.array([part["low"] for part in parts]).min(axis=0), np.array([part["high"] for part in parts])
            points = shapes.fit_unit_cube(points, box[0], box[1].max(axis=0))
        total = sum(part["points"] for part in parts)
        clouds.append(Cloud(name_of(source), points.astype(dtype, copy=False), total=total))
    return clouds


def _part(reading: Reading, source: str, part: shapes.Part) -> tuple[NDArray[Any], bool]:
    """Points, and whether they are in the frame already."""
    if not is_shape(source) and Path(source).is_dir():
        return _of_folder(reading, source, part), False
    if shapes.is_stream(source):
        raise ValueError(f"{name_of(source)}: given to several processes, expected a file, which all of them can read.")
    if is_shape(source) or reading.samples is not None:
        (whole,) = replace(reading, samples=reading.samples or SHAPE_SAMPLES).load(source)
        return whole.points[shapes.share(len(whole.points), part)], True
    if holds_sketch(source):
        raise ValueError(f"{source}: found a sketch, which one process can solve with; expected points.")
    return _read(reading, source, part), False


def _of_folder(reading: Reading, folder: str, part: shapes.Part) -> NDArray[Any]:
    if reading.samples is not None:
        raise ValueError(f"--samples: given for the folder {folder}, expected none, or files.")
    files = [str(path) for path in shapes.files_in(folder)]
    if len(files) >= part[1]:
        read = [_read(reading, file, (0, 1)) for file in files[shapes.share(len(files), part)]]
    else:
        read = [_read(reading, file, part) for file in files]
    dimensions = sorted({points.shape[1] for points in read})
    if len(dimensions) > 1:
        raise ValueError(f"{folder}: found points of dimensions {dimensions} in it, expected one.")
    return np.concatenate(read)


def _read(reading: Reading, file: str, part: shapes.Part) -> NDArray[Any]:
    return shapes.load(file, reading.chosen, reading.drop_invalid, part).points


def _facts(points: NDArray[Any]) -> dict[str, Any]:
    low, high = points.min(axis=0), points.max(axis=0)
    return {"points": len(points), "dtype": points.dtype.name, "low": low.tolist(), "high": high.tolist()}
