"""Point files, writing, errors, and what happens without the optional packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geomsink import shapes
from geomsink.shapes import Mesh, read, read_mesh, write

POINTS = np.array([[0.1, 2.0, -3.0], [4.5, 5.0, 6.25]])


def test_importing_shapes_imports_neither_torch_nor_a_mesh_library():
    # An empty front door in place of geomsink's own, which may import what it likes.
    code = (
        "import sys, types; sys.modules['geomsink'] = door = types.ModuleType('geomsink')\n"
        f"door.__path__ = [{str(Path(shapes.__file__).parents[1])!r}]\n"
        "import geomsink.shapes\n"
        "print([name for name in ('torch', 'plyfile', 'trimesh', 'scipy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("content", [
    "0.1 2 -3\n4.5 5 6.25\n",
    "# x y z\n0.1\t2 -3.0 # first\n\n  4.5 5e0 6.25",
])  # fmt: skip
def test_xyz(tmp_path, content):
    (tmp_path / "a.XYZ").write_text(content)
    points = read(tmp_path / "a.XYZ")
    np.testing.assert_array_equal(points, POINTS)
    assert points.dtype == np.float64


@pytest.mark.parametrize("header", ["", "x,y,z\n", "\ufeff# by hand\nx, y, z\n"])
def test_csv_with_and_without_names_of_columns(tmp_path, header):
    (tmp_path / "a.csv").write_text(header + "0.1, 2,-3\r\n4.5,5,6.25\r\n", encoding="utf-8")
    np.testing.assert_array_equal(read(str(tmp_path / "a.csv")), POINTS)


def test_csv_of_two_columns(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n5,6\n")
    assert read(tmp_path / "a.csv").tolist() == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \(N, 3\)"):
        read_mesh(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("stored", "returned"),
    [("f4", "f4"), ("f8", "f8"), (">f4", "f4"), ("f2", "f4"), ("i4", "f8"), ("u1", "f8")],
)
def test_npy_types(tmp_path, stored, returned):
    np.save(tmp_path / "a.npy", np.arange(10).reshape(5, 2).astype(stored))
    points = read(tmp_path / "a.npy")
    assert points.dtype == np.dtype(returned) and points.dtype.isnative
    assert points.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("dimension", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_npz_comes_back(tmp_path, dimension, dtype):
    points = np.random.default_rng(0).standard_normal((20, dimension)).astype(dtype)
    write(tmp_path / "a.NPZ", torch.from_numpy(points).requires_grad_())
    back = read(tmp_path / "a.NPZ")
    np.testing.assert_array_equal(back, points)
    assert back.dtype == dtype
    assert [p.name for p in tmp_path.iterdir()] == ["a.NPZ"]


def test_npz_colors_and_choice_of_array(tmp_path):
    colors = np.uint8([[1, 2, 3], [4, 5, 6]])
    write(tmp_path / "a.npz", POINTS, colors)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["colors"], colors)
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), POINTS)
    np.savez(tmp_path / "only.npz", cloud=POINTS)
    np.testing.assert_array_equal(read(tmp_path / "only.npz"), POINTS)
    np.savez(tmp_path / "two.npz", a=POINTS, b=POINTS)
    with pytest.raises(ValueError, match=r"arrays \['a', 'b'\], none of them named 'points'"):
        read(tmp_path / "two.npz")


def test_normalize_fits_the_box_centred_in_the_unit_cube(tmp_path):
    write(tmp_path / "a.npz", [[10.0, 1.0, 5.0], [14.0, 2.0, 5.0], [12.0, 3.0, 5.0]])
    expected = [[0, 0.25, 0.5], [1, 0.5, 0.5], [0.5, 0.75, 0.5]]
    assert read(tmp_path / "a.npz", normalize=True).tolist() == expected
    write(tmp_path / "one.npz", [[7.0, 8.0]])
    assert read(tmp_path / "one.npz", normalize=True).tolist() == [[0.5, 0.5]]


def test_normalized_float32_never_leaves_the_cube(tmp_path):
    rng = np.random.default_rng(0)
    for scale in (1e-6, 0.3, 7e5):
        write(tmp_path / "a.npz", (rng.standard_normal((100, 3)) * scale + scale).astype("f4"))
        points = read(tmp_path / "a.npz", normalize=True)
        assert points.dtype == np.float32 and points.min() == 0 and points.max() == 1


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".off", ".stl", ".xyz", ".csv", ".npy", ".npz", ".pcd", ".csv.gz"])
def test_empty_and_missing_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read(path)
    path.touch()
    with pytest.raises(ValueError, match="found an empty file"):
        read(path)


@pytest.mark.parametrize("name", ["a.e57", "a.gz", "a.vtk.gz", "a"])
def test_wrong_extensions_name_the_right_ones(tmp_path, name):
    (tmp_path / name).write_text("0 0 0\n")
    with pytest.raises(ValueError, match=r"expected a name that ends in one of .ply, .obj, .*\.npz"):
        read(tmp_path / name)
    with pytest.raises(ValueError, match=r"convert others, for example meshes by trimesh.*CloudCompare"):
        read(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected a name that ends in .ply or .npz"):
        write(tmp_path / name, POINTS)


def test_truncated_and_mistaken_point_files(tmp_path):
    write(tmp_path / "whole.npz", POINTS)
    np.save(tmp_path / "whole.npy", POINTS)
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object))
    contents = {
        "cut.npz": (tmp_path / "whole.npz").read_bytes()[:-30],
        "cut.npy": (tmp_path / "whole.npy").read_bytes()[:-9],
        "objects.npy": (tmp_path / "objects.npy").read_bytes(),
        "text.npy": b"0 0 0\n",
        "cut.xyz": b"0 0 0\n1 1",
        "cut.csv": b"0,0,0\n1,1",
        "word.csv": b"0,0,0\n1,one,1\n",
        "mixed.xyz": b"0,0,0\n1 1 1\n",
        "binary.xyz": bytes(range(256)),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated or malformed") as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("name", "content"), [("a.xyz", "# only this\n"), ("a.csv", "x,y,z\n"), ("b.csv", "\n\n")])
def test_text_without_points(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: found no points"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"shape \(3,\), expected \(N, D\)"),
        (np.zeros((0, 3)), "found no points"),
        (np.zeros((2, 3), complex), "complex128, expected real numbers"),
        (np.array([[0, 0], [np.nan, 1]]), r"found \[nan, 1.0\] as point 1, expected finite"),
        (np.array([["a", "b"]]), "expected real numbers"),
    ],
)
def test_bad_points_are_refused_in_and_out(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="points: .*" + message):
        write(tmp_path / "b.npz", array)
    assert not (tmp_path / "b.npz").exists()


def test_bad_colors_and_planar_ply_are_refused(tmp_path):
    for colors in (np.zeros((2, 3)), np.zeros((3, 3), np.uint8), np.zeros((2, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"colors: found shape .* expected \(2, 3\) of uint8"):
            write(tmp_path / "a.ply", POINTS, colors)
    with pytest.raises(ValueError, match=r"points: found shape \(2, 2\), expected \(N, 3\)"):
        write(tmp_path / "a.ply", POINTS[:, :2])


def test_mesh_checks_its_arrays():
    corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    for faces in ([[0, 1, 3]], [[0, 1, -1]], [[0, 1]], [[0.0, 1.0, 2.0]]):
        with pytest.raises(ValueError, match="faces: found"):
            Mesh(corners, faces)
    with pytest.raises(ValueError, match=r"vertices: found shape \(3, 2\)"):
        Mesh(np.zeros((3, 2)), [[0, 1, 2]])


@pytest.mark.parametrize(
    ("suffix", "package"),
    [(".ply", "plyfile"), (".glb", "trimesh"), (".pcd", "pypcd4"), (".las", "laspy"), (".laz", "laspy")],
)
def test_a_missing_library_is_named_with_its_cure(tmp_path, monkeypatch, suffix, package):
    for module in [package, *(m for m in sys.modules if m.startswith(package + "."))]:
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / f"a{suffix}").write_text("anything")
    with pytest.raises(ImportError) as caught:
        read(tmp_path / f"a{suffix}")
    group = "shapes" if suffix in (".ply", ".glb") else "scans"
    expected = f"reading {suffix} files needs the package {package}: pip install 'geomsink[{group}]'"
    assert str(caught.value) == expected


def test_ply_is_written_without_any_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyfile", None)
    write(tmp_path / "a.ply", POINTS.astype("f4"), np.uint8([[1, 2, 3], [4, 5, 6]]))
    head, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert head.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\n")
    rows = [point.astype("<f4").tobytes() for point in POINTS]
    assert body == rows[0] + bytes([1, 2, 3]) + rows[1] + bytes([4, 5, 6])
