"""One call of several processes, each with its points: what one process finds with all points, and that is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dealt import clouds, dealt, steps_of
from outcomes import needs_gloo, together

import geomsink
from geomsink import sinkhorn_divergence, solve
from geomsink.processes import Group

pytestmark = needs_gloo
TIGHT = dict(rtol=1e-11, atol=1e-13)
"""Sums in another order, in float64."""


def tilted(x, y, scale):
    return scale * ((x - y).abs() ** 1.5).sum(-1)


PROBLEMS = {
    "near the spacing": dict(blur=0.05, cost="euclidean", certify=True),
    "penalties": dict(blur=0.1, reach=(0.5, 0.3)),
    "kinked": dict(blur=0.2, reach=0.4, penalty="tv", cost="euclidean"),
    "transport cost": dict(blur=0.2, form="sharp"),
    "limit": dict(epsilon=float("inf")),
    "in single precision": dict(blur=0.3, dtype="float32"),
    "in many coordinates": dict(blur=1.0),
}
AMONG = {
    1: tuple(PROBLEMS),
    2: ("near the spacing", "kinked", "transport cost", "in many coordinates"),
    4: ("near the spacing", "penalties", "limit", "in single precision"),
}
"""Which of them are solved by so many processes."""
DIMENSION = {"in many coordinates": 40}


def told(result):
    """What is the same on all, and what belongs to each one's points."""
    one = result.xy if isinstance(result, geomsink.Divergence) else result
    everywhere = [result.value, one.value, one.transport_cost, one.plan.mass, one.marginal_error, result.value_error]
    if result.lower is not None:
        everywhere += [result.lower, result.upper]
    return [torch.as_tensor(t).detach() for t in everywhere], list(one.potentials)


def solved(name, group, rows, columns):
    """A problem, its gradients, and products with its plan."""
    x, y, a, b = clouds(DIMENSION.get(name, 3))
    leaves = [t.clone() for t in (x[rows], y[columns], a[rows], b[columns])]
    live = name != "limit"
    for t in leaves:
        t.requires_grad_(live)
    x, y, a, b = leaves
    result = sinkhorn_divergence(x, y, a, b, group=group, **PROBLEMS[name])
    same, own = told(result)
    if live:
        result.value.backward()
        own += [t.grad for t in leaves]
    own = dict(zip("fgxyab", (t.detach() for t in own), strict=False))
    with torch.no_grad():
        own["x, pushed"] = result.xy.plan @ y.detach()
        own["y, pushed"] = result.xy.plan.T @ x.detach()
        own["x, marginal"] = result.xy.plan.row_marginal()
        own["y, marginal"] = result.xy.plan.column_marginal()
    report = (result.converged, result.n_iter, result.xy.strategy, result.xy.engine, result.xy.dtype)
    return {"same": same, "own": own, "report": report}


def all_problems(group, rows, columns):
    return {name: solved(name, group, rows, columns) for name in AMONG[group.count]}


def others(group, rows, columns):
    """Other kinds of arrays, costs, starts and derivatives."""
    found, (x, y, *_) = {}, clouds()
    x, y = x[rows], y[columns]
    by_numpy = solve(x.numpy(), y.numpy(), blur=0.2, group=group)
    again = solve(x.numpy(), y.numpy(), blur=0.2, group=group, init=by_numpy)
    found["numpy"] = [by_numpy.value, again.value, *by_numpy.potentials]
    found["kinds"] = [type(by_numpy.value), type(by_numpy.potentials[0]), again.n_iter < by_numpy.n_iter]
    scale, blur = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (1.5, 0.2))
    cost = geomsink.costs.Cost(name="tilted", expression=tilted, degree=1.5, parameters=(scale,))
    found["shared"] = torch.autograd.grad(solve(x, y, blur=blur, cost=cost, tol=1e-5, group=group).value, (scale, blur))
    moved = x.clone().requires_grad_()
    f, g = solve(moved, y, blur=0.3, differentiation="implicit", tol=1e-6, group=group).potentials
    number = f.square().sum() + g.square().sum()  # of the own points: gradients are of the sum over processes
    number.backward()
    found["implicit"] = moved.grad
    return found


def trained(group, rows, columns):
    loss = geomsink.SinkhornDivergence(blur=0.1, cost="euclidean", tol=1e-4, group=group)
    return steps_of(loss, group, rows, columns)


@pytest.fixture(scope="module")
def found():
    return dealt([all_problems]) | dealt([others, trained], (1, 2))


@pytest.fixture(scope="module")
def alone():
    everything = slice(None), slice(None)
    return {name: solved(name, None, *everything) for name in PROBLEMS}


@pytest.mark.parametrize(("name", "count"), [(name, count) for count in (2, 4) for name in AMONG[count]])
def test_several_processes_find_what_one_does(found, name, count):
    (one,), several = ([r[name] for r in found["all_problems", k]] for k in (1, count))
    close = dict(rtol=1e-5, atol=1e-6) if name == "in single precision" else TIGHT
    for result in several:
        assert result["report"] == one["report"]
        for mine, first, whole in zip(result["same"], several[0]["same"], one["same"], strict=True):
            assert torch.equal(mine, first)  # to the bit
            if name != "in single precision" or whole > 1e-4:
                torch.testing.assert_close(mine, whole, rtol=10.0 * close["rtol"], atol=close["atol"])
    for key, whole in one["own"].items():
        torch.testing.assert_close(torch.cat([result["own"][key] for result in several]), whole, **close)


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_they_find_is_right(found, alone, name):
    """Against the solvers of one process, of which most go other ways."""
    (one,), other = [r[name] for r in found["all_problems", 1]], alone[name]
    assert one["report"][0] and one["report"][2] in ("one-level", "limit") and one["report"][3] == "dense-sharded"
    value, expected = one["same"][0], other["same"][0]
    off = float(one["same"][5] + other["same"][5])
    assert abs(float(value - expected)) <= off + 1e-14 and off < 1e-4 * float(expected)
    for key in one["own"]:
        torch.testing.assert_close(one["own"][key], other["own"][key], rtol=0.02, atol=3e-3)
    if "certify" in PROBLEMS[name]:
        for lower, upper in ((one["same"][6:], other["same"][6:]), (other["same"][6:], one["same"][6:])):
            assert float(lower[0]) <= float(expected) <= float(upper[1])


@pytest.mark.parametrize("count", [1, 2])
def test_other_arrays_costs_starts_and_derivatives(found, count):
    everything = slice(None), slice(None)
    expected = others(None, *everything)
    results = found["others", count]
    for one in results:
        assert one["kinds"] == [float, np.ndarray, True] == expected["kinds"]
        assert one["numpy"][:2] == results[0]["numpy"][:2]
        assert one["numpy"][0] == pytest.approx(expected["numpy"][0], rel=1e-5)
        for mine, whole in zip(one["shared"], expected["shared"], strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-3, atol=1e-7)
    gradient = torch.cat([one["implicit"] for one in results])
    torch.testing.assert_close(gradient, expected["implicit"], rtol=1e-3, atol=1e-5)


def test_training_steps(found):
    (one,) = found["trained", 1]
    for result in found["trained", 2]:
        for mine, first, whole in zip(result, found["trained", 2][0], one, strict=True):
            assert torch.equal(mine, first)
            torch.testing.assert_close(mine, whole, **TIGHT)
    for mine, whole in zip(one, trained(None, slice(None), slice(None)), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-3, atol=1e-5)


BATCH = np.zeros(5), np.zeros(4)
REFUSED = {
    "x: a Sketch was given with group": lambda x, y: (geomsink.sketch(y, blur=0.3), y, {}),
    "x_batch, y_batch: given with group": lambda x, y: (x, y, dict(x_batch=BATCH[0], y_batch=BATCH[1])),
    "multiscale: True given": lambda x, y: (x, y, dict(multiscale=True)),
    "'unrolled' given": lambda x, y: (x, y, dict(differentiation="unrolled", iterations=3)),
    "x: shape is": lambda x, y: (x[None], y, {}),
    "numbers are NaN": lambda x, y: (x + np.nan, y, {}),
    "a, b: they sum to": lambda x, y: (x, y, dict(a=np.ones(len(x)))),
    "x, y: coordinates, or features, extend over": lambda x, y: (1e300 * x, y, {}),
}


def refused():
    """What is wrong on all is said by each in a sentence, and nobody waits; what differs, too."""
    group = Group(timeout=60.0)
    random, found = np.random.default_rng(group.rank), []
    x, y = random.random((5, 2)), random.random((4, 2))
    for make in REFUSED.values():
        a, b, options = make(x, y)
        with pytest.raises((TypeError, ValueError)) as error:
            sinkhorn_divergence(a, b, group=group, blur=0.3, cost="euclidean", **options)
        found.append(str(error.value))
    different = []
    for options in (dict(blur=0.1 * (1 + group.rank)), dict(blur=0.1, tol=10.0 ** -(3 + group.rank))):
        with pytest.raises(geomsink.processes.ProcessesError) as error:
            sinkhorn_divergence(x, y, group=group, **options)
        different.append(str(error.value))
    with pytest.raises(geomsink.processes.ProcessesError, match="coordinates is"):
        solve(x[:, : 1 + group.rank], y[:, : 1 + group.rank], blur=0.1, group=group)
    plan = solve(x, y, blur=0.3, group=group).plan
    read = (plan.to_dense, plan.linear_operator, lambda: plan.top_k(1), lambda: plan.sample(2))
    for entries in (*read, lambda: plan.to_sparse(0.1)):
        with pytest.raises(ValueError, match="P is of points that are dealt out"):
            entries()
    return found, different


def test_what_is_wrong_is_said_on_all():
    for outcome in together(refused, 2, within=100.0):
        assert outcome.error is None, outcome.error
        found, different = outcome.value
        for sentence, said in zip(REFUSED, found, strict=True):
            assert sentence in said
        assert "blur is 0.1 on process 0 and 0.2 on process 1" in different[0]
        assert "tol is 0.001 on process 0" in different[1]


def test_options_are_kept_by_losses():
    assert replace(geomsink.SinkhornDivergence(blur=0.1).options, tol=1e-2).tol == 1e-2
    with pytest.raises(TypeError, match="group: 3 given"):
        geomsink.SinkhornDivergence(blur=0.1, group=3)
