"""The command that writes sketches, and the divergence that takes them."""

import numpy as np
import pytest

import geomsink
from geomsink import Sketch, shapes

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("tqdm")
from cli_tools import rows_of, run, run_json

BLUR = ("--blur", "0.2")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(("torus", "star")):
        np.save(f"{name}.npy", 3.0 * shapes.sample(f"shape:{name}", 4000, seed=k) - 1.0)


def test_a_sketch_in_the_place_of_a_file():
    report, code = run_json("sketch", "torus.npy", *BLUR, "--out", "torus.npz")
    assert code == 0 and report["count"] == 4000 and report["points"] < 1500 and report["normalize"] is True
    small = Sketch.load("torus.npz")
    assert (len(small), small.count, small.normalized) == (report["points"], 4000, True)
    assert small.points.min() >= 0.0 and small.points.max() <= 1.0
    expected, _ = run_json("divergence", "torus.npy", "star.npy", *BLUR)
    for pair in (("torus.npz", "star.npy"), ("star.npy", "torus.npz")):
        found, code = run_json("divergence", *pair, *BLUR)
        assert code == 0 and found["value"] == pytest.approx(expected["value"], rel=1e-4)
    assert found["y"] == {"name": "torus.npz", "points": len(small), "dimension": 3, "stand_for": 4000}
    assert found["xy"]["approximation"]["audited"] == [True, False]
    run("sketch", "star.npy", *BLUR, "--out", "star.npz")
    rows = rows_of(run("divergence", "torus.npz", "star.npz", *BLUR, "--plot", "both.png"))
    assert rows["A"] == f"torus.npz, {len(small):,} points that stand for 4,000 in dimension 3"
    assert "audited without the points of A and B" in rows["sketches"]


def test_several_files_and_folders_are_one_cloud(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    points = np.load("torus.npy")
    for k, part in enumerate(np.array_split(points, 3)):
        shapes.write(folder / f"{k}.npz", part)
    for normalize in ("--normalize", "--no-normalize"):
        how = (*BLUR, normalize)
        for name, given in (("one", ["torus.npy"]), ("folder", [folder]), ("files", sorted(folder.iterdir()))):
            assert run("sketch", *given, *how, "--out", f"{name}.npz").exit_code == 0
        found = [Sketch.load(f"{name}.npz") for name in ("one", "folder", "files")]
        assert [one.count for one in found] == [4000] * 3
        assert np.array_equal(found[1].points, found[2].points) and np.array_equal(found[1].weights, found[2].weights)
        value = geomsink.sinkhorn_divergence(found[0], found[1], blur=0.2).value
        assert abs(value) < 1e-6


def test_frames_have_to_fit():
    run("sketch", "torus.npy", *BLUR, "--no-normalize", "--out", "as-is.npz")
    run("sketch", "torus.npy", *BLUR, "--out", "cube.npz")
    for name, option, said in (
        (
            "as-is.npz",
            "--normalize",
            "coordinates as they are, expected one of a cloud in the unit cube, or --no-normalize",
        ),
        (
            "cube.npz",
            "--no-normalize",
            "a cloud in the unit cube, expected one of coordinates as they are, or --normalize",
        ),
    ):
        done = run("divergence", name, "star.npy", *BLUR, option)
        assert (done.exit_code, done.stderr) == (2, f"geomsink: {name}: found a sketch of {said}.\n")


def test_what_sketches_are_not_for(tmp_path):
    run("sketch", "torus.npy", *BLUR, "--out", "torus.npz")
    for line, said in (
        (
            ("divergence", "torus.npz", "star.npy", "--blur", "0.1"),
            "x: a sketch for a blur of 0.2 (epsilon 0.08) was given",
        ),
        (("match", "torus.npz", "star.npy"), "torus.npz: found a sketch, which the command divergence takes"),
        (("sketch", "torus.npz", "--out", "b.npz"), "torus.npz: found a sketch, which the command divergence takes"),
        (("sketch", "star.npy", "--cost", "euclidean", "--out", "b.npz"), "cost: 'euclidean' given, whose kernel"),
        (("sketch", "star.npy", "--out", "b.ply"), "--out: found b.ply, expected a name that ends in .npz"),
        (("sketch", "star.npy", "--out", "b.npz", "--no-normalize"), "--no-normalize needs --blur or --epsilon"),
    ):
        done = run(*line)
        assert done.exit_code == 2 and said in done.stderr, done.stderr
    shapes.write("points.npz", np.load("torus.npy"))  # of points, as ever
    assert run("divergence", "points.npz", "star.npy", *BLUR).exit_code == 0
