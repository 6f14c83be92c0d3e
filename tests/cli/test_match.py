"""The command match: what it prints, and the pairs that it writes."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from geomsink import shapes

pytest.importorskip("click")
pytest.importorskip("rich")
from cli_tools import colors_in, rows_of, run, run_json

RANDOM = np.random.default_rng(0)


@pytest.fixture
def clouds(tmp_path):
    x, y = RANDOM.random((60, 3)), RANDOM.random((60, 3))
    for name, cloud in (("a", x), ("b", y), ("c", y[:50])):
        np.save(tmp_path / f"{name}.npy", cloud)
    return tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"


def test_the_gap_is_printed_and_pairs_and_figure_are_written(clouds, tmp_path):
    pytest.importorskip("matplotlib")
    a, b, _ = clouds
    out, figure = tmp_path / "pairs.csv", tmp_path / "pairs.png"
    done = run("match", a, b, "--no-normalize", "--out", out, "--plot", figure)
    assert done.exit_code == 0, done.stderr
    C = cdist(shapes.read(a), shapes.read(b), "sqeuclidean")
    best = C[linear_sum_assignment(C)].mean()
    rows = rows_of(done)
    assert float(rows["cost"]) == pytest.approx(best, rel=1e-9) == float(rows["lower bound"])
    assert rows["gap"].endswith("of the cost: exact") and rows["pairs"] == "60, one to one"
    assert rows["frame"] == "coordinates as they are" and float(rows["seconds"]) >= 0
    i, j, mass = np.loadtxt(out, delimiter=",", skiprows=1).T
    assert out.read_text().startswith("i,j,mass\n")
    assert C[i.astype(int), j.astype(int)].mean() == pytest.approx(best, rel=1e-12)
    np.testing.assert_allclose(mass, 1 / 60, rtol=1e-12)
    assert colors_in(figure)[0] > 0


def test_clouds_of_different_sizes_have_a_sparse_plan(clouds, tmp_path):
    a, _, c = clouds
    report, code = run_json("match", a, c, "--cost", "euclidean", "--out", tmp_path / "pairs.npz")
    with np.load(tmp_path / "pairs.npz") as pairs:
        assert len(pairs["rows"]) == report["pairs"] and pairs["mass"].sum() == pytest.approx(1.0, rel=1e-12)
    assert (code, report["exact"], report["one_to_one"], report["ground"]) == (0, True, False, "euclidean")
    assert report["cost"] - report["lower"] <= 1e-12 and report["b"]["points"] == 50


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--one-to-one",), "one_to_one: True given with clouds of 60 and 50 points"),
        (("--cost", "taxi"), "cost: unknown name 'taxi'"),
        (("--out", "pairs.txt"), "--out: found pairs.txt, expected a name that ends in one of .csv, .npz"),
        (("--tol-gap", "-1"), "tol_gap: -1.0 given, expected a positive share"),
        (("--view", "28"), "--view: 28 given, expected two numbers, and maybe the axis that is up, as in 28,22 or"),
        (("--view", "28,22,z,z"), "--view: 28,22,z,z given, expected two numbers"),
        (("--view", "28,95"), "--view: elevation: 95.0 given, expected degrees from -90 to 90"),
        (("--view", "28,22,q"), "--view: up: 'q' given, expected one of x, y, z"),
        (("--view", "28,22"), "--view: 28,22 given without --plot, expected the figure that it is for"),
    ],
)
def test_bad_use_is_one_sentence(clouds, options, sentence):
    done = run("match", clouds[0], clouds[2], *options)
    assert done.exit_code == 2 and done.stderr.startswith("geomsink: ") and sentence in done.stderr


def test_the_view_is_that_of_the_figure(clouds, tmp_path):
    pytest.importorskip("matplotlib")
    for name, view in (("one", ()), ("two", ("--view", "28,22,y")), ("three", ("--view", "-140,22"))):
        assert run("match", *clouds[:2], "--plot", tmp_path / f"{name}.png", *view).exit_code == 0
    one, two, three = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three
