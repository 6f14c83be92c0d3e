"""Clouds: in one colour each, by one value a point, or in colours of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, to_rgb
from numpy.typing import ArrayLike

from .fitting import fit, width_of
from .inputs import Array, as_cloud, as_colors, as_values
from .scene import Scene
from .style import CLOUD_COLORS, COLORMAP, colormap, ink, value_limits

_HANDLE = 0.6
"""Inches of a legend that are not words, an entry."""


def plot_clouds(
    x: ArrayLike,
    y: ArrayLike,
    ax: Axes | None = None,
    colors: Sequence[str] = CLOUD_COLORS,
    labels: Sequence[str] | None = None,
) -> Axes:
    """Draw two clouds in one frame, one colour each.

    Parameters
    ----------
    x, y : array or tensor (N, D), (M, D)
        In three dimensions, y is up and the camera looks from above and from the side. Of more
        dimensions, the first three principal axes of both clouds together are shown.
    ax : matplotlib axis, optional
        A plain axis, not one of matplotlib's 3D ones.
    colors : two colours, optional
    labels : two str, optional
        Names for a legend.

    Returns
    -------
    ax : matplotlib axis

    Raises
    ------
    ValueError
        If a shape is wrong, or the axis is one of matplotlib's 3D ones; as all functions here do.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> ax = plot_clouds(x, x + 1.0, labels=("x", "x + 1"))
    """
    clouds = [as_cloud(x, "x"), as_cloud(y, "y")]
    scene = Scene(clouds)
    ax = scene.prepare(ax)
    fills = [np.tile(to_rgb(color), (len(cloud), 1)) for cloud, color in zip(clouds, colors, strict=True)]
    scene.draw(ax, clouds, fills)
    for color, label in zip(colors, labels or (), strict=False):
        ax.scatter([], [], s=40, color=color, label=label)
    if labels:
        legend = ax.legend(frameon=False, labelcolor=ink(ax), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2)
        for text in legend.get_texts():
            text.set_parse_math(False)
            fit(text, width_of(ax) / 2 - _HANDLE)
    return ax


def plot_potentials(
    points: ArrayLike,
    potential: ArrayLike,
    ax: Axes | None = None,
    cmap: str | Colormap = COLORMAP,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw a cloud coloured by one value a point, such as a dual potential.

    Parameters
    ----------
    points : array or tensor (N, D)
        As for `plot_clouds`.
    potential : array or tensor (N,)
    ax : matplotlib axis, optional
        A plain axis, not one of matplotlib's 3D ones.
    cmap : str or colormap, default "plasma"
    limits : (float, float), optional
        Values at the two ends of the colormap. By default all but the most extreme hundredth of the
        values is inside.

    Returns
    -------
    ax : matplotlib axis

    Raises
    ------
    ValueError
        If a shape is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> ax = plot_potentials(x, x[:, 0])
    """
    cloud = as_cloud(points, "points")
    values = as_values(potential, len(cloud), "potential")
    norm = Normalize(*(limits or value_limits(values)), clip=True)
    return _in_colors(cloud, colormap(cmap)(norm(values))[:, :3], ax)


def plot_colors(points: ArrayLike, colors: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw a cloud in colours of its own, such as those that a plan carried over from another cloud.

    Parameters
    ----------
    points : array or tensor (N, D)
        As for `plot_clouds`.
    colors : array or tensor (N, 3)
        Red, green and blue of each point, in [0, 1].
    ax : matplotlib axis, optional
        A plain axis, not one of matplotlib's 3D ones.

    Returns
    -------
    ax : matplotlib axis

    Raises
    ------
    ValueError
        If a shape is wrong, or colours are not in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink.plotting import position_colors
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> ax = plot_colors(x, position_colors(x))
    """
    cloud = as_cloud(points, "points")
    return _in_colors(cloud, as_colors(colors, len(cloud), "colors"), ax)


def _in_colors(cloud: Array, colors: Array, ax: Axes | None) -> Axes:
    scene = Scene([cloud])
    ax = scene.prepare(ax)
    scene.draw(ax, [cloud], [colors])
    return ax
