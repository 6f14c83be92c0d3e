"""Displacement interpolation: the clouds that lie between two clouds, along the paths of their mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..divergences import sinkhorn_divergence
from ..measures import pair_of_measures
from .maps import displacement


def interpolate(
    x: Any,
    y: Any,
    times: float | Sequence[float],
    a: Any = None,
    b: Any = None,
    *,
    blur: float | None = None,
    epsilon: float | None = None,
    tol: float = 1e-5,
    engine: str = "auto",
    dtype: Any = None,
    multiscale: bool | None = None,
    progress: bool = False,
) -> list[tuple[Any, Any]]:
    """Clouds on the shortest path between two clouds, as mass moves straight: McCann's interpolation.

    At time t, the points are those of both clouds on their ways to the other one,

        x_i + t v_i with weights (1 − t) a_i,       v_i = T_xy(x_i) − T_xx(x_i),
        y_j + (1 − t) w_j with weights t b_j,       w_j = T_yx(y_j) − T_yy(y_j),

    where T are the barycentric projections of the three plans of a Sinkhorn divergence, P y / P 1. Exactly x with
    weights a at t = 0, and y with b at t = 1, so that both clouds may be of any size and weights. Projections alone,
    (1 − t) x_i + t T_xy(x_i), shrink a cloud by the blur; that of the self problem shrinks it as much, and the
    difference v leaves an error of order ε² instead of ε between Gaussians: −2 a_i v_i is the divergence's gradient.

    Parameters
    ----------
    x : array_like, shape (N, D)
    y : array_like, shape (M, D)
        NumPy arrays, torch tensors or anything that NumPy reads.
    times : float or sequence of float
        From 0 to 1.
    a : array_like, shape (N,), optional
    b : array_like, shape (M,), optional
        Weights, of the same sum; None is 1/N each.
    blur : float, optional
        Length σ, with ε = 2 σ² for squared distances, which are the cost.
    epsilon : float, optional
        Temperature ε. One of the two is given.
    tol : float, default 1e-5
        Marginal error at which each of the three problems stops; displacements are of first order in it.
    engine, dtype, multiscale
        As `geomsink.sinkhorn_divergence` takes them.
    progress : bool, default False
        Show a progress bar (needs tqdm).

    Returns
    -------
    list of (points, weights)
        One pair for each time; N + M points, N at t = 0, and M at t = 1. Constants, without autograd history.

    Raises
    ------
    TypeError, ValueError, BuildError
        As `geomsink.sinkhorn_divergence`; and for times outside of [0, 1].

    Warns
    -----
    ConvergenceWarning
        If a problem did not reach ``tol``.

    Notes
    -----
    McCann 1997, A convexity principle for interacting gases; Peyré, Cuturi 2019 (arXiv:1803.00567), section 7.1;
    Feydy et al. 2019 (arXiv:1810.08278) for the gradient. Pairs (1 − t) x_i + t y_j with weights P_ij have the right
    ends, too, but as many points as the plan has pairs, and they are spread by the blur around the path.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).random((100, 2))
    >>> start, middle, end = interpolate(x, x + 4.0, [0.0, 0.5, 1.0], blur=0.2)
    >>> bool((start[0] == x).all() and (end[0] == x + 4.0).all())
    True
    >>> bool(abs(middle[0] - np.concatenate([x + 2.0, x + 2.0])).max() < 1e-4)
    True
    """
    moments = _times(times)
    (xs, ys), (a_, b_), container = pair_of_measures(x, y, a, b)
    if xs.ndim != 2:
        raise ValueError(f"x: a batch of {len(xs)} clouds was given, expected one cloud.")
    xs, ys, a_, b_ = (t.detach() for t in (xs, ys, a_, b_))
    found = sinkhorn_divergence(
        xs, ys, a_.to(xs), b_.to(ys), blur=blur, epsilon=epsilon, tol=tol, engine=engine, dtype=dtype,
        multiscale=multiscale, progress=progress,
    )  # fmt: skip
    v, w = displacement(found), displacement(found, reverse=True)
    v, w = torch.where(a_[:, None] > 0, v, 0.0), torch.where(b_[:, None] > 0, w, 0.0)  # no mass, nowhere to go
    clouds = []
    for t in moments:
        parts = [(xs + t * v, (1.0 - t) * a_)] if t < 1 else []
        parts += [(ys + (1.0 - t) * w, t * b_)] if t > 0 else []
        points, weights = (torch.cat(column) for column in zip(*parts, strict=True))
        clouds.append((container.array(points, 0), container.array(weights, 0)))
    return clouds


def _times(times: Any) -> list[float]:
    try:
        found = np.atleast_1d(np.asarray(times, dtype=float))
    except (TypeError, ValueError):
        raise TypeError(f"times: {times!r} given, expected a number from 0 to 1, or a sequence of them.") from None
    if found.ndim != 1 or not found.size or not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"times: {times!r} given, expected a number from 0 to 1, or a sequence of them.")
    return [float(t) for t in found]
