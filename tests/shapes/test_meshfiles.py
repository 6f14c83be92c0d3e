"""Mesh files: every format by hand, cut files, and the scans that lie in ../shared/data."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from geomsink.shapes import FileWarning, load, read, read_mesh, sample, write

pytest.importorskip("plyfile")
pytest.importorskip("trimesh")

SQUARE = np.float32([[0, 0, 0], [2, 0, 0], [2, 3, 0], [0, 3, 0]])
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def scan(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not on this machine")
    return DATA / name


def save(path, content):
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


# PLY ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vertex_indices", "vertex_index"])
def test_ply_ascii_with_triangles_and_a_polygon(tmp_path, name):
    body = ASCII_SQUARE + b"3 0 1 2\n4 3 2 1 0\n"
    mesh = read_mesh(save(tmp_path / "a.ply", ply(body, vertex(4) + faces(2, name))))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 2, 1], [3, 1, 0]]


@pytest.mark.parametrize(("form", "order"), [("little", "<"), ("big", ">")])
@pytest.mark.parametrize("polygons", [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3]], [[0, 1, 2, 3], [0, 1, 2]]])
@pytest.mark.parametrize(("kind", "dtype"), [("float", "f4"), ("double", "f8")])
def test_ply_binary(tmp_path, form, order, polygons, kind, dtype):
    body = SQUARE.astype(order + dtype).tobytes()
    body += b"".join(np.array([len(p), *p], order + "i4").tobytes() for p in polygons)
    head = vertex(4, kind) + faces(len(polygons))
    mesh = read_mesh(save(tmp_path / "a.ply", ply(body, head, f"binary_{form}_endian")))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    assert mesh.vertices.dtype == np.dtype(dtype)
    assert mesh.faces.tolist() == [[p[0], p[k], p[k + 1]] for p in polygons for k in range(1, len(p) - 1)]


def test_ply_with_other_properties_and_elements(tmp_path):
    head = (
        "comment made by hand\nelement camera 1\nproperty float zoom\n"
        "element vertex 2\nproperty uchar red\n"
        "property float z\nproperty float x\nproperty float y\n"
    )
    path = save(tmp_path / "a.ply", ply(b"1.5\n255 3 1 2\n0 6 4 5\n", head))
    assert read(path).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read_mesh(path).faces.shape == (0, 3)


def grid_rows(rows, columns):
    """Vertices of a flat grid and, for each row of its squares, a strip that faces up."""
    y, x = np.mgrid[: rows + 1, : columns + 1]
    vertices = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    number = np.arange(len(vertices)).reshape(y.shape)
    return vertices, [np.stack([number[r + 1], number[r]], axis=1).ravel().tolist() for r in range(rows)]


def restarts(rows):
    return [[i for row in rows for i in [*row, -1]]]


def stitches(rows):
    return [[i for row in rows for i in [row[0], *row, row[-1]]][1:]]


@pytest.mark.parametrize("joined", [restarts, stitches, list])
@pytest.mark.parametrize("columns", [4, 5])
def test_ply_triangle_strips_keep_every_triangle_and_its_side(tmp_path, joined, columns):
    vertices, rows = grid_rows(3, columns)
    lists = joined(rows)
    body = vertices.astype("<f4").tobytes()
    body += b"".join(np.array([len(strip), *strip], "<i4").tobytes() for strip in lists)
    head = vertex(len(vertices)) + faces(len(lists), element="tristrips")
    mesh = read_mesh(save(tmp_path / "a.ply", ply(body, head, "binary_little_endian")))
    assert len(mesh.faces) == 2 * 3 * columns
    np.testing.assert_array_equal(doubled_areas(mesh), [[0, 0, 1]] * len(mesh.faces))
    assert len({frozenset(face) for face in mesh.faces.tolist()}) == len(mesh.faces)


def test_odd_strip_then_restart_starts_the_winding_anew(tmp_path):
    # Three vertices, a restart, three more: alternation that ran on would turn the second triangle.
    vertices = [[0, 0, 0], [1, 0, 0], [0, 1, 0]] * 2
    body = np.array(vertices, "<f4").tobytes() + np.array([7, 0, 1, 2, -1, 3, 4, 5], "<i4").tobytes()
    head = vertex(6) + faces(1, element="tristrips")
    mesh = read_mesh(save(tmp_path / "a.ply", ply(body, head, "binary_little_endian")))
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("colored", [False, True])
def test_written_ply_comes_back(tmp_path, kind, colored):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((50, 3)).astype(kind)
    colors = rng.integers(0, 256, (50, 3), dtype=np.uint8) if colored else None
    write(tmp_path / "a.ply", points, colors)
    back = read(tmp_path / "a.ply")
    np.testing.assert_array_equal(back, points)
    assert back.dtype == kind
    if colored:
        import plyfile

        table = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
        np.testing.assert_array_equal(np.stack([table[c] for c in ("red", "green", "blue")], 1), colors)


# OBJ, OFF, STL -----------------------------------------------------------------------------------

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


def test_obj_keeps_unused_and_repeated_vertices_across_materials_and_seams(tmp_path):
    mesh = read_mesh(save(tmp_path / "a.obj", OBJ))
    expected = [[0, 0, 0], [2, 0, 0], [2, 3, 0], [0, 3, 0], [9, 9, 9], [0, 0, 0]]
    assert mesh.vertices.tolist() == expected and mesh.vertices.dtype == np.float32
    faces = [[0, 1, 2], [0, 2, 3], [5, 1, 2], [5, 2, 3]]
    assert mesh.faces.tolist() == faces


def test_obj_pentagons_relative_corners_and_points_alone(tmp_path):
    points = "v 0 0 0\nv 1 0 0\nv 2 1 0\nv 1 2 0\nv 0 1 0\n"
    assert read_mesh(save(tmp_path / "p.obj", points)).faces.shape == (0, 3)
    five = read_mesh(save(tmp_path / "f.obj", points + "f 1 2 3 4 5\n"))
    assert five.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4]]
    relative = read_mesh(save(tmp_path / "r.obj", points + "f -5 -4 -3\nf -1/2 -2/1 1/1\n"))
    np.testing.assert_array_equal(relative.faces % 5, [[0, 1, 2], [4, 3, 0]])
    # Between vertices, they count from where they stand.
    between = read_mesh(save(tmp_path / "r.obj", points + "f -3 -2 -1\n" + points + "f -3 -2 -1\n"))
    assert between.faces.tolist() == [[2, 3, 4], [7, 8, 9]]


@pytest.mark.parametrize(
    "line", ["# C:\\models\\", "mtllib C:\\models\\", "usemtl a\\", "o a\\", "g a \\ # all", "s 1 # \\"]
)
def test_obj_backslashes_of_comments_and_names_join_nothing(tmp_path, line):
    mesh = read_mesh(
        save(tmp_path / "a.obj", f"v 0 0 0\n{line}\nv 1 0 0\n{line}\nv 0 1 \\ # y\n 0\n{line}\nf 1 2 3\n{line}")
    )
    assert (mesh.vertices.tolist(), mesh.faces.tolist()) == (TRIANGLE, [[0, 1, 2]])


def test_obj_vertices_after_unknown_keywords_are_kept(tmp_path):
    path = save(tmp_path / "a.obj", "map C:\\models\\\nv 1 2 3\nsp 1 \\\n 2\nv 4 5 6\n")
    with pytest.warns(FileWarning, match="'map' in line 1 is no keyword"):
        assert read(path).tolist() == [[1, 2, 3], [4, 5, 6]]


OFF = "OFF # by hand\n4 2 0\n" + ASCII_SQUARE.decode() + "3 0 1 2 255 0 0\n4 3 2 1 0\n"


def test_off(tmp_path):
    mesh = read_mesh(save(tmp_path / "a.off", OFF))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    assert sorted(mesh.faces.tolist())[0] == [0, 1, 2] and len(mesh.faces) == 3
    assert np.abs(doubled_areas(mesh)).sum() == 6 + 12
    assert read_mesh(save(tmp_path / "p.off", "OFF\n2 0 0\n1 2 3\n4 5 6\n")).faces.shape == (0, 3)


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


@pytest.mark.parametrize("content", [stl_text(CORNERS), stl_binary(CORNERS)], ids=["text", "binary"])
def test_stl_joins_equal_corners_in_order_of_appearance(tmp_path, content):
    mesh = read_mesh(save(tmp_path / "a.stl", content))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_stl_text_with_two_solids(tmp_path):
    content = stl_text(CORNERS[:1], "one") + stl_text(CORNERS[1:] + np.float32([0, 0, 1]), "two")
    assert len(read_mesh(save(tmp_path / "a.stl", content)).faces) == 2


# Files that are not what they should be ----------------------------------------------------------

BINARY = ply(
    SQUARE.astype("<f4").tobytes() + np.array([3, 0, 1, 2, 3, 0, 2, 3], "<i4").tobytes(),
    vertex(4) + faces(2),
    "binary_little_endian",
)
TEXT = ply(ASCII_SQUARE + b"3 0 1 2\n3 0 2 3\n", vertex(4) + faces(2))
STL = stl_binary(CORNERS)
CUT = {
    "header.ply": BINARY[:40],
    "vertices.ply": BINARY[: BINARY.index(b"end_header") + 30],
    "faces.ply": BINARY[:-5],
    "face.ply": BINARY[:-16],
    "vertices-ascii.ply": TEXT[: TEXT.index(b"2 3 0")],
    "faces-ascii.ply": TEXT[:-8],
    "word.ply": TEXT.replace(b"2 3 0", b"2 x 0"),
    "other.ply": stl_binary(CORNERS),
    "nameless.ply": ply(b"", "comment nothing\n"),
    "flat.ply": ply(b"1 2\n", "element vertex 1\nproperty float x\nproperty float y\n"),
    "vertex.obj": "v 0 0 0\nv 1 0",
    "face.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 2 3 /",
    "word.obj": "v 0 0 0\nv 1 x 0\n",
    "vertices.off": "OFF\n4 2 0\n0 0 0\n1 0 0\n",
    "faces.off": OFF[: OFF.index("4 3 2")],
    "face.off": OFF[:-3],
    "other.off": "solid",
    "binary.stl": STL[:-10],
    "text.stl": stl_text(CORNERS)[:-60],
    "solid.stl": stl_text(CORNERS) + stl_text(CORNERS)[:-60],
    "other.stl": "ply\n",
}


@pytest.mark.parametrize("name", CUT)
def test_cut_and_malformed_files_are_refused_by_name(tmp_path, name):
    path = save(tmp_path / name, CUT[name])
    with pytest.raises(ValueError, match="truncated or malformed") as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith(f"expected a complete {path.suffix} file.")
    assert "\n" not in message
    assert "closed file" not in message


@pytest.mark.parametrize("cut", range(1, 40))
def test_no_cut_of_the_binary_body_goes_unnoticed(tmp_path, cut):
    with pytest.raises(ValueError, match="truncated"):
        read(save(tmp_path / "a.ply", BINARY[:-cut]))


NO_POINTS = {
    "a.ply": ply(b"", vertex(0)),
    "a.obj": "# nothing\n",
    "a.off": "OFF\n0 0 0\n",
}


@pytest.mark.parametrize("name", NO_POINTS)
def test_files_without_points_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="found no points"):
        read(save(tmp_path / name, NO_POINTS[name]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", TEXT.replace(b"2 3 0", b"2 nan 0")),
        ("a.obj", OBJ.replace("v 2 3 0", "v 2 inf 0")),
        ("a.off", OFF.replace("2 3 0", "2 1e400 0")),
    ],
)
def test_coordinates_that_are_not_finite_are_refused(tmp_path, name, content):
    with pytest.raises(ValueError, match=r"as point 2, expected finite"):
        read(save(tmp_path / name, content))


@pytest.mark.parametrize("corner", [b"7", b"-1"])
def test_corners_that_are_not_there_are_refused(tmp_path, corner):
    with pytest.raises(ValueError, match="faces: found corners numbered"):
        read(save(tmp_path / "a.ply", TEXT.replace(b"3 0 1 2", b"3 0 1 " + corner)))


# Files as people have them -----------------------------------------------------------------------

UTM = [[500123.456, 4649876.123, 12.5], [500124.001, 4649877.25, 13.0], [500125.0, 4649876.5, 12.0]]
ROWS = "".join("{} {} {}\n".format(*row) for row in UTM)
FAR = {
    "a.obj": "".join(f"v {row}\n" for row in ROWS.splitlines()),
    "a.off": f"OFF\n3 0 0\n{ROWS}",
    "a.ply": ply(ROWS.encode(), vertex(3)),
    "a.stl": stl_text(np.array([UTM])),
    "a.csv": "x y z\n" + ROWS,
}


@pytest.mark.parametrize("name", FAR)
def test_no_digit_is_lost(tmp_path, name):
    assert read(save(tmp_path / name, FAR[name])).tolist() == UTM


def test_float32_is_kept_where_it_has_every_digit(tmp_path):
    """However many digits it is written with, a float32 is read as itself; a double is not rounded."""
    rng = np.random.default_rng(0)
    for scale in (1e-30, 1.0, 1e4, 1e30):
        points = (rng.standard_normal((200, 3)) * scale).astype("f4")
        for digits in range(3, 10):
            rows = [" ".join(f"{number:.{digits}g}" for number in row) for row in points.tolist()]
            found = read(save(tmp_path / "a.obj", "".join(f"v {row}\n" for row in rows)))
            written = np.array([row.split() for row in rows], dtype=np.float64)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, written.astype("f4"))
            if digits == 9:
                np.testing.assert_array_equal(found, points)
        doubles = rng.standard_normal((20, 3)) * scale
        found = read(save(tmp_path / "a.obj", "".join("v {!r} {!r} {!r}\n".format(*row) for row in doubles.tolist())))
        np.testing.assert_array_equal(found, doubles)
    # Zeros are digits, too: the grid is off by hundredths of a box of 0.3.
    grid = "".join(f"v {500123 + k / 10:.6f} 0.000000 0.000000\n" for k in range(4))
    assert read(save(tmp_path / "a.obj", grid)).dtype == np.float64


TRIANGLE = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
HEAD = "element vertex 3\nproperty float X\nproperty float Y\nproperty float Z\nelement face 1\n" + faces(0).split(
    "\n")[1] + "\nend_header\n"  # fmt: skip
BODY = "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
AS_PEOPLE_HAVE_THEM = {
    "comment.off": "OFF\n3 1 0 # c\n0 0 0 # first\n1 0 0\n0 1 0\n3 0 1 2\n",
    "lower.off": "off\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "bare.off": "3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "free.off": "OFF 3\n1 0 0 0 0 1 0\n0 0 1 0 3\n0 1 2\n",
    "colours.off": "COFF 3 1 0\n0 0 0 255 0 0 255\n1 0 0 255 0 0 255\n0 1 0 1 1 1 1\n3 0 1 2 255 0 0\n",
    "mark.obj": "\ufeffv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "comments.obj": "v 0 0 0# a\nv 1 0 0 # b\nv 0 1 0\nf 1 2 3 # c\n",
    "mac.obj": "v 0 0 0\rv 1 0 0\rv 0 1 0\rf 1 2 3\r",
    "weights.obj": "v 0 0 0 2\nv 3 0 0 3\nv 0 -1 0 -1\nf 1 2 3\n",
    "colours.obj": "v 0 0 0 0.5 0.5 0.5\nv 1 0 0 1 1 1\nv 0 1 0 0 0 0\nf 1 2 3\n",
    "keywords.obj": "mtllib a.mtl\nusemtl x\ns 1\nvp 0 0\nV 0 0 0\nv 1 0 0\nv 0 1 0\nl 1 2\nF 1 2 3\n",
    "comment.ply": f"ply\nformat ascii 1.0\ncomment caf\u00e9\n{HEAD}{BODY}",
    "mark.ply": f"\ufeffply\nformat ascii 1.0\n{HEAD}{BODY}",
    "blank.ply": f"ply\nformat ascii 1.0\n{HEAD}\n{BODY}\n",
    "windows.ply": f"ply\nformat ascii 1.0\n{HEAD}{BODY}".replace("\n", "\r\n"),
    "above.ply": f"ply\ncomment by hand\ncomment\nformat  ascii 1.0\n{HEAD}{BODY}",
    "above-binary.ply": f"ply\ncomment format ascii 1.0\nformat binary_little_endian 1.0\n{HEAD}".encode()
    + np.array(TRIANGLE, "<f4").tobytes() + np.array([3, 0, 1, 2], "<i4").tobytes(),
    "binary.ply": f"ply\nformat binary_big_endian 1.0\ncomment caf\u00e9\n{HEAD}".encode()
    + np.array(TRIANGLE, ">f4").tobytes() + np.array([3, 0, 1, 2], ">i4").tobytes() + b"\n",
    "name.stl": stl_text(np.array([TRIANGLE]), "facet normal"),
    "solid.stl": b"solid but binary".ljust(80) + stl_binary(np.array([TRIANGLE]))[80:],
}  # fmt: skip


@pytest.mark.parametrize("name", AS_PEOPLE_HAVE_THEM)
def test_files_as_people_have_them_are_read(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mesh = read_mesh(save(tmp_path / name, AS_PEOPLE_HAVE_THEM[name]))
    assert (mesh.vertices.tolist(), mesh.faces.tolist()) == (TRIANGLE, [[0, 1, 2]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\nf 1 2 3\nf 3 1\n"),
        ("a.off", "OFF\n3 3 0\n0 0 0\n1 0 0\n0 1 0\n2 0 1\n3 0 1 2\n2 0 2\n"),
        ("a.ply", ply(BODY.encode() + b"2 0 1\n2 1 2\n", vertex(3) + faces(3))),
    ],
)
def test_faces_of_two_corners_are_left_out_with_one_warning(tmp_path, name, content):
    path = save(tmp_path / name, content)
    with pytest.warns(FileWarning) as caught:
        assert read_mesh(path).faces.tolist() == [[0, 1, 2]]
    (warning,) = caught
    assert str(warning.message) == f"{path}: 2 of 3 faces have fewer than three corners and were left out."


def test_keywords_that_are_not_of_the_format_are_said(tmp_path):
    path = save(tmp_path / "a.obj", "v 0 0 0\nfrobnicate this\nfoo\n")
    with pytest.warns(FileWarning, match="'frobnicate' in line 2 is no keyword of the format; 2 such lines"):
        assert read(path).tolist() == [[0, 0, 0]]


BOAST = vertex(1) + "element face 1000000000\nproperty list uchar int vertex_indices\n"
WRONG = {
    "number.obj": ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3,\n", "line 4: found '3,', expected a whole number"),
    "letter.obj": ("v 0 0 0\nv 0 l 0\n", "line 2: found 'l', expected a number"),
    "keyword.obj": ("v 0 0 0\nw 0 1 0\n", "line 2: found 'w', expected a keyword such as v or f"),
    "mark.obj": ("v 0 0 0\n\ufeffv 0 1 0\n", "line 2: found '.*v', expected a keyword"),
    "zero.obj": ("v 0 0 0\nf 0 1 1\n", "line 2: found corners 0 1 1, expected them from 1 on"),
    "before.obj": ("v 0 0 0\nf -1 -2 1\n", "line 2: found corners -1 -2 1, expected .* from -1 down to -1"),
    "beyond.obj": ("v 0 0 0\nf 1 1 2\n", "faces: found corners numbered 0 to 1, expected 0 to 0"),
    "infinity.obj": ("v 0 0 0\nv 1 1 1 0\n", "line 2: found a vertex at infinity, of weight 0"),
    "five.obj": ("v 0 0 0 1 1\n", "line 1: found a vertex of 5 numbers"),
    "joined.obj": ("v 0 0 0\nv 0 0 \\", "line 2: it ends with a backslash"),
    "four.off": ("4OFF\n1 0 0\n1 2 3 4\n", "it begins with 4OFF, whose points have other dimensions"),
    "binary.off": ("OFF BINARY\n1 0 0\n", "it is a binary OFF file"),
    "less.off": ("OFF\n3 -1 0\n0 0 0\n1 0 0\n0 1 0\n", "line 2: found 3 vertices and -1 faces announced"),
    "more.off": ("OFF\n1 0 0\n0 0 0\n1 0 0\n", "line 4: found more than the 1 vertices and 0 faces announced"),
    "letter.off": ("OFF\n2 0 0\n0 0 0\n1 o 0\n", "line 4: found 'o', expected a number"),
    "open.stl": (stl_text(CORNERS).replace("endsolid plate", ""), "it ends within a solid"),
    "two.stl": (stl_text(CORNERS).replace("vertex 2.0 3.0 0.0\n", "\n", 1), "line 8: found 'endfacet' where it does"),
    "letter.stl": (stl_text(CORNERS).replace("2.0 3.0", "2.0 x", 1), "line 6: found 'x', expected a number"),
    "more.ply": (ply(BODY.encode() + b"3 2 1 0\n", vertex(3) + faces(1)), "it has 5 rows where 4 are announced"),
    "more-binary.ply": (BINARY + b"\1" * 12, "it goes on for 12 bytes after the 6 rows announced"),
    "twice.ply": (ply(b"1 2 3 4\n", vertex(1) + "property float X\n"), "its vertices have x, y, z, X, not x, y and z"),
    "underline.ply": (ply(b"1 2 3\n\n4 1_0 6\n", vertex(2)), "line 10: found '1_0', expected a number"),
    "formless.ply": (ply(b"1 2 3\n", vertex(1)).replace(b"format", b"comment"), "it has 0 lines that say its format"),
    "formats.ply": (ply(b"1 2 3\n", "format ascii 1.0\n" + vertex(1)), "it has 2 lines that say its format"),
    "boast.ply": (ply(b"\0" * 30, BOAST, "binary_little_endian"),
                  "it has 30 bytes where 1,000,000,001 rows of 1,000,000,012 at least are announced"),
    "boast-ascii.ply": (ply(b"1 2 3\n", BOAST), "it has 1 rows where 1,000,000,001"),
    "nothing.ply": (ply(b"\0" * 30, vertex(1) + "element void 1000000000\n", "binary_little_endian"),
                    "it has an element without properties"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_its_line(tmp_path, name):
    content, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        read(save(tmp_path / name, content))
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_columns_of_meshes(tmp_path):
    path = save(tmp_path / "a.ply", ply(b"1 2 3 7\n4 5 6 8\n", vertex(2) + "property float quality\n"))
    assert read(path, columns=["quality", "x"]).tolist() == [[7, 1], [8, 4]]
    assert read(save(tmp_path / "a.obj", "v 1 2 3\nv 4 5 6\n"), columns=["z", "x"]).tolist() == [[3, 1], [6, 4]]


@pytest.mark.parametrize("name", ["a.obj", "a.off", "a.ply"])
def test_points_that_are_not_finite_take_their_faces_with_them(tmp_path, name):
    rows = ["nan nan nan", "0 0 0", "1 0 0", "0 1 0", "0 inf 1"]
    corners = [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    lines = "".join("3 {} {} {}\n".format(*face) for face in corners)
    content = {
        "a.obj": "".join(f"v {row}\n" for row in rows) + "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in corners),
        "a.off": "OFF 5 3 0\n" + "\n".join(rows) + "\n" + lines,
        "a.ply": ply(("\n".join(rows) + "\n" + lines).encode(), vertex(5) + faces(3)),
    }[name]
    path = save(tmp_path / name, content)
    with pytest.warns(FileWarning, match="2 of 5 points are not finite and were left out"):
        found = load(path, drop_invalid=True)
    assert (found.points.tolist(), found.faces.tolist()) == (TRIANGLE, [[0, 1, 2]])
    assert found.kept.tolist() == [False, True, True, True, False]
    with pytest.warns(FileWarning):
        assert read_mesh(path, drop_invalid=True).vertices.tolist() == TRIANGLE
    with pytest.raises(ValueError, match="as point 0, expected finite"):
        read(path)


# Real scans --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_vertices", "n_faces"),
    [
        ("spot.obj", 2930, 5856),
        ("stanford-bunny.obj", 35947, 69451),
        ("igea.ply", 134345, 268686),
        ("horse.ply", 48485, 96966),
    ],
)
def test_scans_are_read_whole(name, n_vertices, n_faces):
    mesh = read_mesh(scan(name))
    assert mesh.vertices.shape == (n_vertices, 3) and mesh.vertices.dtype == np.float32
    assert mesh.faces.shape == (n_faces, 3)


def test_spot_vertices_are_its_lines_in_order():
    path = scan("spot.obj")
    lines = [line.split()[1:] for line in path.read_text().splitlines() if line.startswith("v ")]
    np.testing.assert_array_equal(read(path), np.array(lines, np.float64).astype(np.float32))


def test_igea_strips_close_into_one_surface():
    mesh = read_mesh(scan("igea.ply"))
    # Each edge is passed once in each direction: nothing is missing, doubled or turned over.
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    forth, back = (np.sort(edges @ order) for order in ([1 << 20, 1], [1, 1 << 20]))
    np.testing.assert_array_equal(forth, back)
    assert (np.diff(forth) > 0).all()
    # Euler's formula for a sphere, and the area of a head 0.1 high.
    assert len(mesh.vertices) - len(edges) // 2 + len(mesh.faces) == 2
    area = np.linalg.norm(doubled_areas(mesh), axis=1).sum() / 2
    assert np.pi * 0.07**2 < area < 2 * np.pi * 0.1**2


def test_read_and_sample_share_the_normalized_frame():
    path = scan("spot.obj")
    whole, drawn = read(path, normalize=True), sample(path, 20000, seed=1, normalize=True)
    low, high = whole.min(axis=0), whole.max(axis=0)
    np.testing.assert_allclose(low + high, 1, atol=1e-6)
    assert (high - low).max() == pytest.approx(1, abs=1e-6)
    assert (drawn >= low - 1e-6).all() and (drawn <= high + 1e-6).all()
    np.testing.assert_allclose([drawn.min(axis=0), drawn.max(axis=0)], [low, high], atol=0.03)
