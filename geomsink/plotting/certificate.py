"""How far a solution can be from the truth: its error against the work, and the interval that is certain."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from mpl_toolkits.axes_grid1 import make_axes_locatable  # type: ignore[import-untyped]  # a part of matplotlib

from .convergence import plot_convergence
from .inputs import solved
from .style import CLOUD_COLORS, FAINT, ink, plain_axes

_INTERVAL, _BETWEEN = 0.5, 0.75
"""Inches: across the axis of the interval, and between it and the other one."""


def plot_certificate(solution: Any, ax: Axes | None = None, tol: float | None = None) -> Axes:
    """Draw the marginal error against the evaluations, and on an axis of its own the interval that is certain.

    That axis, to the right of the other, has (bound - value)/|value|: 0 is the value found, and the true one lies on
    the bar, whatever the marginal error.

    Parameters
    ----------
    solution : Solution or Divergence
        With a certificate: its ``lower`` and ``upper`` are not None. Of a divergence, the interval is its own, and the
        error is that of the problem between the two clouds.
    ax : matplotlib axis, optional
        It gives some of its room to the other axis.
    tol : float, optional
        Where the solver was asked to stop: a dashed line.

    Returns
    -------
    ax : matplotlib axis
        That of the marginal error; ``ax.figure.axes[-1]`` is that of the interval.

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        If the solution has no certificate.

    Examples
    --------
    >>> import geomsink, numpy as np
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> r = geomsink.sinkhorn_divergence(x, x + 0.1, blur=0.1, certify=True)
    >>> ax = plot_certificate(r, tol=r.tol)
    >>> len(ax.figure.axes)
    2
    """
    solved(solution, "solution")
    if solution.lower is None or solution.upper is None:
        raise ValueError("solution: found no certificate, expected one that was solved with certify=True.")
    own = plain_axes(ax, "", "")
    beside = make_axes_locatable(own).append_axes("right", size=_INTERVAL, pad=_BETWEEN)
    ax = plot_convergence(solution, own, tol)
    _draw_interval(beside, *(float(number) for number in (solution.lower, solution.value, solution.upper)))
    return ax


def _draw_interval(ax: Axes, lower: float, value: float, upper: float) -> None:
    scale = abs(value) or 1.0
    low, high = (lower - value) / scale, (upper - value) / scale
    plain_axes(ax, "", "")
    ax.set_title("certain", color=CLOUD_COLORS[1], fontsize=9)
    ax.plot([0, 0], [low, high], color=CLOUD_COLORS[1], lw=5, alpha=0.5, solid_capstyle="butt")
    ax.plot(0, 0, "o", color=CLOUD_COLORS[0], ms=6, clip_on=False)
    ax.annotate("value", (0, 0), (8, 0), color=ink(ax, FAINT), fontsize=8, va="center", textcoords="offset points")
    ax.set_yticks([low, high], [f"{low:+.0e}", f"{high:+.0e}"])
    ax.set_xticks([])
    room = 0.15 * (high - low) or 1e-9
    ax.set(xlim=(-0.4, 1), ylim=(low - room, high + room))
    ax.spines["bottom"].set_visible(False)
    ax.set_xlabel("relative\nerror" if value else "error", color=ink(ax, FAINT), fontsize=9)
