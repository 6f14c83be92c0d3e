"""From mesh files to vertices and triangles, by way of plyfile and trimesh.

Each parser takes an open binary file and the module that `PARSERS` names for it, and returns
vertices (V, 3) and faces (F, 3), in the file's order. What it raises on a bad file, `files.py`
turns into one sentence that names the file. The readers of trimesh are called directly, since its
meshes drop vertices that no face uses, and merge others; what they let pass in a truncated file is
checked here.
"""

import io
import re
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomsink.shapes.mesh import Faces, Points, fans, strips


def parse_ply(file: BinaryIO, library: Any) -> tuple[Points, Faces]:
    """Read a PLY file: ascii or binary, with polygons, triangle strips, or points alone."""
    ply = _open_ply(file, library)
    if "vertex" not in ply:
        raise ValueError("it has no vertex element")
    columns = [ply["vertex"][axis] for axis in "xyz"]
    # Never below float32, and float64 when a column holds doubles or large integers.
    vertices = np.stack(columns, axis=1, dtype=np.result_type(np.float32, *columns))
    faces = [np.empty((0, 3), np.int64)]
    for element, triangulate in (("face", fans), ("tristrips", strips)):
        if element in ply:
            properties = {prop.name for prop in ply[element].properties}
            name = "vertex_index" if "vertex_index" in properties else "vertex_indices"
            faces.append(triangulate(ply[element][name]))
    return vertices, np.concatenate(faces)


def ply_colors(file: BinaryIO, library: Any) -> NDArray[Any] | None:
    """Red, green and blue (V, 3) of the vertices of a PLY file, or None where it has none."""
    vertex = _open_ply(file, library)["vertex"]
    names = {prop.name for prop in vertex.properties}
    for red, green, blue in (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue")):
        if {red, green, blue} <= names:
            colors = np.stack([vertex[red], vertex[green], vertex[blue]], axis=1)
            if colors.dtype == np.uint8:
                return colors
            # Whole numbers fill their range; others are shares of full brightness.
            full = 1.0 if colors.dtype.kind == "f" else float(np.iinfo(colors.dtype).max)
            if not (colors.min(initial=0) >= 0 and colors.max(initial=0) <= full):
                raise ValueError(f"it has colours from {colors.min()} to {colors.max()}, beyond 0 to {full:g}")
            return np.asarray((colors * (255.0 / full)).round(), np.uint8)
    return None


def _open_ply(file: BinaryIO, library: Any) -> Any:
    file.readline()
    text = b"ascii" in file.readline()
    file.seek(0)
    if text:  # plyfile closes what it takes for a text file, here a copy
        return library.PlyData.read(io.BytesIO(file.read()))
    try:  # triangles alone are a hundred times faster if announced, and refused if not alone
        triangles = {"face": {"vertex_indices": 3, "vertex_index": 3}}
        return library.PlyData.read(file, known_list_len=triangles)
    except library.PlyElementParseError:
        file.seek(0)
        return library.PlyData.read(file)


def parse_obj(file: BinaryIO, library: Any) -> tuple[Points, Faces]:
    """Read the ``v`` and ``f`` lines of a Wavefront OBJ file."""
    text = re.sub(r"\\\r?\n", " ", file.read().decode("utf-8", errors="replace"))
    points = list(re.finditer(r"^[ \t]*v[ \t](.*)", text, re.MULTILINE))
    polygons = list(re.finditer(r"^[ \t]*f[ \t](.*)", text, re.MULTILINE))
    if not points:
        return np.empty((0, 3), np.float32), np.empty((0, 3), np.int64)
    # trimesh splits vertices by texture, normal and material: of a face it sees the corners only.
    faces = [re.sub(r"/\S*", "", line[1]) for line in polygons]
    if any(len(face.split()) < 3 for face in faces):
        raise ValueError("a face has fewer than three corners")
    if any("-" in face for face in faces) and points[-1].start() > polygons[0].start():
        raise ValueError("it has faces with relative (negative) corners ahead of later vertices")
    lines = [f"v {line[1].strip()}" for line in points] + [f"f {face}" for face in faces]
    loaded = library.load_obj(io.StringIO("\n".join(lines)), maintain_order=True)
    mesh = next(iter(loaded["geometry"].values())) if "geometry" in loaded else loaded
    vertices = mesh["vertices"]
    if vertices.shape != (len(points), 3):
        raise ValueError(f"it has {len(points)} vertices, not all with three coordinates")
    return _single(vertices), fans(mesh.get("faces", ()))


def parse_off(file: BinaryIO, library: Any) -> tuple[Points, Faces]:
    """Read an OFF file in text form."""
    text = re.sub(r"#.*", "", file.read().decode("utf-8", errors="replace"))
    _, found, content = text.partition("OFF")
    head, *rows = [line.split() for line in content.splitlines() if line.strip()] or [[]]
    if not found or len(head) < 2:
        raise ValueError("it does not begin with OFF and the numbers of vertices and faces")
    n_vertices, n_faces = int(head[0]), int(head[1])
    # trimesh takes whatever faces are there, so a truncated list of them is looked for here.
    complete = sum(len(row) > int(row[0]) for row in rows[n_vertices:][:n_faces])
    if len(rows) < n_vertices or complete < n_faces:
        raise ValueError(
            f"it has {min(len(rows), n_vertices)} vertices and {complete} complete faces "
            f"of the {n_vertices} and {n_faces} announced"
        )
    file.seek(0)
    loaded = library.load_off(file)
    return _single(loaded["vertices"]), np.reshape(loaded["faces"], (-1, 3)).astype(np.int64)


def parse_stl(file: BinaryIO, library: Any) -> tuple[Points, Faces]:
    """Read a binary or text STL file, and join equal corners, since it has no list of vertices."""
    data = file.read()
    if b"\0" in data and len(data) != 84 + 50 * int.from_bytes(data[80:84], "little"):
        raise ValueError(f"its {len(data)} bytes do not fit the number of triangles announced")
    file.seek(0)
    loaded = library.load_stl(file)
    solids = [loaded] if "vertices" in loaded else list(loaded["geometry"].values())
    corners = _single(np.concatenate([solid["vertices"] for solid in solids] or [np.empty((0, 3))]))
    # In text, trimesh passes over a solid without its end.
    announced = data.lower().count(b"facet normal") or len(corners) // 3
    if 3 * announced != len(corners) or not solids:
        raise ValueError(f"it has {len(corners) // 3} triangles in complete solids")
    _, first, inverse = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # distinct corners in the order of their first appearance
    return corners[np.sort(first)], rank[inverse].reshape(-1, 3)


def _single(vertices: Any) -> Points:
    """Round to float32; a coordinate too large for it becomes infinite, and is refused as such."""
    with np.errstate(over="ignore"):
        return np.asarray(vertices).astype(np.float32)


PARSERS = {
    ".ply": ("plyfile", parse_ply),
    ".obj": ("trimesh.exchange.obj", parse_obj),
    ".off": ("trimesh.exchange.off", parse_off),
    ".stl": ("trimesh.exchange.stl", parse_stl),
}
