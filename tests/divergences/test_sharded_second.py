"""Second derivatives between clouds that are dealt out to processes: those of one process, and of differences."""

import pytest
import torch
from dealt import SIZES, clouds, dealt
from outcomes import needs_gloo

from geomsink import sinkhorn_divergence, solve

pytestmark = [needs_gloo, pytest.mark.slow]
STEP = 1e-4
TIGHT = dict(tol=1e-10, blur=0.6)


def value(x, y, a, b, group):
    """A divergence by the envelope theorem, whose derivatives of the second order are implicit."""
    return sinkhorn_divergence(x, y, a, b, cost="euclidean", group=group, **TIGHT).value


def penalised(x, y, a, b, group):
    return solve(x, y, a, b, reach=(0.5, 0.3), differentiation="implicit", group=group, **TIGHT).value


def sharp(x, y, a, b, group):
    return sinkhorn_divergence(x, y, a, b, form="sharp", group=group, **TIGHT).value


def potentials_and_plan(x, y, a, b, group):
    """A number made of what each process has for its own points."""
    solution = solve(x, y, a, b, differentiation="implicit", group=group, **TIGHT)
    f, g = solution.potentials
    return f.square().sum() + g.exp().sum() + (solution.plan @ y).square().sum()


NUMBERS = {f.__name__: f for f in (value, penalised, sharp, potentials_and_plan)}
AMONG = {1: tuple(NUMBERS), 2: ("value", "penalised", "potentials_and_plan"), 4: ("potentials_and_plan",)}


def leaves_of(rows, columns, moved=0.0):
    """Points and weights of a process, moved along directions, and these."""
    random = torch.Generator().manual_seed(1)
    found = []
    for t, some in zip(clouds(), (rows, columns, rows, columns), strict=True):
        direction = torch.randn(t.shape, generator=random, dtype=t.dtype)
        if t.ndim == 1:  # weights stay positive, and of one mass
            direction = 0.1 * (t * direction - t * (t * direction).sum() / t.sum())
        found.append(((t + moved * direction)[some].clone().requires_grad_(), direction[some]))
    return tuple(zip(*found, strict=True))


def products(name, group, rows, columns):
    """Of the Hessian with directions, in the own points and weights."""
    leaves, directions = leaves_of(rows, columns)
    first = torch.autograd.grad(NUMBERS[name](*leaves, group), leaves, create_graph=True)
    second = torch.autograd.grad(sum((g * d).sum() for g, d in zip(first, directions, strict=True)), leaves)
    return [g.detach() for g in first], list(second)


def hessians(group, rows, columns):
    return {name: products(name, group, rows, columns) for name in AMONG[group.count]}


@pytest.fixture(scope="module")
def found():
    return dealt([hessians])


EVERYTHING = slice(None), slice(None)


@pytest.mark.parametrize(("name", "count"), [(name, count) for count in SIZES for name in AMONG[count]])
def test_hessians_of_several_processes_are_that_of_one(found, name, count):
    expected = products(name, None, *EVERYTHING)
    for order in (0, 1):
        for k, whole in enumerate(expected[order]):
            mine = torch.cat([one[name][order][k] for one in found["hessians", count]])
            assert float(whole.abs().max()) > 1e-4
            torch.testing.assert_close(mine, whole, rtol=1e-8, atol=1e-8 * float(whole.abs().max()))


def gradient(name, moved):
    leaves, _ = leaves_of(*EVERYTHING, moved)
    return torch.autograd.grad(NUMBERS[name](*leaves, None), leaves)


@pytest.mark.parametrize("name", ["value", "potentials_and_plan"])
def test_hessians_are_differences_of_gradients(found, name):
    ahead, behind = gradient(name, STEP), gradient(name, -STEP)
    for k, (g, h) in enumerate(zip(ahead, behind, strict=True)):
        mine = torch.cat([one[name][1][k] for one in found["hessians", 2]])
        differences = (g - h) / (2.0 * STEP)
        if k > 1:  # of weights of a fixed mass, gradients are known but for a constant
            differences, mine = differences - differences.mean(), mine - mine.mean()
        torch.testing.assert_close(mine, differences, rtol=1e-4, atol=1e-4 * float(differences.abs().max()))
