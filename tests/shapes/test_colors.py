"""Colours of points, and meshes written: in files and back."""

import numpy as np
import pytest
import torch

from geomsink import shapes
from geomsink.shapes import read, read_colors, read_mesh, write

POINTS = np.random.default_rng(0).standard_normal((5, 3))
COLORS = np.random.default_rng(1).integers(0, 256, (5, 3), dtype=np.uint8)
FACES = np.array([[0, 1, 2], [2, 3, 4]])


@pytest.mark.parametrize("suffix", ["ply", "npz"])
def test_written_colors_come_back(tmp_path, suffix):
    if suffix == "ply":
        pytest.importorskip("plyfile")
    write(tmp_path / f"a.{suffix}", POINTS, torch.from_numpy(COLORS))
    back = read_colors(tmp_path / f"a.{suffix}")
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, COLORS)
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}"), POINTS)
    write(tmp_path / f"b.{suffix}", POINTS)
    assert read_colors(tmp_path / f"b.{suffix}") is None


@pytest.mark.parametrize("name", ["a.xyz", "a.csv", "a.npy"])
def test_other_files_have_no_colors(tmp_path, name):
    if name.endswith("npy"):
        np.save(tmp_path / name, POINTS)
    else:
        np.savetxt(tmp_path / name, POINTS, delimiter="," if name.endswith("csv") else " ")
    assert read_colors(tmp_path / name) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_written_mesh_comes_back_with_its_faces_and_colors(tmp_path, dtype):
    pytest.importorskip("plyfile")
    trimesh = pytest.importorskip("trimesh")
    write(tmp_path / "a.ply", POINTS.astype(dtype), COLORS, FACES)
    mesh = read_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(mesh.vertices, POINTS.astype(dtype))
    np.testing.assert_array_equal(mesh.faces, FACES)
    np.testing.assert_array_equal(read_colors(tmp_path / "a.ply"), COLORS)
    other = trimesh.load(tmp_path / "a.ply", process=False)  # a reader that is not ours
    np.testing.assert_array_equal(other.faces, FACES)
    np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], COLORS)


@pytest.mark.parametrize(
    ("kind", "names", "values", "expected"),
    [
        ("uchar", "red green blue", "0 128 255", [0, 128, 255]),
        ("float", "red green blue", "0 0.5 1", [0, 128, 255]),
        ("ushort", "red green blue", "0 32896 65535", [0, 128, 255]),
        ("ushort", "red green blue", "10 128 255", [10, 128, 255]),
        ("int", "red green blue", "0 128 255", [0, 128, 255]),
        ("uchar", "R G B", "1 2 3", [1, 2, 3]),
        ("uchar", "diffuse_red diffuse_green diffuse_blue", "1 2 3", [1, 2, 3]),
        ("uchar", "quality confidence alpha", "1 2 3", None),
    ],
)
def test_colors_of_other_writers(tmp_path, kind, names, values, expected):
    pytest.importorskip("plyfile")
    properties = "".join(f"property {kind} {name}\n" for name in names.split())
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    header = f"ply\nformat ascii 1.0\nelement vertex 1\n{axes}{properties}end_header\n"
    (tmp_path / "a.ply").write_text(f"{header}1 2 3 {values}\n")
    colors = read_colors(tmp_path / "a.ply")
    assert expected == (None if colors is None else colors[0].tolist())


def test_colors_of_points_that_are_left_out_are_left_out_with_them(tmp_path):
    pytest.importorskip("plyfile")
    names = "".join(f"property {'float' if name in 'xyz' else 'uchar'} {name}\n" for name in "xyzrgb")
    header = f"ply\nformat ascii 1.0\nelement vertex 2\n{names}end_header\n"
    (tmp_path / "a.ply").write_text(f"{header}nan nan nan 9 9 9\n1 2 3 4 5 6\n")
    with pytest.warns(shapes.FileWarning, match="1 of 2 points are not finite"):
        assert read_colors(tmp_path / "a.ply", drop_invalid=True).tolist() == [[4, 5, 6]]
    with pytest.raises(ValueError, match="as point 0, expected finite"):
        read_colors(tmp_path / "a.ply")


def test_colors_beyond_their_range_are_refused(tmp_path):
    pytest.importorskip("plyfile")
    properties = "".join(f"property float {name}\n" for name in ("x", "y", "z", "red", "green", "blue"))
    header = f"ply\nformat ascii 1.0\nelement vertex 1\n{properties}end_header\n"
    (tmp_path / "a.ply").write_text(f"{header}1 2 3 0 128 255\n")
    with pytest.raises(ValueError, match=r"a\.ply: colors: it has colours from 0\.0 to 255\.0, beyond 0 to 1"):
        read_colors(tmp_path / "a.ply")


def test_colors_of_another_length_or_beyond_their_range_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", points=POINTS, colors=COLORS / 255)
    np.testing.assert_array_equal(read_colors(tmp_path / "a.npz"), COLORS)
    for colors, message in (
        (COLORS[:4], r"found shape \(4, 3\) of uint8, expected \(5, 3\) of uint8"),
        (COLORS.astype("U"), r"found shape \(5, 3\) of <U., expected"),
        (COLORS.astype(int) - 300, "it has colours from -.* beyond 0 to 255"),
        (COLORS.astype(int) * 10**6, "it has colours from .* beyond 0 to 65535"),
        (COLORS.astype(float), "it has colours from .* beyond 0 to 1"),
    ):
        np.savez(tmp_path / "a.npz", points=POINTS, colors=colors)
        with pytest.raises(ValueError, match=rf"a\.npz: colors: {message}"):
            read_colors(tmp_path / "a.npz")
        np.testing.assert_array_equal(read(tmp_path / "a.npz"), POINTS)  # the points are there all the same
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_colors(tmp_path / "b.ply")


@pytest.mark.parametrize(
    ("name", "faces", "message"),
    [
        ("a.npz", FACES, "faces: given for .*npz, expected none: they are written to .ply alone"),
        ("a.ply", FACES + 1, "faces: found corners numbered 1 to 5, expected 0 to 4 for 5 vertices"),
        ("a.ply", FACES[:, :2], r"faces: found shape \(2, 2\)"),
    ],
)
def test_bad_faces_are_refused_before_anything_is_written(tmp_path, name, faces, message):
    with pytest.raises(ValueError, match=message):
        shapes.write(tmp_path / name, POINTS, faces=faces)
    assert not list(tmp_path.iterdir())
