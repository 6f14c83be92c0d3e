"""Clouds that move: frames in one figure, and as an animation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..counts import whole
from .colors import position_colors
from .inputs import as_cloud, as_colors
from .scene import Scene
from .style import CLOUD_COLORS, ink, new_figure, page_color

_FAINT = 0.35
"""Of the target's colour, the rest of the page's."""
_PANEL = 2.8  # inches, the wider side of a panel
_HEAD = 0.32  # inches, for a title


def plot_flow(
    frames: Sequence[ArrayLike],
    times: Sequence[float] | None = None,
    colors: ArrayLike | None = None,
    target: ArrayLike | None = None,
    panels: int = 8,
    columns: int | None = None,
) -> Figure:
    """Draw the frames of a flow side by side, all seen from the same place and at the same scale.

    Parameters
    ----------
    frames : sequence of arrays or tensors (N, D)
        Where the points are, frame by frame.
    times : sequence of float, optional
        Their titles; by default the numbers of the frames.
    colors : array or tensor (N, 3), optional
        Red, green and blue of each point in [0, 1], the same in all frames. By default a point is coloured
        by where it is in the first frame (`position_colors`).
    target : array or tensor (M, D), optional
        A cloud to draw faintly in all panels: where the points are going.
    panels : int, default 8
        How many frames to draw at most: evenly spaced ones, the first and the last among them.
    columns : int, optional
        Panels in a row; by default up to four, and rows as even as they can be.

    Returns
    -------
    figure : matplotlib figure

    Raises
    ------
    ValueError
        If there are no frames, or a shape or a number is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((50, 2))
    >>> len(plot_flow([x, x + 1, x + 2], times=[0.0, 0.5, 1.0]).axes)
    3
    """
    film = _Film(frames, times, colors, target)
    for name, count in (("panels", panels), ("columns", columns)):
        if count is not None:
            whole(name, count)
    chosen = np.unique(np.linspace(0, len(film.frames) - 1, min(panels, len(film.frames))).round().astype(int))
    rows = math.ceil(len(chosen) / (columns or 4))
    columns = columns or math.ceil(len(chosen) / rows)
    width, height = film.size(_PANEL)
    figure = new_figure(columns * width, rows * (height + _HEAD))
    for place, k in enumerate(chosen):
        row, column = divmod(place, columns)
        top = 1 - row / rows
        share = height / (height + _HEAD) / rows
        ax = figure.add_axes((column / columns, top - 1 / rows, 1 / columns, share))
        film.draw(ax, int(k))
        figure.text((column + 0.5) / columns, top - 0.62 * _HEAD / (height + _HEAD) / rows, film.titles[k],
                    color=ink(figure), fontsize=11, ha="center", va="center")  # fmt: skip
    return figure


def animate_flow(
    frames: Sequence[ArrayLike],
    times: Sequence[float] | None = None,
    colors: ArrayLike | None = None,
    target: ArrayLike | None = None,
    size: float = 5.0,
) -> FuncAnimation:
    """Show the frames of a flow one after the other, all seen from the same place and at the same scale.

    Parameters
    ----------
    frames, times, colors, target
        As for `plot_flow`; all frames are shown.
    size : float, default 5.0
        Inches, the wider side of the picture.

    Returns
    -------
    animation : matplotlib animation
        To be shown in a notebook, or passed to `save_animation`.

    Raises
    ------
    ValueError
        As for `plot_flow`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((20, 2))
    >>> animation = animate_flow([x, x + 0.1], times=[0.0, 1.0])
    >>> _ = animation.to_jshtml(fps=2)  # drawn once, as a notebook does
    """
    if not size > 0:
        raise ValueError(f"size: {size} given, expected a positive length in inches.")
    film = _Film(frames, times, colors, target)
    width, height = film.size(size)
    figure = new_figure(width, height + _HEAD)
    share = height / (height + _HEAD)
    ax = figure.add_axes((0, 0, 1, share))
    title = figure.text(0.5, (1 + share) / 2, "", color=ink(figure), fontsize=11, ha="center", va="center")

    def show(k: int) -> list[Any]:
        for drawn in list(ax.collections):
            drawn.remove()
        film.draw(ax, k)
        title.set_text(film.titles[k])
        return [*ax.collections, title]

    return FuncAnimation(figure, show, frames=len(film.frames), init_func=list, cache_frame_data=False)


class _Film:
    """Frames, checked, with one camera, one set of colours and one title each."""

    def __init__(
        self,
        frames: Sequence[ArrayLike],
        times: Sequence[float] | None,
        colors: ArrayLike | None,
        target: ArrayLike | None,
    ) -> None:
        if not len(frames):
            raise ValueError("frames: none given, expected at least one.")
        self.frames = [as_cloud(frame, f"frames: number {k}") for k, frame in enumerate(frames)]
        n = len(self.frames[0])
        for k, frame in enumerate(self.frames):
            if frame.shape != self.frames[0].shape:
                found, expected = frame.shape, self.frames[0].shape
                raise ValueError(f"frames: found shape {found} for number {k}, expected {expected}, as for number 0.")
        if times is not None and len(times) != len(frames):
            raise ValueError(f"times: {len(times)} given, expected {len(frames)}, one a frame.")
        self.titles = [f"t = {float(t):.3g}" for t in times] if times is not None else [*map(str, range(len(frames)))]
        self.colors = position_colors(self.frames[0]) if colors is None else as_colors(colors, n, "colors")
        self.target = [] if target is None else [as_cloud(target, "target")]
        if self.target and self.target[0].shape[1] != self.frames[0].shape[1]:
            found, dimension = self.target[0].shape, self.frames[0].shape[1]
            raise ValueError(f"target: found shape {found}, expected (M, {dimension}), of the dimension of the frames.")
        self.scene = Scene([*self.frames, *self.target])

    def size(self, wider: float) -> tuple[float, float]:
        """Width and height in inches of a picture that the scene fills."""
        across, up = self.scene.size
        width, height = wider * np.array([across, up]).clip(min=0.35 * max(across, up)) / max(across, up)
        return float(width), float(height)

    def draw(self, ax: Axes, k: int) -> None:
        self.scene.prepare(ax)
        for cloud in self.target:  # on its own and first, so that it hides no point
            color = _FAINT * np.array(to_rgb(CLOUD_COLORS[1])) + (1 - _FAINT) * page_color(ax)
            self.scene.draw(ax, [cloud], [np.tile(color, (len(cloud), 1))])
        self.scene.draw(ax, [self.frames[k]], [self.colors])
