"""Figures of fits: the loss and what was measured, and two clouds in one frame."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from matplotlib.figure import Figure

from geomsink import plotting

RNG = np.random.default_rng(0)
LOSSES = [0.5, 0.3, 0.02, 0.03, 0.01]
MEASURED = [None, 0.2, None, 0.05, 0.07]
HISTORY = [
    {"step": k + 1, "loss": loss, "held_out": measured, "seconds": 0.1}
    for k, (loss, measured) in enumerate(zip(LOSSES, MEASURED, strict=True))
]


def test_training_shows_every_loss_and_what_was_measured_with_a_ring_around_the_best():
    ax = Figure().add_subplot()
    assert plotting.plot_training(HISTORY, ax) is ax
    losses, measured, best = (line.get_xydata().tolist() for line in ax.lines)
    assert losses == [[k + 1, loss] for k, loss in enumerate(LOSSES)]
    assert measured == [[2, 0.2], [4, 0.05], [5, 0.07]] and best == [[4, 0.05]]
    assert ax.get_yscale() == "log" and ax.get_legend().get_texts()[2].get_text() == "best, step 4"


def test_training_without_held_out_data_or_with_losses_below_zero_is_drawn_all_the_same():
    rows = [row | {"held_out": None} for row in HISTORY]
    assert len(plotting.plot_training(rows).lines) == 1
    rows[4]["loss"] = -0.01
    assert plotting.plot_training(rows).get_yscale() == "linear"
    rows[4]["loss"] = math.nan
    (line,) = plotting.plot_training(rows).lines
    assert np.isnan(line.get_ydata()).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize("dimension", [2, 3])
def test_both_clouds_of_a_fit_are_seen_from_the_same_place(dimension, tmp_path):
    target = RNG.random((60, dimension))
    figure = plotting.plot_fit(target, torch.from_numpy(2.0 * target), HISTORY, ("cow", "mine"), "Heading", "details")
    left, right, curves = figure.axes
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim() and len(curves.lines) == 3
    spans = [np.ptp(np.asarray(ax.collections[0].get_offsets()), axis=0) for ax in (left, right)]
    if dimension == 2:
        np.testing.assert_allclose(spans[1], 2 * spans[0], rtol=1e-9)
    else:  # perspective enlarges what is near, too
        assert (spans[1] > 1.5 * spans[0]).all()
    assert {text.get_text() for text in figure.texts} == {"Heading", "details", "cow   60 points", "mine   60 points"}
    plotting.save(figure, tmp_path / "fit.png", dpi=40)
    assert (tmp_path / "fit.png").stat().st_size > 1000


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match=r"^history: found no steps, expected at least one\.$"):
        plotting.plot_training([])
    with pytest.raises(ValueError, match=r"^history: found no 'held_out' in row 1, expected step, loss and held_out"):
        plotting.plot_training([HISTORY[0], {"step": 2, "loss": 0.1}])
    with pytest.raises(ValueError, match=r"^generated: found shape \(3,\), expected \(N, D\)"):
        plotting.plot_fit(RNG.random((9, 3)), RNG.random(3), HISTORY)
