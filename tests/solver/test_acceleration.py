"""Anderson acceleration on linear iterations, whose fixed points are known."""

import numpy as np
import pytest
import torch

from geomsink.solver.acceleration import MEMORY, Acceleration


def iterates(matrix, c, n_iter, scale=None, accelerated=True):
    """Of z ← M z + c from zero."""
    z, acceleration = torch.zeros_like(c), Acceleration()
    scale = torch.ones_like(c) if scale is None else scale
    found = []
    for _ in range(n_iter):
        step = matrix @ z + c - z
        z = acceleration.next(z, step, scale) if accelerated else z + step
        found.append(z)
    return found


def random_iteration(d, seed, radius=0.9):
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(d, d))
    matrix *= radius / np.abs(np.linalg.eigvals(matrix)).max()
    return torch.as_tensor(matrix), torch.as_tensor(random.normal(size=d))


def distances(found, matrix, c):
    exact = np.linalg.solve(np.eye(len(c)) - matrix.numpy(), c.numpy())
    return [np.abs(z.numpy() - exact).max() / np.abs(exact).max() for z in found]


@pytest.mark.parametrize("radius", [0.9, 3.0])
@pytest.mark.parametrize("seed", range(8))
def test_it_ends_after_as_many_steps_as_dimensions_and_one(seed, radius):
    """Also where the plain iteration diverges."""
    matrix, c = random_iteration(5, seed, radius)
    # The Gram matrix squares the condition of the steps.
    wrong = distances(iterates(matrix, c, 6), matrix, c)
    assert wrong[5] < 1e-8 and wrong[4] > 1e-5


def test_one_mode_needs_two_steps():
    matrix, c = 0.999 * torch.eye(7, dtype=torch.float64), torch.arange(7, dtype=torch.float64)
    assert distances(iterates(matrix, c, 2), matrix, c)[1] < 1e-12


@pytest.mark.parametrize("ratio", [0.3, 0.6])
def test_slow_modes(ratio):
    """Contractions 0.99, 0.99 r, 0.99 r², …: no mode is taken away by itself, and the plain iteration stands still."""
    matrix = torch.diag(0.99 * ratio ** torch.arange(20, dtype=torch.float64))
    c = torch.ones(20, dtype=torch.float64)
    plain = distances(iterates(matrix, c, 20, accelerated=False), matrix, c)
    assert 1e3 * distances(iterates(matrix, c, 20), matrix, c)[-1] < plain[-1]


@pytest.mark.parametrize("factor", [1e-12, 1e9])
def test_units_do_not_matter(factor):
    matrix, c = random_iteration(9, 0)
    expected = iterates(matrix, c, 8)
    scale = torch.full_like(c, factor)
    # Gram matrices of a condition of some 1e6 are inverted.
    for other in (iterates(matrix, c, 8, scale=scale), [z / factor for z in iterates(matrix, factor * c, 8)]):
        for a, b in zip(other, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_units_of_coordinates_are_taken_up_by_the_scale():
    matrix, c = random_iteration(9, 1)
    units = torch.logspace(-4, 4, 9, dtype=torch.float64)
    other = iterates(units[:, None] * matrix / units, units * c, 8, scale=1 / units)
    for a, b in zip(other, iterates(matrix, c, 8), strict=True):
        torch.testing.assert_close(a / units, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_combination_is_the_one_of_least_norm(weighted):
    """Against a constrained least-squares problem, for iterates and steps of no iteration at all."""
    random = np.random.default_rng(2)
    reached, steps = random.normal(size=(2, MEMORY + 4, 30))
    scale = random.uniform(0.1, 2.0, size=30) if weighted else np.ones(30)
    acceleration = Acceleration()
    for k in range(len(steps)):
        found = acceleration.next(*(torch.as_tensor(a) for a in (reached[k] - steps[k], steps[k], scale))).numpy()
        last = slice(max(0, k - MEMORY), k + 1)  # no more than these are kept
        S = steps[last] * scale
        n = len(S)
        # min ‖Σ α_i s_i‖ under Σ α_i = 1: stationarity and the constraint.
        system = np.block([[S @ S.T, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
        alpha = np.linalg.solve(system, np.append(np.zeros(n), 1.0))[:n]
        np.testing.assert_allclose(found, alpha @ reached[last], rtol=0, atol=1e-10)


def test_the_fixed_point_stays():
    """Steps of zero, from the beginning or at the end, divide nothing by zero."""
    z, zero = torch.rand(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    acceleration = Acceleration()
    for _ in range(4):
        assert torch.equal(acceleration.next(z, zero, torch.ones_like(z)), z)
    matrix, c = random_iteration(5, 3)
    found = iterates(matrix, c, 30)
    assert max(distances(found, matrix, c)[6:]) < 1e-8


def test_repeated_steps_are_noise():
    """The same step twice says nothing about what to combine."""
    acceleration, z, step = Acceleration(), torch.zeros(3).double(), torch.ones(3).double()
    first = acceleration.next(z, step, torch.ones_like(z))
    assert torch.equal(first, step)
    again = acceleration.next(z, step, torch.ones_like(z))
    assert torch.equal(again, step)
