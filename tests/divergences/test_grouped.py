"""Clouds whose parts lie on several processes: the answers of one process that has all points, and the same on all."""

import copy
import os
import tempfile

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from geomsink import FeatureCost, SinkhornDivergence, costs, shapes, sinkhorn_divergence
from geomsink.measures import Measure
from geomsink.multiscale import Part, sketched
from geomsink.multiscale.shared import SharedStand
from geomsink.processes import Group, group_of

WORLD = 4
WORLDS = (4, 2, 1)
BLUR = 0.2
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo, which the CPU needs"
)


def clouds(n=2000, m=1600):
    x, y = (shapes.sample(f"shape:{name}", size, seed=0) for name, size in (("knot", n), ("star", m)))
    return torch.from_numpy(x).double(), torch.from_numpy(y).double()


def weights(n, mass, seed):
    w = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    return mass * w / w.sum()


def phi():
    torch.manual_seed(0)
    return nn.Linear(3, 2, bias=False).double()


CASES = {
    "plain": {},
    "float32": dict(dtype=torch.float32),
    "weights": dict(masses=(3.0, 3.0)),
    "kl, normalize": dict(masses=(2.0, 1.4), reach=0.5, normalize=True),
    "one side": dict(masses=(1.0, 1.4), reach=(None, 0.7)),
    "l2": dict(masses=(1.2, 1.0), rho=0.3, penalty="l2"),
    "close": dict(close=True),
}
ALONE = ("plain", "weights")
"""Cases of groups of one and of two."""


def problem(name):
    """Leaves x, y, a, b of a case, and its options."""
    options = dict(CASES[name])
    dtype, masses, close = options.pop("dtype", torch.float64), options.pop("masses", None), options.pop("close", False)
    x, y = clouds()
    y = x + 0.01 * x.flip(1).sin() if close else y
    a, b = (None, None) if masses is None else (weights(len(x), masses[0], 0), weights(len(y), masses[1], 1))
    return x.to(dtype), y.to(dtype), a, b, options


def outcome(leaves, options, **more):
    """Value, potentials and gradients in all leaves."""
    leaves = [None if t is None else t.clone().requires_grad_() for t in leaves]
    result = sinkhorn_divergence(*leaves, blur=BLUR, **options, **more)
    result.value.backward()
    gradients = [torch.zeros(0) if t is None else t.grad for t in leaves]
    f, g = result.xy.potentials
    return result, [f.detach(), g.detach(), *gradients]


def parts(rank, world, n):
    """Rows of a process: uneven, dealt out at random."""
    owner = torch.rand(n, generator=torch.Generator().manual_seed(n)).pow(1.5).mul(world).long()
    return (owner == rank).nonzero()[:, 0]


def of_case(name, rank, world, group, empty=None):
    x, y, a, b, options = problem(name)
    rows = [parts(rank, world, len(x)), parts(rank, world, len(y))]
    if empty is not None:  # that process has no points of the second cloud, the first one has them besides
        lost = parts(empty, world, len(y))
        rows[1] = torch.cat((rows[1], lost)) if rank == 0 else rows[1][:0] if rank == empty else rows[1]
    own = [x[rows[0]], y[rows[1]], None if a is None else a[rows[0]], None if b is None else b[rows[1]]]
    result, tensors = outcome(own, options, group=group)
    report = {
        "value": result.value.detach(), "value_error": float(result.value_error), "converged": result.converged,
        "status": result.status, "marginal_error": result.marginal_error, "traffic": result.traffic,
        "strategy": result.xy.strategy, "nodes": result.xy.approximation.nodes, "n_iter": result.n_iter,
        "levels": result.xy.approximation.levels[-1], "engine": result.engine,
    }  # fmt: skip
    return rows, tensors, report


def trained(rank=0, world=1, group=None):
    """Weights after some steps of a generator whose points are dealt out, and a fixed target."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    z = torch.rand(2400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = clouds(m=2400)[1]
    loss, optimizer = SinkhornDivergence(blur=0.3, group=group), torch.optim.SGD(generator.parameters(), lr=0.1)
    mine = slice(rank, None, world)
    values, iterations = [], []
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(generator(z[mine]), y[mine])
        value.backward()
        for p in generator.parameters():
            if group is not None:
                dist.all_reduce(p.grad)
        optimizer.step()
        values.append(float(value.detach()))
        iterations.append(loss.report.yy.n_iter)
    return [p.detach() for p in generator.parameters()], values, iterations


def learned(rank=0, world=1, group=None):
    """Gradients in a cost's own features."""
    net = phi()
    x, y = clouds()
    mine = slice(rank, None, world)
    value = sinkhorn_divergence(x[mine], y[mine], blur=0.1, cost=FeatureCost(net), group=group).value
    value.backward()
    for p in net.parameters():
        if group is not None:
            dist.all_reduce(p.grad)
    return [value.detach(), *(p.grad for p in net.parameters())]


def refused(rank, group):
    """What each process says where one, or all, cannot."""
    x, y = (p[rank::WORLD] for p in clouds(400, 400))
    bad = x.clone()
    bad[0, 0] = torch.nan
    odd = rank == 1
    calls = {
        "points": dict(x=bad if odd else x), "dimension": dict(x=x[:, :2], y=y[:, :2]) if odd else {},
        "dtype": dict(x=x.float(), y=y.float()) if odd else {}, "options": dict(blur=0.2) if odd else {},
        "unknown": dict(penalty="none") if odd else {}, "weighted": dict(a=torch.ones(len(x))) if odd else {},
        "masses": dict(a=torch.ones(len(x)), b=2.0 * torch.ones(len(y))), "none": dict(y=y[:0]),
        "cost": dict(cost="euclidean"), "inf": dict(epsilon=float("inf")), "spacing": dict(blur=0.05),
        "batch": dict(x=x[None], y=y[None]),
        "kinds": dict(x=x.numpy(), y=y.numpy()) if odd else {},
    }  # fmt: skip
    said = {}
    for name, changed in calls.items():
        how = {"x": x, "y": y, "blur": 0.5, "group": group} | changed
        if "epsilon" in how:
            del how["blur"]
        try:
            said[name] = sinkhorn_divergence(**how).xy.strategy
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def with_rough_sketches(rank, group):
    """Sketches that miss much, and no finer ones: the audit of all points says so."""
    kept, sketched.ACCURACIES = sketched.ACCURACIES, (300.0,)
    try:
        x, y = clouds()
        result = sinkhorn_divergence(x[rank::WORLD], y[rank::WORLD], blur=BLUR, group=group)
    finally:
        sketched.ACCURACIES = kept
    return result.converged, result.status, float(result.value), float(result.value_error)


def travelled(rank, group):
    """Bytes that a process sends for a sketch, the most nodes of a part, and those of the whole."""
    x = clouds()[0][rank::WORLD]
    a = torch.full((len(x),), 1.0 / 2000, dtype=torch.float64)
    part = Part(Measure(x, a), costs.get("sqeuclidean"), 2 * BLUR**2, group, 2000, 1.0, "auto")
    before = group.traffic.bytes
    stand = SharedStand(part, 1e-3)
    sent = group.traffic.bytes - before
    most = int(group.largest(torch.tensor([len(stand.own.measure.points)]), "nodes"))
    return sent, most, len(stand.measure.points)


def rest(rank, group):
    x, y = (p[rank::WORLD].numpy() for p in clouds())
    result = sinkhorn_divergence(x, y, blur=BLUR, group=group)
    found = {"numpy": (type(result.value).__name__, type(result.xy.potentials[0]).__name__, result.value)}
    same = sinkhorn_divergence(x, x, blur=BLUR, group=group)
    found["same"] = same.value, same.converged
    found["copied"] = copy.deepcopy(result).value == result.value
    live = torch.from_numpy(x).requires_grad_()
    again = sinkhorn_divergence(live, torch.from_numpy(y), blur=BLUR, group=group).value
    (gradient,) = torch.autograd.grad(again, live, create_graph=True)
    try:
        gradient.square().sum().backward()
    except ValueError as error:
        found["second"] = str(error)
    for what in ("transport_cost", "plan"):
        try:
            _ = result.xy.transport_cost if what == "transport_cost" else result.xy.plan @ y
        except ValueError as error:
            found[what] = str(error)
    return found


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    group = group_of(True)
    results = {"empty": of_case("weights", rank, WORLD, group, empty=2)}
    for world in WORLDS:
        processes = None if world == WORLD else dist.new_group(list(range(world)))
        if rank < world:
            some = group if world == WORLD else Group(processes, timeout=60.0)
            for name in CASES if world == WORLD else ALONE:
                results[name, world] = of_case(name, rank, world, some)
    for function in (trained, learned):
        results[function.__name__] = function(rank, WORLD, group)
    for function in (refused, with_rough_sketches, travelled, rest):
        results[function.__name__] = function(rank, group)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found():
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        multiprocessing.spawn(work, args=(folder,), nprocs=WORLD)
        yield [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone():
    """Each case on one process without a group, tightly solved."""
    return {name: outcome(problem(name)[:4], problem(name)[4], tol=1e-5) for name in CASES}


def off(found, expected):
    return float((found - expected).norm() / expected.norm())


def assembled(results, key, k):
    """A process's rows of all, put together; the k-th tensor over the points of a side."""
    side = k % 2
    parts = [r[key] for r in results if key in r]
    whole = torch.zeros(sum(len(rows[side]) for rows, _, _ in parts), *parts[0][1][k].shape[1:], dtype=torch.float64)
    for rows, tensors, _ in parts:
        whole[rows[side]] = tensors[k].double()
    return whole


def check(results, key, expected):
    result, tensors = expected
    reports = [r[key][2] for r in results if key in r]
    value, report = float(result.value.detach()), reports[0]
    assert all(torch.equal(one["value"], report["value"]) and one["n_iter"] == report["n_iter"] for one in reports)
    assert report["converged"], report["status"]
    assert report["traffic"].bytes > 0 and report["marginal_error"] < 1e-3
    assert report["strategy"] == "sketched" and report["levels"] == tuple(map(len, result.xy.potentials))
    assert abs(float(report["value"]) - value) < 1e-5 * value
    assert abs(float(report["value"]) - value) < report["value_error"] + float(result.value_error)
    for k in (0, 1):  # potentials of the problem between the clouds, in units of the temperature
        potential = assembled(results, key, k)
        assert float((potential - tensors[k].double()).abs().max()) < 5e-3 * result.epsilon
    for k in range(2, 6):
        if len(tensors[k]):
            assert off(assembled(results, key, k), tensors[k].double()) < 2e-3


@pytest.mark.parametrize(("name", "world"), [(n, w) for w in WORLDS for n in (CASES if w == WORLD else ALONE)])
def test_processes_are_one(found, alone, name, world):
    check(found, (name, world), alone[name])


def test_a_process_without_points_of_a_cloud(found, alone):
    assert len(found[2]["empty"][0][1]) == 0
    check(found, "empty", alone["weights"])


def test_training_is_that_of_one(found):
    expected, values, _ = trained()
    for rank in range(WORLD):
        weights, losses, iterations = found[rank]["trained"]
        assert losses == found[0]["trained"][1]
        assert iterations[1] == iterations[2] == iterations[0]  # the target's self problem is kept
        np.testing.assert_allclose(losses[0], values[0], rtol=1e-5)
        np.testing.assert_allclose(losses, values, rtol=5e-4)  # gradients are right to as much
        for w, other, one in zip(weights, found[0]["trained"][0], expected, strict=True):
            assert torch.equal(w, other)
            assert float((w - one).abs().max()) < 1e-3


def test_learned_features(found):
    for ours, theirs in zip(found[0]["learned"], learned(), strict=True):
        assert off(ours, theirs) < 2e-3


SAID = {
    "points": "x: 1 of 300 numbers are NaN or infinite",
    "unknown": "penalty: ",
}
DIFFER = {
    "dimension": "sinkhorn_divergence: coordinates is 3 on process 0 and 2 on process 1",
    "dtype": "dtype is torch.float64 on process 0 and torch.float32 on process 1",
    "options": "blur is 0.5 on process 0 and 0.2 on process 1",
    "weighted": "weights is [False, False] on process 0 and [True, False] on process 1",
    "kinds": "arrays is torch on process 0 and NumPy on process 1",
}
UNSERVED = {
    "masses": "a, b: they sum to 400 and 800", "none": "y: no process has points of it",
    "batch": "group: given with a batch",
}  # fmt: skip


def test_all_end_where_one_cannot(found):
    for name, sentence in SAID.items():
        for rank in range(WORLD):
            said = found[rank]["refused"][name]
            assert sentence in said and said.startswith("ValueError" if rank == 1 else "ProcessesError"), said
            assert rank == 1 or "process 1 of 4 failed with ValueError" in said
    for name, sentence in DIFFER.items():
        for rank in range(WORLD):
            said = found[rank]["refused"][name]
            assert sentence in said and said.startswith("ProcessesError"), said


def test_what_is_not_served(found):
    for name, sentence in UNSERVED.items():
        for rank in range(WORLD):
            said = found[rank]["refused"][name]
            assert sentence in said and said.startswith("ValueError"), said


def test_what_sketches_do_not_serve_is_summed_over_all_pairs(found):
    for name, strategy in (("cost", "one-level"), ("inf", "limit"), ("spacing", "one-level")):
        assert [found[rank]["refused"][name] for rank in range(WORLD)] == [strategy] * WORLD


def test_the_audit_is_of_all_points(found, alone):
    value = float(alone["plain"][0].value.detach())
    for rank in range(WORLD):
        converged, status, rough, error = found[rank]["with_rough_sketches"]
        assert not converged and "sketches are off by more than tol" in status
        assert 1e-5 * value < abs(rough - value) < 3.0 * error


def test_what_travels(found):
    """The nodes of each part go out once, with their weights, and from the first process which of them stay."""
    for rank in range(WORLD):
        sent, most, whole = found[rank]["travelled"]
        nodes = 8 * (3 + 2) * most + (0 if rank else 8 * (1 + 2) * whole)
        assert whole < 1000 and nodes <= sent <= nodes + 1000


def test_the_rest(found, alone):
    value = float(alone["plain"][0].value.detach())
    for rank in range(WORLD):
        said = found[rank]["rest"]
        assert said["numpy"][:2] == ("float", "ndarray") and abs(said["numpy"][2] - value) < 1e-5 * value
        assert said["same"] == (0.0, True)
        assert all("after a solve with group=" in said[what] for what in ("transport_cost", "plan"))
        assert said["copied"]
        assert "second derivatives were asked for after a solve between sketches with group=" in said["second"]
