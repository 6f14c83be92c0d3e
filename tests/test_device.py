"""The library on a pretend GPU: everything runs there, nothing is mixed, and values are the CPU's."""

import copy
import ctypes
import io
import pickle
import tempfile

import numpy as np
import pytest
import torch
from pretend import Pretended, pretend
from pretend.kernels import pattern
from torch.autograd import grad

import geomsink
from geomsink import costs, generative, transport
from geomsink.compat import pot
from geomsink.compat.geomloss import SamplesLoss
from geomsink.divergences import narrowing
from geomsink.engine import diagonal

DOUBLE = torch.float64
drawn = torch.Generator().manual_seed(0)
X, Y = torch.rand(24, 2, generator=drawn, dtype=DOUBLE), 0.8 * torch.rand(30, 2, generator=drawn, dtype=DOUBLE) + 0.2
XB, YB = (torch.rand(2, n, 2, generator=drawn, dtype=DOUBLE) for n in (20, 16))
LISTS = [[torch.rand(n, 2, generator=drawn, dtype=DOUBLE) for n in sizes] for sizes in ((20, 7), (9, 16))]
LONG = [torch.rand(2, n, 2, generator=drawn, dtype=DOUBLE) for n in (300, 12)]
MANY = [torch.rand(n, 2, generator=drawn, dtype=DOUBLE) for n in (600, 500)]
WEIGHTS = torch.rand(24, generator=drawn, dtype=DOUBLE)
WEIGHTS[:5] = 0.0
WEIGHTS /= WEIGHTS.sum()
LABELS = torch.arange(30) % 3
PARTS = [0.1 * torch.randn(30, 3, generator=drawn, dtype=DOUBLE) for _ in range(2)]
PARTS[0][15:, 0] += 10.0
PARTS[1][17:, 0] += 10.0
EACH = [torch.rand(2, 256, 3, generator=drawn, dtype=DOUBLE) for _ in range(2)]
TIGHT = dict(blur=0.7, tol=1e-8)


def gradients(loss, *given):
    """A loss and its gradients."""
    leaves = [t.clone().requires_grad_() for t in given]
    value = loss(*leaves).sum()
    return value, *grad(value, leaves)


def loss(**options):
    return geomsink.SinkhornDivergence(**{**TIGHT, **options})


def in_lists(loss, put):
    """A loss of lists of clouds, and its gradients."""
    sizes = [len(side) for side in LISTS]
    return gradients(
        lambda *t: loss(list(t[: sizes[0]]), list(t[sizes[0] :])), *(put(t) for side in LISTS for t in side)
    )


def second_derivative(put):
    x, y = put(X).requires_grad_(), put(Y)
    (g,) = grad(loss(differentiation="implicit")(x, y), x, create_graph=True)
    return g, *grad(g[:, 0].sum(), x)


def of_epsilon(put):
    epsilon = put(torch.tensor(0.1, dtype=DOUBLE)).requires_grad_()
    return grad(geomsink.SinkhornDivergence(epsilon=epsilon, tol=1e-9)(put(X), put(Y)), epsilon)


def by_index(put):
    indices = [torch.arange(2).repeat_interleave(torch.tensor([len(t) for t in side])) for side in LISTS]
    clouds = [put(torch.cat(side)) for side in LISTS]
    return [geomsink.sinkhorn_divergence(*clouds, x_batch=put(indices[0]), y_batch=put(indices[1]), **TIGHT).value]


def of_features(put):
    torch.manual_seed(0)
    phi = torch.nn.Linear(2, 3).double()
    phi = phi.to(put(X).device)
    return gradients(loss(cost=geomsink.FeatureCost(phi)), put(X), put(Y))


def of_plan(put):
    s = geomsink.solve(put(X), put(Y), put(WEIGHTS), **TIGHT)
    plan, same = s.plan, pickle.loads(pickle.dumps(copy.deepcopy(s)))
    yield from (s.value, s.transport_cost, *s.potentials, plan @ put(Y), plan.T @ put(X), same.plan @ put(Y))
    yield from (plan.row_marginal(), plan.column_marginal(), plan.to_dense(), plan.mass, same.value)
    yield from (plan.top_k(2).matrix.to_dense(), plan.to_sparse(1e-3).matrix.to_dense(), *plan.sample(20))


def of_maps(put):
    s = geomsink.solve(put(X), put(Y), **TIGHT)
    d = geomsink.sinkhorn_divergence(put(X), put(Y), **TIGHT)
    yield from (transport.barycentric_map(s), transport.displacement(d), transport.entropic_map(d, put(X + 0.1)))
    yield from (transport.transfer(s, put(Y)), transport.transfer(s, put(LABELS)))
    yield transport.transfer(s, put(LABELS), points=put(X + 0.1), probabilities=True).probabilities


def of_warm_start(put):
    first = geomsink.sinkhorn_divergence(put(X), put(Y), **TIGHT)
    return [geomsink.sinkhorn_divergence(put(X), put(Y), blur=0.3, tol=1e-9, init=first).value]


def of_table(put):
    cost = geomsink.MatrixCost(put(torch.cdist(X, Y).square()))
    found = geomsink.solve(cost.rows, cost.columns, cost=cost, epsilon=0.2, tol=1e-9)
    return found.value, found.plan.row_marginal()


def fitted(put, steps=(2,), **options):
    torch.manual_seed(0)
    generator = generative.MLP(2, 2, width=8).to(put(X).device)
    data = put(torch.rand(60, 2, generator=torch.Generator().manual_seed(1)))
    for last in steps:
        found = generative.fit(generator, data, geomsink.SinkhornDivergence(blur=0.5), batch=20, steps=last, **options)
    return [found.sample(10)]


def resumed(put):
    with tempfile.TemporaryDirectory() as folder:
        return fitted(put, (1, 2), folder=folder, optimizer="adam")


def of_learned_cost(put):
    torch.manual_seed(1)
    return fitted(put, features=generative.LearnedCost(torch.nn.Linear(2, 3).to(put(X).device), steps=1))


def saved(put):
    """A loss with its memory through ``torch.save``."""
    kept, memory = loss(), io.BytesIO()
    kept(put(X), put(Y))
    torch.save(kept, memory)
    memory.seek(0)
    return [torch.load(memory, weights_only=False)(put(X), put(Y))]


def matched(put):
    found = transport.matching(put(X), put(Y[:24]))
    return found.rows, found.columns, found.mass


def of_pot(put):
    found = pot.solve_sample(put(X), put(Y), reg=0.2)
    return found.value, found.plan, *found.potentials


def of_path(x, y, put, **options):
    """Down the temperatures, which has to be the way that was chosen."""
    s = geomsink.solve(put(x), put(y), **options)
    assert s.strategy in ("path-following", "item-by-item") and s.converged
    return s.value, s.transport_cost, s.plan @ put(y)


def by_levels(put, **options):
    s = geomsink.solve(put(MANY[0]), put(MANY[1]), multiscale=True, engine="keops", blur=0.05, tol=1e-6, **options)
    return s.value, *s.potentials, s.plan @ put(MANY[1])


SCENARIOS = {
    "solve": lambda put: [geomsink.solve(put(X), put(Y), **TIGHT).value],
    "float32": lambda put: [geomsink.sinkhorn_divergence(put(X).float(), put(Y).float(), blur=0.4).value],
    "colder": lambda put: [geomsink.sinkhorn_divergence(put(X), put(Y), blur=0.1, tol=1e-7).value],
    "small blur": lambda put: of_path(X, Y, put, blur=0.01, tol=1e-8),
    "clusters of different mass": lambda put: of_path(*PARTS, put, blur=0.08, tol=1e-8),
    "items at a small blur": lambda put: of_path(*EACH, put, blur=0.004, tol=1e-8),
    "endless": lambda put: [geomsink.sinkhorn_divergence(put(X), put(Y), epsilon=float("inf")).value],
    "warm start": of_warm_start,
    "gradients": lambda put: gradients(loss(), put(X), put(Y)),
    "weights": lambda put: gradients(
        lambda x: loss()(put(WEIGHTS), x, put(torch.full((30,), 1 / 30, dtype=DOUBLE)), put(Y)), put(X)
    ),
    "euclidean": lambda put: gradients(loss(cost="euclidean"), put(X), put(Y)),
    "geodesic": lambda put: [loss(cost="geodesic")(*(put(t / t.norm(dim=1, keepdim=True)) for t in (X, Y)))],
    "mahalanobis": lambda put: gradients(loss(cost=costs.mahalanobis([2.0, 1.0])), put(X), put(Y)),
    "mahalanobis there": lambda put: gradients(
        lambda w: loss(cost=costs.mahalanobis(w))(put(X), put(Y)), put(WEIGHTS[-2:])
    ),
    "features": of_features,
    "table": of_table,
    "temperature": of_epsilon,
    "implicit": lambda put: gradients(loss(differentiation="implicit"), put(X), put(Y)),
    "implicit sharp": lambda put: gradients(loss(differentiation="implicit", form="sharp"), put(X), put(Y)),
    "second derivative": second_derivative,
    "unrolled": lambda put: gradients(loss(differentiation="unrolled", iterations=5), put(X), put(Y)),
    "recomputed": lambda put: gradients(loss(differentiation="unrolled", iterations=5, recompute=True), put(X), put(Y)),
    "unbalanced kl": lambda put: gradients(loss(reach=0.5), put(X), put(Y)),
    "unbalanced tv": lambda put: gradients(loss(reach=0.5, penalty="tv"), put(X), put(Y)),
    "unbalanced l2": lambda put: gradients(loss(rho=0.5, penalty="l2"), put(X), put(Y)),
    "partial batch": lambda put: [geomsink.partial_transport(put(XB), put(YB), mass=0.7, **TIGHT).value],
    "batch": lambda put: gradients(loss(), put(XB), put(YB)),
    "batch sharp": lambda put: gradients(loss(form="sharp"), put(XB), put(YB)),
    "batch implicit": lambda put: gradients(loss(differentiation="implicit"), put(XB), put(YB)),
    "batch unbalanced": lambda put: gradients(loss(reach=0.5), put(XB), put(YB)),
    "batch in lists": lambda put: in_lists(loss(), put),
    "batch by index": by_index,
    "certificate": lambda put: (lambda d: (d.value, d.lower, d.upper))(
        geomsink.sinkhorn_divergence(put(X), put(Y), certify=True, **TIGHT)
    ),
    "certificate to a gap": lambda put: (lambda d: (d.lower, d.upper))(
        geomsink.sinkhorn_divergence(put(X), put(Y), certify=True, tol_gap=1e-2, **TIGHT)
    ),
    "wasserstein bounds": lambda put: (lambda b: (b.lower, b.upper))(
        geomsink.wasserstein_bounds(put(X), put(Y), p=2, **TIGHT)
    ),
    "plan": of_plan,
    "maps": of_maps,
    "matching": matched,
    "flow": lambda put: [transport.gradient_flow(put(X), put(Y), loss=loss(blur=1.0), steps=1).points],
    "barycenter": lambda put: [transport.barycenter([put(X), put(Y)], n=8, loss=loss(blur=1.0), steps=1).points],
    "quantize": lambda put: [transport.quantize(put(X), 5, blur=0.5, steps=1).points],
    "registration by search": lambda put: [
        transport.register(put(X), put(X + 0.05), blur=1.0, steps=1, init="search").points
    ],
    "free registration": lambda put: [transport.register(put(X), put(Y), transform="free", blur=1.0, steps=1).points],
    "interpolation": lambda put: transport.interpolate(put(X), put(Y), [0.5], **TIGHT)[0],
    "mmd": lambda put: gradients(lambda *t: geomsink.mmd(*t, blur=0.3).value, put(X), put(Y)),
    "mmd energy": lambda put: gradients(lambda *t: geomsink.mmd(*t, kernel="energy").value, put(X), put(Y)),
    "mmd batch": lambda put: gradients(lambda *t: geomsink.mmd(*t, blur=0.3).value, put(XB), put(YB)),
    "hausdorff": lambda put: gradients(lambda *t: geomsink.hausdorff_divergence(*t, blur=0.4).value, put(X), put(Y)),
    "c-transform": lambda put: [geomsink.c_transform(put(X), put(Y), put(Y[:, 0]), blur=0.4)],
    "fit with held-out data": lambda put: fitted(put, held_out=10, average=0.9),
    "fit to targets": lambda put: fitted(put, targets=generative.Targets(4, 20)),
    "fit with a learned cost": of_learned_cost,
    "fit resumed": resumed,
    "saved": saved,
    "GeomLoss": lambda put: gradients(SamplesLoss("sinkhorn", blur=0.4), put(X), put(Y)),
    "POT": of_pot,
}
COMPILED = {
    "colder": lambda put: [geomsink.solve(put(X), put(Y), engine="keops", blur=0.02, tol=1e-7).value],
    "levels": by_levels,
    "levels, unbalanced": lambda put: by_levels(put, reach=0.5, dtype="float32"),
    "solve": lambda put: [geomsink.solve(put(X), put(Y), engine="keops", **TIGHT).value],
    "gradients": lambda put: gradients(loss(engine="keops"), put(X), put(Y)),
    "float32": lambda put: [
        geomsink.sinkhorn_divergence(put(X).float(), put(Y).float(), blur=0.4, engine="keops").value
    ],
    "batch": lambda put: gradients(loss(engine="keops"), put(XB), put(YB)),
    "batch in lists": lambda put: in_lists(loss(engine="keops"), put),
    "long batch": lambda put: gradients(loss(engine="keops", cost="euclidean"), put(LONG[0]), put(LONG[1])),
    "plan": lambda put: [geomsink.solve(put(X), put(Y), engine="keops", **TIGHT).plan @ put(Y)],
    "mmd": lambda put: gradients(lambda *t: geomsink.mmd(*t, blur=0.3, engine="keops").value, put(X), put(Y)),
}


# ------------------------------------------------------------------- the pretend device itself


def refused(put):
    x = put(X)
    yield lambda: x + X
    yield lambda: torch.cat((x, X))
    yield lambda: x @ X.T
    yield lambda: X[put(LABELS[:3])]
    yield lambda: x.numpy()
    yield lambda: np.asarray(x)
    yield lambda: ctypes.c_void_p(x.data_ptr())
    yield lambda: torch.rand(3, device=x.device, generator=torch.Generator())
    yield lambda: x.clone().normal_(generator=torch.Generator())
    yield lambda: put(X.to_sparse()) @ X.T


def test_what_a_gpu_refuses_is_refused():
    with pretend():
        for call in refused(lambda t: t.cuda()):
            with pytest.raises((RuntimeError, TypeError), match="cuda|device|pointer"):
                call()


def test_reads_are_counted():
    with pretend() as log:
        x = X.cuda()
        assert x.device == torch.device("cuda:0") and x.is_cuda and (x.T @ x).is_cuda
        assert torch.zeros(2, device="cuda").is_cuda and torch.zeros_like(x).is_cuda and not x.cpu().is_cuda
        sparse = X.to_sparse().cuda()
        assert sparse.is_cuda and sparse.to_dense().is_cuda and (sparse @ x.T).is_cuda
        entries = LABELS[None, :3].cuda(), X[:3, 0].cuda()
        assert torch.sparse_coo_tensor(*entries, device="cuda", check_invariants=True).is_cuda
        assert sparse.transpose(0, 1).coalesce().is_cuda and not sparse.cpu().is_cuda
        before = log.waits
        for read in (
            lambda: float(x.sum()), lambda: bool((x > 0).all()), lambda: x[x > 0.5], lambda: x.nonzero(),
            lambda: torch.tensor([x.sum(), x.sum()]), lambda: x.new_tensor([1.0]), lambda: x.unique(), lambda: x.cpu(),
            lambda: x.tolist(),
        ):  # fmt: skip
            read()
        assert log.waits - before == 10  # two of them by the tensor of two
        x.clamp(min=torch.tensor(0.5)), x[:3], torch.where(x > 0.5, x, 0.0), x.clone().masked_fill_(x > 0.5, 0.0)
        assert log.waits - before == 10
        geomsink.solve(x, x, blur=0.5)
    assert any("solver/" in event.where for event in log.events)


def test_ranges_are_the_pattern():
    """What KeOps is given for a batch, and for its transpose, is what the library's own loop reads."""
    for blocks in (diagonal(300, 20, torch.tensor([20, 7])), diagonal(20, 300, torch.tensor([300, 12]))):
        with pretend():
            ranges = blocks.keops_ranges(torch.device("cuda", 0))
            assert all(isinstance(t, Pretended) and t.is_contiguous() for t in ranges)
            found = pattern(*ranges)
        for name in ("row_begin", "row_end", "first", "begin", "end"):
            assert torch.equal(getattr(found, name), getattr(blocks, name))


# ---------------------------------------------------------------------------- the library


def numbers(found):
    """Results as tensors on the CPU, and where they were."""
    found = [torch.as_tensor(t) for t in found]
    return [t.detach().cpu().double() for t in found], [t.is_cuda for t in found]


LOOSE = {"GeomLoss", "free registration", *(name for name in SCENARIOS if name.startswith("fit"))}
"""Scenarios that solve to a tolerance of their own, or in float32."""


def compare(scenario, rtol=2e-6):
    expected, _ = numbers(scenario(lambda t: t))
    with pretend() as log:
        found, there = numbers(scenario(lambda t: t.cuda()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=0.1 * rtol)
    return log, there


@pytest.mark.parametrize("name", SCENARIOS)
def test_results_are_those_of_the_cpu(name):
    _, there = compare(SCENARIOS[name], 2e-3 if name in LOOSE else 2e-6)
    assert all(there)


@pytest.mark.parametrize("name", COMPILED)
def test_results_of_keops_are_those_of_the_cpu(name):
    log, there = compare(COMPILED[name])
    assert all(there) and log.count("keops") > 0


@pytest.mark.parametrize(("cost", "dtype"), [("sqeuclidean", "float32"), ("euclidean", "float64")])
def test_certificates_sum_in_float32_where_its_rounding_is_known(cost, dtype, monkeypatch):
    """Roots and quotients of CUDA's fast math have no bound here."""
    monkeypatch.setattr("geomsink.choose.CHEAP", 0)
    asked = []
    original = narrowing.Sides.full
    monkeypatch.setattr(narrowing.Sides, "full", lambda problem, pair: asked.append(pair) or original(problem, pair))
    with pretend():
        x, y = (t.float().cuda() for t in (X, Y))
        d = geomsink.solve(x, y, cost=cost, blur=0.7, dtype="float32", engine="dense", certify=True)
        assert d.lower <= d.value <= d.upper
    assert {str(pair.x.dtype) for pair in asked} == {f"torch.{dtype}"}
