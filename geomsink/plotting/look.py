"""How figures look: from where clouds are seen, and on which background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.colors import is_color_like

from .inputs import Array

BACKGROUND = "#0e1116"
UPS = {"x": (2, 0, 1), "y": (0, 1, 2), "z": (1, 2, 0)}
"""By the coordinate that is up: the coordinates that are across, up and towards the camera at an azimuth of 0."""


@dataclass(frozen=True)
class Look:
    """What `look` sets."""

    azimuth: float = 28.0
    elevation: float = 22.0
    up: str = "y"
    background: str = BACKGROUND

    @property
    def axes(self) -> Array:
        """Right, up and towards the camera, as rows (3, 3)."""
        a, e = np.radians([self.azimuth, self.elevation])
        turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
        tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
        axes: Array = (tilt @ turn) @ np.eye(3)[[*UPS[self.up]]]
        return axes


_DEFAULT = Look()
_LOOK = ContextVar("look", default=_DEFAULT)


def current() -> Look:
    return _LOOK.get()


@contextmanager
def look(
    azimuth: float | None = None, elevation: float | None = None, up: str | None = None, background: str | None = None
) -> Iterator[None]:
    """Set from where three-dimensional clouds are seen, and on which background, for the figures made within.

    What is not given stays as it is. All functions of this module follow it, and so does ``Divergence.plot``.

    Parameters
    ----------
    azimuth : float, default 28
        Degrees by which the camera is turned around the axis that is up. At 0 it looks along the next axis but one
        from its positive end: along z where y is up. At 180 it looks from behind.
    elevation : float, default 22
        Degrees by which the camera is above the horizon, from -90 to 90.
    up : {"y", "z", "x"}, optional
        The coordinate that is up, "y" by default, as in most meshes. Scans of rooms and of land have "z".
    background : colour, optional
        Of new figures: "#0e1116", which is nearly black, by default; "white" for paper. Lines and words are light on
        a dark background and dark on a light one.

    Returns
    -------
    context manager
        To be entered by ``with``.

    Raises
    ------
    ValueError
        If a value is not one of these.

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink.plotting import plot_clouds
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> with look(azimuth=-140, background="white"):
    ...     ax = plot_clouds(x, x + 1.0)
    """
    given: dict[str, Any] = {"azimuth": azimuth, "elevation": elevation, "up": up, "background": background}
    chosen = replace(current(), **{name: value for name, value in given.items() if value is not None})
    if not np.isfinite(chosen.azimuth):
        raise ValueError(f"azimuth: {azimuth} given, expected a finite number of degrees.")
    if not -90.0 <= chosen.elevation <= 90.0:
        raise ValueError(f"elevation: {elevation} given, expected degrees from -90 to 90.")
    if chosen.up not in UPS:
        raise ValueError(f"up: {up!r} given, expected one of {', '.join(UPS)}.")
    if not is_color_like(chosen.background):
        raise ValueError(f"background: {background!r} given, expected a colour, such as 'white' or '#0e1116'.")
    token = _LOOK.set(chosen)
    try:
        yield
    finally:
        _LOOK.reset(token)
