"""Damaged files: every reader, on hundreds of cut, flipped and boastful ones, with little memory and little time."""

import gzip
import io
import json
import re
import resource
import signal
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import geomsink
from geomsink import shapes
from geomsink.generative import CheckpointError, checkpoints
from geomsink.shapes.files import SUFFIXES

MUTANTS = 300
MEMORY = 2**29
SECONDS = 5
RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((12, 3)).astype("f4")
CORNERS = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]])
NUMBERS = re.compile(rb"\d+")


class TooLong(BaseException):
    """No error of a file, which a reader might take it for."""


@contextmanager
def narrow():
    """Half a gigabyte more than there is, and five seconds."""

    def too_long(*_):
        raise TooLong

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs a system that says how much memory a process has")
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def text_rows(rows, separator=" "):
    return "".join(separator.join(f"{number:.7g}" for number in row) + "\n" for row in rows.tolist())


def ply(form, polygons=CORNERS):
    lists = "property list uchar int vertex_indices\n"
    head = f"ply\nformat {form} 1.0\ncomment by hand\nelement vertex 12\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"element face {len(polygons)}\n{lists}end_header\n"
    if form == "ascii":
        faces = "".join(f"{len(face)} {' '.join(map(str, face))}\n" for face in polygons)
        return (head + text_rows(POINTS) + faces).encode()
    order = "<" if "little" in form else ">"
    body = POINTS.astype(order + "f4").tobytes()
    return head.encode() + body + b"".join(struct.pack(f"{order}B{len(face)}i", len(face), *face) for face in polygons)


def stl_text():
    facets = "".join(
        "facet normal 0 0 1\nouter loop\n" + "".join(f"vertex {row}\n" for row in text_rows(POINTS[face]).splitlines())
        + "endloop\nendfacet\n" for face in CORNERS
    )  # fmt: skip
    return f"solid a\n{facets}endsolid a\n".encode()


def stl_binary():
    facets = b"".join(struct.pack("<12f", 0, 0, 1, *POINTS[face].ravel()) + b"\0\0" for face in CORNERS)
    return b"\0" * 80 + struct.pack("<I", len(CORNERS)) + facets


def saved(write, **options):
    file = io.BytesIO()
    write(file, **options)
    return file.getvalue()


def glb():
    trimesh = pytest.importorskip("trimesh")
    return trimesh.Trimesh(POINTS, CORNERS, process=False).export(file_type="glb")


def pcd(encoding):
    pypcd4 = pytest.importorskip("pypcd4")
    cloud = pypcd4.PointCloud.from_xyz_points(POINTS)
    return saved(lambda file: cloud.save(file, encoding=pypcd4.Encoding(encoding)))


def las(compress):
    laspy = pytest.importorskip("laspy")
    if compress:
        pytest.importorskip("lazrs")
    scan = laspy.LasData(laspy.LasHeader(point_format=3, version="1.2"))
    scan.x, scan.y, scan.z = POINTS.astype("f8").T
    return saved(lambda file: scan.write(file, do_compress=compress))


OBJ = "".join(f"v {row}\n" for row in text_rows(POINTS).splitlines())
OBJ += "".join("f {} {} {}\n".format(*face) for face in (CORNERS + 1).tolist())
QUADS = [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11]]
FACES = "".join("3 {} {} {}\n".format(*face) for face in CORNERS.tolist())

# Files, and whether a part of one can be told from a whole one.
FILES = {
    "ascii.ply": (lambda: ply("ascii"), True),
    "little.ply": (lambda: ply("binary_little_endian"), True),
    "big.ply": (lambda: ply("binary_big_endian", QUADS), True),
    "a.ply.gz": (lambda: gzip.compress(ply("binary_little_endian"), mtime=0), True),
    "a.obj": (OBJ.encode, False),
    "a.off": (lambda: f"OFF\n12 4 0\n{text_rows(POINTS)}{FACES}".encode(), True),
    "text.stl": (stl_text, True),
    "binary.stl": (stl_binary, True),
    "a.csv": (lambda: ("x,y,z\n" + text_rows(POINTS, ",")).encode(), False),
    "a.xyz": (lambda: text_rows(POINTS).encode(), False),
    "a.txt": (lambda: ("# x y z\n" + text_rows(POINTS)).encode(), False),
    "a.asc": (lambda: text_rows(POINTS, ";").encode(), False),
    "a.tsv": (lambda: ("id\tx\ty\tz\n" + text_rows(np.c_[np.arange(12), POINTS], "\t")).encode(), False),
    "a.pts": (lambda: ("12\n" + text_rows(POINTS)).encode(), True),
    "a.npy": (lambda: saved(np.save, arr=POINTS), True),
    "a.npz": (lambda: saved(np.savez, points=POINTS, colors=np.zeros((12, 3), "u1")), True),
    "compressed.npz": (lambda: saved(np.savez_compressed, points=np.zeros((12, 3))), True),
    "a.glb": (glb, True),
    "ascii.pcd": (lambda: pcd("ascii"), True),
    "binary.pcd": (lambda: pcd("binary"), True),
    "compressed.pcd": (lambda: pcd("binary_compressed"), True),
    "a.las": (lambda: las(False), True),
    "a.laz": (lambda: las(True), True),
}


def mutants(whole, seed):
    """Cut, flipped, overwritten and boastful files, and whether they were cut."""
    rng = np.random.default_rng(seed)
    numbers = list(NUMBERS.finditer(whole))
    for k in range(MUTANTS):
        data = bytearray(whole)
        kind = k % 4
        if kind == 0:
            del data[int(rng.integers(1, len(data))) :]
        elif kind == 1:
            for place in rng.integers(len(data), size=rng.integers(1, 4)):
                data[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            place = int(rng.integers(len(data)))
            data[place : place + int(rng.integers(1, 9))] = b"\xff" * int(rng.integers(1, 9))
        else:
            number = numbers[int(rng.integers(len(numbers)))] if numbers else None
            if number is not None:
                data[number.start() : number.end()] = b"%d" % 10 ** int(rng.integers(6, 19))
        yield bytes(data), kind == 0


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused_or_read_right(name, tmp_path):
    make, counted = FILES[name]
    whole, path = make(), tmp_path / name
    path.write_bytes(whole)
    expected = shapes.read_mesh(path)
    refused, text = 0, b"\0" not in whole
    with narrow(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data, cut in mutants(whole, len(name)):
            path.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                mesh = shapes.read_mesh(path)
            except ValueError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
                continue
            assert np.isfinite(mesh.vertices).all()
            assert not mesh.faces.size or 0 <= mesh.faces.min() <= mesh.faces.max() < len(mesh.vertices)
            # No more than blanks and padding were lost; of the last number of a text, nobody can tell.
            if cut and counted and not (text and len(whole.rstrip()) - len(data) < len(whole.split()[-1])):
                np.testing.assert_array_equal(mesh.vertices, expected.vertices)
                np.testing.assert_array_equal(mesh.faces, expected.faces)
    assert refused > MUTANTS / 4


def test_every_format_is_damaged():
    assert {Path(name.removesuffix(".gz")).suffix for name in FILES} == set(SUFFIXES)


def test_damaged_sketches_are_refused_or_read_right(tmp_path):
    path = tmp_path / "a.npz"
    geomsink.sketch(POINTS, blur=0.5).save(path)
    whole, expected, read = path.read_bytes(), geomsink.Sketch.load(path), 0
    with narrow():
        for data, _ in mutants(whole, 0):
            path.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                found = geomsink.Sketch.load(path)
            except ValueError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                continue
            read += 1
            for name in ("points", "weights", "nearby", "epsilon", "count", "cost"):
                assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert read < MUTANTS / 3


def test_damaged_checkpoints_and_frames_are_refused_or_read_right(tmp_path):
    state = {"settings": {"a": "b"}, "recipe": None, "seconds": 1.0, "held_out": None}
    path = checkpoints.write(tmp_path, 3, state | {"generator": {"weight": torch.arange(5.0)}})
    whole, read = path.read_bytes(), 0
    with narrow():
        for data, _ in mutants(whole, 0):
            path.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                found = checkpoints.read(path)
            except CheckpointError:
                continue
            read += 1
            assert found["step"] == 3 and found["generator"]["weight"].tolist() == [0, 1, 2, 3, 4]
    assert read < MUTANTS / 3
    pytest.importorskip("click")
    from geomsink.cli.frames import Frame

    frame = Frame("a.ply", True, [0.5, 1.5, 2.5], 3.0, "float64")
    frame.write(str(tmp_path))
    whole = (tmp_path / "frame.json").read_bytes()
    for data, _ in mutants(whole, 1):
        (tmp_path / "frame.json").write_bytes(data)
        try:
            found = Frame.read(str(tmp_path))
        except ValueError as error:
            assert "frame.json: found what is no frame" in str(error)
            continue
        assert found.undo(torch.zeros(1, 3)).shape == (1, 3) and json.loads(data)
