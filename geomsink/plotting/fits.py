"""How a generator was fitted: its cloud beside the target, and its loss step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .inputs import Array, as_cloud
from .pages import Spread
from .scene import Scene
from .style import CLOUD_COLORS, FAINT, ink, log_scale, plain_axes, whole_steps

_CURVES = 2.6  # inches
_LOWEST, _HIGHEST = 2.5, 6.5  # inches, of the clouds
_DECADE = 10.0


def plot_training(history: Sequence[dict[str, Any]], ax: Axes | None = None) -> Axes:
    """Draw the loss of each training step, and the value on held-out data where it was measured.

    Parameters
    ----------
    history : sequence of dict
        One a step, with ``step``, ``loss`` and ``held_out``: of a `geomsink.generative.Fit` or a ``Trainer``.
    ax : matplotlib axis, optional

    Returns
    -------
    ax : matplotlib axis
        Logarithmic where all values are positive and they span a factor of ten or more. A ring is around the best
        value on held-out data.

    Raises
    ------
    ValueError
        If there is no step, or a row lacks one of these numbers.

    Examples
    --------
    >>> ax = plot_training([{"step": 1, "loss": 0.5, "held_out": None}, {"step": 2, "loss": 0.4, "held_out": 0.3}])
    >>> len(ax.lines)
    3
    """
    steps, losses, measured = (_column(history, name) for name in ("step", "loss", "held_out"))
    ax = plain_axes(ax, "step", "divergence\n(units of the cost)")
    shown = np.concatenate([losses, measured])
    shown = shown[np.isfinite(shown)]
    if len(shown) and shown.min() > 0 and shown.max() > _DECADE * shown.min():
        log_scale(ax)
    whole_steps(ax, steps[-1])
    ax.plot(steps, losses, color=CLOUD_COLORS[0], lw=1.0, alpha=0.85, zorder=2, label="loss of a step's points")
    known = np.isfinite(measured)
    if known.any():
        ax.plot(steps[known], measured[known], "o-", color=ink(ax), lw=1.4, ms=4, zorder=3, clip_on=False,
                label="held-out points")  # fmt: skip
        best = int(np.nanargmin(np.where(known, measured, np.nan)))
        ax.plot(steps[best], measured[best], "o", ms=11, mfc="none", mec=ink(ax), mew=1.4, zorder=4, clip_on=False,
                label=f"best, step {steps[best]:.0f}")  # fmt: skip
    ax.legend(frameon=False, labelcolor=ink(ax, FAINT), fontsize=9, loc="upper right", ncols=3, handlelength=1.6)
    return ax


def plot_fit(
    target: ArrayLike,
    generated: ArrayLike,
    history: Sequence[dict[str, Any]],
    names: Sequence[str] = ("target", "generated"),
    heading: str = "",
    details: str = "",
) -> Figure:
    """Draw a fitted generator: the target and its own cloud, seen from the same place, and the loss below.

    Parameters
    ----------
    target, generated : array or tensor (N, D), (M, D)
        As for `plot_clouds`.
    history : sequence of dict
        As for `plot_training`.
    names : two str, optional
    heading, details : str, optional
        As for `plot_gallery`.

    Returns
    -------
    figure : matplotlib figure

    Raises
    ------
    ValueError
        If a shape is wrong, or as `plot_training`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((50, 2))
    >>> rows = [{"step": k, "loss": 1.0 / k, "held_out": None} for k in (1, 2, 3)]
    >>> figure = plot_fit(x, x + 0.1, rows)
    """
    clouds = [as_cloud(target, "target"), as_cloud(generated, "generated")]
    scene = Scene(clouds)
    across, up = scene.size
    panel = float(np.clip(Spread.ACROSS * up / across, _LOWEST, _HIGHEST))
    spread = Spread(panel, _CURVES, heading, details)
    for k, (cloud, name, color) in enumerate(zip(clouds, names, reversed(CLOUD_COLORS), strict=True)):
        ax = scene.prepare(spread.panel(k, name, f"{len(cloud):,} points", color))
        scene.draw(ax, [cloud], [np.tile(to_rgb(color), (len(cloud), 1))])
    plot_training(history, spread.lines())
    return spread.figure


def _column(history: Sequence[dict[str, Any]], name: str) -> Array:
    """The numbers of this name, NaN where there is none."""
    if not len(history):
        raise ValueError("history: found no steps, expected at least one.")
    lacking = [k for k, row in enumerate(history) if name not in row]
    if lacking:
        raise ValueError(f"history: found no {name!r} in row {lacking[0]}, expected step, loss and held_out.")
    return np.array([row[name] for row in history], dtype=np.float64)  # None becomes NaN
