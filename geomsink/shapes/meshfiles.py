"""OBJ, OFF and STL files to vertices and triangles: what is checked, line by line, is what is given back."""

import re
from array import array
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from geomsink.shapes.columns import choose
from geomsink.shapes.contents import (
    Columns,
    Contents,
    decoded,
    lines_of,
    narrowest,
    reals,
    split_comment,
    triangles,
    wholes,
    words,
)
from geomsink.shapes.mesh import Faces, Points

OBJ_KEYWORDS = {
    "vt", "vn", "vp", "p", "l", "fo", "g", "s", "o", "mg", "lod", "usemtl", "mtllib", "usemap", "maplib", "bevel",
    "c_interp", "d_interp", "shadow_obj", "trace_obj", "deg", "bmat", "step", "cstype", "curv", "curv2", "surf",
    "parm", "trim", "hole", "scrv", "sp", "end", "con", "ctech", "stech", "call", "csh", "bsp", "bzp", "cdc", "cdp",
    "res",
}  # fmt: skip
"""Of the format, besides v and f; what they say is not of vertices and faces."""
OBJ_NAMES = {"mtllib", "usemtl", "o", "g", "usemap", "maplib", "shadow_obj", "trace_obj", "call", "csh"}
"""Those before names, such as ``C:\\models\\``, whose backslashes join nothing."""

Words = tuple[int, list[str]]
"""Of a line, with its number."""


def parse_obj(file: BinaryIO, columns: Columns | None = None) -> Contents:
    """Read the ``v`` and ``f`` lines of a Wavefront OBJ file."""
    vertices, polygons, unknown = array("d"), [], list[str]()
    for line, found in _obj_lines(decoded(file.read())):
        keyword = found[0].lower()
        if keyword == "v":
            vertices.extend(_obj_vertex(reals(found[1:], line), line))
        elif keyword == "f":
            corners = wholes([word.partition("/")[0] for word in found[1:]], line)
            count = len(vertices) // 3
            rows = [corner - 1 if corner > 0 else count + corner for corner in corners]
            if 0 in corners or min(rows, default=0) < 0:
                raise ValueError(
                    f"line {line}: found corners {' '.join(map(str, corners[:9]))}, expected them from 1 on, or "
                    f"from -1 down to -{count}, the vertices so far"
                )
            polygons.append(rows)
        elif keyword not in OBJ_KEYWORDS:
            if not found[0].isidentifier() or (len(found) > 1 and _are_numbers(found[1:], line)):
                raise ValueError(f"line {line}: found {found[0][:40]!r}, expected a keyword such as v or f")
            unknown.append(f"{found[0][:40]!r} in line {line}")
    faces, said = triangles(polygons)
    if unknown:
        said = (*said, f"{unknown[0]} is no keyword of the format; {len(unknown):,} such lines were left out.")
    return _mesh(narrowest(np.array(vertices).reshape(-1, 3)), faces, said, columns)


def parse_off(file: BinaryIO, columns: Columns | None = None) -> Contents:
    """Read an OFF file in text form, each row on a line of its own, or with line breaks anywhere."""
    rows = list(words(decoded(file.read())))
    keyword = re.fullmatch(r"(?i)(st)?(c)?(n)?(4)?(n)?off", rows[0][1][0]) if rows else None
    if keyword is not None:
        line, found = rows.pop(0)
        if keyword[4] or keyword[5]:
            raise ValueError(f"it begins with {keyword[0]}, whose points have other dimensions; expected OFF")
        if found[1:2] and found[1].upper() == "BINARY":
            raise ValueError("it is a binary OFF file, expected one of text")
        rows[:0] = [(line, found[1:])] if found[1:] else []
    if not rows or (len(rows[0][1]) < 2 and sum(len(row) for _, row in rows[:3]) < 3):
        raise ValueError("it does not begin with OFF and the numbers of vertices and faces")
    if len(rows[0][1]) < 2:  # these numbers are not on one line either
        rows = [(rows[0][0], [word for _, row in rows for word in row])]
    line, found = rows[0]
    n_vertices, n_faces = wholes(found[:3], line)[:2]
    if n_vertices < 0 or n_faces < 0:
        raise ValueError(f"line {line}: found {n_vertices} vertices and {n_faces} faces announced")
    rows[:1] = [(line, found[3:])] if found[3:] else []
    if not _one_a_line(rows, n_vertices, n_faces):
        rows = _off_rows([(line, word) for line, row in rows for word in row], n_vertices, n_faces)
    vertices = [reals(row[:3], line) for line, row in rows[:n_vertices]]
    polygons = [wholes(row[1 : 1 + int(row[0])], line) for line, row in rows[n_vertices:]]
    faces, said = triangles(polygons)
    return _mesh(narrowest(np.array(vertices, dtype=np.float64).reshape(-1, 3)), faces, said, columns)


def parse_stl(file: BinaryIO, columns: Columns | None = None) -> Contents:
    """Read a binary or text STL file, and join equal corners, since it has no list of vertices."""
    data = file.read()
    announced = int.from_bytes(data[80:84], "little")
    if len(data) >= 84 and len(data) == 84 + 50 * announced:
        facet = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
        corners: Points = np.frombuffer(data, facet, offset=84)["corners"].reshape(-1, 3)
    elif b"\0" in data:
        raise ValueError(f"its {len(data):,} bytes do not fit the {announced:,} triangles announced")
    else:
        corners = narrowest(np.array(_stl_corners(decoded(data))).reshape(-1, 3))
    _, first, inverse = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # distinct corners in the order of their first appearance
    return _mesh(corners[np.sort(first)], rank[inverse].reshape(-1, 3), (), columns)


def _mesh(vertices: Points, faces: Faces, said: tuple[str, ...], columns: Columns | None) -> Contents:
    if columns is not None:
        chosen, _ = choose("xyz", 3, columns)
        vertices = vertices[:, chosen]
    return Contents(vertices, faces, said=said)


def _obj_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each line that has words, with those that a backslash at its end joins to it."""
    begun, start = list[str](), 0
    for line, content in enumerate(lines_of(text), 1):
        start = start or line
        content = (split_comment(content)[0] if "#" in content else content).rstrip()
        found = begun + content.removesuffix("\\").split()
        keyword = found[0].lower() if found else ""
        if content.endswith("\\") and (keyword in ("", "v", "f") or keyword in OBJ_KEYWORDS - OBJ_NAMES):
            begun = found
            continue
        if found:
            yield start, found
        begun, start = [], 0
    if begun:
        raise ValueError(f"line {start}: it ends with a backslash, and nothing follows")


def _obj_vertex(numbers: list[float], line: int) -> list[float]:
    """Coordinates, which a fourth number divides; colours may follow."""
    if len(numbers) not in (3, 4, 6, 7):
        raise ValueError(f"line {line}: found a vertex of {len(numbers)} numbers, expected x, y and z")
    if len(numbers) == 4 and numbers[3] != 1.0:
        if not numbers[3]:
            raise ValueError(f"line {line}: found a vertex at infinity, of weight 0")
        return [number / numbers[3] for number in numbers[:3]]
    return numbers[:3]


def _are_numbers(found: list[str], line: int) -> bool:
    try:
        reals(found, line)
    except ValueError:
        return False
    return True


def _one_a_line(rows: list[Words], n_vertices: int, n_faces: int) -> bool:
    """Whether each vertex and each face has a line, which colours and normals may end."""
    return (
        len(rows) == n_vertices + n_faces
        and all(len(row) > 2 for _, row in rows[:n_vertices])
        and all(row[0].isdecimal() and len(row) > int(row[0]) for _, row in rows[n_vertices:])
    )


def _off_rows(flat: list[tuple[int, str]], n_vertices: int, n_faces: int) -> list[Words]:
    """Rows of numbers that line breaks are anywhere between, when there are no others."""
    rows, place = list[Words](), 0
    while len(rows) < n_vertices + n_faces and place < len(flat):
        line, word = flat[place]
        if len(rows) >= n_vertices and not word.isdecimal():
            break
        end = place + (3 if len(rows) < n_vertices else 1 + int(word))
        if end > len(flat):
            break
        rows.append((line, [word for _, word in flat[place:end]]))
        place = end
    if len(rows) < n_vertices + n_faces:
        found = min(len(rows), n_vertices), max(len(rows) - n_vertices, 0)
        raise ValueError(
            f"it has {found[0]} vertices and {found[1]} complete faces of the {n_vertices} and {n_faces} announced"
        )
    if place < len(flat):
        line = flat[place][0]
        raise ValueError(f"line {line}: found more than the {n_vertices} vertices and {n_faces} faces announced")
    return rows


def _stl_corners(text: str) -> list[list[float]]:
    """The corners of the facets of all solids, three of each."""
    corners, place, open_facet = list[list[float]](), ("", 0), -1
    for line, found in words(text):
        keyword = found[0].lower()
        inside = place[0] == "facet"
        if keyword == "solid" and not place[0]:
            place = ("solid", line)
        elif keyword == "facet" and place[0] == "solid":
            place, open_facet = ("facet", line), len(corners)
        elif keyword == "vertex" and inside and len(found) == 4:
            corners.append(reals(found[1:], line))
        elif keyword == "endfacet" and inside and len(corners) == open_facet + 3:
            place = ("solid", line)
        elif keyword == "endsolid" and place[0] == "solid":
            place = ("", line)
        elif not (keyword in ("outer", "endloop") and inside):
            raise ValueError(f"line {line}: found {' '.join(found)[:60]!r} where it does not belong")
    if place[0] or not place[1]:
        raise ValueError(f"line {place[1]}: it ends within a {place[0]}" if place[1] else "it holds no solid")
    return corners
