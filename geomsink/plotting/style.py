"""Colours, empty figures and plain axes, the same for all figures."""

from __future__ import annotations

from io import BytesIO
from typing import cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from .inputs import Array

BACKGROUND = "#0e1116"
INK = "#e6e9ef"
FAINT = "#8b93a1"
CLOUD_COLORS = ("#f2a65a", "#5ab4f2")
COLORMAP = "plasma"


class Page(Figure):
    """A figure that notebooks show by themselves, without pyplot and whatever its backend."""

    def _repr_png_(self) -> bytes:
        data = BytesIO()
        self.savefig(data, format="png", facecolor=self.get_facecolor())
        return data.getvalue()


class Panel(Axes):
    """An axis that has a figure of its own, and is shown as that."""

    def _repr_png_(self) -> bytes:
        return cast(Page, self.get_figure(root=True))._repr_png_()


def new_axes(width: float, height: float, place: tuple[float, float, float, float]) -> Axes:
    """One axis at this place of an empty figure, in shares of it."""
    return new_figure(width, height).add_axes(place, axes_class=Panel)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that is drawn without a display."""
    figure = Page(figsize=(width, height), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(ax: Axes | None, across: str, up: str) -> Axes:
    """An axis for lines, ``ax`` or one of a new figure, with two spines and these names on them."""
    if ax is None:
        ax = new_axes(7.0, 3.2, (0.12, 0.17, 0.85, 0.74))
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(colors=FAINT, which="both", labelsize=9)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel(across, color=FAINT, fontsize=10)
    ax.set_ylabel(up, color=FAINT, fontsize=10)
    return ax


def log_scale(ax: Axes) -> None:
    """Make the axis up the page logarithmic, with a few ticks."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=5))


def whole_steps(ax: Axes, last: float) -> None:
    """The axis across counts from 0 to ``last``, in whole numbers."""
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_xlim(0, max(last, 1.0) * 1.02)


def value_limits(values: Array) -> tuple[float, float]:
    """Ends for a colormap: all but the most extreme hundredth of the values is inside."""
    low, high = np.nanpercentile(values, [0.5, 99.5])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def colormap(cmap: str | Colormap) -> Colormap:
    return matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap
