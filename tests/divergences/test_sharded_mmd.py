"""Kernel distances between clouds of which each process has a part: those of one process that has all points."""

import numpy as np
import pytest
import torch
from dealt import SIZES, clouds, dealt, steps_of
from outcomes import needs_gloo, together

import geomsink
from geomsink import MMD, kernels, mmd
from geomsink.processes import Group, ProcessesError

pytestmark = needs_gloo
TIGHT = dict(rtol=1e-12, atol=1e-14)
KERNELS = {
    "gaussian": dict(blur=[0.2, 0.5]),
    "laplacian": dict(kernel="laplacian", blur=0.3),
    "energy": dict(kernel="energy"),
    "compiled": dict(kernel="laplacian", blur=0.3, engine="keops"),
    "cosine": dict(kernel="-cosine"),
}


def discrepancies(group, rows, columns):
    """Values, potentials, gradients, and derivatives of these, in the own points and weights and the blur."""
    found = {}
    for name, options in KERNELS.items():
        x, y, a, b = clouds()
        leaves = [t.clone().requires_grad_() for t in (x[rows], y[columns], a[rows], b[columns])]
        if "blur" in options:
            blur = torch.tensor(options["blur"], dtype=torch.float64, requires_grad=True)
            options = options | {"blur": blur}
        result = mmd(*leaves, group=group, **options)
        wanted = [*leaves, *([blur] if "blur" in options else [])]
        first = torch.autograd.grad(result.value, wanted, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum() + first[3].square().sum(), leaves)
        own = [*result.potentials, *first[:4], *second]
        of_all, own = ([t.detach() for t in some] for some in ((result.value, *first[4:]), own))
        found[name] = of_all, own, result.engine, result.share
    plain = mmd(*(t.numpy() for t in (x[rows], y[columns])), kernel="energy", group=group)
    found["numpy"] = [plain.value], list(map(torch.from_numpy, plain.potentials)), type(plain.value), plain.engine
    return found


def trained(group, rows, columns):
    return steps_of(MMD(blur=0.3, group=group), group, rows, columns)


@pytest.fixture(scope="module")
def found():
    return dealt([discrepancies, trained])


@pytest.fixture(scope="module")
def alone():
    return discrepancies(None, slice(None), slice(None))


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", [*KERNELS, "numpy"])
def test_several_processes_find_what_one_does(found, alone, name, count):
    results, (of_all, of_points, *how) = [one[name] for one in found["discrepancies", count]], alone[name]
    for one in results:
        for mine, first, whole in zip(one[0], results[0][0], of_all, strict=True):
            assert bool((torch.as_tensor(mine) == torch.as_tensor(first)).all())  # to the bit
            torch.testing.assert_close(torch.as_tensor(mine), torch.as_tensor(whole), **TIGHT)
    for k, whole in enumerate(of_points):
        torch.testing.assert_close(torch.cat([one[1][k] for one in results]), whole, **TIGHT)
    engine = {"compiled": "keops"}.get(name, "dense")
    if name == "numpy":
        assert how == [float, "dense"] and results[0][2:] == (float, "dense-sharded")
    else:
        assert how == [engine, 1.0] and results[0][2:] == (engine + "-sharded", 1.0)


def test_energy_distances_are_right(found):
    """Against all pairs in NumPy."""
    x, y, a, b = (t.numpy() for t in clouds())
    z, w = np.concatenate((x, y)), np.concatenate((a, -b))
    expected = -0.5 * w @ np.linalg.norm(z[:, None] - z, axis=-1) @ w
    assert float(found["discrepancies", 4][0]["energy"][0][0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", SIZES)
def test_training_steps(found, count):
    expected = trained(None, slice(None), slice(None))
    for one in found["trained", count]:
        for mine, first, whole in zip(one, found["trained", count][0], expected, strict=True):
            assert torch.equal(mine, first)
            torch.testing.assert_close(mine, whole, rtol=1e-11, atol=1e-13)


def linear(x, y):
    return (x * y).sum(-1)


def failing(x):
    raise ValueError("features: none")


def refused():
    """What is wrong on one process, or on all, is said by each."""
    group, said = Group(timeout=60.0), []
    x, y = (torch.rand(n, 2, dtype=torch.float64) for n in (5, 4))
    odd = group.rank == 1
    broken = kernels.Kernel(name="linear", expression=linear, takes_blur=False, features=failing if odd else None)
    for points, options in (
        (y, dict(blur=-1.0 if odd else 1.0)), (y, dict(blur=1.0 + odd)), (geomsink.sketch(y, blur=0.3), dict(blur=1.0)),
        (y[None], dict(blur=1.0)), (y * float("nan"), dict(blur=1.0)), (y, dict(kernel=broken)),
    ):  # fmt: skip
        try:
            said.append(mmd(x, points, group=group, **options).value)
        except (TypeError, ValueError, ProcessesError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return [*said, float(mmd(x, x, blur=1.0, group=group).value)]


def test_what_is_wrong_is_said_on_all():
    outcomes = together(refused, 2, within=100.0)
    assert [outcome.error for outcome in outcomes] == [None, None]
    other, own = (outcome.value for outcome in outcomes)
    assert own[0].startswith("ValueError: blur: -1.0") and "process 1 of 2 failed with ValueError: blur" in other[0]
    for said in (other, own):
        assert "blur is [1.0] on process 0 and [2.0] on process 1" in said[1]
        assert "x: a Sketch was given with group" in said[2] or "y: a Sketch was given with group" in said[2]
        assert "y: shape is (1, 4, 2)" in said[3] and "numbers are NaN" in said[4]
        assert abs(said[6]) < 1e-15  # and all go on
    assert own[5].startswith("ValueError: features: none") and "process 1 of 2" in other[5]
