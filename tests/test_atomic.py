"""Files that are whole or not there: whatever is written, on a disk that is full."""

import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from disks import full_disk

from geomsink import shapes
from geomsink.atomic import check, clear, replacing
from geomsink.generative import checkpoints
from geomsink.generative.reports import Log

POINTS = np.random.default_rng(0).random((500, 3))


def figure(path):
    plotting = pytest.importorskip("geomsink.plotting")
    plotting.save(plotting.plot_gallery([POINTS], [POINTS], ["a"]), path)


def film(path):
    plotting = pytest.importorskip("geomsink.plotting")
    frames = [torch.from_numpy(POINTS[:20]), torch.from_numpy(POINTS[20:40])]
    plotting.save_animation(plotting.animate_flow(frames, (0.0, 1.0)), path)


def labels(path):
    pytest.importorskip("click")
    from geomsink.cli.labels import write_labels

    write_labels(str(path), POINTS)


def pairs(path):
    pytest.importorskip("click")
    from geomsink.cli.matchings import _write
    from geomsink.transport import matching

    _write(matching(POINTS[:99], POINTS[99:198]), str(path))


def frame(path):
    pytest.importorskip("click")
    from geomsink.cli.frames import Frame

    Frame("a" * 2000, True, [0.0] * 3, 1.0, "float64").write(str(path.parent))


def checkpoint(path):
    state = {"settings": {}, "recipe": None, "seconds": 1.0, "held_out": None, "generator": {"w": torch.zeros(5000)}}
    checkpoints.write(path.parent, 7, state)


WRITERS = {
    "a.ply": lambda path: shapes.write(path, POINTS),
    "a.npz": lambda path: shapes.write(path, POINTS),
    "a.png": figure,
    "a.gif": film,
    "labels.npy": labels,
    "labels.csv": labels,
    "pairs.csv": pairs,
    "pairs.npz": pairs,
    "frame.json": frame,
    "checkpoint-000000007.pt": checkpoint,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(name, tmp_path):
    path = tmp_path / name
    for before in (None, b"what was there"):
        if before is not None:
            path.write_bytes(before)
        with full_disk(), pytest.raises(OSError, match="File too large") as caught:
            WRITERS[name](path)
        assert caught.value.filename == str(path)
        assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == ([(name, before)] if before else [])
    WRITERS[name](path)
    assert path.stat().st_size > 1000 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_log_has_whole_rows_only(name, tmp_path):
    row = {"step": 1, "loss": 0.5, "seconds": 1.0}
    log = Log(tmp_path / name, list(row), 0)
    with full_disk(100), pytest.raises(OSError, match="File too large") as caught:
        for step in range(1, 50):
            log.write(row | {"step": step})
    log.close()
    assert caught.value.filename == str(tmp_path / name)
    text = (tmp_path / name).read_text()
    assert text.endswith("\n") and len(text) > 40
    again = Log(tmp_path / name, list(row), 100)
    assert [row["step"] for row in again.rows] == list(range(1, step))
    again.close()


@pytest.mark.parametrize("name", WRITERS)
def test_links_are_not_followed(name, tmp_path):
    """Neither at the name that a file is to have nor at any that it could have before."""
    other = tmp_path / "other"
    other.write_text("somebody's")
    folder = tmp_path / "out"
    folder.mkdir()
    for link in (name, f"{name}.part", f".{Path(name).stem}.part{Path(name).suffix}"):
        (folder / link).symlink_to(other)
    WRITERS[name](folder / name)
    assert other.read_text() == "somebody's" and not (folder / name).is_symlink()


def test_modes_and_pipes_and_what_is_not_to_be_changed(tmp_path):
    path = tmp_path / "a.txt"
    mask = os.umask(0o027)
    try:
        with replacing(path) as file:
            file.write(b"1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        with replacing(path) as file:
            file.write(b"2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604 and path.read_bytes() == b"2"
    finally:
        os.umask(mask)
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with replacing(tmp_path / "pipe") as file:
        file.write(b"through")
    reader.join()
    assert got == [b"through"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(ValueError, match="in the midst"), replacing(path) as file:
        file.write(b"3")
        raise ValueError("in the midst")
    assert path.read_bytes() == b"2" and len(list(tmp_path.iterdir())) == 2


def test_a_file_that_must_not_be_changed_is_left(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("mine")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError) as caught, replacing(path):
        pass
    assert caught.value.filename == str(path) and path.read_text() == "mine"
    with pytest.raises(PermissionError, match="out: the folder .* cannot be written to"):
        check(tmp_path / "b.txt", "out")


def test_a_read_only_file_is_noticed_before_the_work(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("mine")
    check(path)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda of, mode: Path(of) != path and allowed(of, mode))
    check(tmp_path / "b.txt")
    with pytest.raises(PermissionError, match=r"^out: the file .*a\.txt is there and must not be changed\.$"):
        check(path, "out")


def test_what_kills_have_left_is_cleared(tmp_path):
    for name in (".checkpoint-000000003.00ff.part.pt", "checkpoint-000000003.pt", ".log.00ff.part.csv"):
        (tmp_path / name).touch()
    clear(tmp_path / "checkpoint-*.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".log.00ff.part.csv", "checkpoint-000000003.pt"]
    for name in ("log[1].csv", "log1.csv"):
        (tmp_path / f".{Path(name).stem}.00ff.part.csv").touch()
    clear(tmp_path / "log[1].csv")  # brackets are characters like others
    clear(tmp_path / "log.csv")
    assert not (tmp_path / ".log[1].00ff.part.csv").exists()
    (tmp_path / ".log1.00ff.part.csv").unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000003.pt"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "no/such/folder"])
def test_names_that_no_file_can_have_are_refused_at_once(name, tmp_path):
    with pytest.raises((ValueError, OSError)):
        check(tmp_path / name)
