"""The strongest matches of a plan, as lines between two clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike, NDArray

from .colors import position_colors
from .inputs import Array, as_cloud, as_values
from .scene import Scene
from .style import CLOUD_COLORS, page_color

Indices = NDArray[np.int64]

_GAP = 0.35  # between clouds side by side, in widths of the wider one
_DIMMED = 0.45  # clouds stand back behind the lines
_OPAQUE, _FAINTEST = 0.95, 0.15


def plot_matches(
    x: ArrayLike,
    y: ArrayLike,
    matches: Any,
    ax: Axes | None = None,
    n: int = 200,
    side_by_side: bool = True,
) -> Axes:
    """Draw a plan's strongest matches as lines between the two clouds.

    A line has the colour of the place in ``x`` that it starts from (`position_colors`) and is the more
    opaque, the more mass goes along it.

    Parameters
    ----------
    x, y : array or tensor (N, D), (M, D)
        As for `plot_clouds`.
    matches : sparse matrix or tensor (N, M), or pair of arrays (K, 2), (K,)
        SciPy's or torch's, such as ``plan.top_k(1).matrix``; or pairs (i, j) of a row of ``x`` and one of
        ``y``, and their weights, 0 or more.
    ax : matplotlib axis, optional
        A plain axis, not one of matplotlib's 3D ones.
    n : int, default 200
        How many lines at most: those of the largest weights.
    side_by_side : bool, default True
        Whether ``y`` is moved to the right of ``x``; otherwise both are drawn where they are.

    Returns
    -------
    ax : matplotlib axis

    Raises
    ------
    TypeError, ValueError
        If the matches are of another kind, shape or range than this.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> ax = plot_matches(x, x + 1, ([[0, 7], [3, 3]], [0.5, 1.0]))
    """
    clouds = [as_cloud(x, "x"), as_cloud(y, "y")]
    if not n >= 1:
        raise ValueError(f"n: {n} given, expected a number of lines of at least 1.")
    pairs, weights = _strongest(*_pairs(matches, len(clouds[0]), len(clouds[1])), int(n))
    fills = position_colors(clouds[0])[pairs[:, 0]]
    scene = Scene(clouds)
    if side_by_side:
        clouds = _apart([scene.view(cloud) for cloud in clouds])
        scene = Scene(clouds, np.eye(clouds[0].shape[1]))
    ax = scene.prepare(ax)
    dimmed = [np.array(to_rgb(color)) * _DIMMED + page_color(ax) * (1 - _DIMMED) for color in CLOUD_COLORS]
    scene.draw(ax, clouds, [np.tile(color, (len(cloud), 1)) for color, cloud in zip(dimmed, clouds, strict=True)])
    ends = [scene.project(cloud[rows])[0] for cloud, rows in zip(clouds, pairs.T, strict=True)]
    top = weights.max(initial=0.0)
    opacity = _FAINTEST + (_OPAQUE - _FAINTEST) * (weights / top if top > 0 else weights)
    lines = LineCollection(
        list(np.stack(ends, axis=1)), colors=np.column_stack([fills, opacity]), linewidths=1.0, zorder=3
    )
    ax.add_collection(lines, autolim=False)
    across, up = np.concatenate(ends).T
    ax.scatter(across, up, s=6, c=np.tile(fills, (2, 1)), linewidths=0, zorder=4)
    return ax


def _apart(shown: list[Array]) -> list[Array]:
    """Clouds in the coordinates of the camera, moved side by side, each centred."""
    centred = [cloud - (cloud.min(axis=0) + cloud.max(axis=0)) / 2 for cloud in shown]
    widths = [float(np.ptp(cloud[:, 0])) for cloud in centred]
    shift = np.zeros(centred[0].shape[1])
    shift[0] = sum(widths) / 2 + _GAP * (max(widths) or 1.0)
    return [centred[0], centred[1] + shift]


def _pairs(matches: Any, n: int, m: int) -> tuple[Indices, Array]:
    """Rows of ``x`` and ``y`` (K, 2) and weights (K,), of whatever kind of matches was given."""
    if isinstance(matches, torch.Tensor) and matches.layout is not torch.strided:
        _check_shape(tuple(matches.shape), n, m)
        entries = matches.detach().to_sparse_coo().coalesce()
        pairs, weights = entries.indices().cpu().numpy().T, entries.values()
    elif hasattr(matches, "tocoo"):
        _check_shape(matches.shape, n, m)
        entries = matches.tocoo()
        pairs, weights = np.column_stack([entries.row, entries.col]), entries.data
    elif isinstance(matches, (tuple, list)) and len(matches) == 2:
        pairs, weights = (np.asarray(part.cpu() if hasattr(part, "cpu") else part) for part in matches)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            found = f"shape {pairs.shape} of {pairs.dtype}"
            raise ValueError(f"matches: found pairs of {found}, expected whole numbers (K, 2).")
    else:
        kind = type(matches).__name__
        raise TypeError(f"matches: a {kind} was given, expected a sparse matrix, or pairs (K, 2) and weights (K,).")
    weights = as_values(weights, len(pairs), "matches: weights")
    if len(pairs) and not (pairs.min() >= 0 and pairs[:, 0].max() < n and pairs[:, 1].max() < m):
        high = tuple(pairs.max(axis=0).tolist())
        raise ValueError(f"matches: found pairs up to {high} from {pairs.min()} on, expected 0 to {(n - 1, m - 1)}.")
    if not (weights >= 0).all():
        raise ValueError(f"matches: found the weight {weights[~(weights >= 0)][0]}, expected them to be 0 or more.")
    return pairs.astype(np.int64), weights


def _check_shape(shape: tuple[int, ...], n: int, m: int) -> None:
    if tuple(shape) != (n, m):
        raise ValueError(
            f"matches: found shape {tuple(shape)}, expected {(n, m)}, a row for each x, a column for each y."
        )


def _strongest(pairs: Indices, weights: Array, n: int) -> tuple[Indices, Array]:
    """The ``n`` of largest weight, the weakest first, so that the strongest are drawn over the others."""
    chosen = np.argsort(weights, kind="stable")[-n:]
    return pairs[chosen], weights[chosen]
