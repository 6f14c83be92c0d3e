"""Figures of how solvers and optimisers converged, and the page of a divergence."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import geomsink
from geomsink import shapes

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
    assert [text.get_text() for text in ax.texts] == ["annealing, 3 temperatures", "tol 1e-02"]
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
    assert pixels.shape == (430, 640, 3)
    drawn = np.abs(pixels - pixels[0, 0]).max(axis=2) > 0.05
    for half in (slice(0, 320), slice(320, 600)):  # both clouds, in many colours
        part = pixels[120:280, half][drawn[120:280, half]]
        assert len(part) > 3000 and len(np.unique(part.round(2), axis=0)) > 200


def test_the_page_of_a_certified_divergence_says_so():
    x, y = shapes.sample("knot", 60, seed=0), shapes.sample("star", 50, seed=1)
    result = geomsink.sinkhorn_divergence(x, y, blur=0.2, engine="dense", certify=True)
    figure = plotting.plot_divergence(result, x, y)
    words = " ".join(text.get_text() for text in figure.texts)
    assert f"certain to be between {result.lower:.7g} and {result.upper:.7g}." in words
    assert f"As a length, {result.value**0.5:.2g}: " in words
    curve, interval = figure.axes[-2:]
    assert curve.get_yscale() == "log" and interval.get_yscale() == "linear"
    expected = [(bound - result.value) / result.value for bound in (result.lower, result.upper)]
    np.testing.assert_allclose(interval.lines[0].get_ydata(), expected)


def test_the_page_says_what_did_not_converge_and_which_level_is_drawn():
    x, y = shapes.sample("knot", 3000, seed=0), shapes.sample("star", 2500, seed=1)
    with pytest.warns(geomsink.ConvergenceWarning):
        stopped = geomsink.sinkhorn_divergence(x, y, blur=0.1, max_iter=1, multiscale=True)
    figure = plotting.plot_divergence(stopped, x, y)
    assert figure.texts[0].get_text().endswith("NOT CONVERGED")
    cells, *_ = stopped.xy.approximation.levels
    (said,) = [text.get_text() for text in figure.axes[-1].texts if "cells" in text.get_text()]
    assert f"after {cells[0]:,} × {cells[1]:,}" in said
    what = "points" if stopped.xy.approximation.nodes == (3000, 2500) else "nodes of sketches"
    assert said.startswith("{:,} × {:,} {}".format(*stopped.xy.approximation.nodes, what))


def test_few_cycles_are_dots_and_many_a_line():
    for n, marked in ((3, True), (500, False)):
        ax = plotting.plot_convergence(steps(*((2 * k, 0.1, 0.9**k) for k in range(1, n + 1))))
        assert (ax.lines[0].get_marker() == "o") is marked and len(ax.lines[0].get_xdata()) == n


def certified(lower, upper, value=2.0):
    return steps((2, 0.1, 0.3), (4, 0.1, 1e-2), (6, 0.1, 1e-4), lower=lower, upper=upper, value=value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((1.99, 2.02), (-0.005, 0.01)),
        ((1.0 - 1e-8, 1.0 + 1e-8, torch.tensor(1.0)), (-1e-8, 1e-8)),
        ((2.0, 2.0), (0, 0)),
        ((-1.0, 1.0, 0.0), (-1, 1)),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_the_certified_interval_has_an_axis_of_its_own(given, shown, own):
    figure = Figure(figsize=(6, 3))
    ax = plotting.plot_certificate(certified(*given), None if own else figure.add_subplot())
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[2, 0.3], [4, 1e-2], [6, 1e-4]])
    drawn, interval = ax.figure.axes
    assert drawn is ax and interval.get_ylim() != ax.get_ylim()
    np.testing.assert_allclose(interval.lines[0].get_ydata(), shown, atol=1e-14)
    assert interval.get_ylim()[0] < shown[0] and shown[1] < interval.get_ylim()[1]
    FigureCanvasAgg(ax.figure).draw()
    assert interval.get_window_extent().x0 > ax.get_window_extent().x1


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
