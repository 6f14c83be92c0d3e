"""Mesh files that are not what they should be, and as people have them."""

import warnings

import numpy as np
import pytest
from mesh_cases import BINARY, CORNERS, OBJ, OFF, TEXT, TRIANGLE, faces, ply, save, stl_binary, stl_text, vertex

from geomsink.shapes import FileWarning, load, read, read_mesh

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
