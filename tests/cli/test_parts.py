"""Parts of clouds that several processes read: together they are what one reads."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from geomsink import Group, shapes

pytest.importorskip("click")
pytest.importorskip("rich")
from outcomes import needs_gloo, together

from geomsink.cli import parts
from geomsink.cli.clouds import Reading

POINTS = 3.0 * np.random.default_rng(0).random((101, 3)) - 1.0
WHOLE = "points.npy"
CASES = {
    "npy": ((WHOLE,), {}),
    "single": (("single.npy", WHOLE), {}),
    "columnwise": (("columnwise.npy",), {"normalize": False}),
    "records": (("records.npy",), {"normalize": False}),
    "counted": (("counted.npy",), {"normalize": False}),
    "columns": (("points.npy",), {"columns": "2,0"}),
    "packed": (("points.npy.gz",), {}),
    "table": (("points.csv",), {}),
    "invalid": (("invalid.npy", "invalid.csv"), {"drop_invalid": True}),
    "drawn": (("points.csv", "points.npy"), {"samples": 50, "seed": 3}),
    "shape": (("shape:torus",), {"samples": 40}),
}
FOLDERS = {"many": 7, "few": 2}
REFUSED = {
    "-": "standard input: given to several processes, expected a file, which all of them can read.",
    "none.npy": "path: there is no file none.npy.",
    "two.npy": "two.npy: found 2 points for 3 processes, expected at least one for each.",
    "two.csv": "two.csv: found 2 points for 3 processes, expected at least one for each.",
    "cut.npy": "cut.npy: found a truncated or malformed file (it announces an array of shape (101, 3) of float64, "
    "2,424 bytes, and has 1,000), expected a complete .npy file.",
    "mixed": "mixed: found points of dimensions [2, 3] in it, expected one.",
}


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory):
    before, folder = Path.cwd(), tmp_path_factory.mktemp("files")
    os.chdir(folder)
    np.save(WHOLE, POINTS)
    np.save("single.npy", POINTS.astype(np.float32))
    np.save("columnwise.npy", np.asfortranarray(POINTS))
    fields = [("x", "f4"), ("red", "u1"), ("y", "f4"), ("z", "f4")]
    np.save("records.npy", np.array([(x, 3, y, z) for x, y, z in POINTS], fields))
    np.save("counted.npy", np.column_stack([np.arange(101), POINTS, 200 * POINTS]))
    np.savetxt("points.csv", POINTS, delimiter=",")
    invalid = POINTS.copy()
    invalid[[3, 60, 61]] = np.nan
    np.save("invalid.npy", invalid)
    np.savetxt("invalid.csv", invalid, delimiter=",")
    with gzip.open("points.npy.gz", "wb") as file:
        file.write(Path(WHOLE).read_bytes())
    for name, count in FOLDERS.items():
        Path(name).mkdir()
        for k, part in enumerate(np.array_split(POINTS, count)):
            np.save(f"{name}/{k}.npy", part.astype(np.float32) if k == 1 else part)
    np.save("two.npy", POINTS[:2])
    np.savetxt("two.csv", POINTS[:2], delimiter=",")
    Path("cut.npy").write_bytes(Path(WHOLE).read_bytes()[:1128])
    Path("mixed").mkdir()
    for k in range(3):
        np.save(f"mixed/{k}.npy", POINTS[:, : 2 + (k > 0)])
    yield
    os.chdir(before)


def read_parts(folder):
    os.chdir(folder)
    group, found, refused = Group(timeout=20.0), {}, {}
    for name, (sources, options) in CASES.items():
        found[name] = parts.load(Reading(**options), group, *sources)
    for name in FOLDERS:
        found[name] = parts.load(Reading(), group, name)
    for source in REFUSED:
        try:
            parts.load(Reading(), group, source)
        except (ValueError, OSError, RuntimeError) as error:
            refused[source] = str(error)
    return found, refused


@needs_gloo
@pytest.mark.filterwarnings("ignore::geomsink.shapes.FileWarning")
def test_parts_are_together_what_one_process_reads(files):
    outcomes = together(read_parts, 3, str(Path.cwd()))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    cases = CASES | {name: ((WHOLE,), {}) for name in FOLDERS}
    for name, (sources, options) in cases.items():
        for k, expected in enumerate(Reading(**options).load(*sources)):
            clouds = [outcome.value[0][name][k] for outcome in outcomes]
            found, count = np.concatenate([cloud.points for cloud in clouds]), len(expected.points)
            assert [cloud.count for cloud in clouds] == [count] * 3 and found.dtype == expected.points.dtype, name
            if name in ("few", "many"):  # of float32, some; and by files, each of which is cut
                order = np.lexsort(found.T), np.lexsort(expected.points.T)
                np.testing.assert_allclose(found[order[0]], expected.points[order[1]], atol=1e-6)
            else:
                assert np.array_equal(found, expected.points), name
            assert max(len(cloud.points) for cloud in clouds) <= (count + 2) // 3 + (15 if name == "many" else 1)
    for source, said in REFUSED.items():
        heard = [outcome.value[1][source] for outcome in outcomes]
        assert any(one == said for one in heard) and all(said.rstrip(".") in one for one in heard), heard


def test_no_more_is_read_than_the_part(tmp_path):
    """Of 24 GB that are mostly holes."""
    rows, path = 10**9, tmp_path / "large.npy"
    header = str({"descr": "<f8", "fortran_order": False, "shape": (rows, 3)}).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    start, part = 10 + len(header), (7, 10**7)
    first = shapes.share(rows, part).start
    with path.open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        file.truncate(start + rows * 24)
        file.seek(start + first * 24)
        file.write(POINTS[:100].tobytes())
    found = shapes.load(path, part=part)
    path.unlink()
    assert np.array_equal(found.points, POINTS[:100])
