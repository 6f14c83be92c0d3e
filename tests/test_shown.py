"""What is shown of results: one line, a table for notebooks, a number; figures that are shown by themselves."""

from __future__ import annotations

import math
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import geomsink
from geomsink import shown
from geomsink.transport import Votes, barycenter, gradient_flow, matching, register

NAN = math.nan
RNG = np.random.default_rng(0)
X, Y = RNG.random((500, 3)), RNG.random((400, 3)) + 0.1


@pytest.fixture(scope="module")
def r():
    return geomsink.sinkhorn_divergence(X, Y, blur=0.2, certify=True)


def results():
    x, y = X[:30], Y[:20]
    s = geomsink.solve(x, y, blur=0.3)
    batch = geomsink.sinkhorn_divergence(torch.rand(3, 20, 2), torch.rand(3, 25, 2), blur=0.3)
    flow = gradient_flow(x, y, blur=0.3, steps=3)
    generator = geomsink.generative.MLP(2, 3, width=4)
    fit = geomsink.generative.fit(
        generator, torch.rand(40, 3), geomsink.SinkhornDivergence(blur=0.5), steps=3, batch=20
    )
    return {
        "Solution": s, "Plan": s.plan, "Entries": s.plan.top_k(2), "Discrepancy": geomsink.mmd(x, y, blur=(0.3, 1.0)),
        "HausdorffDivergence": geomsink.hausdorff_divergence(x, y, blur=0.3), "Divergence": batch,
        "WassersteinBounds": geomsink.wasserstein_bounds(x, y), "Matching": matching(x, y), "Flow": flow,
        "History": flow.history, "FittedMeasure": barycenter([x, y], n=10, blur=0.3, steps=3),
        "Registration": register(x, y, blur=0.3), "Fit": fit, "Sketch": geomsink.sketch(x, blur=0.5),
        "Mesh": geomsink.shapes.Mesh(X, np.zeros((200, 3), dtype=int)),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::geomsink.ConvergenceWarning")
def test_every_result_is_one_line_and_a_table():
    for name, result in results().items():
        line = repr(result)
        assert line.startswith(f"{name}(") and line.endswith(")") and "\n" not in line and len(line) < 250, line
        page = ElementTree.fromstring(result._repr_html_())
        assert page.find("b").text == name and len(page.findall(".//tr")) >= 2
    votes = Votes(np.zeros(500, dtype=int), np.ones((500, 1)), np.arange(1))
    assert repr(votes) == "Votes(500 points, classes=1)"


def test_a_divergence_says_what_counts(r):
    certified = f"certified in [{r.lower:.9g}, {r.upper:.9g}]"
    said = f"value={r.value:.6g}, converged, {certified}, marginal_error={r.marginal_error:.6g}, 500 × 400 points, "
    assert repr(r).startswith(f"Divergence({said}")
    assert len(repr(r)) < 200 and len(repr(r.xy)) < 200
    page = ElementTree.fromstring(r._repr_html_())
    cells = {row.find("th").text: row.find("td").text for row in page.findall(".//tr")}
    assert (cells["value"], cells["state"], cells["points"]) == (f"{r.value:.6g}", "converged", "500 × 400 points")
    assert page.find("div/small").text.startswith("marginal error: ")
    drawn = page.find("{*}svg/{*}polyline").attrib["points"].split()
    assert len(drawn) == sum(step.marginal_error > 0.0 for step in r.xy.history)


def test_what_did_not_converge_says_so():
    with pytest.warns(geomsink.ConvergenceWarning):
        s = geomsink.solve(X[:50], Y[:50], blur=0.01, tol=1e-9, max_iter=1, multiscale=False)
    assert f"not converged: {s.status}" in repr(s) and shown.BAD in s._repr_html_()


def test_numbers(r):
    assert (
        float(r) == r.value
        and f"{r:.3f}" == f"{r.value:.3f}"
        and f"{r}" == repr(r)
        and f"{r.xy:e}" == f"{r.xy.value:e}"
    )
    assert r.plan is r.xy.plan and r.potentials is r.xy.potentials
    x = torch.rand(10, 2, requires_grad=True)
    live = geomsink.sinkhorn_divergence(x, torch.rand(10, 2), blur=0.3)
    assert float(live) == live.value.item()
    batch = geomsink.sinkhorn_divergence(torch.rand(3, 9, 2), torch.rand(3, 9, 2), blur=0.3)
    with pytest.raises(TypeError, match="float: a Divergence of a batch with 3 values was given, expected one"):
        float(batch)


def test_html_is_escaped():
    class Odd(shown.Shown):
        def _facts(self):
            return {"name": "<script>", "state": shown.state(False, "a < b"), "nothing": None}

    page = Odd()._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &lt; b" in page and "nothing" not in page


@pytest.mark.parametrize(
    "ups", [[], [1.0], [0.0, 0.0], [float("nan"), 2.0, float("inf")], [-1.0, 2.0, 0.5], [3.0, 3.0]]
)
def test_charts_of_odd_numbers(ups):
    drawn = shown.chart(shown.Curve(list(enumerate(ups)), 0.0))
    finite = [up for up in ups if np.isfinite(up)]
    assert bool(drawn) == (len(finite) > 1)
    if drawn:
        svg = ElementTree.fromstring(f"<div>{drawn}</div>").find("{*}svg")
        points = np.array([p.split(",") for p in svg.find("{*}polyline").attrib["points"].split()], dtype=float)
        assert len(points) == len(finite) and (points >= 0.0).all() and (points <= (shown.WIDTH, shown.HEIGHT)).all()


def test_a_chart_of_errors_is_logarithmic():
    page = ElementTree.fromstring(f"<div>{shown.chart(shown.Curve([(1, 1.0), (2, 0.1), (3, 0.01)], 0.05))}</div>")
    svg = page.find("{*}svg")
    said = "value: 1 to 0.01 in 3 steps; dashed: 0.05"
    assert svg.find("{*}title").text == said and page.find("div/small").text == said
    ups = [float(p.split(",")[1]) for p in svg.find("{*}polyline").attrib["points"].split()]
    assert ups[1] - ups[0] == pytest.approx(ups[2] - ups[1])


def test_figures_take_a_divergence_and_are_shown(r):
    pytest.importorskip("matplotlib")
    plotting = geomsink.plotting
    whole = r.plot(names=("one", "other"))
    assert whole._repr_png_().startswith(b"\x89PNG") and any("one" in text.get_text() for text in whole.texts)
    ax = plotting.plot_convergence(r)
    other = plotting.plot_convergence(r.xy)
    assert np.array_equal(ax.lines[0].get_ydata(), other.lines[0].get_ydata()) and ax._repr_png_()[:4] == b"\x89PNG"
    *_, interval = plotting.plot_certificate(r).figure.axes
    np.testing.assert_allclose(interval.get_yticks(), (np.array([r.lower, r.upper]) - r.value) / r.value)
    with pytest.raises(TypeError, match="solution: a float was given, expected a Solution or a Divergence"):
        plotting.plot_convergence(0.5)
    batch = geomsink.sinkhorn_divergence(np.ones((2, 3, 2)), np.ones((2, 3, 2)), blur=0.3)
    with pytest.raises(ValueError, match="plot: a batch of 2 divergences"):
        batch.plot()


def test_modules_come_when_they_are_asked_for():
    code = (
        "import sys, geomsink\n"
        "assert not any(name == 'matplotlib' or name.startswith('geomsink.compat') for name in sys.modules)\n"
        "assert {'plotting', 'compat'} <= set(dir(geomsink))\n"
        "geomsink.compat.geomloss.SamplesLoss, geomsink.compat.pot.solve_sample\n"
        "assert 'matplotlib' not in sys.modules\n"
        "assert not hasattr(geomsink, 'nothing') and not hasattr(geomsink.compat, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
