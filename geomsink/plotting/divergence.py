"""One page for a Sinkhorn divergence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from .certificate import plot_certificate
from .clouds import plot_potentials
from .convergence import plot_convergence
from .fitting import fit
from .inputs import Array, as_cloud, on_host
from .pages import caption, page
from .style import COLORMAP, FAINT, colormap, ink, value_limits

_WIDTH, _HEIGHT, _EDGE = 12.8, 8.6, 0.45  # inches


def plot_divergence(result: Any, x: ArrayLike, y: ArrayLike, names: Sequence[str] = ("x", "y")) -> Figure:
    """Draw a Sinkhorn divergence: both clouds with their debiased potentials, and the convergence.

    The colour of a point is its debiased potential, f - f_xx on the first cloud and g - g_yy on the
    second, with the free constant between the two chosen so that both have the same mean. For the
    entropic form and converged potentials, the two weighted means add up to the divergence: bright
    points are the ones that cost.

    Parameters
    ----------
    result : Divergence
        What `geomsink.sinkhorn_divergence` returned for ``x`` and ``y``.
    x, y : array or tensor (N, D), (M, D)
    names : two str, optional
        As for `plot_gallery`.

    Returns
    -------
    figure : matplotlib figure

    Raises
    ------
    ValueError
        If a shape is wrong.

    Examples
    --------
    >>> import geomsink, numpy as np
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> r = geomsink.sinkhorn_divergence(x, x + 0.1, blur=0.1)
    >>> figure = plot_divergence(r, x, x + 0.1, names=("x", "x + 0.1"))
    """
    clouds = [as_cloud(x, "x"), as_cloud(y, "y")]
    potentials = debiased(result)
    limits = value_limits(np.concatenate(potentials))
    heading = f"Sinkhorn divergence  {result.value:.6g}" + ("" if result.converged else "   NOT CONVERGED")
    figure = page(_WIDTH, _HEIGHT, heading, _details(result))
    for k, line in enumerate(_explanations(result)):
        up = 1 - (1.16 + 0.25 * k) / _HEIGHT
        text = figure.text(_EDGE / _WIDTH, up, line, color=ink(figure), fontsize=11, va="center")
        fit(text, _WIDTH - 2 * _EDGE)
    for k, (cloud, potential, name) in enumerate(zip(clouds, potentials, names, strict=True)):
        ax = figure.add_axes((0.015 + 0.46 * k, 2.3 / _HEIGHT, 0.45, 4.6 / _HEIGHT))
        plot_potentials(cloud, potential, ax, limits=limits)
        caption(figure, 0.24 + 0.46 * k, 2.1 / _HEIGHT, 5.6, name, f"{len(cloud):,} points")
    bar = figure.add_axes((0.935, 3.0 / _HEIGHT, 0.008, 3.2 / _HEIGHT))
    _colorbar(bar, limits)
    draw = plot_convergence if result.gap is None else plot_certificate
    draw(result, figure.add_axes((0.075, 0.68 / _HEIGHT, 0.873, 1.0 / _HEIGHT)), tol=result.tol)
    return figure


def debiased(result: Any) -> tuple[Array, Array]:
    """Debiased potentials (N,) and (M,), with one mean: see `plot_divergence`."""
    f, g = (on_host(potential) for potential in result.xy.potentials)
    f = f - on_host(result.xx.potentials[0])
    g = g - on_host(result.yy.potentials[0])
    gap = (g.mean() - f.mean()) / 2
    return f + gap, g - gap


def _colorbar(ax: Axes, limits: tuple[float, float]) -> None:
    mappable = ScalarMappable(Normalize(*limits), colormap(COLORMAP))
    bar = ax.figure.colorbar(mappable, cax=ax)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(4)
    ax.tick_params(colors=ink(ax, FAINT), labelsize=9, length=0)
    ax.set_title("debiased\npotential,\nin units of\nthe cost", color=ink(ax, FAINT), fontsize=9, pad=10)


def _details(result: Any) -> str:
    """One line under the title: how the number was made, and how far it can be trusted."""
    parts = [
        f"ε = {result.temperatures[0]:.3g} → {result.epsilon:.3g} in {len(result.temperatures)} temperatures"
        if len(result.temperatures) > 1
        else f"ε = {result.epsilon:.3g}",
        f"marginal error {result.marginal_error:.1e}",
        f"{result.n_iter} cycles, {result.xy.n_iter} of them between the two",
        f"{result.engine}, {result.dtype}",
        f"{result.seconds:.1f} s",
    ]
    return "    ".join(parts)


def _explanations(result: Any) -> list[str]:
    """What the number means, and what the colours are: a line each."""
    lines = []
    if result.length is not None:
        lines.append(f"As a length, {result.length:.2g}: about how far mass moves, in the units of the coordinates.")
    if result.gap is not None:
        certain = f"It is certain to be between {result.lower:.7g} and {result.upper:.7g}."
        lines[:] = [" ".join([*lines, certain])]
    if result.form == "entropic":
        lines.append("Colours are debiased potentials. Their means over the two clouds add up to the divergence: "
                     "bright points are the ones that cost.")  # fmt: skip
    return lines
