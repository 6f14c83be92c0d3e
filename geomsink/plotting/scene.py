"""The camera: where points of any dimension are on the page, and how bright."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from scipy.spatial import cKDTree

from .inputs import Array
from .style import new_axes

MAX_DRAWN = 20_000
"""More points than this add nothing to a figure but time: a random part of them is drawn."""

AZIMUTH, ELEVATION, DISTANCE = 28.0, 22.0, 5.0  # y is up; the distance is in radii of the scene
_NEIGHBOURS = 12


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
            width, height = 6.0 * np.array([max(across / up, 1.0), max(up / across, 1.0)]).clip(max=2.0)
            ax = new_axes(width, height, (0.02, 0.08, 0.96, 0.9))
        if ax.name == "3d":
            raise ValueError("ax: found a 3D axis, expected a plain one: the projection is done here.")
        margin = 0.04 * (self.upper - self.lower).max() or 1.0  # for a single point
        ax.set_xlim(self.lower[0] - margin, self.upper[0] + margin)
        ax.set_ylim(self.lower[1] - margin, self.upper[1] + margin)
        ax.set_aspect("equal")
        ax.set_axis_off()
        return ax

    def draw(self, ax: Axes, clouds: Sequence[Array], colors: Sequence[Array]) -> None:
        """Draw clouds from back to front, each point in its colour (N, 3), dimmed by shade and distance."""
        rng = np.random.default_rng(0)
        flats, nears, fills, sizes = [], [], [], []
        for cloud, color in zip(clouds, colors, strict=True):
            chosen = rng.permutation(len(cloud))[:MAX_DRAWN]
            flat, near = self.project(cloud[chosen])
            light, width = self.light(cloud[chosen])
            dim = (light * (0.7 + 0.3 * near))[:, None]
            flats.append(flat)
            nears.append(near)
            fills.append(color[chosen] * dim + np.array(to_rgb(ax.figure.get_facecolor())) * (1 - dim))
            sizes.append(np.full(len(chosen), width / self.radius))
        near = np.concatenate(nears)
        order = np.argsort(near, kind="stable")
        diameter = np.clip(_points_per_unit(ax) * np.concatenate(sizes), 1.5, 12.0)
        diameter *= 0.85 + 0.3 * near if self.depth else 1.0
        across, up = np.concatenate(flats)[order].T
        ax.scatter(across, up, s=diameter[order] ** 2, c=np.concatenate(fills)[order], linewidths=0, rasterized=True)

    def light(self, cloud: Array) -> tuple[Array, float]:
        """How bright each point is in the light of a lamp on the camera, and how wide to draw a point.

        The normal is the narrowest direction of the neighbours. Where they have none, as inside a
        volume, the light is even. Dots on a surface overlap, so that it looks closed; others do not.
        """
        if len(cloud) <= _NEIGHBOURS:
            return np.ones(len(cloud)), 0.1 * self.radius
        distances, neighbours = cKDTree(cloud).query(cloud, _NEIGHBOURS)
        spacing = float(np.median(distances[:, 4]))
        if cloud.shape[1] != 3:
            return np.ones(len(cloud)), 0.6 * spacing
        around = cloud[neighbours] - cloud[neighbours].mean(axis=1, keepdims=True)
        spread, directions = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
        flatness = np.clip(1.1 - 6 * spread[:, 0] / np.maximum(spread[:, 1], 1e-30), 0, 1)
        facing = np.abs(directions[:, :, 0] @ self.axes[2])
        return 1 - flatness * 0.6 * (1 - facing) ** 1.2, float(0.6 + 1.5 * flatness.mean()) * spacing


def principal_axes(cloud: Array) -> Array:
    """The three widest directions of a cloud (N, D), D of at least 3, as rows, the widest first."""
    centred = cloud - cloud.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes: Array = vectors[:, :-4:-1].T
    return axes


def rotation(azimuth: float, elevation: float) -> Array:
    """Right, up and towards the camera, as rows: y is up, and the camera turned by two angles in degrees."""
    a, e = np.radians([azimuth, elevation])
    turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    turned: Array = tilt @ turn
    return turned


def _shown_axes(every: Array) -> Array:
    if every.shape[1] > 3:
        return principal_axes(every)  # widest across the page, then up it, then into it
    if every.shape[1] == 3:
        return rotation(AZIMUTH, ELEVATION)
    return np.eye(2, every.shape[1])


def _points_per_unit(ax: Axes) -> float:
    """Printer's points to one unit of the axis, at equal aspect."""
    box = ax.get_window_extent()
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    return 72 / float(ax.figure.dpi) * min(box.width / (x1 - x0), box.height / (y1 - y0))
