"""The commands that go down a loss: flow, barycenter and register."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geomsink import SinkhornDivergence, shapes

pytest.importorskip("click")
pytest.importorskip("rich")
from cli_tools import colors_in, rows_of, run, run_json

from geomsink.transport import barycenter, gradient_flow, register

RNG = np.random.default_rng(0)
X, Y = RNG.random((40, 3)), 0.3 * RNG.random((50, 3))
DENSE = ("--engine", "dense")


@pytest.fixture
def clouds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.save("flat.npy", X[:, :2])
    return "x.npy", "y.npy"


def test_flow_is_that_of_the_library(clouds):
    options = ("--no-normalize", "--blur", "0.2", *DENSE, "--steps", 30, "--tol-loss", "1e-2", "--lr", "0.3")
    report, code = run_json("flow", *clouds, *options, "--out", "out.npz")
    expected = gradient_flow(X, Y, loss=SinkhornDivergence(blur=0.2, engine="dense"), lr=0.3, steps=30, tol=1e-2)
    assert (code, report["converged"], report["steps"]) == (0, True, expected.history.n_steps)
    assert report["values"] == pytest.approx(list(expected.history.values)) and report["value"] == report["values"][-1]
    np.testing.assert_allclose(shapes.read("out.npz"), expected.points)
    assert report["moved"] == pytest.approx(np.sqrt(((expected.points - X) ** 2).sum(1).mean()))
    assert (report["a"]["points"], report["b"]["points"], report["epsilon"]) == (40, 50, pytest.approx(0.08))
    assert report["times"] == pytest.approx([0.3 * k for k in range(report["steps"] + 1)])


def test_a_flow_that_does_not_come_to_rest_exits_with_3(clouds):
    done = run("flow", *clouds, *DENSE, "--steps", 3, "--out", "out.npz")
    rows = rows_of(done)
    assert done.exit_code == 3 and rows["state"] == "NOT CONVERGED: 3 steps are done"
    assert rows["A"] == "x.npy, 40 points in dimension 3" and rows["written"] == "out.npz"
    first, last = (float(word) for word in (rows["divergence"].split()[2], rows["divergence"].split(",")[0]))
    assert 0 < last < first


def test_a_flow_that_explodes_is_one_sentence(clouds):
    done = run("flow", *clouds, *DENSE, "--no-normalize", "--blur", "0.1", "--lr", "1e200", "--out", "out.npz")
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr == (
        "geomsink: x, y: coordinates, or features, extend over 1.57e+200, expected 1e-145 to 1e145 or points that are "
        "all the same; scale them.\n"
    )


def test_a_loss_that_is_not_finite_is_one_sentence(clouds, monkeypatch):
    def fail(*clouds, **options):
        raise RuntimeError("gradient flow: the loss is nan at step 3, expected a finite number.")

    monkeypatch.setattr("geomsink.cli.flows.gradient_flow", fail)
    done = run("flow", *clouds, "--out", "out.npz")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "geomsink: gradient flow: the loss is nan at step 3, expected a finite number.\n"


def test_a_flow_is_a_figure_or_a_film(clouds):
    pytest.importorskip("matplotlib")
    from PIL import Image

    options = (*DENSE, "--steps", 6, "--frames", 2, "--out", "out.npz")
    assert run("flow", *clouds, *options, "--plot", "frames.png").exit_code == 3
    drawn, colors = colors_in("frames.png")
    assert drawn > 0.01 and colors > 100
    assert run("flow", *clouds, *options, "--plot", "flow.gif").exit_code == 3
    with Image.open("flow.gif") as film:
        assert film.n_frames == 4  # 0, 2, 4, 6


def test_barycenter_is_that_of_the_library(clouds):
    options = ("--no-normalize", "--blur", "0.2", *DENSE, "--weights", "0.5,1.5", "--points", 30, "--tol-loss", "1e-2")
    report, code = run_json("barycenter", *clouds, *options, "--seed", 3, "--out", "out.npz")
    loss = SinkhornDivergence(blur=0.2, engine="dense")
    expected = barycenter([X, Y], [0.25, 0.75], n=30, loss=loss, tol=1e-2, seed=3)
    assert (code, report["converged"]) == (0, True)
    assert report["value"] == pytest.approx(expected.history.values[-1])
    np.testing.assert_allclose(shapes.read("out.npz"), expected.points)
    assert (report["weights"], report["points"]) == ([0.25, 0.75], 30)
    assert [cloud["name"] for cloud in report["clouds"]] == ["x.npy", "y.npy"]


def test_barycenter_of_three_with_a_figure_and_a_table(clouds):
    pytest.importorskip("matplotlib")
    options = (*DENSE, "--samples", 30, "--steps", 3, "--out", "out.ply", "--plot", "bary.png")
    done = run("barycenter", *clouds, "shape:torus", *options)
    lines = done.stdout.splitlines()
    assert done.exit_code == 3 and sum(line.startswith("weight 0.3333") for line in lines) == 3
    assert rows_of(done)["written"] == "out.ply, 30 points"
    drawn, colors = colors_in("bary.png")
    assert drawn > 0.005 and colors > 100


TURN = Rotation.from_rotvec([0.1, 0.3, -0.2]).as_matrix()


def test_register_finds_a_turn_and_moves_all_of_a_with_faces_and_colours(clouds):
    pytest.importorskip("plyfile")
    colors, faces = RNG.integers(0, 256, (40, 3), dtype=np.uint8), np.array([[0, 1, 2], [7, 8, 9]])
    shapes.write("a.ply", X, colors, faces)
    np.save("b.npy", X @ TURN.T + [1.0, 2.0, 3.0])
    report, code = run_json("register", "a.ply", "b.npy", "--out", "out.ply", "--blur", "0.05")
    assert (code, report["converged"], report["transform"]) == (0, True, "rigid")
    assert report["matched"] == [1.0, 1.0] and report["sizes"][-1] == [40, 40]
    np.testing.assert_allclose(report["matrix"], TURN, atol=1e-4)
    np.testing.assert_allclose(report["translation"], [1.0, 2.0, 3.0], atol=1e-4)
    np.testing.assert_allclose(shapes.read("out.ply"), np.load("b.npy"), atol=3e-4)
    np.testing.assert_array_equal(shapes.read_colors("out.ply"), colors)
    np.testing.assert_array_equal(shapes.read_mesh("out.ply").faces, faces)
    rows = rows_of(run("register", "a.ply", "b.npy", "--blur", "0.05"))
    assert rows["transform"] == "rigid" and float(rows["matrix"].split()[0]) == pytest.approx(TURN[0, 0], abs=1e-4)
    assert [float(word) for word in rows["translation"].split()] == pytest.approx([1.0, 2.0, 3.0], abs=1e-4)


def test_register_passes_its_options_on(clouds):
    options = ("--transform", "free", "--reach", "0.3", "--blur", "0.15", "--steps", 15, "--tol-loss", "1e-2")
    report, code = run_json("register", *clouds, *options, "--seed", 2, "--out", "out.npz")
    expected = register(X, Y, transform="free", reach=0.3, blur=0.15, steps=15, tol=1e-2, seed=2)
    assert (code == 0) == expected.converged
    assert report["value"] == pytest.approx(expected.history[-1].values[-1])
    assert (report["reach"], report["controls"]) == (0.3, len(expected.controls))
    assert report["matched"] == pytest.approx(expected.matched, rel=1e-6)
    shown = rows_of(run("register", *clouds, *options, "--seed", 2))["matched"]
    assert shown == f"{expected.matched[0]:.0%} of A's mass, {expected.matched[1]:.0%} of B's"
    np.testing.assert_allclose(shapes.read("out.npz"), expected.points)


def test_register_with_samples_moves_all_points(clouds):
    pytest.importorskip("matplotlib")
    options = ("--samples", 20, "--steps", 2, "--plot", "reg.png", "--json")
    done = run("register", "flat.npy", "flat.npy", *options, "--out", "out.npz")
    report = json.loads(done.stdout)
    assert shapes.read("out.npz").shape == (40, 2) and report["a"]["points"] == 20
    moved = X[:, :2] @ np.array(report["matrix"]).T + report["translation"]
    np.testing.assert_allclose(shapes.read("out.npz"), moved, atol=1e-12)
    side = np.ptp(np.load("flat.npy")[np.random.default_rng(1).choice(40, 20, replace=False)], axis=0).max()
    assert report["blur"] == pytest.approx(0.05 * side)  # B is drawn with the seed 1
    drawn, colors = colors_in("reg.png")
    assert drawn > 0.005 and colors > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("flow", "x.npy", "y.npy", "--out", "a.txt"), "--out: found a.txt, expected a name that ends in one of .ply"),
        (("flow", "x.npy", "y.npy", "--out", "a.ply", "--steps", 0), "steps: 0 given"),
        (("flow", "x.npy", "y.npy", "--out", "a.ply", "--frames", 0), "frames: 0 given"),
        (("flow", "x.npy", "y.npy", "--out", "a.ply", "--cost", "hamming"), "unknown name 'hamming'"),
        (("flow", "x.npy", "y.npy", "--out", "a.ply", "--blur", 1, "--epsilon", 1), "expected one of them"),
        (("flow", "x.npy", "y.npy", "--out", "a.ply", "--plot", "no/a.gif"), "there is no folder no"),
        (("flow", "flat.npy", "flat.npy", "--out", "a.ply"), "--out: found a.ply for points in dimension 2"),
        (("flow", "x.npy", "flat.npy", "--out", "a.ply"), "expected"),
        (("flow", "x.npy", "y.npy", "--out", "a.ply", "--no-normalize"), "--no-normalize needs --blur or --epsilon"),
        (("barycenter", "x.npy", "--out", "a.ply"), "A B [C ...]: 1 cloud given, expected at least two"),
        (("barycenter", "x.npy", "y.npy", "--out", "a.ply", "--weights", "0.5"), "--weights: found '0.5', expected 2"),
        (("barycenter", "x.npy", "y.npy", "--out", "a.ply", "--weights", "a,b"), "expected numbers between commas"),
        (("barycenter", "x.npy", "y.npy", "--out", "a.ply", "--weights", "-1,2"), "weights"),
        (("barycenter", "x.npy", "y.npy", "--out", "a.ply", "--points", 0), "--points: 0 given"),
        (
            ("barycenter", "x.npy", "y.npy", "--out", "a.ply", "--plot", "a.gif.x"),
            "expected a name that ends in one of",
        ),
        (("register", "x.npy", "y.npy", "--transform", "projective"), "projective"),
        (("register", "x.npy", "y.npy", "--blur", -1), "blur"),
        (("register", "x.npy", "flat.npy"), "expected"),
        (("register", "x.npy", "y.npy", "--out", "no/a.ply"), "--out: there is no folder no"),
        (("register", "x.npy", "none.npy"), "there is no file none.npy"),
    ],
)
def test_bad_use_exits_with_2_and_a_reason(clouds, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
