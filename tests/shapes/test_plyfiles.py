"""PLY files by hand, and what is cut off them."""

import numpy as np
import pytest
from mesh_cases import ASCII_SQUARE, BINARY, SQUARE, TEXT, doubled_areas, faces, ply, save, vertex

from geomsink.shapes import read, read_mesh, write

pytest.importorskip("plyfile")


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


@pytest.mark.parametrize("cut", range(1, 40))
def test_no_cut_of_the_binary_body_goes_unnoticed(tmp_path, cut):
    with pytest.raises(ValueError, match="truncated"):
        read(save(tmp_path / "a.ply", BINARY[:-cut]))


@pytest.mark.parametrize("corner", [b"7", b"-1"])
def test_corners_that_are_not_there_are_refused(tmp_path, corner):
    with pytest.raises(ValueError, match="faces: found corners numbered"):
        read(save(tmp_path / "a.ply", TEXT.replace(b"3 0 1 2", b"3 0 1 " + corner)))
