"""Points as discs that lie on the surface they were drawn from: how wide, how tilted, and how bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .inputs import Array

_NEIGHBOURS = 12
_NTH = 6
"""The neighbour whose distance is a measure of the holes to close: it varies less than that to the nearest one."""
_LOOSE, _CLOSED = 0.5, 1.75
"""Width of a disc in distances to that neighbour: where points fill a volume, and where they lie on a surface."""
_SPREAD = 0.7, 1.6
"""How much narrower and wider than the middle one a disc may be, to suit its own neighbours."""
_STEEPEST = 0.3
"""Height of a disc that is seen from its edge, in widths."""
_SHADE = 0.7


@dataclass(frozen=True)
class Discs:
    """How points are drawn.

    Attributes
    ----------
    light : array (N,)
        How bright, up to 1, in the light of a lamp on the camera.
    width, height : array (N,)
        In the cloud's units, along the disc and across it.
    angle : array (N,)
        Degrees, of the width from the axis across the page.
    """

    light: Array
    width: Array
    height: Array
    angle: Array


def discs(cloud: Array, axes: Array, radius: float) -> Discs:
    """Discs for a cloud (N, D) that is seen along the last of the axes (2 or 3, D), in a scene of this radius.

    The normal of a surface is the narrowest direction of a point's neighbours, averaged over these. Where they have
    none, as inside a volume, dots are round, lit evenly, and apart from each other.
    """
    n = len(cloud)
    if n <= _NEIGHBOURS:
        return _round(n, 0.1 * radius)
    distances, neighbours = cKDTree(cloud).query(cloud, _NEIGHBOURS)
    spacing = float(np.median(distances[:, _NTH]))
    if cloud.shape[1] != 3:
        return _round(n, _LOOSE * spacing)
    around = cloud[neighbours] - cloud[neighbours].mean(axis=1, keepdims=True)
    spread, directions = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
    flatness = np.clip(1.1 - 6 * spread[:, 0] / np.maximum(spread[:, 1], 1e-30), 0, 1)
    normals = directions[:, :, 0] @ axes.T
    around = np.einsum("ni,nj->nij", normals, normals)[neighbours].mean(axis=1)  # whichever way each one points
    normals = np.linalg.eigh(around)[1][:, :, 2]
    facing = np.abs(normals[:, 2])
    closed = float(flatness.mean())
    own = np.clip(distances[:, _NTH] / (spacing or 1.0), *_SPREAD)
    width = (_LOOSE + (_CLOSED - _LOOSE) * closed) * spacing * (1 + closed * (own - 1))
    return Discs(
        light=1 - flatness * _SHADE * (1 - facing),
        width=width,
        height=width * (1 - flatness * (1 - np.maximum(facing, _STEEPEST))),
        angle=np.degrees(np.arctan2(normals[:, 0], -normals[:, 1])),
    )


def _round(n: int, width: float) -> Discs:
    return Discs(np.ones(n), np.full(n, width), np.full(n, width), np.zeros(n))
