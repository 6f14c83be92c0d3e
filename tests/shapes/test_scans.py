"""Scans and scenes, packed files, and sizes that are announced."""

import gzip

import numpy as np
import pytest

from geomsink.shapes import FileWarning, read, read_colors, read_mesh, sample, write

RNG = np.random.default_rng(0)
POINTS = RNG.random((20, 3))
FAR = POINTS.round(3) + [500123.0, 4649876.0, 10.0]


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd(tmp_path, encoding):
    pypcd4 = pytest.importorskip("pypcd4")
    columns = np.column_stack((POINTS, np.arange(20.0))).astype("f4")
    cloud = pypcd4.PointCloud.from_points(columns, ("z", "y", "x", "intensity"), (np.float32,) * 4)
    cloud.save(tmp_path / "a.pcd", encoding=pypcd4.Encoding(encoding))
    points = read(tmp_path / "a.pcd")
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, columns[:, [2, 1, 0]])
    assert read(tmp_path / "a.pcd", columns=["intensity"])[:, 0].tolist() == list(range(20))
    columns[3, :3] = np.nan  # what a depth camera did not see
    cloud = pypcd4.PointCloud.from_points(columns, ("z", "y", "x", "intensity"), (np.float32,) * 4)
    cloud.save(tmp_path / "a.pcd", encoding=pypcd4.Encoding(encoding))
    with pytest.warns(FileWarning, match="1 of 20 points are not finite"):
        assert len(read(tmp_path / "a.pcd", drop_invalid=True)) == 19


def test_times_of_scans_are_not_rounded(tmp_path):
    pypcd4 = pytest.importorskip("pypcd4")
    times = np.array([1, 2**60 + 1], dtype=np.uint64)
    cloud = pypcd4.PointCloud.from_points([np.float32([0, 1]), times], ("x", "t"), (np.float32, np.uint64))
    cloud.save(tmp_path / "a.pcd", encoding=pypcd4.Encoding("binary"))
    with pytest.raises(ValueError, match=r"a\.pcd: t: found whole numbers up to 1152921504606846976, expected none"):
        read(tmp_path / "a.pcd", columns=["x", "t"])


def test_numbers_of_surveys_are_not_rounded(tmp_path):
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.add_extra_dim(laspy.ExtraBytesParams("number", np.int64))
    scan = laspy.LasData(header)
    scan.x, scan.y, scan.z = POINTS.T
    scan.number = np.arange(20) - 2**53 + 1
    scan.write(tmp_path / "a.las")
    assert read(tmp_path / "a.las", columns=["number"])[0].tolist() == [1 - 2**53]
    scan.number[3] = -(2**53) - 1
    scan.write(tmp_path / "a.las")
    with pytest.raises(ValueError, match=r"a\.las: number: found whole numbers up to 9007199254740992, expected none"):
        read(tmp_path / "a.las", columns=["number", "x"])


def test_digits_of_text_scans_are_kept(tmp_path):
    pytest.importorskip("pypcd4")
    rows = "".join("{:.3f} {:.3f} {:.3f}\n".format(*row) for row in FAR)
    head = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 20\nHEIGHT 1\nPOINTS {}\nDATA ascii\n"
    (tmp_path / "a.pcd").write_text(head.format(20) + rows)
    np.testing.assert_array_equal(read(tmp_path / "a.pcd"), np.round(FAR, 3))
    padded = head.replace("z\n", "z _\n").replace("4 4 4", "4 4 4 4").replace("F F F", "F F F U")
    padded = padded.replace("1 1 1", "1 1 1 1")
    (tmp_path / "b.pcd").write_text(padded.format(20) + rows.replace("\n", " 7\n"))
    np.testing.assert_array_equal(read(tmp_path / "b.pcd"), np.round(FAR, 3))
    for points, said in ((21, "it has 20 points where 21"), (10**12, "bytes for 1,000,000,000,000 points of 12")):
        (tmp_path / "a.pcd").write_text(head.format(points) + rows)
        with pytest.raises(ValueError, match=rf"a\.pcd: .*{said}"):
            read(tmp_path / "a.pcd")


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_las(tmp_path, suffix):
    laspy = pytest.importorskip("laspy")
    if suffix == "laz":
        pytest.importorskip("lazrs")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales, header.offsets = [1e-3] * 3, FAR[0]
    scan = laspy.LasData(header)
    scan.x, scan.y, scan.z = FAR.T
    scan.intensity = np.arange(20)
    scan.write(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read(tmp_path / f"a.{suffix}"), FAR, rtol=0, atol=5.1e-4)
    assert read(tmp_path / f"a.{suffix}", columns=["intensity"])[:, 0].tolist() == list(range(20))


def test_glb_scenes_are_read_whole_and_in_place(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]])
    triangle = trimesh.Trimesh(corners, [[0, 1, 2]], process=False)
    scene = trimesh.Scene()
    scene.add_geometry(triangle)
    scene.add_geometry(triangle, transform=trimesh.transformations.translation_matrix([0, 0, 5]))
    scene.add_geometry(trimesh.PointCloud([[7.0, 7, 7]]))
    (tmp_path / "a.glb").write_bytes(scene.export(file_type="glb"))
    mesh = read_mesh(tmp_path / "a.glb")
    assert mesh.vertices.dtype == np.float32
    assert sorted(map(tuple, mesh.vertices.tolist())) == sorted(
        [*map(tuple, corners.tolist()), *map(tuple, (corners + [0, 0, 5]).tolist()), (7.0, 7.0, 7.0)]
    )
    assert sorted(mesh.vertices[face][0, 2] for face in mesh.faces) == [0, 5]
    boast = (tmp_path / "a.glb").read_bytes().replace(b'"count":4', b'"count":9')
    (tmp_path / "a.glb").write_bytes(boast)
    with pytest.raises(ValueError, match=r"a\.glb: found a truncated or malformed file"):
        read(tmp_path / "a.glb")


@pytest.mark.parametrize("name", ["a.ply", "a.npz", "a.csv", "a.OBJ"])
def test_packed_files(tmp_path, name):
    if name == "a.csv":
        np.savetxt(tmp_path / name, POINTS, delimiter=",", fmt="%.17g")
    elif name == "a.OBJ":
        (tmp_path / name).write_text("".join("v {!r} {!r} {!r}\n".format(*row) for row in POINTS.tolist()))
    else:
        write(tmp_path / name, POINTS, np.zeros((20, 3), np.uint8))
    packed = gzip.compress((tmp_path / name).read_bytes())
    (tmp_path / f"{name}.gz").write_bytes(packed)
    np.testing.assert_array_equal(read(tmp_path / f"{name}.gz"), POINTS)
    np.testing.assert_array_equal(sample(tmp_path / f"{name}.gz", 5, seed=1), sample(tmp_path / name, 5, seed=1))
    assert (read_colors(tmp_path / f"{name}.gz") is None) == (name in ("a.csv", "a.OBJ"))
    (tmp_path / f"{name}.gz").write_bytes(packed[:-9])
    with pytest.raises(ValueError, match=rf"{name}\.gz: found a truncated or malformed file \(Compressed file ended"):
        read(tmp_path / f"{name}.gz")


def test_what_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(b"1 2 3\n" * 10**6))
    np.savez_compressed(tmp_path / "a.npz", points=np.zeros((10**6, 3)))
    monkeypatch.setattr("geomsink.shapes.sources.memory", lambda: 2.0**22)
    monkeypatch.setattr("geomsink.shapes.arrays.memory", lambda: 2.0**22)
    for name, said in (("a.xyz.gz", "it unpacks to more than 0 GiB, half of"), ("a.npz", "announces 24,000,")):
        with pytest.raises(ValueError, match=rf"{name}: .*{said}"):
            read(tmp_path / name)


def test_arrays_that_are_shorter_or_longer_than_they_say(tmp_path):
    np.save(tmp_path / "a.npy", POINTS)
    whole = (tmp_path / "a.npy").read_bytes()
    for content in (whole.replace(b"(20, 3)", b"(999999999999, 3)"), whole[:-1], whole + whole):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npy: .*it announces an array of shape .* bytes, and has"):
            read(tmp_path / "a.npy")
    np.savez_compressed(tmp_path / "a.npz", points=np.zeros((100000, 3)))  # 2.4 MB in a few thousand bytes
    assert read(tmp_path / "a.npz").shape == (100000, 3)
    np.savez(tmp_path / "a.npz", points=POINTS)
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (whole[:300] + whole[330:], whole[:-30], whole.replace(b"(20, 3)", b"(80, 3)")):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz: found a truncated or malformed file"):
            read(tmp_path / "a.npz")


def test_the_largest_numbers_and_whole_ones(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.7e308, -1.7e308], [-1.7e308, 1.7e308], [0.0, 0.0]]))
    assert read(tmp_path / "a.npy", normalize=True).tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    np.save(tmp_path / "a.npy", np.array([[3.4e38, 0.0], [-3.4e38, 0.0]], dtype="f4"))
    assert read(tmp_path / "a.npy", normalize=True).tolist() == [[1, 0.5], [0, 0.5]]
    np.save(tmp_path / "a.npy", np.array([[2**53, 0], [1, 2]]))
    assert read(tmp_path / "a.npy")[0, 0] == 2**53
    np.save(tmp_path / "a.npy", np.array([[2**53 + 1, 0], [1, 2]]))
    with pytest.raises(ValueError, match=r"a\.npy: found whole numbers up to 9007199254740992, expected none"):
        read(tmp_path / "a.npy")


def test_more_points_than_memory_holds_are_refused_at_once():
    with pytest.raises(ValueError, match="n: found 99999999999999, expected fewer: so many points take .* GiB"):
        sample("knot", 99999999999999)
