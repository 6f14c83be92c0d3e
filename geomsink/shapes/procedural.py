"""Surfaces from formulas, smooth and sharp, sampled uniformly by area.

Smooth surfaces are sampled by rejection: a parameter is drawn uniformly, and kept with a
probability proportional to the area that the surface has there. That is exact as long as the
probability is at most one, and needs no table or mesh: points lie on the surface to rounding.
"""

import difflib
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from geomsink.shapes.mesh import (
    Faces,
    Points,
    check_count,
    fans,
    fit_unit_cube,
    generator,
    sample_surface,
)

Array = NDArray[np.float64]
Box = tuple[Array, Array]


def names() -> tuple[str, ...]:
    """The names that `procedural` knows.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "knot" in names()
    True
    """
    return tuple(_SHAPES)


def procedural(name: str, n: int, seed: int = 0) -> Points:
    """Draw random points from a surface given by a formula, uniformly by area.

    Parameters
    ----------
    name : str
        - ``"sphere"``;
        - ``"torus"``: radii 1 and 0.4, before scaling;
        - ``"knot"``: a tube around a trefoil, the (2, 3) torus knot;
        - ``"coil"``: a spring bent into a closed ring;
        - ``"blob"``: a smooth, bumpy ball;
        - ``"cube"``: its six faces;
        - ``"star"``: five points, thick in the middle; sharp edges and tips.
    n : int
        How many points.
    seed : int, default 0
        The same seed gives the same points.

    Returns
    -------
    points : array of float32 (n, 3)
        The bounding box of the surface has longest side 1 and is centred in [0, 1]^3.

    Raises
    ------
    ValueError
        If the name is unknown, or ``n`` or ``seed`` is wrong.

    Examples
    --------
    >>> procedural("knot", 1000).shape
    (1000, 3)
    """
    check_name(name)
    points, (lower, upper) = _SHAPES[name](check_count(n), generator(seed))
    return fit_unit_cube(points, lower, upper).astype(np.float32)


def check_name(name: str) -> str:
    """Return a known ``name``, or say which are known and which one is nearest."""
    if not isinstance(name, str):
        raise TypeError(f"name: found a {type(name).__name__}, expected one of {', '.join(_SHAPES)}.")
    if name not in _SHAPES:
        near = difflib.get_close_matches(str(name), _SHAPES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name!r}: found no shape of that name, expected one of {', '.join(_SHAPES)}{hint}.")
    return name


def _sphere(n: int, rng: np.random.Generator) -> tuple[Array, Box]:
    return _directions(n, rng), (-np.ones(3), np.ones(3))


def _directions(n: int, rng: np.random.Generator) -> Array:
    directions: Array = rng.standard_normal((n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions


def _polyhedron(n: int, rng: np.random.Generator, solid: Callable[[], tuple[Array, Faces]]) -> tuple[Points, Box]:
    vertices, faces = solid()
    return sample_surface(vertices, faces, n, rng), (vertices.min(axis=0), vertices.max(axis=0))


def _cube() -> tuple[Array, Faces]:
    """Corner number 4x + 2y + z of the unit cube, and two triangles for each side."""
    vertices = np.array([[k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(8)], dtype=np.float64)
    sides = [(0, 1, 2), (4, 2, 1), (0, 4, 1), (2, 1, 4), (0, 2, 4), (1, 4, 2)]
    return vertices, fans([np.array([k, k + a, k + a + b, k + b]) for k, a, b in sides])


def _star(tips: int = 5, notch: float = 0.45, thickness: float = 0.35) -> tuple[Array, Faces]:
    """An outline of tips and notches, and an apex on each side of it."""
    angle = np.pi * np.arange(2 * tips) / tips + np.pi / 2
    radius = np.where(np.arange(2 * tips) % 2, notch, 1.0)
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1)
    vertices = np.concatenate([outline, [[0, 0, thickness], [0, 0, -thickness]]])
    around = np.arange(2 * tips)
    following = np.roll(around, -1)
    front = np.stack([around, following, np.full_like(around, 2 * tips)], axis=1)
    back = np.stack([following, around, np.full_like(around, 2 * tips + 1)], axis=1)
    return vertices, np.concatenate([front, back])


def _rejection(n: int, rng: np.random.Generator, propose: Callable[[int], tuple[Array, Array]]) -> Array:
    """Draw ``n`` points of those that ``propose(m)`` gives with their probability of staying."""
    parts: list[Array] = []
    missing = n
    while missing > 0:
        points, probability = propose(2 * missing + 16)
        parts.append(points[rng.random(len(points)) < probability][:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def _tube(n: int, rng: np.random.Generator, p: int, q: int, minor: float, radius: float) -> tuple[Array, Box]:
    """A tube around a curve on a torus.

    At angle φ from the normal of a curve of speed s and curvature κ, a tube of radius r has the
    area r s (1 - κ r cos φ) dt dφ.
    """
    t = np.linspace(0, 2 * np.pi, 1 << 16)
    point, tangent, _, speed, curvature = _torus_curve(t, p, q, minor)
    reach = radius * np.sqrt(1 - tangent**2)  # how far the tube goes past its curve along each axis
    largest = 1.001 * np.max(speed * (1 + radius * curvature))  # the margin is for between the t

    def propose(m: int) -> tuple[Array, Array]:
        t, phi = 2 * np.pi * rng.random((2, m))
        point, tangent, normal, speed, curvature = _torus_curve(t, p, q, minor)
        binormal = np.cross(tangent, normal)
        across = np.cos(phi)[:, None] * normal + np.sin(phi)[:, None] * binormal
        return point + radius * across, speed * (1 - radius * curvature * np.cos(phi)) / largest

    return _rejection(n, rng, propose), ((point - reach).min(axis=0), (point + reach).max(axis=0))


def _torus_curve(t: Array, p: int, q: int, minor: float) -> tuple[Array, Array, Array, Array, Array]:
    """The curve on a torus (radii 1, minor) that turns p times about the axis, q times in the tube.

    Returns points, unit tangents and unit normals (T, 3), speeds and curvatures (T,).
    """
    height = minor * np.sin(q * t)
    ring = minor * np.cos(q * t)  # distance to the axis, less 1
    # The plane is complex: the point is (1 + ring) turn, followed by its two derivatives.
    turn = np.exp(1j * p * t)
    point = _spatial((1 + ring) * turn, height)
    velocity = _spatial((-q * height + 1j * p * (1 + ring)) * turn, q * ring)
    acceleration = _spatial((-(q**2) * ring - 2j * p * q * height - p**2 * (1 + ring)) * turn, -(q**2) * height)
    speed = np.linalg.norm(velocity, axis=1)
    tangent = velocity / speed[:, None]
    bend = acceleration - (acceleration * tangent).sum(axis=1, keepdims=True) * tangent
    size = np.linalg.norm(bend, axis=1)
    return point, tangent, bend / size[:, None], speed, size / speed**2


def _spatial(flat: NDArray[np.complex128], height: Array) -> Array:
    return np.stack([flat.real, flat.imag, height], axis=1)


# Waves across space: their sum at a direction is the height of the blob there, over a unit ball.
_WAVES = np.array([[5.0, 0.0, 2.0], [-1.0, 4.0, -3.0], [-3.0, 3.0, 4.0], [0.0, -2.0, 5.0]])
_PHASES = np.array([0.0, 1.0, 2.0, 3.0])
_AMPLITUDE = 0.14


def _blob(n: int, rng: np.random.Generator) -> tuple[Array, Box]:
    """The surface r(d) d over unit directions d: its area per solid angle is r √(r² + |∇r|²)."""
    highest = 1 + _AMPLITUDE * len(_WAVES)
    steepest = _AMPLITUDE * np.linalg.norm(_WAVES, axis=1).sum()
    largest = highest * np.hypot(highest, steepest)

    def propose(m: int) -> tuple[Array, Array]:
        d = _directions(m, rng)
        r = _blob_radius(d)
        gradient = -_AMPLITUDE * np.sin(d @ _WAVES.T + _PHASES) @ _WAVES
        gradient -= (gradient * d).sum(axis=1, keepdims=True) * d
        return r[:, None] * d, r * np.hypot(r, np.linalg.norm(gradient, axis=1)) / largest

    return _rejection(n, rng, propose), (-_blob_reach(-1.0), _blob_reach(1.0))


def _blob_radius(directions: Array) -> Array:
    radius: Array = 1 + _AMPLITUDE * np.cos(directions @ _WAVES.T + _PHASES).sum(axis=1)
    return radius


def _blob_reach(sign: float) -> Array:
    """How far the blob goes along each axis: a search that narrows around the best direction."""
    rng = np.random.default_rng(0)
    reach = np.empty(3)
    for axis in range(3):
        d = _directions(4096, rng)
        for spread in 0.1 * 0.5 ** np.arange(14):
            along = sign * _blob_radius(d) * d[:, axis]
            best = d[np.argmax(along)]
            reach[axis] = along.max()
            d = np.vstack([best, best + spread * rng.standard_normal((400, 3))])
            d /= np.linalg.norm(d, axis=1, keepdims=True)
    return reach


_SHAPES: dict[str, Callable[[int, np.random.Generator], tuple[Points, Box]]] = {
    "sphere": _sphere,
    "torus": partial(_tube, p=1, q=0, minor=0.0, radius=0.4),
    "knot": partial(_tube, p=2, q=3, minor=0.5, radius=0.22),
    "coil": partial(_tube, p=1, q=9, minor=0.35, radius=0.12),
    "blob": _blob,
    "cube": partial(_polyhedron, solid=_cube),
    "star": partial(_polyhedron, solid=_star),
}
