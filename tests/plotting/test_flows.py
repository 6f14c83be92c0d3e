"""Figures of what a plan does: matches, flows, and their animation."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
import torch

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from matplotlib.animation import FFMpegWriter
from matplotlib.figure import Figure
from PIL import Image

from geomsink import plotting
from geomsink.plotting.matches import _pairs

RNG = np.random.default_rng(0)
X, Y = RNG.random((30, 3)), RNG.random((20, 3)) + 0.5


def lines(ax):
    (found,) = [drawn for drawn in ax.collections if hasattr(drawn, "get_segments")]
    return np.array(found.get_segments()), found.get_colors()


def test_all_kinds_of_matches_are_the_same_matches():
    pairs, weights = np.array([[3, 4], [7, 0], [29, 19]]), np.array([0.5, 0.25, 1.0])
    matrix = scipy.sparse.coo_matrix((weights, pairs.T), shape=(30, 20))
    for given in (
        (pairs, weights),
        (torch.tensor(pairs), torch.tensor(weights)),
        matrix,
        matrix.tocsr(),
        scipy.sparse.csr_array(matrix),
        torch.sparse_coo_tensor(pairs.T, weights, (30, 20)),
        torch.sparse_coo_tensor(pairs.T, weights, (30, 20)).to_sparse_csr(),
    ):
        found_pairs, found_weights = _pairs(given, 30, 20)
        assert found_pairs.tolist() == pairs.tolist() and found_weights.tolist() == weights.tolist()


def test_the_strongest_matches_are_drawn_the_stronger_the_more_opaque():
    pairs, weights = [[k, k] for k in range(20)], np.arange(20.0) % 7
    ax = Figure().add_subplot()
    assert plotting.plot_matches(X, Y, (pairs, weights), ax, n=5) is ax
    segments, colors = lines(ax)
    assert segments.shape == (5, 2, 2)
    assert (np.diff(colors[:, 3]) >= 0).all() and colors[-1, 3] > colors[0, 3]
    expected = plotting.position_colors(X)[np.argsort(weights, kind="stable")[-5:]]
    np.testing.assert_allclose(colors[:, :3], expected)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_lines_end_at_the_points_in_one_frame_and_side_by_side(dimension):
    x, y = RNG.random((15, dimension)), RNG.random((25, dimension)) * 2
    pairs = np.array([[2, 20], [14, 0], [5, 7]])
    for side_by_side in (False, True):
        ax = plotting.plot_matches(x, y, (pairs, np.ones(3)), side_by_side=side_by_side)
        segments, _ = lines(ax)
        offsets = np.asarray(ax.collections[0].get_offsets())
        assert len(offsets) == 40
        for end in segments.reshape(-1, 2):
            assert np.linalg.norm(offsets - end, axis=1).min() < 1e-12
        order = np.sort(offsets[:, 0])
        if side_by_side:  # fifteen points, a gap, twenty-five points
            assert order[15] - order[14] > 0.1 * np.ptp(order[:15])
            assert segments[:, 0, 0].max() <= order[14] and segments[:, 1, 0].min() >= order[15]


def test_no_matches_draw_no_lines():
    ax = plotting.plot_matches(X, Y, scipy.sparse.csr_matrix((30, 20)))
    assert len(lines(ax)[0]) == 0


@pytest.mark.parametrize(
    ("matches", "kind", "message"),
    [
        (np.zeros((30, 20)), TypeError, "matches: a ndarray was given, expected a sparse matrix, or pairs"),
        (torch.zeros(30, 20), TypeError, "matches: a Tensor was given"),
        (scipy.sparse.csr_matrix((20, 30)), ValueError, r"matches: found shape \(20, 30\), expected \(30, 20\)"),
        (([[0, 1, 2]], [1.0]), ValueError, r"found pairs of shape \(1, 3\) of int64, expected whole numbers \(K, 2\)"),
        (([[0.0, 1.0]], [1.0]), ValueError, "of float64, expected whole numbers"),
        (([[0, 1]], [1.0, 2.0]), ValueError, r"matches: weights: found shape \(2,\)"),
        (([[0, 20]], [1.0]), ValueError, r"found pairs up to \(0, 20\) from 0 on, expected 0 to \(29, 19\)"),
        (([[-1, 2]], [1.0]), ValueError, "from -1 on"),
        (([[0, 1]], [-1.0]), ValueError, "found the weight -1.0, expected them to be 0 or more"),
        (([[0, 1]], [float("nan")]), ValueError, "found the weight nan"),
    ],
)
def test_refused_matches(matches, kind, message):
    with pytest.raises(kind, match=message):
        plotting.plot_matches(X, Y, matches)


def test_at_least_one_line():
    with pytest.raises(ValueError, match="n: 0 given, expected a number of lines of at least 1"):
        plotting.plot_matches(X, Y, ([[0, 1]], [1.0]), n=0)


def frames(count, dimension=3):
    return [X[:, :dimension] + 0.2 * k for k in range(count)]


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (5, 2, 3), (8, 2, 4)])
def test_frames_are_panels_in_even_rows_with_one_camera(count, rows, columns):
    figure = plotting.plot_flow(frames(count), target=torch.tensor(Y))
    assert len(figure.axes) == count
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    boxes = [ax.get_position() for ax in figure.axes]
    assert (len({round(box.y0, 6) for box in boxes}), len({round(box.x0, 6) for box in boxes})) == (rows, columns)
    assert [text.get_text() for text in figure.texts] == [str(k) for k in range(count)]
    target = [np.asarray(ax.collections[0].get_offsets()) for ax in figure.axes]
    assert all((part == target[0]).all() for part in target) and len(target[0]) == 20


def test_titles_stand_above_their_panels():
    figure = plotting.plot_flow(frames(6), times=np.linspace(0, 1, 6), columns=2)
    assert [text.get_text() for text in figure.texts] == ["t = 0", "t = 0.2", "t = 0.4", "t = 0.6", "t = 0.8", "t = 1"]
    renderer = figure.canvas.get_renderer()
    for ax, text in zip(figure.axes, figure.texts, strict=True):
        panel, title = ax.get_window_extent(), text.get_window_extent(renderer)
        assert panel.y1 <= title.y0 and panel.x0 < title.x0 and title.x1 < panel.x1
        others = [other.get_window_extent() for other in figure.axes if other is not ax]
        assert not any(title.overlaps(other) for other in others)


def test_of_many_frames_even_ones_are_drawn_the_first_and_the_last_among_them():
    figure = plotting.plot_flow(frames(21), panels=5)
    assert [text.get_text() for text in figure.texts] == ["0", "5", "10", "15", "20"]


def test_points_keep_their_colours():
    colors = RNG.random((30, 3))
    figure = plotting.plot_flow(frames(2, 2), colors=colors)
    first, second = (ax.collections[0].get_facecolors()[:, :3] for ax in figure.axes)
    assert (first == second).all()
    np.testing.assert_allclose(np.sort(first, axis=0), np.sort(colors, axis=0), atol=1e-12)


def test_an_animation_is_written_frame_by_frame(tmp_path):
    animation = plotting.animate_flow(frames(3), times=[0.0, 0.5, 1.0], target=Y, size=1.5)
    plotting.save_animation(animation, tmp_path / "flow.gif", frames_per_second=10, dpi=60)
    with Image.open(tmp_path / "flow.gif") as film:
        assert film.n_frames == 3 and film.info["duration"] == 100
        pictures = []
        for k in range(3):
            film.seek(k)
            pictures.append(np.asarray(film.convert("RGB"), dtype=float))
    assert all((np.abs(picture - picture[0, 0]).max(axis=2) > 20).mean() > 0.02 for picture in pictures)
    assert all(np.abs(a - b).max() > 50 for a, b in pairwise(pictures))
    (ax,) = animation._fig.axes
    assert len(ax.collections) == 2  # the last frame and the target, the earlier ones removed


def test_mp4_needs_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(FileNotFoundError, match=r"path: a\.mp4 needs the program ffmpeg, which is not found"):
        plotting.check_animation_path(tmp_path / "a.mp4")


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="needs ffmpeg")
def test_mp4_is_written(tmp_path):
    plotting.save_animation(plotting.animate_flow(frames(3), size=1.5), tmp_path / "flow.mp4")
    assert b"ftyp" in (tmp_path / "flow.mp4").read_bytes()[:12]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plotting.plot_flow([]), "frames: none given, expected at least one"),
        (lambda: plotting.plot_flow([X, Y]), r"frames: found shape \(20, 3\) for number 1, expected \(30, 3\)"),
        (lambda: plotting.plot_flow([X, X[:, 0]]), r"frames: number 1: found shape \(30,\)"),
        (lambda: plotting.animate_flow([X], times=[0.0, 1.0]), "times: 2 given, expected 1, one a frame"),
        (lambda: plotting.plot_flow([X], colors=Y), r"colors: found shape \(20, 3\), expected \(30, 3\)"),
        (lambda: plotting.plot_flow([X], target=Y[:, :2]), r"target: found shape \(20, 2\), expected \(M, 3\)"),
        (lambda: plotting.plot_flow([X], panels=0), "panels: 0 given"),
        (lambda: plotting.plot_flow([X], columns=0), "columns: 0 given"),
        (lambda: plotting.animate_flow([X], size=0), "size: 0 given"),
        (
            lambda: plotting.check_animation_path("a.png"),
            r"found a\.png, expected a name that ends in one of \.gif, \.mp4",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
