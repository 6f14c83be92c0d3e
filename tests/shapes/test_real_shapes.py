"""The scans that lie in ../shared/data."""

from pathlib import Path

import numpy as np
import pytest
from mesh_cases import doubled_areas

from geomsink.shapes import read, read_mesh, sample

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def scan(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not on this machine")
    if name.endswith(".ply"):
        pytest.importorskip("plyfile")
    return DATA / name


@pytest.mark.parametrize(
    ("name", "n_vertices", "n_faces"),
    [
        ("spot.obj", 2930, 5856),
        ("stanford-bunny.obj", 35947, 69451),
        ("igea.ply", 134345, 268686),
        ("horse.ply", 48485, 96966),
    ],
)
def test_scans_are_read_whole(name, n_vertices, n_faces):
    mesh = read_mesh(scan(name))
    assert mesh.vertices.shape == (n_vertices, 3) and mesh.vertices.dtype == np.float32
    assert mesh.faces.shape == (n_faces, 3)


def test_spot_vertices_are_its_lines_in_order():
    path = scan("spot.obj")
    lines = [line.split()[1:] for line in path.read_text().splitlines() if line.startswith("v ")]
    np.testing.assert_array_equal(read(path), np.array(lines, np.float64).astype(np.float32))


def test_igea_strips_close_into_one_surface():
    mesh = read_mesh(scan("igea.ply"))
    # Each edge is passed once in each direction: nothing is missing, doubled or turned over.
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    forth, back = (np.sort(edges @ order) for order in ([1 << 20, 1], [1, 1 << 20]))
    np.testing.assert_array_equal(forth, back)
    assert (np.diff(forth) > 0).all()
    # Euler's formula for a sphere, and the area of a head 0.1 high.
    assert len(mesh.vertices) - len(edges) // 2 + len(mesh.faces) == 2
    area = np.linalg.norm(doubled_areas(mesh), axis=1).sum() / 2
    assert np.pi * 0.07**2 < area < 2 * np.pi * 0.1**2


def test_read_and_sample_share_the_normalized_frame():
    path = scan("spot.obj")
    whole, drawn = read(path, normalize=True), sample(path, 20000, seed=1, normalize=True)
    low, high = whole.min(axis=0), whole.max(axis=0)
    np.testing.assert_allclose(low + high, 1, atol=1e-6)
    assert (high - low).max() == pytest.approx(1, abs=1e-6)
    assert (drawn >= low - 1e-6).all() and (drawn <= high + 1e-6).all()
    np.testing.assert_allclose([drawn.min(axis=0), drawn.max(axis=0)], [low, high], atol=0.03)
