"""Pages with a heading: clouds in a row, and a registration before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .clouds import plot_clouds, plot_colors
from .fitting import fit
from .history import plot_history
from .inputs import as_cloud
from .style import CLOUD_COLORS, FAINT, INK, ink, new_figure

_HEAD, _FOOT, _PANEL, _TITLE = 1.2, 0.3, 4.0, 0.5  # inches
_EDGE = 0.45
_LOSS, _LEGEND = 1.9, 2.5
_COLUMNS = 4


def page(width: float, height: float, heading: str, details: str, aside: float = 0.0) -> Figure:
    """A figure, in inches, with a heading and a line below it: they take 1.2 inches, and leave some free aside."""
    figure = new_figure(width, height)
    for words, down, size, color in ((heading, 0.44, 21, INK), (details, 0.82, 11, FAINT)):
        text = figure.text(_EDGE / width, 1 - down / height, words, color=ink(figure, color), fontsize=size,
                           va="center", parse_math=False)  # fmt: skip
        fit(text, width - 2 * _EDGE - aside)
    return figure


def caption(figure: Figure, x: float, y: float, width: float, name: str, note: str = "", color: str = "") -> None:
    """A name below a panel, no wider than so many inches, with a note that is not cut."""
    keep = f"   {note}" if note else ""
    text = figure.text(x, y, name + keep, color=color or ink(figure), fontsize=11, ha="center", parse_math=False)
    fit(text, width, keep)


class Spread:
    """A page of two panels side by side, with a caption each, and lines below.

    Parameters
    ----------
    panel, lines : float
        Their heights in inches.
    heading, details : str
        As for `page`.
    aside : float, default 0
        Inches that they leave free on the right.
    """

    WIDTH = 12.0
    ACROSS = 0.47 * WIDTH
    """Width of a panel, in inches."""

    def __init__(self, panel: float, lines: float, heading: str, details: str, aside: float = 0.0) -> None:
        self._panel, self._lines = panel, lines
        self.height = _HEAD + panel + _TITLE + lines
        self.figure = page(self.WIDTH, self.height, heading, details, aside)

    def panel(self, k: int, name: str, note: str = "", color: str = "") -> Axes:
        """The axis of panel k, with its caption below."""
        up = (self._lines + _TITLE / 2) / self.height
        caption(self.figure, 0.255 + 0.49 * k, up, self.ACROSS, name, note, color)
        bottom = (self._lines + _TITLE) / self.height
        return self.figure.add_axes((0.02 + 0.49 * k, bottom, self.ACROSS / self.WIDTH, self._panel / self.height))

    def lines(self) -> Axes:
        across, up = 0.9 / self.WIDTH, 0.62 / self.height
        return self.figure.add_axes((across, up, 1 - 1.5 * across, (self._lines - 0.85) / self.height))


def plot_gallery(
    clouds: Sequence[ArrayLike],
    colors: Sequence[ArrayLike],
    names: Sequence[str],
    heading: str = "",
    details: str = "",
) -> Figure:
    """Draw clouds next to each other, each as large as its panel, in colours of their own.

    Parameters
    ----------
    clouds : sequence of arrays or tensors (N, D)
        As for `plot_clouds`; they may differ in size and dimension.
    colors : sequence of arrays or tensors (N, 3)
        Red, green and blue of each point, in [0, 1].
    names : sequence of str
        What to call them.
    heading, details : str, optional
        Above all of it: a title, and a line below it.

    Returns
    -------
    figure : matplotlib figure

    Raises
    ------
    ValueError
        If there are no clouds, or not as many colours and names.

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink.plotting import position_colors
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> figure = plot_gallery([x, 2.0 * x], [position_colors(x)] * 2, ["x", "2 x"], heading="One cloud, twice")
    """
    if not len(clouds) or not len(clouds) == len(colors) == len(names):
        found = f"{len(clouds)} clouds, {len(colors)} colors and {len(names)} names"
        raise ValueError(f"clouds, colors, names: found {found}, expected as many of each, at least one.")
    rows = math.ceil(len(clouds) / _COLUMNS)
    columns = math.ceil(len(clouds) / rows)
    width = max(columns, 2) * _PANEL
    height = _HEAD + rows * (_PANEL + _TITLE) + _FOOT
    figure = page(width, height, heading, details)
    for k, (cloud, color, name) in enumerate(zip(clouds, colors, names, strict=True)):
        row, column = divmod(k, columns)
        bottom = height - _HEAD - row * (_PANEL + _TITLE) - _PANEL
        share = 1 / max(columns, 2)
        ax = figure.add_axes(((column + 0.05) * share, bottom / height, 0.9 * share, _PANEL / height))
        plot_colors(cloud, color, ax)
        note = f"{len(as_cloud(cloud, 'clouds')):,} points"
        caption(figure, (column + 0.5) * share, (bottom - _TITLE / 2) / height, 0.95 * share * width, name, note)
    return figure


def plot_registration(
    x: ArrayLike,
    moved: ArrayLike,
    y: ArrayLike,
    history: Any,
    names: Sequence[str] = ("x", "y"),
    heading: str = "",
    details: str = "",
) -> Figure:
    """Draw a registration: both clouds before and after, and the loss of its last level.

    Parameters
    ----------
    x, moved : array or tensor (N, D)
        A cloud before and after.
    y : array or tensor (M, D)
        What it was moved onto.
    history : object
        As for `plot_history`.
    names : two str, optional
    heading, details : str, optional
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
    >>> x = np.random.default_rng(0).random((30, 2))
    >>> found = geomsink.transport.register(x, x + 0.5, blur=0.2)
    >>> figure = plot_registration(x, found.points, x + 0.5, found.history[-1])
    """
    spread = Spread(_PANEL, _LOSS, heading, details, aside=_LEGEND)
    for k, (cloud, title) in enumerate(((x, "before"), (moved, "after"))):
        plot_clouds(cloud, y, spread.panel(k, title))
    for k, (name, color) in enumerate(zip(names, CLOUD_COLORS, strict=True)):
        right, top = 1 - _EDGE / spread.WIDTH, 1 - (0.44 + 0.38 * k) / spread.height
        text = spread.figure.text(right, top, f"● {name}", color=color, fontsize=11, ha="right", va="center",
                                  parse_math=False)  # fmt: skip
        fit(text, _LEGEND)
    plot_history(history, spread.lines())
    return spread.figure
