"""Points and triangles as arrays: checks, triangulation, the unit cube, sampling by area."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geomsink.counts import whole
from geomsink.shown import Facts, Shown, Words

Points = NDArray[np.floating[Any]]
Faces = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Mesh(Shown):
    """A triangle mesh, or a cloud of points when there are no faces.

    Parameters
    ----------
    vertices : array (V, 3)
        Finite coordinates. float32 and float64 are kept, anything else is converted.
    faces : array of int (F, 3)
        For each triangle, the rows of its corners in ``vertices``.

    Raises
    ------
    ValueError
        If a shape is wrong, a coordinate is not finite, or a face names a vertex that is not there.

    Examples
    --------
    >>> Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]).faces.shape
    (1, 3)
    """

    vertices: Points
    faces: Faces

    def _facts(self) -> Facts:
        return {
            "vertices": Words(f"{len(self.vertices):,} vertices"),
            "faces": Words(f"{len(self.faces):,} faces"),
            "dtype": str(self.vertices.dtype),
        }

    def __post_init__(self) -> None:
        vertices = check_points(self.vertices, "vertices")
        if vertices.shape[1] != 3:
            raise ValueError(f"vertices: found shape {vertices.shape}, expected (V, 3).")
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", check_faces(self.faces, len(vertices), "faces"))


def check_points(points: ArrayLike, name: str) -> Points:
    """Return ``points`` as a finite (N, D) array of float32 or float64, or say what is wrong."""
    array = np.asarray(points)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: found values of type {array.dtype}, expected real numbers.")
    if array.ndim != 2:
        raise ValueError(f"{name}: found an array of shape {array.shape}, expected (N, D).")
    if array.size == 0:
        raise ValueError(f"{name}: found no points (shape {array.shape}), expected at least one.")
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    check_exact(array, name)
    array = np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(f"{name}: found {array[bad[0]].tolist()} as point {bad[0]}, expected finite coordinates.")
    return array


def check_exact(array: NDArray[Any], name: str) -> None:
    """Say that there are whole numbers which float64 would round, if so."""
    if array.dtype.kind in "iu" and array.dtype.itemsize > 4:
        double = array.astype(np.float64)
        if not (double.astype(array.dtype) == array).all():
            raise ValueError(
                f"{name}: found whole numbers up to {np.abs(double).max():.0f}, expected none beyond 2^53."
            )


def check_faces(faces: ArrayLike, n_vertices: int, name: str) -> Faces:
    """Return ``faces`` as an (F, 3) array of rows below ``n_vertices``, or say what is wrong."""
    array = np.asarray(faces)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise ValueError(f"{name}: found shape {array.shape} of type {array.dtype}, expected integers (F, 3).")
    if array.size and (array.min() < 0 or array.max() >= n_vertices):
        raise ValueError(
            f"{name}: found corners numbered {array.min()} to {array.max()}, "
            f"expected 0 to {n_vertices - 1} for {n_vertices} vertices."
        )
    return array.astype(np.int64)


POINT_BYTES = 100
"""That a drawn point takes while it is drawn: coordinates, parameters, sides."""


def check_count(n: int, name: str = "n") -> int:
    """Return ``n`` as a positive int, or say what is wrong: so many points must fit into memory."""
    count = whole(name, n)
    needed, there = count * POINT_BYTES, memory()
    if needed > there:
        raise ValueError(
            f"{name}: found {n!r}, expected fewer: so many points take {needed / 2**30:,.0f} GiB, and this machine has "
            f"{there / 2**30:,.0f}."
        )
    return count


def memory() -> float:
    """Bytes of memory of this machine, where it says so."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def generator(seed: int, name: str = "seed") -> np.random.Generator:
    """Return NumPy's generator for ``seed``, or say what is wrong with it."""
    try:
        return np.random.default_rng(whole(name, seed, 0))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: found {seed!r}, expected a whole number, 0 or more.") from error


def fans(polygons: NDArray[Any] | Sequence[NDArray[np.integer[Any]]]) -> Faces:
    """Cut polygons into triangles, each as a fan around its first corner, in the given order.

    Examples
    --------
    >>> fans([np.array([0, 1, 2, 3]), np.array([4, 5, 6])]).tolist()
    [[0, 1, 2], [0, 2, 3], [4, 5, 6]]
    """
    if not len(polygons):
        return np.empty((0, 3), np.int64)
    if isinstance(polygons, np.ndarray) and polygons.ndim == 2:
        corners, sizes = polygons.ravel(), np.full(*polygons.shape)
    else:
        corners = np.concatenate(list(polygons))
        sizes = np.array([len(polygon) for polygon in polygons])
    if sizes.min() < 3:
        raise ValueError(f"a face has {sizes.min()} corners")
    triangles = sizes - 2
    first = np.repeat(np.cumsum(sizes) - sizes, triangles)
    step = np.arange(len(first)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([corners[first + k] for k in (0, step + 1, step + 2)], axis=1).astype(np.int64)


def strips(lists: Sequence[NDArray[np.integer[Any]]]) -> Faces:
    """Cut triangle strips into triangles, all wound alike; -1 in a list starts a new strip.

    Triangles with a repeated corner only stitch a strip together: they are left out, though they
    count for the alternation of the winding.

    Examples
    --------
    >>> strips([np.array([0, 1, 2, 3, -1, 4, 5, 6])]).tolist()
    [[0, 1, 2], [2, 1, 3], [4, 5, 6]]
    """
    if not len(lists):
        return np.empty((0, 3), np.int64)
    run = np.concatenate([part for one in lists for part in (one, [-1])]).astype(np.int64)
    position = np.arange(len(run))
    start = np.maximum.accumulate(np.where(run == -1, position + 1, 0))
    odd = (position - start)[:-2] % 2 == 1
    a, b, c = run[:-2], run[1:-1], run[2:]
    keep = (a != -1) & (b != -1) & (c != -1) & (a != b) & (b != c) & (c != a)
    faces: Faces = np.stack([np.where(odd, b, a), np.where(odd, a, b), c], axis=1)[keep]
    return faces


def fit_unit_cube(points: Points, lower: Points, upper: Points) -> Points:
    """Move the box from ``lower`` to ``upper`` into [0, 1]^D: longest side 1, and centred."""
    # Halves, in double precision: sides and sums of the largest numbers are infinite.
    low, high = lower.astype(np.float64) / 2, upper.astype(np.float64) / 2
    half = float(np.max(high - low)) or 0.5  # a single point goes to the centre
    fitted = (points.astype(np.float64) / 2 - (low / 2 + high / 2)) / half + 0.5
    # Rounding alone can leave the cube, by one unit in the last place.
    return np.clip(fitted, 0.0, 1.0).astype(points.dtype)


class Triangles:
    """A surface that is drawn from more than once, uniformly by area; a face without area is never drawn.

    Raises
    ------
    ValueError
        If no face has an area, or a side is too long for a number.
    """

    def __init__(self, vertices: Points, faces: Faces):
        self._dtype = vertices.dtype
        self._corner, second, third = np.moveaxis(vertices[faces].astype(np.float64), 1, 0)
        with np.errstate(over="ignore"):
            self._sides = second - self._corner, third - self._corner
        longest = max(np.abs(side).max(initial=0.0) for side in self._sides)
        if not math.isfinite(longest):
            raise ValueError(f"the {len(faces)} faces have sides beyond 1e308, expected smaller ones.")
        # Relative to the longest side: products of large or small numbers leave the range of doubles.
        scaled = (side / (longest or 1.0) for side in self._sides)
        areas = np.linalg.norm(np.cross(*scaled), axis=1)
        if not areas.sum() > 0:
            raise ValueError(f"the {len(faces)} faces have no area, expected a surface to sample.")
        self._shares = areas.cumsum() / areas.sum()
        self._shares /= self._shares[-1]

    def draw(self, n: int, rng: np.random.Generator) -> Points:
        """``n`` points, shape (n, 3)."""
        chosen = self._shares.searchsorted(rng.random(n), side="right")
        # Uniform on the parallelogram of the two sides, its far half folded back onto the triangle.
        u, v = rng.random((2, n, 1))
        far = u + v > 1
        u, v = np.where(far, 1 - u, u), np.where(far, 1 - v, v)
        drawn: Points = self._corner[chosen] + u * self._sides[0][chosen] + v * self._sides[1][chosen]
        return drawn.astype(self._dtype)


def sample_surface(vertices: Points, faces: Faces, n: int, rng: np.random.Generator) -> Points:
    """Draw ``n`` points from the surface, uniformly by area."""
    return Triangles(vertices, faces).draw(n, rng)
