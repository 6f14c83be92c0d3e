"""The commands that fit a generator and draw from it."""

import csv
import math
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import geomsink
from geomsink import SinkhornDivergence, generative, shapes

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("tqdm")
from cli_tools import colors_in, rows_of, run, run_json

SMALL = ("--batch", 30, "--inner", 4, "--held-out", 40, "--every", 3, "--engine", "dense", "--steps", 6)
CLOUD = np.random.default_rng(0).random((50, 3)) * [2.0, 1.0, 4.0] + [5.0, -3.0, 100.0]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("cloud.npy", CLOUD)
    return "cloud.npy"


@pytest.fixture
def undrawn(monkeypatch):
    """Without matplotlib there is no figure, which is the slow part."""
    for module in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in [name for name in sys.modules if name.startswith("geomsink.plotting")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(vars(geomsink), "plotting", raising=False)


def log_of(folder):
    """Its rows, without the clock."""
    with open(f"{folder}/log.csv", newline="") as file:
        return [row[:-1] for row in csv.reader(file)]


@pytest.fixture
def interrupted_at(monkeypatch):
    """Ctrl-C when so many clouds were generated."""
    whole = generative.Surface.forward

    def arm(calls):
        left = [calls]

        def forward(self, z):
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGINT)
            return whole(self, z)

        monkeypatch.setattr(generative.Surface, "forward", forward)

    return arm


def test_fit_is_that_of_the_library(cloud, undrawn):
    options = (*SMALL, "--inner-batch", 15, "--blur", 0.3, 0.1, "--lr", "0.01", "--seed", 3, "--average", 0.5)
    options = (*options, "--patches", 2)
    report, code = run_json("fit", cloud, "--out", "out", *options)
    assert (code, report["steps"], report["stopped"], report["resumed_from"]) == (0, 6, "steps", None)
    assert (report["figure"], report["checkpoint"]) == (None, "out/checkpoint-000000006.pt")

    generator = generative.Surface(patches=2)
    generator.load_state_dict(_at_the_start(3, patches=2))
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.01)
    trainer = generative.Trainer(
        generator, generative.Shape("cloud.npy", normalize=True),
        SinkhornDivergence(blur=0.3, tol=1e-2, dtype="float32", engine="dense"), steps=6, batch=30,
        optimizer=optimizer, blur=(0.3, 0.1), average=0.5, seed=3, held_out=40, evaluate_every=3,
        score=SinkhornDivergence(blur=0.1, engine="dense"), targets=generative.Targets(4, 15),
    )  # fmt: skip
    # Half a cosine from 0.01 at step 0 to a hundredth of that at the last step.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5, eta_min=0.01 / 100)
    for _ in trainer.run():
        schedule.step()
    expected = trainer.result()
    # The recursive form of the cosine rounds otherwise, in double precision; weights are of single precision.
    assert report["loss"] == pytest.approx(expected.loss, rel=1e-4)
    assert report["held_out"] == pytest.approx(expected.held_out, rel=1e-4)
    assert report["best_step"] == expected.best_step
    torch.testing.assert_close(generative.load("out").state_dict(), expected.generator.state_dict(), rtol=0, atol=1e-5)


def _at_the_start(seed, patches):
    """Weights that the command begins with: those that it keeps when it learns next to nothing."""
    still = ("--lr", 1e-30, "--average", 0, "--seed", seed, "--patches", patches)
    assert run("fit", "cloud.npy", "--out", "start", *SMALL, *still).exit_code == 0
    return generative.load("start").state_dict()


def test_an_interrupted_fit_keeps_its_checkpoint_and_goes_on_as_if_nothing_had_been(cloud, undrawn, interrupted_at):
    options = (*SMALL, "--blur", 0.1, 0.02)
    assert run("fit", cloud, "--out", "whole", *options).exit_code == 0
    interrupted_at(23)  # three steps of five passes, a measurement, a step, and in the midst of the next
    done = run("fit", cloud, "--out", "cut", *options)
    kept = "cut/checkpoint-000000003.pt is kept, and the same command goes on from it"
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr == f"geomsink: interrupted after step 4: {kept}.\n"
    done = run("fit", cloud, "--out", "cut", *options)
    assert done.exit_code == 0 and done.stderr == "geomsink: resumed from step 3 in cut.\n"
    assert rows_of(done)["steps"] == "6 of 6, resumed from step 3"
    assert log_of("cut") == log_of("whole") and len(log_of("cut")) == 7
    one, other = (generative.load(folder).state_dict() for folder in ("cut", "whole"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    again, code = run_json("fit", cloud, "--out", "cut", *options)
    assert (code, again["steps"], again["resumed_from"]) == (0, 6, 6)
    assert rows_of(done)["figure"] == "none: figures need the package matplotlib: pip install 'geomsink[plot]'"
    Path("cut/log.csv").unlink()
    done = run("fit", cloud, "--out", "cut", *options)
    assert done.exit_code == 2 and done.stderr.endswith(
        "geomsink: --out: the fit in cut is done, but its log.csv is gone; expected it, or another folder.\n"
    )


def test_interrupted_before_the_first_checkpoint(cloud, undrawn, interrupted_at):
    interrupted_at(8)  # the first step has five passes
    done = run("fit", cloud, "--out", "out", *SMALL)
    assert (done.exit_code, done.stderr) == (130, "geomsink: interrupted after step 1: there is no checkpoint yet.\n")


def test_a_table_a_progress_bar_and_a_figure_and_patience(cloud, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("geomsink.cli.fits.SHAPE_SAMPLES", 1000)  # drawing more takes seconds
    options = (*SMALL[:-1], 60, "--lr", 1e-30, "--patience", 2, "--progress")
    done = run("fit", "shape:torus", "--out", "a/folder", *options)
    rows = rows_of(done)
    assert done.exit_code == 0 and "step 0 of 60" in done.stderr
    # What learns nothing is best at first, and two more measurements are waited for.
    assert rows["steps"] == "9 of 60" and rows["stopped"] == "no new best 2 times"
    assert "the best, after step 3 (40 points, blur 0.01)" in rows["held-out divergence"]
    assert rows["shape"] == "torus" and rows["figure"] == "a/folder/fit.png"
    assert rows["written"] == "a/folder/checkpoint-000000009.pt, a/folder/log.csv"
    drawn, colors = colors_in("a/folder/fit.png")
    assert drawn > 0.05 and colors > 100
    # A generator of a formula's shape starts and stays in the unit cube.
    assert run("sample", "a/folder", "out.ply", "-n", 500, "--plot", "out.png").exit_code == 0
    points = shapes.read("out.ply")
    assert points.shape == (500, 3) and np.abs(points.mean(0) - 0.5).max() < 0.3
    assert colors_in("out.png")[0] > 0.05


@pytest.mark.parametrize("options", [(), ("--no-normalize", "--blur", 1.0, 0.5)])
def test_samples_are_in_the_coordinates_of_the_file(cloud, undrawn, options):
    assert run("fit", cloud, "--out", "out", *SMALL, "--lr", "1e-6", *options).exit_code == 0
    report, code = run_json("sample", "out", "out.npz", "-n", 4000, "--seed", 2)
    assert (code, report["points"], report["shape"]) == (0, 4000, "cloud.npy")
    points = shapes.read("out.npz")
    assert points.dtype == np.float64
    # It has learned next to nothing: about a sphere in the middle of the file's box, 0.3 of whose longest side is its
    # radius, but for what the untrained network adds, which is a little of that.
    middle, side = (CLOUD.max(0) + CLOUD.min(0)) / 2, np.ptp(CLOUD, axis=0).max()
    radii = np.linalg.norm(points - middle, axis=1)
    assert radii.mean() == pytest.approx(0.3 * side, rel=0.2)
    raw = generative.sample(generative.load("out"), 4000, seed=2).double().numpy()
    expected = raw if options else (raw - 0.5) * side + middle
    np.testing.assert_allclose(points, expected, rtol=1e-12)


def test_samples_of_a_fit_by_the_library_are_as_they_are(cloud):
    data = torch.rand(40, 2)
    fitted = generative.fit(generative.Ellipse(), data, SinkhornDivergence(blur=0.5), steps=2, folder="out")
    rows = rows_of(run("sample", "out", "out.npz", "-n", 20))
    assert rows["frame"] == "as the generator gives them" and rows["fitted to"] == "not known"
    assert rows["generator"] == "Ellipse, 6 parameters"
    np.testing.assert_array_equal(shapes.read("out.npz"), fitted.sample(20).numpy())
    done = run("sample", "out", "out.ply", "-n", 20)
    assert done.exit_code == 2 and done.stderr == (
        "geomsink: --out: found out.ply for points in dimension 2, expected 3 of .ply, or .npz.\n"
    )


def test_numbers_that_are_not_finite_are_one_sentence(cloud, undrawn, monkeypatch):
    whole = generative.Surface.forward
    monkeypatch.setattr(generative.Surface, "forward", lambda self, z: math.nan * whole(self, z))
    done = run("fit", cloud, "--out", "out", *SMALL)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("geomsink: step 1: generated points not finite") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--no-normalize",), "--no-normalize needs --blur, in the scale of the coordinates."),
        (("--steps", 0), "steps: 0 given"),
        (("--patches", 0), "patches: 0 given"),
        (("--inner", 0), "targets, steps: 0 given"),
        (("--inner-batch", 31), "targets: batches of 31 given for a cloud of 30 points"),
        (("--lr", -1), "lr: -1.0 given"),
        (("--average", 2), "average: 2.0 given"),
        (("--held-out", 0), "--held-out: 0 given"),
        (("--seed", -1), "--seed: -1 given"),
        (("--plot", "fit.txt"), "path: found fit.txt"),
        (("--blur", 0.1, -1), "blur"),
    ],
)
def test_bad_options_are_refused_before_any_work(cloud, options, said):
    if "--plot" in options:
        pytest.importorskip("matplotlib")
    done = run("fit", cloud, "--out", "out", *SMALL, *options)
    assert done.exit_code == 2 and said in done.stderr and done.stdout == ""
    assert not Path("out").exists()


def test_bad_files_and_folders_are_one_sentence(cloud, undrawn):
    np.save("flat.npy", CLOUD[:, :2])
    done = run("fit", "flat.npy", "--out", "out", *SMALL)
    assert (done.exit_code, done.stderr) == (2, "geomsink: flat.npy: found points in dimension 2, expected 3.\n")
    done = run("fit", cloud, "--out", cloud, *SMALL)
    assert done.exit_code == 2 and "cloud.npy" in done.stderr
    assert run("fit", cloud, "--out", "out", *SMALL).exit_code == 0
    done = run("fit", cloud, "--out", "out", *SMALL, "--seed", 1)
    assert done.exit_code == 2 and done.stderr.startswith("geomsink: seed: the run in out has '0', this one '1'")
    done = run("sample", "nowhere", "out.ply")
    assert done.exit_code == 2 and done.stderr.startswith("geomsink: folder: nowhere has no checkpoint")
    assert run("sample", "out", "out.txt").exit_code == 2
    Path("out/frame.json").write_text('{"shape": 1}')
    done = run("sample", "out", "out.ply")
    assert done.exit_code == 2 and done.stderr.startswith("geomsink: out/frame.json: found what is no frame")
