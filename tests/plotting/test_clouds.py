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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geomsink import plotting
from geomsink.plotting.discs import discs
from geomsink.plotting.look import current
from geomsink.plotting.scene import Scene

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
    cloud[37] = current().axes[2] * 3 + 0.5
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
    drawn = discs(sphere, scene.axes, scene.radius)
    facing = np.abs(sphere @ scene.axes[2])
    assert drawn.light[facing > 0.95].min() > drawn.light[facing < 0.2].max()
    inside = discs(rng.random((4000, 3)), scene.axes, scene.radius)
    assert np.median(inside.light) > 0.95


def test_discs_lie_on_the_surface():
    """Of a plane that is turned about the axis up the page they are narrower by the cosine, and upright."""
    rng = np.random.default_rng(0)
    angle = np.radians(50)
    u, v = rng.random((2, 2000))
    plane = np.column_stack([u * np.cos(angle), v, u * np.sin(angle)])
    drawn = discs(plane, np.eye(3), 1.0)
    np.testing.assert_allclose(drawn.height / drawn.width, np.cos(angle), rtol=1e-6)
    np.testing.assert_allclose(np.abs(drawn.angle), 90, atol=1e-3)
    assert (drawn.light < 1).all() and np.ptp(drawn.light) < 1e-6


@pytest.mark.parametrize(("n", "covered"), [(1000, 0.8), (2000, 0.94), (20_000, 0.97)])
def test_a_surface_looks_closed_whatever_the_number_of_its_points(n, covered):
    """In the middle of a sphere, hardly a pixel shows what is behind, here of another colour."""
    rng = np.random.default_rng(0)
    sphere = rng.standard_normal((n, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    front = sphere @ Scene([sphere]).axes[2] > 0
    ax = plotting.plot_colors(sphere, np.where(front[:, None], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]))
    ax.figure.canvas.draw()
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())[:, :, :3].astype(float)
    middle = np.asarray(pixels.shape[:2]) // 2
    part = pixels[middle[0] - 100 : middle[0] + 100, middle[1] - 100 : middle[1] + 100]
    assert (part[:, :, 1] > 100).mean() > covered


def test_discs_shrink_with_the_number_of_points_and_grow_with_the_axes():
    rng = np.random.default_rng(0)
    sphere = rng.standard_normal((20_000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    few, many = (np.median(discs(sphere[:n], np.eye(3), 1.0).width ** 2) for n in (4000, 16_000))
    assert few / many == pytest.approx(4, rel=0.1)
    share = []
    for size in (3.0, 6.0):  # the same picture, twice as large: discs are in units of the axis
        ax = plotting.plot_colors(sphere, sphere / 2 + 0.5, Figure(figsize=(size, size), dpi=50).add_subplot())
        FigureCanvasAgg(ax.figure).draw()
        pixels = np.asarray(ax.figure.canvas.buffer_rgba())[:, :, :3].astype(int)
        share.append((np.abs(pixels - 255).max(axis=2) > 20).mean())
    assert share[0] == pytest.approx(share[1], rel=0.03)


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
