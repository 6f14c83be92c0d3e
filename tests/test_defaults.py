"""torch.set_default_device and torch.set_default_dtype are the caller's: the house takes both from the data."""

import contextlib
import functools
import warnings

import numpy as np
import pytest
import torch

import geomsink
from geomsink import MMD, EntropicOT, SinkhornDivergence, costs, generative, kernels, transport

POINTS = np.random.default_rng(0)
X, Y, Z = (POINTS.random((n, 3)) + shift for n, shift in ((40, 0.0), (30, 0.2), (1100, 0.1)))


def cloud(array, dtype=torch.float32):
    return torch.from_numpy(array).to(dtype)


def plain_solve():
    for dtype in (torch.float32, torch.float64):
        x = cloud(X, dtype).requires_grad_()
        for more in (
            {}, {"certify": True}, {"engine": "keops"}, {"differentiation": "implicit"}, {"reach": 0.5},
            {"differentiation": "unrolled", "iterations": 5}, {"cost": "power:1.5"}, {"cost": "mahalanobis:1,2,3"},
        ):  # fmt: skip
            s = geomsink.solve(x, cloud(Y, dtype), blur=0.1, **more)
            (gradient,) = torch.autograd.grad(s.value, x)
            yield from (s.value, *s.potentials, gradient, s.transport_cost)


def temperatures():
    x, y = cloud(X), cloud(Y)
    for blur in (torch.tensor(0.1, device="cpu", dtype=torch.float32, requires_grad=True), 0.1):
        r = geomsink.sinkhorn_divergence(x, y, blur=blur)
        yield r.value
        yield geomsink.mmd(x, y, blur=blur).value
        yield geomsink.mmd(x, y, blur=[0.1, blur], engine="keops").value
    yield geomsink.sinkhorn_divergence(x, y, epsilon=torch.inf).value


def divergences():
    x, y = cloud(X).requires_grad_(), cloud(Y)
    for more in ({}, {"form": "sharp"}, {"tol_gap": 0.1}, {"rho": (1.0, None), "penalty": "tv"}):
        r = geomsink.sinkhorn_divergence(x, y, blur=0.1, **more)
        yield from (r.value, *torch.autograd.grad(r.value, x))
    first, second = [cloud(X[:5]), cloud(X[5:9])], [cloud(Y[:5]), cloud(Y[5:12])]
    for engine in ("dense", "keops"):
        batch = geomsink.sinkhorn_divergence(first, second, blur=0.1, engine=engine)
        yield from (batch.value, *batch.xy.potentials[0], geomsink.mmd(first, second, blur=0.1, engine=engine).value)
    h = geomsink.hausdorff_divergence(x, y, blur=0.1)
    yield from (h.value, *torch.autograd.grad(h.value, x))
    bounds = geomsink.wasserstein_bounds(x, y, p=2)
    yield from (bounds.lower, bounds.upper)


def lists():
    r = geomsink.solve(X.tolist(), Y.tolist(), epsilon=0.1)
    yield from (r.value, *r.potentials, *r.plan.sample(50), r.plan.top_k(2).matrix.toarray())


def levels():
    x, y = cloud(Z), cloud(Z + 0.1)
    x.requires_grad_()
    for more in ({}, {"certify": True, "tol_gap": 1.0}, {"reach": 0.5}, {"differentiation": "implicit"}):
        s = geomsink.solve(x, y, blur=0.1, multiscale=True, **more)
        yield from (s.value, *s.potentials, *torch.autograd.grad(s.value, x))
    yield geomsink.solve(x, y, blur=0.005, multiscale=False, max_iter=60).value


def modules():
    x, y = cloud(X).requires_grad_(), cloud(Y)
    for loss in (SinkhornDivergence(blur=0.1), EntropicOT(epsilon=0.1), MMD(blur=0.1), MMD(kernel="energy")):
        for _ in range(2):
            value = loss(x, y)
            yield from (value, *torch.autograd.grad(value, x))


def plans():
    s = geomsink.solve(cloud(X), cloud(Y), blur=0.1)
    plan = s.plan
    yield from (plan.to_dense(), plan.row_marginal(), plan @ cloud(Y), *plan.sample(50))
    yield from (plan.top_k(2).matrix.to_dense(), plan.to_sparse(0.1).matrix.to_dense())
    r = geomsink.sinkhorn_divergence(cloud(X), cloud(Y), blur=0.1)
    yield from (transport.barycentric_map(s), transport.displacement(r), transport.entropic_map(s, cloud(X)))
    yield from transport.transfer(s, torch.from_numpy(np.arange(len(Y)) % 3), probabilities=True)
    yield from (transport.transfer(s, cloud(Y)), *transport.interpolate(cloud(X), cloud(Y), [0.5], blur=0.1)[0])


def descents():
    x, y, quick = cloud(X), cloud(Y), {"blur": 0.1, "steps": 3}
    yield transport.gradient_flow(x, y, **quick).points
    yield transport.barycenter([x, y], **quick).points
    yield transport.quantize(x, 5, **quick).points
    for kind in transport.registration.TRANSFORMS:
        yield transport.register(x, y, transform=kind, init="search" if kind == "rigid" else "centres", **quick).points


def fits():
    with torch.device("cpu"):  # modules are made on the default device, as torch's are
        generator = generative.MLP(dim=3, noise=2, width=8, depth=1).float()
    with torch.no_grad():
        for k, p in enumerate(generator.parameters()):
            p.copy_(torch.linspace(-1, 1, p.numel(), device="cpu", dtype=p.dtype).reshape(p.shape).sin() + 0.1 * k)
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    loss = SinkhornDivergence(blur=0.5)
    fitted = generative.fit(generator, cloud(Z), loss, optimizer=sgd, steps=3, batch=20, held_out=20)
    yield from (*fitted.generator.parameters(), fitted.sample(5))


def registries():
    for registry, function in ((costs, _squares), (kernels, _cauchy)):
        registry.register("of a test", function)
        try:
            take = {"cost": "of a test", "epsilon": 0.1} if registry is costs else {"kernel": "of a test", "blur": 0.1}
            call = geomsink.solve if registry is costs else geomsink.mmd
            yield from (call(cloud(X), cloud(Y), engine=engine, **take).value for engine in ("dense", "keops"))
        finally:
            registry.unregister("of a test")


def _squares(x, y):
    return 0.3 * ((x - y) ** 2).sum(-1)


def _cauchy(x, y):
    return 1.0 / (1.0 + ((x - y) ** 2).sum(-1))


CASES = (plain_solve, temperatures, divergences, lists, levels, modules, plans, descents, fits, registries)


@contextlib.contextmanager
def default(device=None, dtype=None):
    """Another default while it lasts."""
    before = torch.get_default_dtype()
    with torch.device(device) if device else contextlib.nullcontext():
        torch.set_default_dtype(dtype or before)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def numbers(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", geomsink.ConvergenceWarning)
        return [v.detach() if isinstance(v, torch.Tensor) else v for v in case()]


@functools.cache
def expected(case):
    return numbers(case)


@pytest.mark.parametrize("foreign", [{"device": "meta"}, {"dtype": torch.float64}, {"dtype": torch.float16}], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_results_are_the_same_to_the_bit(case, foreign):
    plain = expected(case)
    with default(**foreign):
        found = numbers(case)
    assert len(found) == len(plain) > 0
    for one, other in zip(found, plain, strict=True):
        assert type(one) is type(other)
        if isinstance(one, torch.Tensor):
            assert (one.dtype, one.device) == (other.dtype, other.device)
            assert torch.equal(one, other)
        else:
            assert np.array_equal(one, other)
