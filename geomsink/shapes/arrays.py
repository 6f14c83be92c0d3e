"""Points in NumPy's files: what they announce is compared with what is there before any of it is made."""

import math
import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as layout
from numpy.typing import NDArray

from geomsink.shapes.columns import choose
from geomsink.shapes.contents import WHOLE, Columns, Contents, Part, Refused, share, stacked
from geomsink.shapes.mesh import memory

DEFLATED = 1032
"""Bytes that one compressed byte can be at most."""


def parse_npy(file: BinaryIO, columns: Columns | None = None, part: Part = WHOLE) -> Contents:
    """Read an array of points (N, D), or of records with named fields; of a part, no more than its rows."""
    return _points(read_array(file) if part == WHOLE else _mapped(file), columns, named=False, part=part)


def parse_npz(file: BinaryIO, columns: Columns | None = None) -> Contents:
    """Read the array ``points`` of an archive, or its only one, or ``x``, ``y`` and ``z``; and ``colors``."""
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        arrays = [name for name in members if name != "colors"] or list(members)
        colors = _member(archive, members["colors"], size) if "colors" in members else None
        if "points" in members or len(arrays) == 1:
            name = "points" if "points" in members else arrays[0]
            found = _points(_member(archive, members[name], size), columns, named=name == "points")
            return Contents(found.points, colors=colors, said=found.said)
        axes = [name for name in "xyz" if name in members]
        if axes[:2] != ["x", "y"]:
            raise ValueError(f"it has the arrays {list(members)}, none of them named 'points'")
        fields = {name: _member(archive, members[name], size) for name in axes}
    shapes = [field.shape for field in fields.values()]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1:
        raise ValueError(f"its arrays {', '.join(axes)} have the shapes {shapes}")
    chosen, said = choose(axes, len(axes), columns)
    return Contents(stacked(fields, [axes[k] for k in chosen]), colors=colors, said=said)


def read_array(file: BinaryIO) -> NDArray[Any]:
    """The array of a ``.npy`` file.

    Raises
    ------
    ValueError
        If it is of Python's objects, or if its length is not that of what it announces.
    """
    data = BytesIO(file.read())  # of which no more is read than is there, whatever the header announces
    shape, order, dtype, start = _announced(data)
    if not math.prod(shape) * dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(data.getbuffer(), dtype, offset=start).reshape(shape, order=order)


def _mapped(file: BinaryIO) -> NDArray[Any]:
    """The same, of which nothing is read before it is used."""
    shape, order, dtype, start = _announced(file)
    if not math.prod(shape) * dtype.itemsize:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", start, shape, order)


def _announced(data: BinaryIO) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any], int]:
    """Shape, order and type of what is there, and where it begins."""
    version = layout.read_magic(data)
    # Later versions differ from the second in the alphabet of the names of fields alone.
    read_header = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
    shape, columnwise, dtype = read_header(data)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python")
    announced, start = math.prod(shape) * dtype.itemsize, data.tell()
    there = data.seek(0, 2) - start
    if announced != there:
        raise ValueError(f"it announces an array of shape {shape} of {dtype}, {announced:,} bytes, and has {there:,}")
    return shape, "F" if columnwise else "C", dtype, start


def read_members(file: BinaryIO, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an archive by their names.

    Raises
    ------
    ValueError
        If one is not there, or is not what it announces.
    """
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        missing = [name for name in names if name not in there]
        if missing:
            raise ValueError(f"it has no array {missing[0]!r}")
        return {name: _member(archive, there[name], size) for name in names}


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> NDArray[Any]:
    there = min(info.compress_size, size)
    if info.compress_size > size or info.file_size > min(DEFLATED * there, memory()):
        raise ValueError(f"its {info.filename} announces {info.file_size:,} bytes in {there:,}")
    return read_array(BytesIO(archive.read(info)))


def _points(array: NDArray[Any], columns: Columns | None, named: bool, part: Part = WHOLE) -> Contents:
    """Columns of an array; the caller says if it is named as points, each of whose columns is a coordinate."""
    rows = share(len(array), part) if array.ndim else slice(None)
    if array.dtype.names is not None and array.ndim == 1:
        fields = [name for name in array.dtype.names if array.dtype[name].kind in "fiu"]
        if not fields:
            kinds = ", ".join(f"{name} of {array.dtype[name]}" for name in array.dtype.names)
            raise Refused(
                f"found records of {kinds or 'nothing'}, expected fields of single numbers, such as x, y and z"
            )
        chosen, said = choose(fields, len(fields), columns)
        return Contents(stacked(array[rows], [fields[k] for k in chosen]), said=said)
    if array.ndim != 2 or (named and columns is None):
        return Contents(array[rows])
    head = array[:100].astype(np.float64) if array.dtype.kind in "fiu" else None
    chosen, said = choose(None, array.shape[1], columns, head)
    array = array[rows] if chosen == list(range(array.shape[1])) else array[rows, chosen]
    return Contents(np.array(array) if isinstance(array, np.memmap) else array, said=said)
