"""Figures: clouds, their potentials, and how a solver converged.

A function takes a matplotlib axis, draws on it and returns it; without one, it makes a figure of its
own. Nothing here touches pyplot or its choice of a backend, so that figures are made without a display,
and in the middle of a notebook or a program that has figures of its own.

Clouds are drawn on plain axes: three-dimensional ones are projected here, sorted by depth and lit from
the camera, which gives surfaces a shape where matplotlib's own 3D axes give a flat mist of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, Normalize, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator
except ImportError as error:
    raise ImportError("figures need the package matplotlib: pip install 'geomsink[plot]'") from error

import matplotlib

Array = NDArray[np.float64]

BACKGROUND = "#0e1116"
INK = "#e6e9ef"
FAINT = "#8b93a1"
CLOUD_COLORS = ("#f2a65a", "#5ab4f2")
COLORMAP = "plasma"
MAX_DRAWN = 20_000
"""More points than this add nothing to a figure but time: a random part of them is drawn."""

_AZIMUTH, _ELEVATION, _DISTANCE = 28.0, 22.0, 5.0  # y is up; the distance is in radii of the scene
_NEIGHBOURS = 12


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
    """
    clouds = [_cloud(x, "x"), _cloud(y, "y")]
    scene = _Scene(clouds)
    ax = _prepare(ax, scene)
    fills = [np.tile(to_rgb(color), (len(cloud), 1)) for cloud, color in zip(clouds, colors, strict=True)]
    scene.draw(ax, clouds, fills)
    for color, label in zip(colors, labels or (), strict=False):
        ax.scatter([], [], s=40, color=color, label=label)
    if labels:
        ax.legend(frameon=False, labelcolor=INK, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2)
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
    """
    cloud = _cloud(points, "points")
    values = _host(potential)
    if values.shape != (len(cloud),):
        raise ValueError(f"potential: found shape {values.shape}, expected ({len(cloud)},), one value a point.")
    scene = _Scene([cloud])
    ax = _prepare(ax, scene)
    norm = Normalize(*(limits or _limits(values)), clip=True)
    scene.draw(ax, [cloud], [_colormap(cmap)(norm(values))[:, :3]])
    return ax


def plot_convergence(solution: Any, ax: Axes | None = None, tol: float | None = None) -> Axes:
    """Draw the marginal error against the row sums evaluated, the annealing phase shaded.

    Parameters
    ----------
    solution : Solution
        For instance ``result.xy``.
    ax : matplotlib axis, optional
    tol : float, optional
        Where the solver was asked to stop: a dashed line.

    Returns
    -------
    ax : matplotlib axis
    """
    steps = [(step.evaluations, step.epsilon, step.marginal_error) for step in solution.history]
    history = np.array(steps, dtype=np.float64).reshape(-1, 3)
    history = history[np.isfinite(history[:, 2]) & (history[:, 2] > 0)]  # what a log scale can show
    ax = _figure(7.0, 3.2).add_axes((0.1, 0.17, 0.87, 0.78)) if ax is None else ax
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(FAINT)
    ax.tick_params(colors=FAINT, which="both", labelsize=9)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("evaluations of the kernel", color=FAINT, fontsize=10)
    ax.set_ylabel("marginal error", color=FAINT, fontsize=10)
    if not len(history):
        return ax
    evaluations, epsilon, errors = history.T
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=5))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_xlim(0, evaluations.max() * 1.02)
    annealed = epsilon > epsilon[-1] * (1 + 1e-6)
    if annealed.any():
        _shade_annealing(ax, evaluations, annealed)
    ax.plot(evaluations, errors, color=CLOUD_COLORS[0], lw=1.8, solid_capstyle="round", zorder=3)
    ax.plot(evaluations[-1], errors[-1], "o", color=CLOUD_COLORS[0], ms=6, zorder=4, clip_on=False)
    if tol:
        ax.axhline(tol, color=FAINT, lw=1, ls=(0, (4, 4)), zorder=1)
        ax.annotate("tol", (0, tol), (4, 3), color=FAINT, fontsize=9,
                    xycoords=("axes fraction", "data"), textcoords="offset points")  # fmt: skip
    return ax


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
        What to call the clouds.

    Returns
    -------
    figure : matplotlib figure
        To be shown in a notebook, or passed to `save`.
    """
    clouds = [_cloud(x, "x"), _cloud(y, "y")]
    potentials = _debiased(result)
    limits = _limits(np.concatenate(potentials))
    figure = _figure(12.8, 8.0)
    for k, (cloud, potential, name) in enumerate(zip(clouds, potentials, names, strict=True)):
        ax = figure.add_axes((0.015 + 0.46 * k, 0.285, 0.45, 0.575))
        plot_potentials(cloud, potential, ax, limits=limits)
        text = f"{name}   {len(cloud):,} points"
        figure.text(0.24 + 0.46 * k, 0.262, text, color=INK, fontsize=11, ha="center")
    bar = figure.add_axes((0.94, 0.36, 0.008, 0.42))
    _colorbar(bar, limits)
    plot_convergence(result.xy, figure.add_axes((0.075, 0.085, 0.873, 0.135)), tol=result.tol)
    head = f"Sinkhorn divergence  {result.value:.6g}"
    figure.text(0.035, 0.945, head, color=INK, fontsize=21, va="center")
    figure.text(0.035, 0.898, _details(result), color=FAINT, fontsize=11, va="center")
    return figure


def save(figure: Figure, path: str | PathLike[str], dpi: float = 150) -> None:
    """Write a figure to a file whose extension chooses the format (see `check_path`)."""
    figure.savefig(check_path(path), dpi=dpi, facecolor=figure.get_facecolor())


def check_path(path: str | PathLike[str]) -> Path:
    """Return ``path`` if a figure can go there, or say why not: worth asking before a long computation.

    Raises
    ------
    ValueError
        If the extension is not one that matplotlib writes without a display.
    FileNotFoundError
        If there is no such folder.
    """
    path = Path(path)
    formats = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in formats:
        known = ", ".join(f".{name}" for name in formats)
        raise ValueError(f"path: found {path}, expected a name that ends in one of {known}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent} to write {path.name} into.")
    return path


class _Scene:
    """The camera for some clouds: which axes are shown, from where, and how large."""

    def __init__(self, clouds: Sequence[Array]) -> None:
        shapes = [cloud.shape for cloud in clouds]
        if len({dimension for _, dimension in shapes}) > 1:
            raise ValueError(f"x, y: found shapes {shapes[0]} and {shapes[1]}, expected the same number of columns.")
        every = np.concatenate(clouds)
        self.depth = every.shape[1] >= 3
        if every.shape[1] > 3:
            centred = every - every.mean(axis=0)
            _, vectors = np.linalg.eigh(centred.T @ centred)
            # Widest across the page, then up it, then into it.
            self.axes = vectors[:, :-4:-1].T
        elif every.shape[1] == 3:
            self.axes = _rotation(_AZIMUTH, _ELEVATION)
        else:
            self.axes = np.eye(2, every.shape[1])
        shown = every @ self.axes.T
        self.centre = (shown.min(axis=0) + shown.max(axis=0)) / 2
        self.radius = float(np.linalg.norm(shown - self.centre, axis=1).max()) or 1.0
        flat, _ = self.project(every)
        self.lower, self.upper = flat.min(axis=0), flat.max(axis=0)

    def project(self, cloud: Array) -> tuple[Array, Array]:
        """Where points are on the page (N, 2), and how near they are: 0 for the back, 1 for the front."""
        shown = (cloud @ self.axes.T - self.centre) / self.radius
        if not self.depth:
            return shown, np.ones(len(cloud))
        return shown[:, :2] * (_DISTANCE / (_DISTANCE - shown[:, 2]))[:, None], (1 + shown[:, 2]) / 2

    def draw(self, ax: Axes, clouds: Sequence[Array], colors: Sequence[Array]) -> None:
        """Draw clouds from back to front, each point in its colour (N, 3), dimmed by shade and distance."""
        rng = np.random.default_rng(0)
        flats, nears, fills, sizes = [], [], [], []
        for cloud, color in zip(clouds, colors, strict=True):
            chosen = rng.permutation(len(cloud))[:MAX_DRAWN]
            flat, near = self.project(cloud[chosen])
            light, width = self._light(cloud[chosen])
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

    def _light(self, cloud: Array) -> tuple[Array, float]:
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


def _rotation(azimuth: float, elevation: float) -> Array:
    """Right, up and towards the camera, as rows: y is up, and the camera turned by two angles in degrees."""
    a, e = np.radians([azimuth, elevation])
    turn = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    rotation: Array = tilt @ turn
    return rotation


def _prepare(ax: Axes | None, scene: _Scene) -> Axes:
    """An axis that shows the scene at its true proportions, without a frame."""
    if ax is None:
        ax = _figure(6.0, 6.0).add_axes((0.02, 0.08, 0.96, 0.9))
    if ax.name == "3d":
        raise ValueError("ax: found a 3D axis, expected a plain one: the projection is done here.")
    margin = 0.04 * (scene.upper - scene.lower).max() or 1.0  # for a single point
    ax.set_xlim(scene.lower[0] - margin, scene.upper[0] + margin)
    ax.set_ylim(scene.lower[1] - margin, scene.upper[1] + margin)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _points_per_unit(ax: Axes) -> float:
    """Printer's points to one unit of the axis, at equal aspect."""
    box = ax.get_window_extent()
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    return 72 / float(ax.figure.dpi) * min(box.width / (x1 - x0), box.height / (y1 - y0))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def _debiased(result: Any) -> tuple[Array, Array]:
    f, g = (_host(potential) for potential in result.xy.potentials)
    f = f - _host(result.xx.potentials[0])
    g = g - _host(result.yy.potentials[0])
    gap = (g.mean() - f.mean()) / 2
    return f + gap, g - gap


def _shade_annealing(ax: Axes, evaluations: Array, annealed: NDArray[np.bool_]) -> None:
    end = float(evaluations[annealed].max())
    ax.axvspan(0, end, color=INK, alpha=0.07, lw=0, zorder=0)
    ax.annotate("annealing", (end / 2, 1), (0, 3), color=FAINT, fontsize=9, ha="center", va="bottom",
                xycoords=("data", "axes fraction"), textcoords="offset points")  # fmt: skip


def _colorbar(ax: Axes, limits: tuple[float, float]) -> None:
    mappable = ScalarMappable(Normalize(*limits), _colormap(COLORMAP))
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
        f"marginal error {result.marginal_error:.1e}" + ("" if result.converged else "  NOT CONVERGED"),
        f"{result.n_iter} iterations",
        f"{result.engine}, {result.dtype}",
        f"{result.seconds:.1f} s",
    ]
    return "    ".join(parts)


def _limits(values: Array) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [0.5, 99.5])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def _colormap(cmap: str | Colormap) -> Colormap:
    return matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap


def _cloud(points: ArrayLike, name: str) -> Array:
    cloud = _host(points)
    if cloud.ndim != 2 or 0 in cloud.shape:
        raise ValueError(f"{name}: found shape {cloud.shape}, expected (N, D) with at least one point.")
    return cloud


def _host(array: Any) -> Array:
    """A NumPy array of an array or a tensor, wherever it is."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array, dtype=np.float64)
