"""Figures: what is drawn, where, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import geomsink
from geomsink import shapes

plotting = pytest.importorskip("geomsink.plotting", exc_type=ImportError)

ROOT = Path(geomsink.__file__).resolve().parents[1]


def steps(*entries):
    history = [SimpleNamespace(evaluations=k, epsilon=e, marginal_error=m) for k, e, m in entries]
    return SimpleNamespace(history=history)


def dots(ax):
    (collection,) = ax.collections
    return collection


@pytest.fixture(scope="module")
def solved():
    x, y = shapes.sample("knot", 200, seed=0), shapes.sample("star", 150, seed=1)
    return geomsink.sinkhorn_divergence(x, y, blur=0.2, tol=1e-8, engine="dense", dtype="float64"), x, y


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_clouds_of_any_dimension_are_drawn_whole_on_the_axis_given(dimension):
    rng = np.random.default_rng(0)
    x, y = rng.random((60, dimension)), rng.random((40, dimension)) + 1
    ax = plotting.Figure().add_subplot()
    assert plotting.plot_clouds(x, torch.tensor(y), ax) is ax
    offsets = np.asarray(dots(ax).get_offsets())
    assert len(offsets) == 100
    assert ax.get_aspect() == 1 and not ax.axison
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert left < offsets[:, 0].min() and offsets[:, 0].max() < right
    assert bottom < offsets[:, 1].min() and offsets[:, 1].max() < top


def test_clouds_share_one_frame():
    x = np.random.default_rng(0).random((50, 2))
    offsets = np.asarray(dots(plotting.plot_clouds(x, x + [3.0, 0.0])).get_offsets())
    left, right = np.sort(offsets[:, 0])[:50], np.sort(offsets[:, 0])[50:]
    assert right.min() - left.max() > np.ptp(left)


def test_more_than_three_dimensions_show_the_widest_three():
    rng = np.random.default_rng(0)
    cloud = 1e-3 * rng.standard_normal((300, 6))
    cloud[:, 4:] += rng.standard_normal((300, 2))
    offsets = np.asarray(dots(plotting.plot_potentials(cloud, cloud[:, 4])).get_offsets())
    spread = np.linalg.svd(offsets - offsets.mean(0), compute_uv=False)
    assert spread[1] > 0.5 * spread[0]


def test_the_nearest_point_is_drawn_last():
    rng = np.random.default_rng(0)
    cloud = rng.random((100, 3))
    cloud[37] = plotting._rotation(plotting._AZIMUTH, plotting._ELEVATION)[2] * 3 + 0.5
    potential = np.zeros(100)
    potential[37] = 1.0
    colors = dots(plotting.plot_potentials(cloud, potential, cmap="gray", limits=(0, 1))).get_facecolors()
    assert np.argmax(colors[:, 0]) == 99 and colors[99, 0] > 2 * colors[:99, 0].max()


def test_large_clouds_are_thinned_out():
    cloud = np.random.default_rng(0).random((plotting.MAX_DRAWN + 500, 2))
    assert len(dots(plotting.plot_potentials(cloud, cloud[:, 0])).get_offsets()) == plotting.MAX_DRAWN


def test_surfaces_are_lit_and_volumes_are_not():
    rng = np.random.default_rng(0)
    ball = rng.standard_normal((4000, 3))
    sphere = ball / np.linalg.norm(ball, axis=1, keepdims=True)
    scene = plotting._Scene([sphere])
    light, _ = scene._light(sphere)
    facing = np.abs(sphere @ scene.axes[2])
    assert light[facing > 0.95].min() > light[facing < 0.2].max()
    inside, _ = scene._light(rng.random((4000, 3)))
    assert np.median(inside) > 0.95


def test_one_point_is_a_cloud():
    assert len(dots(plotting.plot_potentials([[1.0, 2.0, 3.0]], [0.0])).get_offsets()) == 1


def test_debiased_potentials_add_up_to_the_divergence(solved):
    result, _, _ = solved
    f, g = plotting._debiased(result)
    assert f.mean() == pytest.approx(g.mean())
    assert f.mean() + g.mean() == pytest.approx(result.value, rel=1e-5)


def test_convergence_marks_annealing_and_tolerance():
    solution = steps((2, 1.0, 0.3), (4, 0.1, 0.5), (6, 0.01, 0.2), (8, 0.01, 1e-3))
    ax = plotting.plot_convergence(solution, tol=1e-2)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[2, 0.3], [4, 0.5], [6, 0.2], [8, 1e-3]])
    (shade,) = ax.patches
    assert shade.get_width() == 4
    assert [text.get_text() for text in ax.texts] == ["annealing", "tol"]
    assert ax.get_yscale() == "log"


def test_convergence_without_annealing_or_with_errors_that_no_log_scale_shows():
    ax = plotting.plot_convergence(steps((1, 0.1, float("nan")), (2, 0.1, 0.2), (3, 0.1, 0.0)))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[2, 0.2]])
    assert len(ax.patches) == 0 and len(ax.texts) == 0
    assert len(plotting.plot_convergence(steps()).lines) == 0


def test_the_figure_of_a_divergence(solved, tmp_path):
    result, x, y = solved
    figure = plotting.plot_divergence(result, x, y, ("knot", "star"))
    words = " ".join(text.get_text() for text in figure.texts)
    for expected in (f"{result.value:.6g}", f"{result.marginal_error:.1e}", "knot", "star", "200 points", "float64"):
        assert expected in words
    assert "NOT CONVERGED" not in words
    plotting.save(figure, tmp_path / "a.png", dpi=50)
    plotting.save(figure, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    from matplotlib.image import imread

    pixels = imread(tmp_path / "a.png")[:, :, :3]
    assert pixels.shape == (400, 640, 3)
    drawn = np.abs(pixels - pixels[0, 0]).max(axis=2) > 0.05
    for half in (slice(0, 320), slice(320, 600)):  # both clouds, in many colours
        part = pixels[120:280, half][drawn[120:280, half]]
        assert len(part) > 3000 and len(np.unique(part.round(2), axis=0)) > 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plotting.plot_potentials(np.zeros((5, 3)), np.zeros(4)), r"potential: found shape \(4,\)"),
        (lambda: plotting.plot_clouds(np.zeros(5), np.zeros((5, 2))), r"x: found shape \(5,\)"),
        (lambda: plotting.plot_clouds(np.zeros((5, 2)), np.zeros((0, 2))), r"y: found shape \(0, 2\)"),
        (lambda: plotting.plot_clouds(np.zeros((5, 2)), np.zeros((5, 3))), "expected the same number of columns"),
        (
            lambda: plotting.plot_clouds(*np.zeros((2, 5, 3)), plotting.Figure().add_subplot(projection="3d")),
            "ax: found a 3D axis",
        ),
        (lambda: plotting.check_path("figure.foo"), r"found figure\.foo, expected a name that ends in one of .*\.png"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        plotting.check_path(tmp_path / "no" / "a.png")


def test_neither_pyplot_nor_a_display_is_touched(tmp_path):
    code = (
        "import sys, numpy as np, geomsink.plotting as p\n"
        "p.save(p.plot_clouds(*np.random.rand(2, 50, 3)).figure, sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "tkagg", "DISPLAY": ""}
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], env=environment, check=True)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch):
    for module in ("matplotlib", "matplotlib.axes"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "geomsink.plotting")
    with pytest.raises(ImportError, match=r"matplotlib: pip install 'geomsink\[plot\]'$"):
        import geomsink.plotting  # noqa: F401
