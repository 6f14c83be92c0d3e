"""Colours of points: by where they are, or by their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import Normalize, hsv_to_rgb, to_rgb
from numpy.typing import ArrayLike

from .inputs import Array, as_cloud, on_host
from .scene import principal_axes
from .style import COLORMAP, colormap, value_limits

_DISTINCT = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#bbbbbb")
"""Of Okabe and Ito, which all kinds of colour vision tell apart, with grey in the place of black."""
_GOLDEN = 0.381966  # of the colour circle, from one class to the next


def position_colors(points: ArrayLike) -> Array:
    """Give every point a colour that tells where it is, to be carried to another cloud by a plan.

    Neighbours have similar colours and distant points different ones, so that a cloud in transported
    colours shows where its mass comes from.

    Parameters
    ----------
    points : array or tensor (N, D)
        Of more than three dimensions, the first three principal axes are told.

    Returns
    -------
    colors : array (N, 3)
        Red, green and blue in [0, 1].

    Examples
    --------
    >>> position_colors([[0.0, 0.0, 0.0], [2.0, 4.0, 8.0]]).round(2)
    array([[0.15, 0.15, 0.15], [1.  , 1.  , 1.  ]])
    """
    cloud = as_cloud(points, "points")
    if cloud.shape[1] > 3:
        cloud = cloud @ principal_axes(cloud).T
    low, span = cloud.min(axis=0), np.ptp(cloud, axis=0)
    place = np.where(span > 0, (cloud - low) / np.where(span > 0, span, 1.0), 0.5)
    if place.shape[1] == 2:
        place = np.column_stack([place, 1 - place.mean(axis=1)])  # no corner is black, nor two alike
    elif place.shape[1] == 1:
        place = np.column_stack([place, 1 - np.abs(2 * place - 1), 1 - place])
    colors: Array = 0.15 + 0.85 * place
    return colors


def label_colors(labels: Any) -> Array:
    """Give every point a colour by its label, the same to equal labels: pass those of all clouds of a figure at once.

    Parameters
    ----------
    labels : array or tensor (N,) or (N, E)
        Integers, booleans and strings, of shape (N,), are classes and get distinct colours; other numbers the
        colours of a scale, the most extreme hundredth clipped. Rows of several numbers are coloured as places
        are (`position_colors`).

    Returns
    -------
    colors : array (N, 3)
        Red, green and blue in [0, 1].

    Raises
    ------
    ValueError
        If the labels have another shape.

    Examples
    --------
    >>> cow, horse, other = label_colors(["cow", "horse", "cow"])
    >>> bool((cow == other).all()), bool((cow == horse).all())
    (True, False)
    """
    given = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if given.ndim not in (1, 2) or 0 in given.shape:
        raise ValueError(f"labels: found shape {given.shape}, expected (N,) or (N, E) with at least one label.")
    if given.ndim == 2 and given.shape[1] > 1:
        return position_colors(given)
    column = given.reshape(-1)
    if column.dtype.kind == "f":
        values = on_host(column)
        return np.asarray(colormap(COLORMAP)(Normalize(*value_limits(values), clip=True)(values))[:, :3])
    classes, codes = np.unique(column, return_inverse=True)
    return _palette(len(classes))[codes]


def _palette(n: int) -> Array:
    """Colours that differ, as far as n of them can."""
    distinct = np.array([to_rgb(color) for color in _DISTINCT])
    if n <= len(distinct):
        return distinct[:n]
    k = np.arange(n)
    return np.asarray(hsv_to_rgb(np.column_stack([k * _GOLDEN % 1, 0.55 + 0.4 * (k % 2), 1 - 0.3 * (k % 3 == 2)])))
