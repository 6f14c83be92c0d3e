"""Sampling: of meshes by area, of points, of formulas against their known densities."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import chisquare

from geomsink.shapes import names, procedural, read, sample, write
from geomsink.shapes.mesh import sample_surface
from geomsink.shapes.procedural import _blob

LIKELY = 1e-3  # seeds are fixed: a right sampler passes for good, a biased one has p near 0


def uniform(counts, weights):
    weights = np.asarray(weights, float)
    return chisquare(counts, weights / weights.sum() * np.sum(counts)).pvalue > LIKELY


# Meshes ------------------------------------------------------------------------------------------


def separate_triangles():
    """Triangles one above the other, of areas 1, 0, 2, 0, 4, 8, 0; zeros also first and last."""
    areas = [0, 1, 0, 2, 0, 4, 8, 0]
    corners = [
        [[0, 0, z], [1, 0, z], [0, 2 * area, z]] if area else [[0, 0, z], [1, 0, z], [2, 0, z]]
        for z, area in enumerate(areas)
    ]
    vertices = np.array(corners, np.float32).reshape(-1, 3)
    faces = np.arange(len(vertices)).reshape(-1, 3)
    faces = np.vstack([[0, 0, 0], faces, [5, 5, 6]])  # a repeated corner has no area either
    return vertices, faces, areas


def test_faces_are_drawn_by_area_and_those_without_area_never():
    vertices, faces, areas = separate_triangles()
    points = sample_surface(vertices, faces, 30000, np.random.default_rng(0))
    assert points.dtype == np.float32 and np.isfinite(points).all()
    counts = np.bincount(points[:, 2].astype(int), minlength=len(areas))
    assert (counts[np.array(areas) == 0] == 0).all()
    positive = np.array(areas) > 0
    assert uniform(counts[positive], np.array(areas)[positive])


def test_points_are_uniform_within_a_triangle():
    rng = np.random.default_rng(1)
    corners = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [-1.0, -1.0, 3.0]])
    points = sample_surface(corners, np.array([[0, 1, 2]]), 20000, rng)
    weights = np.linalg.solve(corners.T, points.T).T  # barycentric
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert weights.min() >= -1e-12
    # Sixteen cells of equal area: triangles cut by the three families of quarter lines.
    cell = np.floor(4 * np.clip(weights, 0, 1 - 1e-12)).astype(int)
    _, counts = np.unique(cell, axis=0, return_counts=True)
    assert len(counts) == 16 and uniform(counts, np.ones(16))


def test_sample_of_a_file_lies_on_its_surface_in_its_dtype(tmp_path):
    lengths = np.array([1.0, 2.0, 5.0])
    tips = np.vstack([np.diag(lengths), -np.diag(lengths)])
    signs = [(i, j, k) for i in (0, 3) for j in (1, 4) for k in (2, 5)]
    text = "".join("v {} {} {}\n".format(*tip) for tip in tips)
    text += "".join("f {} {} {}\n".format(*(c + 1 for c in corner)) for corner in signs)
    (tmp_path / "octahedron.obj").write_text(text)
    points = sample(tmp_path / "octahedron.obj", 8000, seed=2)
    assert points.shape == (8000, 3) and points.dtype == np.float32
    np.testing.assert_allclose((np.abs(points) / lengths).sum(axis=1), 1, atol=1e-6)
    counts = np.bincount((points > 0) @ [4, 2, 1], minlength=8)
    assert uniform(counts, np.ones(8))
    fitted = sample(str(tmp_path / "octahedron.obj"), 8000, seed=2, normalize=True)
    np.testing.assert_allclose(fitted, points / 10 + 0.5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-250, 1e-160, 1e160, 1e250])
def test_surfaces_of_any_size_are_drawn_alike(scale):
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 1], [3, 3, 3]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    drawn, scaled = (sample_surface(corners * s, faces, 50, np.random.default_rng(0)) for s in (1.0, scale))
    np.testing.assert_allclose(scaled / scale, drawn, rtol=1e-12)


def test_sides_that_are_longer_than_any_number_are_refused():
    corners = np.array([[-1.7e308, 0, 0], [1.7e308, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match="the 1 faces have sides beyond 1e308"):
        sample_surface(corners, np.array([[0, 1, 2]]), 5, np.random.default_rng(0))


def test_a_surface_without_area_is_refused(tmp_path):
    (tmp_path / "line.obj").write_text("v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\nf 1 1 2\n")
    with pytest.raises(ValueError, match=r"line.obj: the 2 faces have no area"):
        sample(tmp_path / "line.obj", 5)


def test_points_alone_are_drawn_without_repetition_while_they_last(tmp_path):
    points = np.random.default_rng(0).standard_normal((100, 2))
    write(tmp_path / "a.npz", points)
    some, all_, more = (sample(tmp_path / "a.npz", n, seed=5) for n in (60, 100, 1000))
    rows = {tuple(row) for row in points}
    for drawn, distinct in ((some, 60), (all_, 100)):
        assert {tuple(row) for row in drawn} <= rows
        assert len({tuple(row) for row in drawn}) == distinct
    assert more.shape == (1000, 2) and {tuple(row) for row in more} <= rows
    fitted = sample(tmp_path / "a.npz", 100, seed=5, normalize=True)
    frame = {tuple(row) for row in read(tmp_path / "a.npz", normalize=True)}
    assert {tuple(row) for row in fitted} == frame


@pytest.mark.parametrize("name", ["shape:star", "knot", "blob", "sphere"])
def test_the_seed_decides(name):
    one, again, other = sample(name, 500, 7), sample(name, 500, 7), sample(name, 500, 8)
    np.testing.assert_array_equal(one, again)
    assert not np.isin(one, other).all(axis=1).any()
    np.testing.assert_array_equal(one, procedural(name.removeprefix("shape:"), 500, 7))


def test_seed_decides_for_files(tmp_path):
    (tmp_path / "a.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    one, again, other = (sample(tmp_path / "a.off", 50, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other)[:, :2].all()


@pytest.mark.parametrize("n", [0, -3, 2.0, "10", None, True, np.float64(4)])
def test_bad_counts_are_refused(n):
    for draw in (sample, procedural):
        with pytest.raises((TypeError, ValueError), match=r"^n: .*, expected a whole number"):
            draw("sphere", n)


@pytest.mark.parametrize("seed", [-1, 0.5, None, "a"])
def test_bad_seeds_are_refused(seed):
    for draw in (sample, procedural):
        with pytest.raises(ValueError, match=r"seed: found .*, expected a whole number"):
            draw("sphere", 5, seed)


@pytest.mark.parametrize("name", ["shpere", "shape:shpere"])
def test_unknown_names_are_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"expected one of sphere, torus.*mean 'sphere'"):
        sample(name, 5)
    with pytest.raises(ValueError, match="^'zzz': found no shape of that name, expected one of sphere"):
        procedural("zzz", 5)


def test_missing_files_are_not_taken_for_names(tmp_path):
    for path in ("nowhere.ply", tmp_path / "sphere.npz"):
        with pytest.raises(FileNotFoundError):
            sample(path, 5)


# Formulas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_every_shape_fills_its_box_in_the_unit_cube(name):
    points = procedural(name, 40000, seed=0).astype(float)
    assert points.shape == (40000, 3) and len(np.unique(points, axis=0)) > 39900
    low, high = points.min(axis=0), points.max(axis=0)
    assert low.min() >= 0 and high.max() <= 1
    np.testing.assert_allclose((low + high) / 2, 0.5, atol=4e-3)
    assert (high - low).max() > 0.99
    if name != "cube":  # a box that is too small would press points flat on its sides
        assert np.isin(points, [0.0, 1.0]).sum() <= 3


def test_shapes_come_in_float32_and_in_any_number():
    for name in names():
        assert procedural(name, 1).shape == (1, 3)
        assert procedural(name, np.int64(17), seed=np.int64(3)).dtype == np.float32


def test_sphere_is_uniform():
    points = procedural("sphere", 30000, seed=1).astype(float) - 0.5
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.5, atol=1e-6)
    for axis in range(3):  # Archimedes: equal slices have equal area
        assert uniform(np.histogram(points[:, axis], np.linspace(-0.5, 0.5, 21))[0], np.ones(20))
    assert uniform(np.bincount((points > 0) @ [4, 2, 1]), np.ones(8))


def test_torus_has_the_density_of_its_area():
    large, small = 0.5 / 1.4, 0.2 / 1.4
    x, y, z = procedural("torus", 30000, seed=1).astype(float).T - 0.5
    ring = np.hypot(x, y) - large
    np.testing.assert_allclose(np.hypot(ring, z), small, atol=1e-6)
    edges = np.linspace(-np.pi, np.pi, 25)
    expected = large * np.diff(edges) + small * np.diff(np.sin(edges))
    assert uniform(np.histogram(np.arctan2(z, ring), edges)[0], expected)
    assert uniform(np.histogram(np.arctan2(y, x), edges)[0], np.ones(24))


@pytest.mark.parametrize(("name", "p", "q", "minor", "radius"), [("knot", 2, 3, 0.5, 0.22), ("coil", 1, 9, 0.35, 0.12)])
def test_tubes_have_the_density_of_their_area(name, p, q, minor, radius):
    t = np.linspace(0, 2 * np.pi, 60001)
    ring = 1 + minor * np.cos(q * t)
    curve = np.stack([ring * np.cos(p * t), ring * np.sin(p * t), minor * np.sin(q * t)], axis=1)
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    arc = np.concatenate([[0], np.cumsum(steps)])
    points = procedural(name, 20000, seed=1).astype(float) - 0.5
    tangent = np.gradient(curve, arc, axis=0)
    centre, width = frame(curve, tangent, radius)
    points = points * width + centre
    distance, nearest = cKDTree(curve).query(points)
    np.testing.assert_allclose(distance, radius, atol=2e-5)
    # Along the curve, area is proportional to length (the bend cancels over the circle).
    assert uniform(np.histogram(arc[nearest], np.linspace(0, arc[-1], 31))[0], np.ones(30))
    # Around it, the outside of a bend has more: the mean cosine to the normal is -κ r / 2.
    bend = np.gradient(tangent, arc, axis=0)[nearest]
    curvature = np.linalg.norm(bend, axis=1)
    cosine = ((points - curve[nearest]) * bend).sum(axis=1) / curvature / radius
    error = np.mean(cosine + curvature * radius / 2) / (np.std(cosine) / np.sqrt(len(cosine)))
    assert abs(error) < 3.3
    assert np.mean(curvature * radius / 2) > 0.1
    # And the tube does not meet itself.
    coarse, at = curve[:-1:50], arc[:-1:50]
    apart = np.abs(at[:, None] - at[None])
    apart = np.minimum(apart, arc[-1] - apart)
    gaps = np.linalg.norm(coarse[:, None] - coarse[None], axis=-1)
    assert gaps[apart > np.pi * radius].min() > 2 * radius


def frame(curve, tangent, radius):
    """Centre and longest side of the box of the tube, from rings of points around the curve."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for axis in np.eye(3):
        # The point of each ring that goes furthest along the axis.
        across = axis - (tangent @ axis)[:, None] * tangent
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        low = np.minimum(low, (curve - radius * across).min(axis=0))
        high = np.maximum(high, (curve + radius * across).max(axis=0))
    return (low + high) / 2, (high - low).max()


def test_cube_faces_and_star_facets_are_evenly_covered():
    points = procedural("cube", 24000, seed=1)
    on = np.concatenate([points == 0, points == 1], axis=1)
    assert (on.sum(axis=1) >= 1).all() and uniform(on.sum(axis=0), np.ones(6))
    x, y, z = procedural("star", 24000, seed=1).astype(float).T - 0.5
    # Twenty congruent facets: ten sectors seen from above, on two sides.
    side = 1 / (2 * np.sin(0.4 * np.pi))
    centre = (np.cos(0.2 * np.pi) - 1) / 2 * side  # of the box, seen from the centre of the star
    angle = np.arctan2(y - centre, x) - np.pi / 2
    sector = np.floor(angle / (np.pi / 5)).astype(int) % 10
    assert uniform(np.bincount(2 * sector + (z > 0), minlength=20), np.ones(20))


def test_blob_has_the_density_of_its_area():
    low, high = _blob(1, np.random.default_rng(0))[1]
    points = procedural("blob", 40000, seed=1).astype(float) - 0.5
    points = points * (high - low).max() + (low + high) / 2

    def radius(d):
        return 1 + 0.14 * sum(
            np.cos(d @ wave + k) for k, wave in enumerate(([5, 0, 2], [-1, 4, -3], [-3, 3, 4], [0, -2, 5]))
        )

    size = np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(size[:, 0], radius(points / size), atol=3e-6)
    # The same surface as a fine mesh over latitudes and longitudes, its area cut into 32 sectors.
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 401), np.linspace(-np.pi, np.pi, 801), indexing="ij")
    d = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    grid = radius(d)[..., None] * d
    a, b, c, e = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
    area = sum(np.linalg.norm(np.cross(v, w), axis=-1) / 2 for v, w in ((b - a, c - a), (b - e, c - e)))
    expected = area.reshape(4, 100, 8, 100).sum(axis=(1, 3)).ravel()
    at = np.histogram2d(
        np.arccos(points[:, 2] / size[:, 0]),
        np.arctan2(points[:, 1], points[:, 0]),
        bins=[np.linspace(0, np.pi, 5), np.linspace(-np.pi, np.pi, 9)],
    )[0].ravel()
    assert uniform(at, expected)
    # Its box is that of the mesh.
    flat = grid.reshape(-1, 3)
    np.testing.assert_allclose([flat.min(axis=0), flat.max(axis=0)], [low, high], atol=3e-4)
    assert (flat.min(axis=0) >= low - 1e-9).all() and (flat.max(axis=0) <= high + 1e-9).all()
