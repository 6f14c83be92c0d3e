"""Colours by labels, and pages with a heading."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from geomsink import plotting

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "labels",
    [
        [3, -1, 3, 7],
        ["a", "b", "a", "c"],
        torch.tensor([2, 0, 2, 1]),
        np.array([[5], [6], [5], [8]]),
        [True, False, True],
    ],
)
def test_classes_have_colours_that_differ(labels):
    colors = plotting.label_colors(labels)
    assert (colors[0] == colors[2]).all() and colors.min() >= 0 and colors.max() <= 1
    for k, other in enumerate(colors):
        assert k in (0, 2) or np.abs(other - colors[0]).max() > 0.1


@pytest.mark.parametrize("n", [8, 9, 40])
def test_many_classes_have_colours_that_differ(n):
    colors = plotting.label_colors(np.arange(n))
    assert colors.shape == (n, 3)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=-1)[np.triu_indices(n, 1)]
    assert apart.min() > 0.02


def test_numbers_have_colours_of_a_scale():
    values = RNG.random(200)
    red = plotting.label_colors(torch.tensor(values))[np.argsort(values), 0]  # of plasma, red rises to the middle
    assert (np.diff(red[:100]) >= 0).all() and red[90] > red[10] + 0.3
    rows = RNG.random((50, 2))
    np.testing.assert_array_equal(plotting.label_colors(rows), plotting.position_colors(rows))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 2, 2)])
def test_refused_labels(shape):
    with pytest.raises(ValueError, match=r"labels: found shape \(.*\), expected \(N,\) or \(N, E\)"):
        plotting.label_colors(np.zeros(shape))


def overlaps(figure):
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
    boxes += [ax.get_window_extent() for ax in figure.axes]
    return [(a, b) for k, a in enumerate(boxes) for b in boxes[:k] if a.overlaps(b)]


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (5, 2, 3)])
def test_a_gallery_is_in_even_rows_without_overlaps(count, rows, columns):
    clouds = [RNG.random((20 + k, 2 + k % 2)) for k in range(count)]
    colors = [plotting.position_colors(cloud) for cloud in clouds]
    names = [f"cloud {k}" for k in range(count)]
    figure = plotting.plot_gallery(clouds, colors, names, "All of them", "in their own colours")
    words = [text.get_text() for text in figure.texts]
    assert words[:2] == ["All of them", "in their own colours"]
    assert words[2:] == [f"cloud {k}   {20 + k} points" for k in range(count)]
    boxes = [ax.get_position(original=True) for ax in figure.axes]
    assert (len({round(box.y0, 6) for box in boxes}), len({round(box.x0, 6) for box in boxes})) == (rows, columns)
    assert not overlaps(figure)
    for ax, cloud in zip(figure.axes, clouds, strict=True):
        assert len(ax.collections[0].get_offsets()) == len(cloud)


@pytest.mark.parametrize("given", [((), (), ()), ((np.zeros((3, 2)),), (), ("a",))])
def test_a_gallery_needs_as_many_colours_and_names_as_clouds(given):
    with pytest.raises(ValueError, match=r"clouds, colors, names: found . clouds, 0 colors and . names"):
        plotting.plot_gallery(*given)


def test_a_registration_is_shown_before_and_after_with_its_loss():
    x, y = RNG.random((30, 3)), RNG.random((20, 3)) + 2
    history = SimpleNamespace(values=[3.0, 1.0, 0.5])
    figure = plotting.plot_registration(x, x + 2, y, history, ("spot", "bunny"), "spot onto bunny", "rigid")
    words = {text.get_text() for text in figure.texts}
    assert words == {"before", "after", "● spot", "● bunny", "spot onto bunny", "rigid"}
    before, after, loss = figure.axes
    assert len(before.collections[0].get_offsets()) == len(after.collections[0].get_offsets()) == 50
    np.testing.assert_allclose(loss.lines[0].get_ydata(), history.values)
    assert not overlaps(figure)
