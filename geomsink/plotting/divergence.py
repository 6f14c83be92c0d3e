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
from .inputs import Array, as_cloud, on_host
from .pages import caption, page
from .style import COLORMAP, FAINT, colormap, value_limits


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
    figure = page(12.8, 8.0, f"Sinkhorn divergence  {result.value:.6g}", _details(result))
    for k, (cloud, potential, name) in enumerate(zip(clouds, potentials, names, strict=True)):
        ax = figure.add_axes((0.015 + 0.46 * k, 0.285, 0.45, 0.575))
        plot_potentials(cloud, potential, ax, limits=limits)
        caption(figure, 0.24 + 0.46 * k, 0.262, f"{name}   {len(cloud):,} points")
    bar = figure.add_axes((0.94, 0.36, 0.008, 0.42))
    _colorbar(bar, limits)
    draw = plot_convergence if result.xy.gap is None else plot_certificate
    draw(result.xy, figure.add_axes((0.075, 0.085, 0.873, 0.135)), tol=result.tol)
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
    ax.tick_params(colors=FAINT, labelsize=9, length=0)
    ax.set_title("debiased\npotential", color=FAINT, fontsize=9, pad=10)


def _details(result: Any) -> str:
    """One line under the title: how the number was made, and how far it can be trusted."""
    parts = [
        f"ε = {result.temperatures[0]:.3g} → {result.epsilon:.3g} in {len(result.temperatures)} temperatures"
        if len(result.temperatures) > 1
        else f"ε = {result.epsilon:.3g}",
        *([] if result.gap is None else [f"certain: {result.lower:.7g} to {result.upper:.7g}"]),
        f"marginal error {result.marginal_error:.1e}" + ("" if result.converged else "  NOT CONVERGED"),
        f"{result.n_iter} iterations",
        f"{result.engine}, {result.dtype}",
        f"{result.seconds:.1f} s",
    ]
    return "    ".join(parts)
