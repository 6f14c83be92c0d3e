"""The camera: where points of any dimension are on the page, and which hides which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection

from .discs import discs
from .inputs import Array
from .look import current
from .style import ink, new_axes, page_color

MAX_DRAWN = 20_000
"""More points than this add nothing to a figure but time: a random part of them is drawn."""

DISTANCE = 5.0
"""Of the camera, in radii of the scene."""
_SMALLEST, _LARGEST = 1.5, 0.16
"""Width of a disc: at least in printer's points, at most in radii of the scene."""
_SIDE = 6.0
"""Of a figure of its own, in inches, if it is square."""
_FARTHEST = 0.6
"""How much of its colour the back of a scene has; the rest is the page's."""


class Scene:
    """The camera for some clouds of one dimension: which axes are shown, from where, and how large.

    Attributes
    ----------
    axes : array (2 or 3, D)
        Right, up and, where there is a depth, towards the camera.
    centre : array (2 or 3,)
        Of the clouds, along ``axes``.
    radius : float
    lower, upper : array (2,)
        Corners of all that is drawn, on the page.
    """

    def __init__(self, clouds: Sequence[Array], axes: Array | None = None) -> None:
        shapes = [cloud.shape for cloud in clouds]
        other = [shape for shape in shapes if shape[1] != shapes[0][1]]
        if other:
            raise ValueError(f"x, y: found shapes {shapes[0]} and {other[0]}, expected the same number of columns.")
        every = np.concatenate(clouds)
        self.axes = _shown_axes(every) if axes is None else axes
        self.depth = len(self.axes) == 3
        shown = self.view(every)
        self.centre = (shown.min(axis=0) + shown.max(axis=0)) / 2
        self.radius = float(np.linalg.norm(shown - self.centre, axis=1).max()) or 1.0
        flat, _ = self.project(every)
        self.lower, self.upper = flat.min(axis=0), flat.max(axis=0)

    def view(self, cloud: Array) -> Array:
        """Coordinates along the axes of the camera, in units of the cloud."""
        shown: Array = cloud @ self.axes.T
        return shown

    def project(self, cloud: Array) -> tuple[Array, Array]:
        """Where points are on the page (N, 2), and how near they are: 0 for the back, 1 for the front."""
        shown = (self.view(cloud) - self.centre) / self.radius
        if not self.depth:
            return shown, np.ones(len(cloud))
        return shown[:, :2] * (DISTANCE / (DISTANCE - shown[:, 2]))[:, None], (1 + shown[:, 2]) / 2

    @property
    def size(self) -> Array:
        """Of all that is drawn, across and up, (2,): never 0, so that one can be divided by the other."""
        size: Array = np.maximum(self.upper - self.lower, 1e-9)
        return size

    def prepare(self, ax: Axes | None) -> Axes:
        """An axis, ``ax`` or one of a new figure, that shows the scene at its true proportions, without a frame."""
        if ax is None:
            across, up = self.size
            aspect = float(np.clip(across / up, 0.5, 2.0))
            place = 0.02, 0.08, 0.96, 0.84  # with a title above and a legend below
            ax = new_axes(_SIDE * aspect**0.5, _SIDE / aspect**0.5, place)
        if ax.name == "3d":
            raise ValueError("ax: found a 3D axis, expected a plain one: the projection is done here.")
        margin = 0.05 * (self.upper - self.lower).max() or 1.0  # for a single point
        ax.set_xlim(self.lower[0] - margin, self.upper[0] + margin)
        ax.set_ylim(self.lower[1] - margin, self.upper[1] + margin)
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.title.set_color(ink(ax))
        return ax

    def draw(self, ax: Axes, clouds: Sequence[Array], colors: Sequence[Array]) -> None:
        """Draw clouds from back to front, each point a disc of its colour (N, 3), in shade and in haze."""
        rng = np.random.default_rng(0)
        page = page_color(ax)
        smallest = _SMALLEST / _points_per_unit(ax)
        flats, nears, fills, sizes = [], [], [], []
        for cloud, color in zip(clouds, colors, strict=True):
            chosen = rng.permutation(len(cloud))[:MAX_DRAWN]
            flat, near = self.project(cloud[chosen])
            drawn = discs(cloud[chosen], self.axes, self.radius)
            haze = (1 - _FARTHEST) * (1 - near)[:, None]
            fills.append(color[chosen] * drawn.light[:, None] * (1 - haze) + page * haze)
            across, up = (np.clip(size / self.radius, smallest, _LARGEST) for size in (drawn.width, drawn.height))
            nearer = 0.85 + 0.3 * near if self.depth else np.ones(len(near))
            flats.append(flat)
            nears.append(near)
            sizes.append(np.column_stack([nearer * across, nearer * up, drawn.angle]))
        order = np.argsort(np.concatenate(nears), kind="stable")
        across, up, angle = np.concatenate(sizes)[order].T
        drawn_discs = EllipseCollection(
            across, up, angle, units="x", offsets=np.concatenate(flats)[order], offset_transform=ax.transData,
            facecolors=np.concatenate(fills)[order], linewidths=0, rasterized=True,
        )  # fmt: skip
        ax.add_collection(drawn_discs, autolim=False)


def principal_axes(cloud: Array) -> Array:
    """The three widest directions of a cloud (N, D), D of at least 3, as rows, the widest first."""
    centred = cloud - cloud.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes: Array = vectors[:, :-4:-1].T
    return axes


def _shown_axes(every: Array) -> Array:
    if every.shape[1] > 3:
        return principal_axes(every)  # widest across the page, then up it, then into it
    if every.shape[1] == 3:
        return current().axes
    return np.eye(2, every.shape[1])


def _points_per_unit(ax: Axes) -> float:
    """Printer's points to one unit of the axis, at equal aspect."""
    box = ax.get_window_extent()
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    return 72 / float(ax.figure.dpi) * min(box.width / (x1 - x0), box.height / (y1 - y0))
