"""Figures of how solvers and optimisers converged, and the page of a divergence."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import geomsink
from geomsink import shapes

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from geomsink import plotting
from geomsink.plotting.divergence import debiased


def steps(*entries, **more):
    history = [SimpleNamespace(evaluations=k, epsilon=e, marginal_error=m) for k, e, m in entries]
    return SimpleNamespace(history=history, **more)


@pytest.fixture(scope="module")
def solved():
    x, y = shapes.sample("knot", 200, seed=0), shapes.sample("star", 150, seed=1)
    return geomsink.sinkhorn_divergence(x, y, blur=0.2, tol=1e-8, engine="dense", dtype="float64"), x, y


def test_debiased_potentials_add_up_to_the_divergence(solved):
    result, _, _ = solved
    f, g = debiased(result)
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


def test_the_page_of_a_certified_divergence_says_so():
    x, y = shapes.sample("knot", 60, seed=0), shapes.sample("star", 50, seed=1)
    result = geomsink.sinkhorn_divergence(x, y, blur=0.2, engine="dense", certify=True)
    figure = plotting.plot_divergence(result, x, y)
    assert f"certain: {result.lower:.7g} to {result.upper:.7g}" in " ".join(text.get_text() for text in figure.texts)
    words = [text.get_text() for text in figure.axes[-1].texts]
    assert f"certified: relative gap {result.xy.gap / result.xy.value:.1e}" in words and "tol" in words


def certified(lower, upper, value=2.0):
    return steps((2, 0.1, 0.3), (4, 0.1, 1e-2), (6, 0.1, 1e-4), lower=lower, upper=upper, value=value)


def test_the_certified_interval_is_a_band_up_to_its_relative_width():
    ax = plotting.plot_certificate(certified(1.99, 2.01))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[2, 0.3], [4, 1e-2], [6, 1e-4]])
    (band,) = ax.patches
    bottom, top = ax.get_ylim()
    assert band.get_y() + band.get_height() == pytest.approx(0.01) and band.get_y() == pytest.approx(bottom)
    assert bottom < 1e-4 and top > 0.3
    assert [text.get_text() for text in ax.texts] == ["certified: relative gap 1.0e-02"]
    below = plotting.plot_certificate(certified(1.0 - 1e-8, 1.0 + 1e-8, torch.tensor(1.0)))
    assert 0 < below.get_ylim()[0] < 2e-8


def test_an_interval_that_no_log_scale_shows_is_left_out():
    for solution in (certified(2.0, 2.0), certified(-1.0, 1.0, 0.0)):
        assert len(plotting.plot_certificate(solution).patches) == 0


@pytest.mark.parametrize(("lower", "upper"), [(None, None), (1.0, None)])
def test_without_a_certificate_there_is_none_to_draw(lower, upper):
    with pytest.raises(ValueError, match=r"solution: found no certificate, expected .* certify=True"):
        plotting.plot_certificate(certified(lower, upper))


def test_a_loss_is_drawn_step_by_step():
    losses = [5.0, 1.0, 0.1, 0.02]
    ax = plotting.plot_history(SimpleNamespace(values=losses))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.column_stack([range(4), losses]))
    assert ax.get_yscale() == "log"
    assert plotting.plot_history(SimpleNamespace(values=torch.tensor(losses)), ax) is ax


@pytest.mark.parametrize(
    "losses", [[3.0, 2.0, 1.0], [3.0, 0.1, -1.0], [float("nan"), 2.0, 1.0], [1.0], [], [float("inf")]]
)
def test_a_loss_that_falls_little_or_below_zero_has_a_plain_scale(losses):
    assert plotting.plot_history(SimpleNamespace(values=losses)).get_yscale() == "linear"


def test_a_loss_is_one_number_a_step():
    with pytest.raises(ValueError, match=r"history: found values of shape \(2, 2\), expected one number a step"):
        plotting.plot_history(SimpleNamespace(values=np.zeros((2, 2))))
