"""Registration, against known motions: of a scanned shape with noise and missing parts, and of shapes from formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from geomsink import shapes, solve
from geomsink.transport.motions import Linear, Smooth, spread
from geomsink.transport.registration import Registration, register

BUNNY = Path(__file__).resolve().parents[3] / "shared" / "data" / "stanford-bunny.obj"


def motion(seed: int, d: int = 3):
    """A random rotation by any angle, and a shift."""
    random = np.random.default_rng(seed)
    if d == 2:
        angle = random.uniform(-np.pi, np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    else:
        turn = Rotation.from_quat(random.normal(size=4)).as_matrix()
    return turn, random.normal(size=d)


def error(found: Registration, matrix, translation, x) -> float:
    """The largest distance of a point of the shape from where it should be, relative to the shape's diameter."""
    expected = x @ np.asarray(matrix).T + translation
    apart = np.linalg.norm(found(np.asarray(x, dtype=np.float64)) - expected, axis=1).max()
    return float(apart / pdist(expected[:: max(len(x) // 500, 1)]).max())


# ------------------------------------------------------------------------- rigid motions


def test_a_rigid_motion_under_noise_and_missing_points():
    """To 0.1 %: noise of 0.01 in the unit cube, and half of the points missing; the bunny from any rotation.

    Noise alone leaves up to 0.07 % of 4,000 points, if pairs are known (see below).
    """
    random = np.random.default_rng(3)
    if BUNNY.exists():
        x = shapes.read(BUNNY, normalize=True).astype(np.float64)
        x = x[random.permutation(len(x))[:8000]]
    else:
        x = shapes.procedural("star", 12_000, seed=0).astype(np.float64)
    turn, shift = motion(0)
    kept = random.permutation(len(x))[: len(x) // 2]
    y = x[kept] @ turn.T + shift + 0.01 * random.normal(size=(len(kept), 3))
    # The star has symmetries, which no search tells apart.
    init = "search" if BUNNY.exists() else (turn, shift + 0.03)
    found = register(x, y, blur=0.01, reach=0.02, init=init, start=0.05)
    assert found.converged, found.status
    assert error(found, turn, shift, x) < 1e-3
    assert np.linalg.norm(found.matrix - turn) < 1e-3 * np.linalg.norm(turn)
    # Kabsch's solution of the pairs, which the registration does not know.
    centred = x[kept] - x[kept].mean(0)
    best = Rotation.align_vectors(y - y.mean(0), centred)[0].as_matrix()
    known = Registration("rigid", None, best, y.mean(0) - best @ x[kept].mean(0), None, None, None, (), ())
    assert error(found, turn, shift, x) < 4 * error(known, turn, shift, x)
    np.testing.assert_allclose(found.matrix.T @ found.matrix, np.eye(3), atol=1e-14)
    assert np.linalg.det(found.matrix) > 0


@pytest.mark.parametrize(("transform", "reaches"), [("rigid", (1e-3, 0.2, 5.0)), ("affine", (1e-3, 0.2))])
def test_the_matched_mass_tells_a_reach_that_is_too_small_or_too_large(transform, reaches):
    """Half of each cloud is the other's: all descents come to rest, and the shares tell them apart."""
    common, left, right = np.random.default_rng(0).random((3, 80, 2))
    x, y = np.concatenate((common, left + [3.0, 0.0])), np.concatenate((common, right + [0.0, 4.0]))
    identity = (np.eye(2), np.zeros(2))
    shares = []
    for reach in reaches:
        r = register(x, y, transform=transform, blur=0.05, reach=reach, init=identity, start=0.05)
        s = solve(r.points, y, blur=0.05, reach=reach, tol=1e-5)
        f, g = s.potentials
        C = ((r.points[:, None] - y) ** 2).sum(-1)
        dense = (np.exp((f[:, None] + g - C) / s.epsilon) / (len(x) * len(y))).sum()
        assert r.matched[0] == r.matched[1] == pytest.approx(dense, rel=1e-3)
        shares.append(r.matched[0])
    itself = solve(y, y, blur=0.05, reach=0.2, tol=1e-5).plan.mass
    assert shares[0] < 0.02 and 0.4 < shares[1] / itself < 0.75 and all(share > 0.9 for share in shares[2:])
    assert register(x, y, transform=transform, blur=0.05, steps=2).matched == (1.0, 1.0)


def test_shares_are_of_the_masses():
    x = np.random.default_rng(0).random((100, 2))
    a, b = np.full(100, 0.02), np.full(100, 0.04)
    r = register(x, x, a, b, blur=0.05, reach=0.1, init=(np.eye(2), np.zeros(2)), start=0.05)
    mass = solve(x, x, a, b, blur=0.05, reach=0.1, tol=1e-5).plan.mass
    assert 2.0 < mass < 4.0
    np.testing.assert_allclose(r.matched, (mass / 2.0, mass / 4.0), rtol=1e-3)


def test_a_part_that_is_cut_away():
    """The other half has nowhere to go, and at a short reach of its own it hardly pulls at the rest."""
    x = shapes.procedural("blob", 400, seed=1).astype(np.float64)
    turn, shift = Rotation.from_rotvec([0.1, -0.05, 0.1]).as_matrix(), np.array([0.02, 0.0, -0.03])
    y = x[x[:, 0] > np.median(x[:, 0])] @ turn.T + shift
    options = dict(blur=0.02, init=(np.eye(3), np.zeros(3)), start=0.1)
    assert error(register(x, y, reach=(0.02, None), **options), turn, shift, x) < 3e-3
    assert error(register(x, y, steps=5, **options), turn, shift, x) > 0.1  # all mass moved


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_finds_any_rotation(d, seed):
    x = shapes.procedural("star", 400, seed=0).astype(np.float64)[:, :d] * np.array([1.0, 0.7, 0.5])[:d]
    x = x[(x[:, 0] > 0.3) | (x[:, 1] > 0.4)]  # without symmetries
    turn, shift = motion(10 * d + seed, d)
    found = register(x, x @ turn.T + shift, blur=0.05, init="search")
    assert error(found, turn, shift, x) < 1e-4


def test_higher_dimensions():
    random = np.random.default_rng(0)
    x = random.random((150, 5)) * np.arange(1.0, 6.0)
    turn, _ = np.linalg.qr(np.eye(5) + 0.05 * random.normal(size=(5, 5)))
    turn = turn * np.sign(np.diag(turn))
    found = register(x, x @ turn.T + 1.0, blur=0.3)
    np.testing.assert_allclose(found.matrix, turn, atol=1e-4)
    np.testing.assert_allclose(found.matrix.T @ found.matrix, np.eye(5), atol=1e-14)


# ---------------------------------------------------------------------- other families


@pytest.mark.parametrize("transform", ["similarity", "affine"])
def test_linear_maps_of_a_clean_shape(transform):
    x = shapes.procedural("knot", 250, seed=0).astype(np.float64)
    turn = Rotation.from_rotvec([0.2, 0.1, -0.2]).as_matrix()
    matrix = 1.3 * turn if transform == "similarity" else turn @ np.array([[1.2, 0.2, 0], [0, 0.8, 0.1], [0, 0, 1.1]])
    shift = np.array([0.5, -0.2, 0.1])
    y = np.random.default_rng(0).permutation(x @ matrix.T + shift)
    found = register(x, y, transform=transform, blur=0.05)
    assert error(found, matrix, shift, x) < 1e-4
    if transform == "similarity":
        gram = found.matrix.T @ found.matrix
        np.testing.assert_allclose(gram, gram[0, 0] * np.eye(3), atol=1e-13)


def test_a_smooth_displacement():
    """A bend is undone; what is smooth moves near points alike, and a stiff displacement is a small one."""
    x = shapes.procedural("torus", 300, seed=0).astype(np.float64)
    y = x + np.stack([0 * x[:, 0], 0 * x[:, 0], 0.3 * (x[:, 0] - 0.5) ** 2], axis=1)
    options = dict(transform="free", blur=0.06, init=(np.eye(3), np.zeros(3)), start=0.1, width=0.3, steps=20)
    found = register(x, y, stiffness=1e-5, **options)
    before = register(x, y, blur=0.06, steps=1, start=0.06, init=(np.eye(3), np.zeros(3))).history[-1].values[0]
    assert found.history[-1].values[-1] < 0.1 * before
    assert np.abs(found.points - y).max() < 0.03 < np.abs(x - y).max()
    # ‖v(z) − v(z′)‖ ≤ ‖v‖ √(2 − 2 k(z, z′)), the reproducing property.
    distances = ((found.controls[:, None] - found.controls[None]) ** 2).sum(-1)
    gram = np.exp(-distances / (2 * found.width**2))
    norm = np.sqrt(np.einsum("kd,kl,ld->", found.momenta, gram, found.momenta))
    near = x + np.array([1e-3, 0.0, 0.0])
    moved = (found(near) - near) - (found(x) - x)
    assert np.linalg.norm(moved, axis=1).max() <= norm * np.sqrt(2 - 2 * np.exp(-1e-6 / (2 * found.width**2))) * 1.01
    np.testing.assert_allclose(found(x), found.points, atol=1e-12)
    stiff = register(x, y, stiffness=10.0, **options)
    assert np.abs(stiff.points - x).max() < 0.1 * np.abs(found.points - x).max()


# ---------------------------------------------------------------------- pieces


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine", "free"])
def test_another_unit_keeps_the_map(kind):
    random = torch.Generator().manual_seed(0)
    x = torch.rand(30, 3, generator=random, dtype=torch.float64)
    matrix, shift = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    made = (
        Smooth(matrix, shift, spread(x, 0.2), 0.4, 0.5)
        if kind == "free"
        else Linear(kind, matrix, shift, x.mean(0), 0.5, 0.1)
    )
    torch.testing.assert_close(made(x), x + shift)
    with torch.no_grad():
        for parameter in made.parameters:
            parameter += torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        before = made(x)
        penalty = made.penalty()
        made.settle(0.03)
        torch.testing.assert_close(made(x), before, rtol=0, atol=1e-12)
        if penalty is not None:
            torch.testing.assert_close(made.penalty(), penalty)
    if kind != "free":
        torch.testing.assert_close(x @ made.matrix.T + made.translation, before, rtol=0, atol=1e-12)


def test_control_points_cover_the_cloud():
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    chosen = spread(x, 0.3)
    assert torch.cdist(x, chosen).min(1).values.max() <= 0.3
    assert len(chosen) < 100


# ---------------------------------------------------------------------- the front


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kinds_of_arrays(dtype):
    x = np.random.default_rng(0).random((60, 2)).astype(dtype)
    y, b = x[:40] + dtype(0.1), np.full(40, 1 / 40, dtype)
    options = dict(blur=0.1, reach=0.3, steps=12)
    found = register(x, y, None, b, **options)
    tensors = register(torch.from_numpy(x), torch.from_numpy(y), None, torch.from_numpy(b), **options)
    for name, shape in (("points", (60, 2)), ("matrix", (2, 2)), ("translation", (2,))):
        array, tensor = getattr(found, name), getattr(tensors, name)
        assert isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape
        assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
        np.testing.assert_array_equal(array, tensor.numpy())  # reproducible, too
    np.testing.assert_allclose(found(x), found.points, atol=1e-6)
    assert tensors(torch.rand(3, 2)).dtype == torch.float32
    again = register(x, y, None, b, **options | dict(init=found, start=0.1))
    np.testing.assert_allclose(again.points, found.points, atol=1e-3)


def test_weights_count():
    """Points without weight are moved, and do not matter."""
    x = np.random.default_rng(0).random((60, 2))
    far = np.concatenate([x, [[9.0, 9.0]]])
    a = np.append(np.full(60, 1 / 60), 0.0)
    found, expected = register(far, x + 0.1, a, blur=0.1), register(x, x + 0.1, blur=0.1)
    np.testing.assert_allclose(found.points[:-1], expected.points, atol=1e-8)
    np.testing.assert_allclose(found.points[-1], 9.1, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(transform="projective"), "^transform: unknown name 'projective'; expected one of rigid"),
        (dict(blur=0), "^blur: 0 given, expected a positive length"),
        (dict(blur="wide"), "^blur: a str was given, expected a length"),
        (dict(start=-1.0), "^start: -1.0 given, expected a positive length"),
        (dict(scaling=2.0), "^scaling: 2.0 given"),
        (dict(reach=-1.0), "^reach: -1.0 given"),
        (dict(init="axes"), "^init: unknown name 'axes'; expected one of centres, search"),
        (dict(init=3), "^init: a int was given, expected a name"),
        (dict(init=(np.eye(2), np.zeros(3))), r"^init: the matrix has shape \(2, 2\), expected \(3, 3\)"),
        (dict(init=(2 * np.eye(3), np.zeros(3))), "^init: the matrix is off by 3 from a rotation"),
        (dict(init=(-np.eye(3), np.zeros(3))), "^init: the matrix is a reflection"),
        (dict(width=0.1), "^width: 0.1 given with transform='rigid'"),
        (dict(transform="free", stiffness=0.0), "^stiffness: 0.0 given, expected a positive number"),
        (dict(transform="free", width=1e-3), None),
        (dict(steps=0), "^steps: 0 given"),
        (dict(optimizer="newton"), "^optimizer: unknown name 'newton'"),
        (dict(seed=0.5), "^seed: a float was given"),
        (dict(y=np.zeros((4, 2))), "^y: 2 coordinates a point"),
        (dict(x=np.ones((4, 3))), "^x: all points of positive weight are the same"),
        (dict(x=np.ones((2, 4, 3)), y=np.ones((2, 4, 3))), "^x: shape is .2, 4, 3., expected"),
    ],
)
def test_bad_input_is_refused(options, sentence):
    x = np.random.default_rng(0).random((2100 if sentence is None else 20, 3))
    with pytest.raises((ValueError, TypeError), match=sentence or "^width: 0.001 given, for which more than 2000"):
        register(**dict(x=x, y=x, blur=0.1) | options)


def test_points_of_other_coordinates_are_refused():
    x = np.random.default_rng(0).random((20, 3))
    found = register(x, x, blur=0.2, start=0.2, steps=1)
    with pytest.raises(ValueError, match=r"^points: shape is \(4, 2\), expected \(points, 3\)"):
        found(np.zeros((4, 2)))
    with pytest.raises(TypeError, match="^points: dtype is complex128"):
        found(np.zeros((4, 3), dtype=complex))
    whole = np.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(found(whole), found(whole.astype(float)))
    with pytest.raises(ValueError, match="^init: 'search' given with 4 coordinates"):
        register(np.eye(4), np.eye(4), blur=0.1, init="search")


@pytest.mark.parametrize("offset", [0.0, 1e6, 5e6])
def test_free_motions_far_from_the_origin(offset):
    """As coordinates of maps are: distances between the control points were made of squares of what they are far by."""
    drawn = np.random.default_rng(0)
    x = drawn.random((150, 2)) + offset
    y = x + 0.02 * np.sin(6.0 * (x[:, ::-1] - offset))
    found = register(x, y, blur=0.05, transform="free", steps=10)
    assert np.abs(found(x) - y).mean() < 0.015
