"""The loss of an optimisation, step by step: of a flow, a barycentre or a registration."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .inputs import on_host
from .style import CLOUD_COLORS, log_scale, plain_axes, whole_steps

_DECADE = 10.0


def plot_history(history: Any, ax: Axes | None = None) -> Axes:
    """Draw the loss against the step of an optimisation.

    Parameters
    ----------
    history : object
        Its ``values`` are the losses, one a step: what `geomsink.transport.gradient_flow`, `register` and
        `barycenter` return.
    ax : matplotlib axis, optional

    Returns
    -------
    ax : matplotlib axis
        Logarithmic where all losses are positive and they span a factor of ten or more.

    Raises
    ------
    ValueError
        If the values are not a list of numbers.

    Examples
    --------
    >>> import geomsink, numpy as np
    >>> x = np.random.default_rng(0).random((20, 2))
    >>> flow = geomsink.transport.gradient_flow(x, x + 0.5, blur=0.2, steps=3)
    >>> len(plot_history(flow.history).lines[0].get_ydata()) == len(flow.history.values)
    True
    """
    values = on_host(history.values)
    if values.ndim != 1:
        raise ValueError(f"history: found values of shape {values.shape}, expected one number a step.")
    ax = plain_axes(ax, "step", "loss\n(units of the cost)")
    steps = np.arange(len(values))
    finite = np.isfinite(values)
    if not finite.any():
        return ax
    shown = values[finite]
    if shown.min() > 0 and shown.max() > _DECADE * shown.min():
        log_scale(ax)
    whole_steps(ax, steps[-1])
    ax.plot(steps, values, color=CLOUD_COLORS[0], lw=1.8, solid_capstyle="round", zorder=3)
    ax.plot(steps[finite][-1], shown[-1], "o", color=CLOUD_COLORS[0], ms=6, zorder=4, clip_on=False)
    return ax
