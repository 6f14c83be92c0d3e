"""How a solver converged: its marginal error, evaluation by evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .fitting import fit, width_of
from .inputs import Array, solved
from .style import CLOUD_COLORS, FAINT, INK, ink, log_scale, plain_axes, whole_steps

_FEW = 40
"""Steps that are drawn as dots on the line."""
_WIDE = 3.5
"""Inches of an axis that has room for a word on the levels."""


def plot_convergence(solution: Any, ax: Axes | None = None, tol: float | None = None) -> Axes:
    """Draw the marginal error against the evaluations: sums over all rows or all columns, two of them a cycle.

    Where there are few, each one that the error is known of is a dot. Annealing is shaded. Of a solve on several
    levels the last one is drawn, and what came before it is said.

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
    >>> plot_convergence(r, tol=r.tol).get_yscale()
    'log'
    """
    solution = solved(solution, "solution")
    steps = [(step.evaluations, step.epsilon, step.marginal_error) for step in solution.history]
    found = np.array(steps, dtype=np.float64).reshape(-1, 3)
    found = found[np.isfinite(found[:, 2]) & (found[:, 2] > 0)]  # what a log scale can show
    ax = plain_axes(ax, "evaluations", "marginal error\n(share of the mass)")
    if width_of(ax) > _WIDE:
        ax.set_xlabel("evaluations (sums over all rows or all columns, two a cycle)")
    if not len(found):
        return ax
    evaluations, epsilon, errors = found.T
    log_scale(ax)
    whole_steps(ax, evaluations.max())
    annealed = epsilon > epsilon[-1] * (1 + 1e-6)
    if annealed.any():
        _shade_annealing(ax, evaluations, annealed, len(np.unique(epsilon)))
    few = len(found) <= _FEW
    ax.plot(evaluations, errors, "o-" if few else "-", color=CLOUD_COLORS[0], lw=1.8 if few else 1.2, ms=3.5,
            solid_capstyle="round", zorder=3, clip_on=False)  # fmt: skip
    ax.plot(evaluations[-1], errors[-1], "o", color=CLOUD_COLORS[0], ms=6, zorder=4, clip_on=False)
    if tol:
        ax.axhline(tol, color=ink(ax, FAINT), lw=1, ls=(0, (4, 4)), zorder=1)
        ax.annotate(f"tol {tol:.0e}", (0, tol), (4, 3), color=ink(ax, FAINT), fontsize=9,
                    xycoords=("axes fraction", "data"), textcoords="offset points")  # fmt: skip
    _say_levels(ax, getattr(solution, "approximation", None))
    return ax


def _shade_annealing(ax: Axes, evaluations: Array, annealed: NDArray[np.bool_], temperatures: int) -> None:
    """All up to where the target's temperature is reached."""
    ax.axvspan(0, float(evaluations[annealed].max()), color=ink(ax, INK), alpha=0.07, lw=0, zorder=0)
    said = ax.annotate(f"annealing, {temperatures} temperatures", (0, 1), (0, 3), color=ink(ax, FAINT), fontsize=9,
                       xycoords="axes fraction", textcoords="offset points")  # fmt: skip
    fit(said, width_of(ax))


def _say_levels(ax: Axes, approximation: Any) -> None:
    """What was solved before the level that is drawn, in the corner that errors come down from."""
    if approximation is None or width_of(ax) < _WIDE:
        return
    drawn, points = approximation.nodes, approximation.levels[-1]
    earlier = [f"{n:,} × {m:,}" for n, m in approximation.levels[:-1] if (n, m) != drawn]
    said = f"{drawn[0]:,} × {drawn[1]:,} " + ("points" if drawn == points else "nodes of sketches")
    said += f", after {', then '.join(earlier)} cells" if earlier else ""
    ax.annotate(said, (1, 1), (0, -3), color=ink(ax, FAINT), fontsize=9, ha="right", va="top",
                xycoords="axes fraction", textcoords="offset points")  # fmt: skip
