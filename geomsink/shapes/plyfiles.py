"""PLY files, read by way of plyfile and written without."""

import codecs
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomsink.shapes.columns import choose, coordinates
from geomsink.shapes.contents import Columns, Contents, lines_of, narrowest, reals, triangles, whole
from geomsink.shapes.mesh import Faces, Points, strips

BYTES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8,
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8,
}  # fmt: skip
LONGEST_HEADER = 2**20
SPECIAL = re.compile(rb"[_#(]")
"""In numbers that `reals` refuses or reads otherwise than NumPy."""
RGB = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))


def parse_ply(file: BinaryIO, columns: Columns | None = None, *, library: Any) -> Contents:
    """Read a PLY file: ascii or binary, with polygons, triangle strips, or points alone."""
    header = _Header.of(file)
    ply = _opened(file, header, library)
    if "vertex" not in ply:
        raise ValueError("it has no vertex element")
    vertex = ply["vertex"]
    names = [prop.name for prop in vertex.properties if not hasattr(prop, "len_dtype")]
    if columns is None and len(coordinates(names)) != 3:
        raise ValueError(f"its vertices have {', '.join(names) or 'no numbers'}, not x, y and z once each")
    chosen, said = choose(names, len(names), columns)
    fields = [np.asarray(vertex[names[k]]) for k in chosen]
    # Never below float32, and float64 when a column holds doubles or large integers.
    points = np.stack(fields, axis=1, dtype=np.result_type(np.float32, *fields))
    if header.text and not header.doubles & {names[k] for k in chosen} and points.dtype == np.float64:
        points = narrowest(points)
    faces = [np.empty((0, 3), np.int64)]
    if "face" in ply:
        cut, left_out = triangles(_lists(ply["face"]))
        faces.append(cut)
        said += left_out
    if "tristrips" in ply:
        faces.append(strips(_lists(ply["tristrips"])))
    return Contents(points, np.concatenate(faces), _colors(vertex, names), said)


def ply_bytes(points: Points, colors: NDArray[np.uint8] | None = None, faces: Faces | None = None) -> bytes:
    """A binary little-endian PLY file."""
    kind = "float" if points.dtype == np.float32 else "double"
    columns: list[tuple[str, str, NDArray[Any]]] = [(axis, kind, points[:, k]) for k, axis in enumerate("xyz")]
    if colors is not None:
        columns += [(c, "uchar", colors[:, k]) for k, c in enumerate(("red", "green", "blue"))]
    code = {"float": "<f4", "double": "<f8", "uchar": "u1"}
    table = np.empty(len(points), dtype=[(name, code[kind]) for name, kind, _ in columns])
    for name, _, column in columns:
        table[name] = column
    properties = "".join(f"property {kind} {name}\n" for name, kind, _ in columns)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}"
    body = table.tobytes()
    if faces is not None:
        header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\n"
        triangles = np.empty(len(faces), dtype=[("corners", "u1"), ("rows", "<i4", 3)])
        triangles["corners"], triangles["rows"] = 3, faces
        body += triangles.tobytes()
    return f"{header}end_header\n".encode() + body


@dataclass(frozen=True)
class _Header:
    """Of a PLY file, as plyfile takes it.

    Attributes
    ----------
    lines : list of str
        In ASCII, without blank ones; floats of text are doubles, so that no digit of theirs is lost.
    start : int
        Where the body begins.
    text : bool
    rows, least : int
        How many rows it announces, and how many bytes these take at least.
    doubles : set of str
        Columns that are said to be of double precision.
    """

    lines: list[str]
    start: int
    text: bool
    rows: int
    least: int
    doubles: set[str]

    @classmethod
    def of(cls, file: BinaryIO) -> "_Header":
        begin = file.read(LONGEST_HEADER)
        mark = 3 if begin.startswith(codecs.BOM_UTF8) else 0
        first = re.match(rb"ply[ \t]*(\r\n|\r|\n)", begin[mark:])
        if first is None:
            raise ValueError("it does not begin with ply")
        end = re.search(rb"[\r\n][ \t]*end_header[ \t]*(?:" + first[1] + rb"|$)", begin)
        if end is None:
            raise ValueError("it has no end_header")
        lines = lines_of(begin[mark : end.end()].decode("ascii", errors="replace").replace("\ufffd", "?"))
        lines = [line.strip() for line in lines if line.strip()]
        formats = [line for line in lines if line.split()[0] == "format"]  # comments may stand above it
        if len(formats) != 1:
            raise ValueError(f"it has {len(formats)} lines that say its format, expected one")
        text = formats[0].split()[1:2] == ["ascii"]
        kept, doubles, rows, least, size, count = list[str](), set[str](), 0, 0, 1, 0
        for line in lines:
            word = line.split()
            if word[0] in ("element", "end_header"):
                if count and not size:
                    raise ValueError("it has an element without properties")
                rows, least = rows + count, least + count * size
            if word[0] == "element":
                count, size = whole(word[-1]), 0
                if count < 0:
                    raise ValueError(f"it announces {line!r}")
            elif word[0] == "property":
                size += BYTES.get(word[2 if word[1] == "list" else 1], 1)
                if word[1] in ("double", "float64"):
                    doubles.add(word[-1])
                elif text and word[1] in ("float", "float32"):
                    line = f"property double {word[-1]}"
            kept.append(line)
        return cls(kept, end.end(), text, rows, least, doubles)


def _opened(file: BinaryIO, header: _Header, library: Any) -> Any:
    """What plyfile makes of it, once the sizes announced are found to fit the file."""
    head = "\n".join([*header.lines, ""]).encode("ascii")
    size = file.seek(0, 2) - header.start
    file.seek(0)
    begin = file.read(header.start)
    if header.text:
        first = len(lines_of(begin.decode("latin-1")))
        rows = [_plain(row, number) for number, row in enumerate(file.read().splitlines(), first) if row.strip()]
        if len(rows) != header.rows:
            raise ValueError(f"it has {len(rows):,} rows where {header.rows:,} are announced")
        # plyfile closes what it takes for a text file, here a copy.
        return library.PlyData.read(BytesIO(head + b"\n".join([*rows, b""])))
    if header.least > size:
        raise ValueError(f"it has {size:,} bytes where {header.rows:,} rows of {header.least:,} at least are announced")
    with ExitStack() as opened:
        if begin != head or not _is_file(file):  # plyfile reads in one step only what the system can map into memory
            copy = opened.enter_context(TemporaryFile())
            copy.write(head)
            shutil.copyfileobj(file, copy)
            file = copy
        file.seek(0)
        try:  # triangles alone are a hundred times faster if announced, and refused if not alone
            ply = library.PlyData.read(file, known_list_len={"face": {"vertex_indices": 3, "vertex_index": 3}})
        except library.PlyElementParseError:
            file.seek(0)
            ply = library.PlyData.read(file)
        left = len(file.read().strip(b"\0\r\n\t "))
    if left:
        raise ValueError(f"it goes on for {left:,} bytes after the {header.rows:,} rows announced")
    return ply


def _plain(row: bytes, line: int) -> bytes:
    """A row of text as NumPy reads numbers, or a sentence that says which word is none."""
    if not SPECIAL.search(row):
        return row
    return " ".join(
        str(reals([word], line)[0]) if SPECIAL.search(word.encode()) else word for word in row.decode("latin-1").split()
    ).encode("latin-1")


def _is_file(file: BinaryIO) -> bool:
    try:
        return file.fileno() >= 0
    except OSError:
        return False


def _lists(element: Any) -> Any:
    """The corners of the faces or strips."""
    names = {prop.name.lower(): prop.name for prop in element.properties}
    for name in ("vertex_index", "vertex_indices"):
        if name in names:
            return element[names[name]]
    raise ValueError(f"its {element.name} elements have {', '.join(names) or 'nothing'}, not vertex_indices")


def _colors(vertex: Any, names: list[str]) -> NDArray[Any] | None:
    lower = {name.lower(): name for name in names}
    for rgb in RGB:
        if set(rgb) <= lower.keys():
            return np.stack([vertex[lower[color]] for color in rgb], axis=1)
    return None
