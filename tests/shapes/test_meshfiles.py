"""OBJ, OFF and STL files by hand."""

import numpy as np
import pytest
from mesh_cases import CORNERS, OBJ, OFF, SQUARE, TRIANGLE, doubled_areas, save, stl_binary, stl_text

from geomsink.shapes import FileWarning, read, read_mesh


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


def test_off(tmp_path):
    mesh = read_mesh(save(tmp_path / "a.off", OFF))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    assert sorted(mesh.faces.tolist())[0] == [0, 1, 2] and len(mesh.faces) == 3
    assert np.abs(doubled_areas(mesh)).sum() == 6 + 12
    assert read_mesh(save(tmp_path / "p.off", "OFF\n2 0 0\n1 2 3\n4 5 6\n")).faces.shape == (0, 3)


@pytest.mark.parametrize("content", [stl_text(CORNERS), stl_binary(CORNERS)], ids=["text", "binary"])
def test_stl_joins_equal_corners_in_order_of_appearance(tmp_path, content):
    mesh = read_mesh(save(tmp_path / "a.stl", content))
    np.testing.assert_array_equal(mesh.vertices, SQUARE)
    assert mesh.vertices.dtype == np.float32
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_stl_text_with_two_solids(tmp_path):
    content = stl_text(CORNERS[:1], "one") + stl_text(CORNERS[1:] + np.float32([0, 0, 1]), "two")
    assert len(read_mesh(save(tmp_path / "a.stl", content)).faces) == 2
