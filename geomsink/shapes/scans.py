"""Files of scanners and of scenes, read by way of the libraries that know them."""

import json
import logging
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomsink.shapes.columns import choose
from geomsink.shapes.contents import Columns, Contents, decoded, lines_of, narrowest, stacked
from geomsink.shapes.tables import parse_table

CHUNK = 1_000_000
"""Points of a scan that are unpacked at a time: memory grows with what is there, not with what is announced."""
RECORD = 54
"""Bytes that a record of variable length in a LAS file has at least."""
LZF = 89
"""Bytes that one compressed byte can be at most: 264 for three."""


def parse_pcd(file: BinaryIO, columns: Columns | None = None, *, library: Any) -> Contents:
    """Read a PCD file: ascii, binary or compressed."""
    header = list[bytes]()
    for line in file:
        header.append(line)
        if line.startswith(b"DATA"):
            break
        if len(header) > 100 or len(line) > 100_000:
            raise ValueError("it has no line DATA")
    meta = library.MetaData.parse_header([line.strip() for line in lines_of(decoded(b"".join(header)))])
    text, packed, start = meta.data.value == "ascii", meta.data.value.endswith("compressed"), file.tell()
    there, row = file.seek(0, 2) - start, sum(size * count for size, count in zip(meta.size, meta.count, strict=True))
    announced = meta.points * row
    least = 2 * meta.points * sum(meta.count) - 1 if text else announced // LZF if packed else announced
    if not 0 < least <= there or (there > announced and not text and not packed):
        raise ValueError(f"it has {there:,} bytes for {meta.points:,} points of {row:,}")
    names = list(meta.build_dtype().names)
    file.seek(start)
    if text:  # numbers are read as they are written
        names = [name if name.isidentifier() else f"unnamed{k}" for k, name in enumerate(names)]  # padding has none
        rows = parse_table(BytesIO(" ".join(names).encode() + b"\n" + file.read()), columns)
        if len(rows.points) != meta.points:
            raise ValueError(f"it has {len(rows.points):,} points where {meta.points:,} are announced")
        single = set(zip(meta.type, meta.size, strict=True)) == {("F", 4)}
        return Contents(narrowest(rows.points), said=rows.said) if single else rows
    if packed:
        sizes = np.frombuffer(file.read(8), "<u4")
        if len(sizes) < 2 or sizes[0] + 8 > there or sizes[1] != announced:
            raise ValueError(f"it has {there:,} bytes, which do not fit the sizes announced")
    file.seek(0)
    cloud = library.PointCloud.from_fileobj(file).pc_data
    chosen, said = choose(names, len(names), columns)
    return Contents(stacked(cloud, [names[k] for k in chosen]), said=said)


def parse_las(file: BinaryIO, columns: Columns | None = None, *, library: Any) -> Contents:
    """Read a LAS or LAZ file, scaled as it says."""
    parts = list[NDArray[Any]]()
    logging.getLogger("laspy").addHandler(logging.NullHandler())  # what it would say on stderr, errors say
    data = file.read()  # of memory, no more is read than is there, whatever the file announces
    records = int.from_bytes(data[100:104], "little")
    if records * RECORD > len(data):
        raise ValueError(f"it announces {records:,} records, which {len(data):,} bytes cannot hold")
    with library.open(BytesIO(data), laz_backend=[library.LazBackend.Lazrs], read_evlrs=False) as reader:
        header = reader.header
        names = ["x", "y", "z", *(name for name in header.point_format.dimension_names if name not in ("X", "Y", "Z"))]
        least = header.offset_to_point_data + header.point_count * header.point_format.size
        if header.are_points_compressed:
            _check_chunks(data, header.offset_to_point_data, header.point_format.size)
        elif least > len(data):
            raise ValueError(f"it announces {header.point_count:,} points, which {len(data):,} bytes cannot hold")
        chosen, said = choose(names, len(names), columns)
        try:
            for chunk in reader.chunk_iterator(CHUNK):
                fields = {names[k]: np.asarray(chunk[names[k]]) for k in chosen}
                parts.append(stacked(fields, list(fields)).astype(np.float64, copy=False))
        except BaseException as error:  # lazrs' own, on damaged points, is no Exception
            if type(error).__name__ != "PanicException":
                raise
            raise ValueError(f"its compressed points are damaged: {error}") from error
        count = sum(map(len, parts))
        if count != header.point_count:
            raise ValueError(f"it has {count:,} points where {header.point_count:,} are announced")
    return Contents(np.concatenate(parts) if parts else np.empty((0, 3)), said=said)


def _check_chunks(data: bytes, start: int, least: int) -> None:
    """The table of a LAZ file must announce no more chunks than there is room for: each begins with a whole point."""
    table = int.from_bytes(data[start : start + 8], "little", signed=True)
    if table == -1:  # written without going back: the place is at the end
        table = int.from_bytes(data[-8:], "little", signed=True)
    chunks = int.from_bytes(data[table + 4 : table + 8], "little")
    if not start <= table <= len(data) - 8 or chunks * least > len(data):
        raise ValueError(f"it announces a table of {chunks:,} chunks at {table:,}, and has {len(data):,} bytes")


def parse_glb(file: BinaryIO, columns: Columns | None = None, *, library: Any) -> Contents:
    """Read all points and triangles of a binary glTF scene, each where the scene puts it."""
    data = file.read()
    header = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    for accessor in header.get("accessors", ()):
        if accessor.get("count", 0) > len(data):
            raise ValueError(f"it announces {accessor['count']:,} numbers, which {len(data):,} bytes cannot hold")
    scene = library.load_scene(BytesIO(data), file_type="glb", process=False)
    points, faces, left_out, n = [np.empty((0, 3))], [np.empty((0, 3), np.int64)], 0, 0
    for geometry in scene.dump():
        if not isinstance(geometry, (library.Trimesh, library.PointCloud)):
            left_out += 1
            continue
        points.append(np.asarray(geometry.vertices))
        faces.append(np.asarray(getattr(geometry, "faces", faces[0]), dtype=np.int64).reshape(-1, 3) + n)
        n += len(points[-1])
    said = (f"{left_out:,} of its parts are lines and were left out.",) if left_out else ()
    chosen, _ = choose("xyz", 3, columns)
    return Contents(narrowest(np.concatenate(points))[:, chosen], np.concatenate(faces), said=said)
