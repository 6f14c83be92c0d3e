"""What commands read and write: columns, standard input, points that are missing, full disks, odd folders."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from geomsink import generative, shapes
from geomsink.generative import checkpoints

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("tqdm")
from cli_tools import run, run_json
from click.testing import CliRunner
from disks import full_disk

from geomsink.cli import cli
from geomsink.cli.frames import Frame

POINTS = np.random.default_rng(0).random((40, 3))
QUICK = ("--engine", "dense", "--blur", "0.3")
FIT = ("--batch", 20, "--inner", 2, "--held-out", 20, "--every", 1, "--engine", "dense", "--steps", 2)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", POINTS)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take seconds."""
    monkeypatch.setattr("geomsink.cli.fits._figure", lambda *_: (None, "none"))


def csv(name, header, columns):
    np.savetxt(name, columns, delimiter=",", header=header, comments="", fmt="%.17g")
    return name


def test_one_cloud_in_other_columns_is_the_same(tmp_path):
    x, y, z = POINTS.T
    other = csv("b.csv", "intensity,z,y,x", np.column_stack((9 * x, z, y, x)))
    report, code = run_json("divergence", "a.npy", other, *QUICK)
    assert code == 0 and abs(report["value"]) < 1e-12 and report["y"]["dimension"] == 3
    unnamed = csv("c.csv", "9.5,9.5,9.5,9.5", np.column_stack((9 * x, z, y, x)))
    done = run("divergence", "a.npy", unnamed, *QUICK, "--json")
    assert done.stderr.count("\n") == 1 and "c.csv: it has 4 columns without names; the first three were" in done.stderr
    report, _ = run_json("divergence", "b.csv", other, *QUICK, "--columns", "x, 2,z")
    assert abs(report["value"]) < 1e-12
    done = run("divergence", "a.npy", other, *QUICK, "--columns", "u")
    assert (done.exit_code, done.stderr) == (
        2, "geomsink: a.npy: columns: found 'u', expected numbers from 0 to 2.\n",
    )  # fmt: skip
    for command in ("match", "register", "flow", "barycenter", "transfer", "fit"):
        out = ("--out", "out") if command == "fit" else ("--out", "out.npz")
        clouds = (other,) if command == "fit" else (other, other)
        done = run(command, *clouds, *out, "--columns", "x,y,w")
        assert done.exit_code == 2 and "columns: found 'w'" in done.stderr


def test_standard_input(tmp_path):
    text = "".join("{:.17g} {:.17g} {:.17g}\n".format(*row) for row in POINTS)
    done = CliRunner().invoke(cli, ["divergence", "-", "a.npy", *QUICK, "--json"], input=text)
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and abs(report["value"]) < 1e-12
    assert report["x"] == {"name": "standard input", "points": 40, "dimension": 3}
    done = CliRunner().invoke(cli, ["divergence", "-", "-", *QUICK], input=text)
    assert done.exit_code == 2 and "-: standard input given for more than one cloud" in done.stderr
    done = CliRunner().invoke(cli, ["transfer", "a.npy", "-", *QUICK, "--out", "out.npz"], input=text)
    assert done.exit_code == 0
    np.testing.assert_array_equal(shapes.read("out.npz"), POINTS)


def test_points_that_are_missing_take_their_labels_and_colours_with_them():
    holes = POINTS.copy()
    holes[[3, 7]] = np.nan
    np.savez("holes.npz", points=holes, colors=np.arange(120, dtype=np.uint8).reshape(40, 3))
    np.save("labels.npy", np.arange(40))
    kept = np.delete(np.arange(40), [3, 7])
    sharp = ("--engine", "dense", "--epsilon", "1e-4", "--drop-invalid", "--no-normalize")
    done = run("transfer", "holes.npz", "holes.npz", *sharp, "--labels", "labels.npy", "--out", "out.npy")
    assert done.exit_code == 0 and "2 of 40 points are not finite and were left out" in done.stderr
    assert np.load("out.npy").tolist() == kept.tolist()
    assert run("transfer", "holes.npz", "holes.npz", *sharp, "--out", "out.ply").exit_code == 0
    np.testing.assert_array_equal(shapes.read_colors("out.ply"), np.arange(120).reshape(40, 3)[kept])
    done = run("transfer", "holes.npz", "a.npy", *QUICK, "--out", "out.ply")
    assert done.exit_code == 2 and "as point 3, expected finite coordinates" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY\x01\x00", "labels.npy: found a truncated or malformed file"),
        (np.full(40, np.nan), r"--labels: found nan in row 0 of labels.npy, expected finite numbers"),
        (np.array([{}] * 40), "labels.npy: found a truncated or malformed file (it holds objects of Python)"),
    ],
)
def test_files_of_labels_are_named_in_errors(content, message):
    if isinstance(content, bytes):
        Path("labels.npy").write_bytes(content)
    else:
        np.save("labels.npy", content)
    done = run("transfer", "a.npy", "a.npy", *QUICK, "--labels", "labels.npy", "--out", "out.npy")
    assert done.exit_code == 2 and done.stderr.startswith(f"geomsink: {message}") and done.stderr.count("\n") == 1


def test_a_full_disk_does_not_cost_the_input_that_is_to_be_replaced():
    shapes.write("b.ply", POINTS)
    before = Path("b.ply").read_bytes()
    with full_disk(200):
        done = run("transfer", "a.npy", "b.ply", *QUICK, "--out", "b.ply")
    assert (done.exit_code, done.stderr) == (2, "geomsink: b.ply: File too large.\n")
    assert Path("b.ply").read_bytes() == before and sorted(p.name for p in Path().iterdir()) == ["a.npy", "b.ply"]


@pytest.mark.parametrize(("size", "file"), [(0, "frame.json"), (30, "frame.json"), (300, "log.csv|checkpoint.*pt")])
def test_a_full_disk_ends_a_fit_with_one_sentence_and_nothing_left(size, file, undrawn):
    with full_disk(size):
        done = run("fit", "a.npy", "--out", "out/here", *FIT)
    said = [line for line in done.stderr.splitlines() if "not converged" not in line]
    assert done.exit_code == 2 and len(said) == 1
    assert re.fullmatch(rf"geomsink: out/here/({file}): File too large\.", said[0])
    assert not Path("out/here").exists()


def test_a_disk_that_fills_later_leaves_what_can_be_gone_on_from(undrawn, monkeypatch):
    write = checkpoints.replacing

    def full(path):
        if "000000002" in str(path):
            raise OSError(28, "No space left on device", str(path))
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "replacing", full)
        done = run("fit", "a.npy", "--out", "out", *FIT)
    assert done.exit_code == 2 and done.stderr.endswith("out/checkpoint-000000002.pt: No space left on device.\n")
    assert sorted(path.name for path in Path("out").iterdir()) == ["checkpoint-000000001.pt", "frame.json", "log.csv"]
    report, code = run_json("fit", "a.npy", "--out", "out", *FIT)
    assert code == 0 and report["resumed_from"] == 1 and report["steps"] == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shape": 5}, "its shape is 5"),
        ({"dtype": "int8"}, "its dtype is 'int8'"),
        ({"middle": [0.0, "x", 0.0]}, "its middle is"),
        ({"middle": 3}, "its middle is 3"),
        ({"side": float("nan")}, "its side is nan"),
        ({"side": True}, "its side is True"),
        ({"side": 10**400}, "its side is 1000"),
        ({"middle": [0.0, 0.0, -(10**400)]}, "its middle is [0.0, 0.0, -1000"),
        ({"scaled": "yes"}, "its scaled is 'yes'"),
        ({"extra": 1}, "unexpected keyword argument"),
    ],
)
def test_odd_frames_are_one_sentence(changed, said):
    generative.fit(generative.Surface(), torch.rand(9, 3), generative_loss(), steps=1, folder="out")
    frame = {"shape": "a", "scaled": True, "middle": [0.0] * 3, "side": 1.0, "dtype": "float32"}
    Path("out/frame.json").write_text(json.dumps(frame | changed))
    done = run("sample", "out", "out.ply", "-n", 3)
    assert done.exit_code == 2 and done.stderr.startswith("geomsink: out/frame.json: found what is no frame (")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_frame_of_endless_lists_is_one_sentence(tmp_path):
    (tmp_path / "frame.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"frame\.json: found what is no frame \(.*recursion"):
        Frame.read(str(tmp_path))


def generative_loss():
    from geomsink import MMD

    return MMD(kernel="energy")


WHOLE = {
    "version": 1, "step": 1, "settings": {}, "recipe": {"kind": "Ellipse", "options": {}}, "seconds": 1.0,
    "held_out": None, "generator": dict(generative.Ellipse().state_dict()),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (None, "it holds no settings, expected a file that a Trainer wrote"),
        ({"held_out": 5}, "it holds a int as held_out"),
        ({"held_out": {"weights": 1}}, "it holds a dict as held_out"),
        ({"step": "x"}, "it holds a str as step"),
        ({"settings": {1: 2}}, "it holds a dict as settings"),
        ({"seconds": float("nan")}, "it holds a float as seconds"),
        ({"recipe": 5}, "it holds a int as recipe"),
        ({"recipe": {"kind": "\x1b[31mred", "options": {}}}, r"it is of another generator ('\x1b[31mred'"),
        ({"recipe": {"kind": "Ellipse", "options": 5}}, "it is of another generator"),
        ({"recipe": {"kind": "Ellipse", "options": {"odd": 5}}}, "it is of another generator"),
        ({"generator": 5}, "it holds a int as generator"),
        ({"generator": {"matrix": "x"}}, "it is of another generator"),
        ({"average": 5}, "it is of another generator"),
        ({"version": "\x1b[31m"}, r"it holds version '\x1b[31m' where version 1 belongs"),
    ],
)
def test_odd_checkpoints_are_one_sentence(changed, said):
    Path("out").mkdir()
    whole = {"version": 1, "step": 1} if changed is None else WHOLE | changed
    torch.save(whole, "out/checkpoint-000000001.pt")
    done = run("sample", "out", "out.npz", "-n", 3)
    assert done.exit_code == 2 and done.stderr.startswith("geomsink: out/checkpoint-000000001.pt: ")
    assert said in done.stderr and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    with pytest.raises((generative.CheckpointError, ValueError)):
        generative.Trainer(generative.Ellipse(), torch.rand(9, 2), generative_loss(), steps=3, folder="out")


def test_codes_that_terminals_obey_are_shown_as_text():
    np.save("\x1b[31mred.npy", POINTS)
    done = run("divergence", "\x1b[31mred.npy", "a.npy", *QUICK)
    assert done.exit_code == 0 and r"\x1b[31mred.npy, 40 points" in done.stdout and "\x1b[31m" not in done.stdout
    done = run("divergence", "\x1b[31mnone.npy", "a.npy", *QUICK)
    assert done.exit_code == 2 and done.stderr == "geomsink: path: there is no file \\x1b[31mnone.npy.\n"


def test_more_than_memory_holds_is_refused(undrawn):
    for line in (
        ("divergence", "knot", "star", "--samples"),
        ("fit", "knot", "--out", "out", "--batch"),
        ("sample", "out", "out.ply", "-n"),
        ("barycenter", "a.npy", "a.npy", "--out", "b.ply", "--points"),
    ):
        done = run(*line, 99999999999999)
        assert done.exit_code == 2 and "found 99999999999999, expected fewer: so many points take" in done.stderr
    assert not Path("out").exists()
