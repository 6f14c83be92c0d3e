"""Meshes as text and bytes, for the tests of their files."""

import struct

import numpy as np
import pytest

SQUARE = np.float32([[0, 0, 0], [2, 0, 0], [2, 3, 0], [0, 3, 0]])
TRIANGLE = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]


def save(path, content):
    """A file, read by no test where what reads its format is not installed."""
    if path.suffix == ".ply":
        pytest.importorskip("plyfile")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def doubled_areas(mesh):
    corners = mesh.vertices[mesh.faces].astype(float)
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def ply(body, elements, form="ascii"):
    return f"ply\nformat {form} 1.0\n{elements}end_header\n".encode() + body


def vertex(n, kind="float"):
    return f"element vertex {n}\n" + "".join(f"property {kind} {axis}\n" for axis in "xyz")


def faces(n, name="vertex_indices", element="face"):
    return f"element {element} {n}\nproperty list int int {name}\n"


ASCII_SQUARE = b"".join(b"%g %g %g\n" % tuple(row) for row in SQUARE.tolist())
BINARY = ply(
    SQUARE.astype("<f4").tobytes() + np.array([3, 0, 1, 2, 3, 0, 2, 3], "<i4").tobytes(),
    vertex(4) + faces(2),
    "binary_little_endian",
)
TEXT = ply(ASCII_SQUARE + b"3 0 1 2\n3 0 2 3\n", vertex(4) + faces(2))

OBJ = """# by hand
mtllib none.mtl
o first
v 0 0 0
v 2 0 0 0.1 0.2 0.3
v 2 3 0
v 0 3 0
v 9 9 9
v 0 0 0
vt 0 0
vt 1 0
vn 0 0 1
usemtl red
f 1/1/1 2/2/1 3/1/1
usemtl blue
f 1//1 3//1 \\
  4//1
f 6 2 3 4
"""
OFF = "OFF # by hand\n4 2 0\n" + ASCII_SQUARE.decode() + "3 0 1 2 255 0 0\n4 3 2 1 0\n"

CORNERS = SQUARE[[[0, 1, 2], [0, 2, 3]]]


def stl_text(corners, name="plate"):
    facets = "".join(
        "facet normal 0 0 1\n outer loop\n"
        + "".join("  vertex {} {} {}\n".format(*corner) for corner in facet.tolist())
        + " endloop\nendfacet\n"
        for facet in corners
    )
    return f"solid {name}\n{facets}endsolid {name}\n"


def stl_binary(corners):
    facets = b"".join(struct.pack("<12f", 0, 0, 1, *facet.ravel()) + b"\0\0" for facet in corners)
    return b"\0" * 80 + struct.pack("<I", len(corners)) + facets
