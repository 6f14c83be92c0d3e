"""Colours, empty figures and plain axes, the same for all figures."""

from __future__ import annotations

from io import BytesIO
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator

from .fitting import fit, width_of
from .inputs import Array
from .look import current

INK = "#e6e9ef"
FAINT = "#8b93a1"
ON_LIGHT = {INK: "#1b1f27", FAINT: "#5b6370"}
"""What takes their place on a light background."""
CLOUD_COLORS = ("#f7ac5c", "#3d8fdd")
"""Orange and blue, which all kinds of colour vision tell apart; in grey the orange is the lighter one."""
COLORMAP = "plasma"
_LUMINANCE = 0.2126, 0.7152, 0.0722


class Page(Figure):
    """A figure that notebooks show by themselves, without pyplot and whatever its backend."""

    def _repr_png_(self) -> bytes:
        data = BytesIO()
        self.savefig(data, format="png", facecolor=self.get_facecolor())
        return data.getvalue()


class Panel(Axes):
    """An axis that has a figure of its own, is shown as that, and has a title that stays within it."""

    def set_title(self, *args: Any, **options: Any) -> Text:
        """As any axis does it."""
        title = super().set_title(*args, **options)
        fit(title, width_of(self))
        return title

    def _repr_png_(self) -> bytes:
        return cast(Page, self.figure.figure)._repr_png_()


def new_axes(width: float, height: float, place: tuple[float, float, float, float]) -> Axes:
    """One axis at this place of an empty figure, in shares of it."""
    return new_figure(width, height).add_axes(place, axes_class=Panel)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that is drawn without a display."""
    figure = Page(figsize=(width, height), facecolor=current().background)
    FigureCanvasAgg(figure)
    return figure


def page_color(on: Figure | Axes) -> Array:
    """Red, green and blue of the page that a figure, or an axis of one, is drawn on; a transparent one is white."""
    figure = on if isinstance(on, Figure) else on.figure.figure
    *color, opacity = to_rgba(figure.get_facecolor())
    return np.array(color) * opacity + 1 - opacity


def ink(on: Figure | Axes, color: str = INK) -> str:
    """``INK`` or ``FAINT``, or what is as strong on a light page, whichever is read on this one."""
    return ON_LIGHT[color] if page_color(on) @ _LUMINANCE > 0.5 else color


def plain_axes(ax: Axes | None, across: str, up: str) -> Axes:
    """An axis for lines, ``ax`` or one of a new figure, with two spines and these names on them."""
    if ax is None:
        ax = new_axes(7.0, 3.2, (0.14, 0.17, 0.83, 0.74))
    ax.set_facecolor("none")
    faint = ink(ax, FAINT)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(faint)
    ax.title.set_color(ink(ax))
    ax.tick_params(colors=faint, which="both", labelsize=9)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel(across, color=faint, fontsize=10)
    ax.set_ylabel(up, color=faint, fontsize=10)
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
