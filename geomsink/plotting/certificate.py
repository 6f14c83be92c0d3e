"""How far a solution can be from the truth: its error against the work, and the interval that is certain."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes

from .convergence import plot_convergence
from .inputs import solved
from .style import CLOUD_COLORS


def plot_certificate(solution: Any, ax: Axes | None = None, tol: float | None = None) -> Axes:
    """Draw the marginal error against the row sums evaluated, with the certified relative error as a band.

    The band ends at (upper − lower)/|value|: the value is certain to be that close to the truth, relative to
    itself, whatever the marginal error.

    Parameters
    ----------
    solution : Solution or Divergence
        With a certificate: its ``lower`` and ``upper`` are not None. Of a divergence, the band is its own, and the
        error is that of the problem between the two clouds.
    ax : matplotlib axis, optional
    tol : float, optional
        Where the solver was asked to stop: a dashed line.

    Returns
    -------
    ax : matplotlib axis

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
    """
    solved(solution, "solution")
    if solution.lower is None or solution.upper is None:
        raise ValueError("solution: found no certificate, expected one that was solved with certify=True.")
    ax = plot_convergence(solution, ax, tol)
    value = abs(float(solution.value))
    gap = (float(solution.upper) - float(solution.lower)) / value if value else math.inf
    if 0 < gap < math.inf:  # what a log scale can show
        bottom = min(ax.get_ylim()[0], gap / 3)
        ax.set_ylim(bottom=bottom)
        ax.axhspan(bottom, gap, color=CLOUD_COLORS[1], alpha=0.18, lw=0, zorder=0)
        ax.axhline(gap, color=CLOUD_COLORS[1], lw=1.2, zorder=2)
        # On the left, where errors are still far above it.
        ax.annotate(f"certified: relative gap {gap:.1e}", (0, gap), (4, 3), color=CLOUD_COLORS[1], fontsize=9,
                    xycoords=("axes fraction", "data"), textcoords="offset points")  # fmt: skip
    return ax
