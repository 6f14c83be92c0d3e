"""Clouds in figures: what is drawn, where, in which colours, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import geomsink

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from matplotlib.figure import Figure

from geomsink import plotting
from geomsink.plotting.scene import AZIMUTH, ELEVATION, Scene, rotation

ROOT = Path(geomsink.__file__).resolve().parents[1]


def dots(ax):
    (collection,) = ax.collections
    return collection


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_clouds_of_any_dimension_are_drawn_whole_on_the_axis_given(dimension):
    rng = np.random.default_rng(0)
    x, y = rng.random((60, dimension)), rng.random((40, dimension)) + 1
    ax = Figure().add_subplot()
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
    cloud[37] = rotation(AZIMUTH, ELEVATION)[2] * 3 + 0.5
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
    scene = Scene([sphere])
    light, _ = scene.light(sphere)
    facing = np.abs(sphere @ scene.axes[2])
    assert light[facing > 0.95].min() > light[facing < 0.2].max()
    inside, _ = scene.light(rng.random((4000, 3)))
    assert np.median(inside) > 0.95


@pytest.mark.parametrize("dimension", [1, 2, 3, 6])
def test_position_colors_tell_neighbours_from_distant_points(dimension):
    """Colours are in [0, 1], none is near black, and their distances follow those of the points."""
    x = np.random.default_rng(0).random((200, dimension)) * 7 - 3
    if dimension > 3:
        x[:, 3:] *= 1e-3  # what the principal axes leave out
    colors = plotting.position_colors(torch.tensor(x))
    assert colors.shape == (200, 3) and colors.min() >= 0.15 and colors.max() <= 1
    points = np.linalg.norm(x[:, None] - x[None], axis=-1)
    shades = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    np.fill_diagonal(points, np.inf)
    nearest = points.argmin(axis=1)
    assert shades[np.arange(200), nearest].mean() < 0.3 * shades.mean()
    assert shades[np.triu_indices(200, 1)].min() > 0
    assert np.corrcoef(points[np.triu_indices(200, 1)], shades[np.triu_indices(200, 1)])[0, 1] > 0.8


def test_position_colors_of_a_flat_cloud_and_of_one_point():
    flat = np.random.default_rng(0).random((50, 3)) * [1, 1, 0]
    assert np.ptp(plotting.position_colors(flat)[:, 2]) == 0
    assert np.isfinite(plotting.position_colors([[1.0, 2.0]])).all()


def test_colors_are_those_of_the_points():
    """Of a plane cloud, which is not lit, every point is drawn in its own colour."""
    x, colors = np.random.default_rng(0).random((40, 2)), np.random.default_rng(1).random((40, 3))
    drawn = dots(plotting.plot_colors(x, torch.tensor(colors)))
    order = np.argsort(np.asarray(drawn.get_offsets())[:, 0])
    np.testing.assert_allclose(drawn.get_facecolors()[order, :3], colors[np.argsort(x[:, 0])], atol=1e-12)
    beyond = np.clip(colors, 0, 1) + 5e-5  # rounding of an average is no reason to refuse
    assert dots(plotting.plot_colors(x, beyond)).get_facecolors().max() == 1


def test_a_wide_cloud_gets_a_wide_figure():
    x = np.random.default_rng(0).random((50, 2))
    width, height = plotting.plot_colors(x * [5, 1], plotting.position_colors(x)).figure.get_size_inches()
    assert width > 1.5 * height


def test_one_point_is_a_cloud():
    assert len(dots(plotting.plot_potentials([[1.0, 2.0, 3.0]], [0.0])).get_offsets()) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plotting.plot_potentials(np.zeros((5, 3)), np.zeros(4)), r"potential: found shape \(4,\)"),
        (
            lambda: plotting.plot_colors(np.zeros((5, 3)), np.zeros((4, 3))),
            r"colors: found shape \(4, 3\), expected \(5, 3\)",
        ),
        (
            lambda: plotting.plot_colors(np.zeros((5, 3)), np.full((5, 3), 255, np.uint8)),
            r"colors: found values from 255 to 255, expected them in \[0, 1\]",
        ),
        (lambda: plotting.position_colors(np.zeros(5)), r"points: found shape \(5,\)"),
        (lambda: plotting.plot_clouds(np.zeros(5), np.zeros((5, 2))), r"x: found shape \(5,\)"),
        (lambda: plotting.plot_clouds(np.zeros((5, 2)), np.zeros((0, 2))), r"y: found shape \(0, 2\)"),
        (lambda: plotting.plot_clouds(np.zeros((5, 2)), np.zeros((5, 3))), "expected the same number of columns"),
        (
            lambda: plotting.plot_clouds(*np.zeros((2, 5, 3)), Figure().add_subplot(projection="3d")),
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
