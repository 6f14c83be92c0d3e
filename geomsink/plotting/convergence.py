"""How a solver converged: its marginal error, evaluation by evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .inputs import Array, solved
from .style import CLOUD_COLORS, FAINT, INK, log_scale, plain_axes, whole_steps


def plot_convergence(solution: Any, ax: Axes | None = None, tol: float | None = None) -> Axes:
    """Draw the marginal error against the row sums evaluated, the annealing phase shaded.

    Parameters
    ----------
    solution : Solution or Divergence
        Of a divergence, the problem between the two clouds.
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

    Examples
    --------
    >>> import geomsink, numpy as np
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> r = geomsink.sinkhorn_divergence(x, x + 0.1, blur=0.1)
    >>> plot_convergence(r, tol=r.tol).get_ylabel()
    'marginal error'
    """
    history = solved(solution, "solution").history
    steps = [(step.evaluations, step.epsilon, step.marginal_error) for step in history]
    found = np.array(steps, dtype=np.float64).reshape(-1, 3)
    found = found[np.isfinite(found[:, 2]) & (found[:, 2] > 0)]  # what a log scale can show
    ax = plain_axes(ax, "evaluations of the kernel", "marginal error")
    if not len(found):
        return ax
    evaluations, epsilon, errors = found.T
    log_scale(ax)
    whole_steps(ax, evaluations.max())
    annealed = epsilon > epsilon[-1] * (1 + 1e-6)
    if annealed.any():
        _shade_annealing(ax, evaluations, annealed)
    ax.plot(evaluations, errors, color=CLOUD_COLORS[0], lw=1.8, solid_capstyle="round", zorder=3)
    ax.plot(evaluations[-1], errors[-1], "o", color=CLOUD_COLORS[0], ms=6, zorder=4, clip_on=False)
    if tol:
        ax.axhline(tol, color=FAINT, lw=1, ls=(0, (4, 4)), zorder=1)
        ax.annotate("tol", (0, tol), (4, 3), color=FAINT, fontsize=9,
                    xycoords=("axes fraction", "data"), textcoords="offset points")  # fmt: skip
    return ax


def _shade_annealing(ax: Axes, evaluations: Array, annealed: NDArray[np.bool_]) -> None:
    end = float(evaluations[annealed].max())
    ax.axvspan(0, end, color=INK, alpha=0.07, lw=0, zorder=0)
    ax.annotate("annealing", (end / 2, 1), (0, 3), color=FAINT, fontsize=9, ha="center", va="bottom",
                xycoords=("data", "axes fraction"), textcoords="offset points")  # fmt: skip
