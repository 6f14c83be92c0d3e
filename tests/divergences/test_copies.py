"""Copies and pickles of results have their numbers, as constants."""

import copy
import pickle

import pytest
import torch

import geomsink
from geomsink import transport

generator = torch.Generator().manual_seed(0)
X, Y = (torch.rand(n, 3, generator=generator) for n in (20, 15))


def solved(**more):
    return geomsink.solve(X.clone().requires_grad_(), Y, blur=0.2, **more)


def features():
    phi = torch.nn.Linear(3, 4)
    return geomsink.solve(X, Y, blur=0.2, cost=geomsink.FeatureCost(phi), differentiation="implicit")


def batch():
    x = [X.clone().requires_grad_(), X[:5]]
    return geomsink.sinkhorn_divergence(x, [Y, Y], blur=0.2, differentiation="implicit", form="sharp")


def asked():
    s = solved(differentiation="implicit")
    assert s.transport_cost.requires_grad  # kept once it is known
    return s


RESULTS = {
    "envelope": solved,
    "implicit": asked,
    "unrolled": lambda: solved(differentiation="unrolled", iterations=5),
    "parameters": lambda: solved(cost=geomsink.costs.mahalanobis(2.0 * torch.ones(3).requires_grad_())),
    "features": features,
    "compiled": lambda: solved(engine="keops"),
    "levels": lambda: geomsink.solve(X.repeat(60, 1).requires_grad_(), X, blur=0.2, multiscale=True),
    "divergence": lambda: geomsink.sinkhorn_divergence(X.clone().requires_grad_(), Y, blur=0.2, certify=True),
    "batch": batch,
    "mmd": lambda: geomsink.mmd(X.clone().requires_grad_(), Y, blur=0.2),
    "hausdorff": lambda: geomsink.hausdorff_divergence(X.clone().requires_grad_(), Y, blur=0.2),
    "bounds": lambda: geomsink.wasserstein_bounds(X, Y, p=2),
    "votes": lambda: transport.transfer(asked(), torch.arange(15) % 3, probabilities=True),
    "entries": lambda: solved().plan.top_k(2),
    "flow": lambda: transport.gradient_flow(X, Y, blur=0.2, steps=2),
    "barycentre": lambda: transport.barycenter([X, Y], blur=0.2, steps=2),
    "registration": lambda: transport.register(X, Y, blur=0.2, steps=2),
    "matching": lambda: transport.matching(X, Y),
    "table": lambda: geomsink.pairwise([X, Y], blur=0.2),
}


def tensors(value):
    """All tensors that can be reached, depth first."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
    elif type(value).__module__.startswith("geomsink") and hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from tensors(getattr(value, name))


@pytest.mark.parametrize("how", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("name", RESULTS)
def test_copies_are_constants_with_the_same_numbers(name, how):
    result = RESULTS[name]()
    copied = how(result)
    assert type(copied) is type(result)
    pairs = list(zip(tensors(result), tensors(copied), strict=True))
    assert pairs
    for one, other in pairs:
        assert other.dtype == one.dtype and other.layout == one.layout
        assert torch.equal(other.to_dense(), one.detach().to_dense())
        assert not other.requires_grad
        if how is copy.deepcopy and one.layout == torch.strided:
            assert other.data_ptr() != one.data_ptr() or one.numel() == 0


@pytest.mark.parametrize("how", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"])
def test_copies_of_arrays_and_kernels(how):
    test = geomsink.two_sample_test(X.numpy(), Y.numpy(), blur=0.3, permutations=3)
    again = how(test)
    assert again.p_value == test.p_value and again.null.tolist() == test.null.tolist()
    mesh = geomsink.shapes.Mesh(X.numpy(), torch.arange(9).reshape(3, 3).numpy())
    assert how(mesh).vertices.tolist() == mesh.vertices.tolist() and how(mesh).faces.tolist() == mesh.faces.tolist()
    for name in ("gaussian", "-euclidean"):
        kernel = geomsink.kernels.get(name)
        assert torch.equal(how(kernel)(X, Y, blur=0.3), kernel(X, Y, blur=0.3))
    moved = how(transport.register(X, Y, blur=0.2, steps=2))
    torch.testing.assert_close(moved(X), moved.points)


@pytest.mark.parametrize("name", ["envelope", "implicit", "unrolled", "features", "compiled"])
def test_plans_of_copies_are_at_work(name):
    result = RESULTS[name]()
    copied = copy.deepcopy(result)
    assert not (copied.plan @ Y).requires_grad
    torch.testing.assert_close(copied.plan @ Y, (result.plan @ Y).detach())
    torch.testing.assert_close(copied.transport_cost, result.transport_cost.detach())
    torch.testing.assert_close(transport.entropic_map(copied, X), transport.entropic_map(result, X).detach())


def test_shallow_copies_keep_their_history():
    result = solved()
    assert copy.copy(result).value is result.value
    assert result.value.requires_grad  # and what is copied is left as it is
    copy.deepcopy(result)
    assert result.value.requires_grad
