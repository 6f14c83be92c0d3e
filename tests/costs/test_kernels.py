"""The kernel registry: what it has, what it takes, and what it refuses."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from geomsink import costs, kernels
from geomsink.kernels import Kernel

X = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.3
Y = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.3
BLUR = 0.4

CLOSED_FORMS = {
    "gaussian": lambda x, y: np.exp(-(cdist(x, y) ** 2) / (2 * BLUR**2)),
    "laplacian": lambda x, y: np.exp(-cdist(x, y) / BLUR),
}
NEGATIVES = {
    "energy": lambda x, y: -cdist(x, y),
    "-euclidean": lambda x, y: -cdist(x, y),
    "-sqeuclidean": lambda x, y: -cdist(x, y, "sqeuclidean"),
    "-power:1.5": lambda x, y: -(cdist(x, y) ** 1.5),
    "-cosine": lambda x, y: -cdist(x, y, "cosine"),
    "-mahalanobis:2,1,3": lambda x, y: -cdist(x, y, "sqeuclidean", w=[2.0, 1.0, 3.0]),
}


def cauchy(x, y):
    return 1 / (1 + ((x - y) ** 2).sum(-1))


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    found = kernels.get(name)(X, Y, BLUR).numpy()
    np.testing.assert_allclose(found, CLOSED_FORMS[name](X.numpy(), Y.numpy()), rtol=1e-13)


@pytest.mark.parametrize("name", NEGATIVES)
def test_closed_forms_without_a_blur(name):
    kernel = kernels.get(name)
    assert not kernel.takes_blur and kernel.name == name.partition(":2")[0]
    # The chord of directions loses a few digits that SciPy's cosine loses too.
    np.testing.assert_allclose(kernel(X, Y).numpy(), NEGATIVES[name](X.numpy(), Y.numpy()), rtol=1e-11)


@pytest.mark.parametrize("name", ["gaussian", "laplacian"])
def test_upper_bounds_are_met(name):
    kernel, distances = kernels.get(name), torch.linspace(0, 20, 50, dtype=torch.float64)
    line = torch.zeros(50, 3, dtype=torch.float64)
    line[:, 0] = distances
    torch.testing.assert_close(kernel(line[:1], line)[0], kernel.upper_bound(distances), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["laplacian", "energy"])
def test_distances_have_no_derivative_at_zero(name):
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(kernels.get(name)(x, X).diagonal().sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_parameters_are_those_of_the_cost():
    weight = torch.tensor(2.0, dtype=torch.float64)
    learned = costs.Cost(name="learned", expression=lambda x, y, w: ((x - y) ** 2).sum(-1) * w, parameters=(weight,))
    np.testing.assert_allclose(kernels.negative(learned)(X, Y), -2.0 * cdist(X, Y, "sqeuclidean"), rtol=1e-13)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gausian", r"^kernel: unknown name 'gausian' \(did you mean 'gaussian'\?\); expected one of energy, gaussian"),
        (
            "foo",
            r"^kernel: unknown name 'foo'; expected one of energy, .* geomsink\.kernels\.register gives a name\.$",
        ),
        (
            "-euclidian",
            r"^kernel: '-euclidian' is the negative of no cost that there is; cost: unknown name 'euclidian' "
            r"\(did you mean 'euclidean'\?\)",
        ),
    ],
)
def test_unknown_names(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.get(name)


def test_neither_a_name_nor_a_kernel():
    with pytest.raises(TypeError, match=r"^kernel: a int was given, expected a name or a geomsink.kernels.Kernel"):
        kernels.get(3)


def test_asymmetric_costs_have_no_negative():
    downhill = costs.Cost(name="downhill", expression=lambda x, y: (x - y).sum(-1), symmetric=False)
    with pytest.raises(ValueError, match=r"^cost: 'downhill' is not symmetric"):
        kernels.negative(downhill)


BAD = [
    (lambda x, y: (x - y) ** 2, r"4 points against 5 give a tensor of shape \(4, 5, 3\), expected one number a pair"),
    (lambda x, y: 1.0, r"give a float"),
    (lambda x, y: ((x - y) ** 2).sum(-1).log().neg().sqrt(), r"NaN or infinite numbers on random points"),
    (lambda x, y: (x - y).sum(-1), r"k\(x, y\) differs from k\(y, x\)"),
    (lambda x, y: x.no_such_method(y), r"it fails on torch tensors of shapes"),
    (
        Kernel(name="bad", expression=cauchy, upper_bound=lambda d: 1 / (1 + d) ** 2),
        r"^upper_bound: on random points the kernel",
    ),
    (Kernel(name="bad", expression=cauchy, upper_bound=lambda d: 1 + d), r"^upper_bound: it increases somewhere"),
]


@pytest.mark.parametrize(("expression", "sentence"), BAD)
def test_registering_refuses(expression, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.register("bad", expression)
    assert "bad" not in kernels.names()


@pytest.mark.parametrize("name", ["gaussian", "-euclidean"])
def test_names_that_are_taken(name):
    with pytest.raises(ValueError, match="is taken or begins with a minus"):
        kernels.register(name, cauchy)


def test_registering():
    bounded = Kernel(name="bounded cauchy", expression=cauchy, upper_bound=lambda d: 1 / (1 + d**2))
    try:
        assert kernels.register("cauchy", cauchy) is kernels.get("cauchy")
        assert kernels.register("bounded cauchy", bounded) is kernels.get("bounded cauchy") is bounded
        assert {"cauchy", "bounded cauchy"} <= set(kernels.names())
    finally:
        kernels.unregister("cauchy")
        kernels.unregister("bounded cauchy")
    assert "cauchy" not in kernels.names()


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (lambda points: points[:1], r"features of points \(7, 3\) have shape \(1, 3\), expected a row each"),
        (lambda points: points / 0, r"features of kernel 'k' are NaN or infinite"),
    ],
)
def test_bad_features(features, sentence):
    with pytest.raises(ValueError, match=sentence):
        Kernel(name="k", expression=cauchy, features=features).map(X)
