"""The command transfer: which colours and labels arrive, in which files."""

import sys

import numpy as np
import pytest

import geomsink
from geomsink import shapes

pytest.importorskip("click")
pytest.importorskip("rich")
pytest.importorskip("plyfile")
from cli_tools import colors_in, rows_of, run, run_json

RNG = np.random.default_rng(0)
X = RNG.random((60, 3))
COLORS = RNG.integers(0, 256, (60, 3), dtype=np.uint8)
FACES = np.array([[0, 1, 2], [3, 4, 5]])
SHARP = ("--engine", "dense", "--epsilon", "1e-4", "--tol", "1e-6", "--dtype", "float64")


@pytest.fixture
def clouds(tmp_path):
    """A coloured cloud, and a mesh that is the same cloud elsewhere, in another size and order."""
    order = RNG.permutation(60)
    shapes.write(tmp_path / "a.ply", X, COLORS)
    shapes.write(tmp_path / "b.ply", 3 * X[order] + 5, faces=FACES)
    return tmp_path / "a.ply", tmp_path / "b.ply", order


def test_colours_arrive_at_the_same_points_with_the_coordinates_and_faces_of_b(clouds, tmp_path):
    a, b, order = clouds
    done = run("transfer", a, b, *SHARP, "--out", tmp_path / "out.ply")
    assert done.exit_code == 0, done.stderr
    np.testing.assert_array_equal(shapes.read_colors(tmp_path / "out.ply"), COLORS[order])
    written = shapes.read_mesh(tmp_path / "out.ply")
    np.testing.assert_array_equal(written.vertices, shapes.read(b))
    np.testing.assert_array_equal(written.faces, FACES)
    rows = rows_of(done)
    assert rows["carried"] == "colours, to 60 points of b.ply" and rows["state"] == "converged"
    assert rows["A"] == "a.ply, 60 points in dimension 3" and rows["frame"] == "each in the unit cube"


def test_colours_are_those_that_the_library_carries(clouds, tmp_path):
    from geomsink.transport import transfer

    a, b, _ = clouds
    options = ("--no-normalize", "--blur", "0.5", "--reach", "4", "--cost", "euclidean", "--engine", "dense")
    report, code = run_json("transfer", a, b, *options, "--out", tmp_path / "out.npz")
    y, x = shapes.read(a), shapes.read(b)
    solution = geomsink.solve(x, y, blur=0.5, reach=4.0, cost="euclidean", engine="dense")
    expected = 255 * transfer(solution, COLORS / 255.0)
    assert np.abs(shapes.read_colors(tmp_path / "out.npz") - expected).max() <= 0.5 + 1e-6
    assert (code, report["converged"], report["reach"], report["carried"]) == (0, True, 4.0, "colours")
    assert report["value"] == pytest.approx(solution.value)
    assert report["b"] == {"name": "b.ply", "points": 60, "dimension": 3} and report["written"] == 60


def test_clouds_without_colours_get_those_of_their_places(tmp_path):
    from geomsink.plotting import position_colors

    np.save(tmp_path / "a.npy", X)
    assert run("transfer", tmp_path / "a.npy", tmp_path / "a.npy", *SHARP, "--out", tmp_path / "out.ply").exit_code == 0
    colors = shapes.read_colors(tmp_path / "out.ply")
    assert np.abs(colors / 255 - position_colors(X)).max() < 0.5 / 255 + 1e-3  # the plan is not quite the identity


@pytest.mark.parametrize("kind", ["whole numbers", "names", "numbers", "rows"])
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_labels_arrive_in_the_form_in_which_they_were_given(clouds, tmp_path, kind, suffix):
    a, b, order = clouds
    given = {
        "whole numbers": RNG.integers(-3, 3, 60),
        "names": np.array(["left", "right, or so"])[(X[:, 0] > 0.5).astype(int)],
        "numbers": RNG.standard_normal(60),
        "rows": RNG.standard_normal((60, 2)),
    }[kind]
    labels, out = tmp_path / f"labels.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "npy":
        np.save(labels, given)
    else:
        lines = [[f'"{item}"' for item in np.atleast_1d(row)] for row in given]
        labels.write_text("".join(f"{','.join(line)}\n" for line in lines), encoding="utf-8")
    report, code = run_json("transfer", a, b, *SHARP, "--labels", labels, "--out", out)
    assert code == 0 and report["carried"] == "labels" and report["out"] == str(out)
    from geomsink.cli.labels import read_labels

    found = read_labels(str(out), shapes.load(b), "b")
    assert found.dtype.kind == given.dtype.kind and found.shape == given.shape
    if kind in ("whole numbers", "names"):
        assert found.tolist() == given[order].tolist()
        names, sizes = np.unique(given, return_counts=True)
        assert report["classes"] == {str(name): size for name, size in zip(names, sizes.tolist(), strict=True)}
    else:
        np.testing.assert_allclose(found, given[order], atol=1e-4)
        assert "classes" not in report


def test_with_samples_all_points_of_b_are_labelled(tmp_path):
    """Labels by the side of a plane, on another sample of the same shape: right away from the plane."""
    x, y = shapes.sample("sphere", 900, seed=5), shapes.sample("sphere", 700, seed=6)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "b.npy", y)
    np.save(tmp_path / "labels.npy", x[:, 1] > 0.5)
    options = ("--samples", 300, "--blur", "0.05", "--engine", "dense", "--labels", tmp_path / "labels.npy")
    report, code = run_json("transfer", tmp_path / "a.npy", tmp_path / "b.npy", *options, "--out", tmp_path / "out.npy")
    found = np.load(tmp_path / "out.npy")
    assert code == 0 and found.dtype == bool and found.shape == (700,)
    assert (report["a"]["points"], report["b"]["points"], report["written"]) == (300, 300, 700)
    away = np.abs(y[:, 1] - 0.5) > 0.15
    assert (found == (y[:, 1] > 0.5))[away].all()


def test_a_drawn_point_has_the_colour_of_the_nearest_vertex(tmp_path):
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1.0]])
    colors = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]])
    shapes.write(tmp_path / "a.ply", corners, colors, [[0, 1, 2], [1, 3, 2]])
    options = ("--samples", 400, "--no-normalize", *SHARP[:2], "--blur", "0.02")
    assert run("transfer", tmp_path / "a.ply", tmp_path / "a.ply", *options, "--out", tmp_path / "o.ply").exit_code == 0
    np.testing.assert_allclose(shapes.read_colors(tmp_path / "o.ply")[:4], colors[:4], atol=12)


def test_the_figure_shows_both_clouds_in_colours(clouds, tmp_path):
    pytest.importorskip("matplotlib")
    a, b, _ = clouds
    (tmp_path / "labels.csv").write_text("\n".join("abc"[k % 3] for k in range(60)))
    for more in ((), ("--labels", tmp_path / "labels.csv")):
        out = tmp_path / ("out.csv" if more else "out.ply")
        done = run("transfer", a, b, *SHARP, *more, "--out", out, "--plot", tmp_path / "a.png")
        assert done.exit_code == 0 and rows_of(done)["figure"].endswith("a.png")
        drawn, colors = colors_in(tmp_path / "a.png")
        assert drawn > 0.005 and colors > 100


def test_shapes_by_name_and_precisions_mixed(clouds, tmp_path):
    a, _, _ = clouds  # float64, and shapes are float32
    options = ("--samples", 50, "--engine", "dense", "--blur", "0.2")
    report, code = run_json("transfer", a, "shape:torus", *options, "--out", tmp_path / "torus.ply")
    assert code == 0 and report["b"]["name"] == "torus"
    np.testing.assert_allclose(shapes.read(tmp_path / "torus.ply"), shapes.sample("torus", 50, seed=1), atol=1e-6)


def test_not_converged_exits_with_3(clouds, tmp_path):
    options = ("--samples", 50, "--engine", "dense", "--blur", "0.1", "--tol", "1e-9", "--max-iter", 1)
    done = run("transfer", clouds[0], "shape:knot", *options, "--out", tmp_path / "out.ply")
    assert done.exit_code == 3 and "NOT CONVERGED" in done.stdout and "not converged" in done.stderr
    assert shapes.read_colors(tmp_path / "out.ply").shape == (50, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "out.obj"), "--out: found out.obj, expected a name that ends in one of .ply, .npz"),
        (("--out", "no/out.ply"), "--out: there is no folder no to write out.ply into"),
        (("--out", "out.ply", "--labels", "l.npy"), "expected a name that ends in one of .npy, .csv"),
        (("--out", "out.npy", "--labels", "l.txt"), "--labels: found l.txt, expected a name that ends in one of"),
        (("--out", "out.npy", "--labels", "none.npy"), "--labels: there is no file none.npy"),
        (("--out", "out.npy", "--labels", "short.npy"),
         "--labels: found shape (59,) in short.npy, expected a row for each of the 60 points of a.npy"),
        (("--out", "out.npy", "--labels", "rows.npy"), "--labels: found int64 of shape (60, 2)"),
        (("--out", "out.csv", "--labels", "ragged.csv"), "ragged.csv: found a truncated or malformed file (it has"),
        (("--out", "out.ply", "--no-normalize"), "--no-normalize needs --blur or --epsilon"),
        (("--out", "out.ply", "--cost", "hamming"), "cost: unknown name 'hamming'"),
        (("--out", "out.ply", "--plot", "a.foo"), "expected a name that ends in one of"),
    ],
)  # fmt: skip
def test_bad_use_exits_with_2_and_a_reason(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("geomsink.cli.transfers.solve", None)  # a call would be a TypeError of another text
    np.save("a.npy", X)
    np.save("short.npy", np.zeros(59))
    np.save("rows.npy", np.zeros((60, 2), int))
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    done = run("transfer", "a.npy", "a.npy", *arguments)
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""


def test_bad_use_that_depends_on_the_clouds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("flat.npy", X[:, :2])
    done = run("transfer", "flat.npy", "flat.npy", "--out", "out.ply")
    assert done.exit_code == 2 and "--out: found out.ply for points in dimension 2" in done.stderr
    np.save("l.npy", np.zeros(60))
    done = run("transfer", "shape:knot", "flat.npy", "--labels", "l.npy", "--out", "out.npy")
    assert done.exit_code == 2 and "--labels: given with shape:knot, whose points are drawn" in done.stderr
    assert run("transfer", "flat.npy", "flat.npy").exit_code == 2  # without --out


def test_planar_clouds_go_to_npz(tmp_path):
    np.save(tmp_path / "flat.npy", X[:, :2])
    done = run("transfer", tmp_path / "flat.npy", tmp_path / "flat.npy", *SHARP, "--out", tmp_path / "out.npz")
    assert done.exit_code == 0 and shapes.read_colors(tmp_path / "out.npz").shape == (60, 3)


def test_without_matplotlib_own_colours_are_carried_all_the_same(clouds, tmp_path, monkeypatch):
    for module in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "geomsink.plotting", raising=False)
    monkeypatch.delattr(geomsink, "plotting", raising=False)
    a, b, _ = clouds
    assert run("transfer", a, b, *SHARP, "--out", tmp_path / "out.ply").exit_code == 0
    done = run("transfer", b, a, *SHARP, "--out", tmp_path / "out.ply")
    assert done.exit_code == 2
    assert done.stderr == "geomsink: figures need the package matplotlib: pip install 'geomsink[plot]'\n"
