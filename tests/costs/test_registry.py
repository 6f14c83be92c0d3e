"""The cost registry: what it has, what it takes, and what it refuses."""

import copy
import importlib
import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import geomsink
from geomsink import costs, engine, kernels

X = torch.rand(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.3
Y = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.3
A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 3.0]])


def test_mahalanobis_with_a_matrix():
    found = costs.mahalanobis(A)(X, Y).numpy()
    np.testing.assert_allclose(found, cdist(X.numpy(), Y.numpy(), "mahalanobis", VI=A) ** 2, rtol=1e-10)


@pytest.mark.parametrize(
    "weights", [[1.0, -1.0], [[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]], [[1.0, 2.0, 3.0]], [np.nan]]
)
def test_mahalanobis_refuses(weights):
    with pytest.raises(ValueError, match=r"^weights: (they are not a symmetric positive|shape is)"):
        costs.mahalanobis(weights)


def test_wrong_number_of_weights():
    with pytest.raises(ValueError, match=r"points have 3 coordinates, but the cost's weights 2"):
        geomsink.solve(X, Y, blur=0.1, cost="mahalanobis:1,2")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cityblock", r"unknown name 'cityblock'; expected one of .* geomsink\.costs\.register gives a name\.$"),
        ("euclidian", r"unknown name 'euclidian' \(did you mean 'euclidean'\?\); expected one of cosine, euclidean"),
        ("power:x", r"'power:x' has no numbers after the colon"),
        ("power:1,2", r"'power:1,2' has 2 exponents, expected one"),
        ("power:0", r"p: 0.0 given, expected 0 < p <= 2"),
        ("power:2.5", r"p: 2.5 given, expected 0 < p <= 2"),
        ("power", r"unknown name 'power'"),
    ],
)
def test_unknown_names(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        costs.get(name)


@pytest.mark.parametrize(
    ("cost", "blur", "epsilon"),
    [("sqeuclidean", 0.1, 0.02), ("euclidean", 0.1, 0.1), ("power:0.5", 0.04, 0.1), ("geodesic", 0.3, 0.3)],
)
def test_blur_is_a_length(cost, blur, epsilon):
    assert costs.temperature(costs.get(cost), blur, None) == pytest.approx(epsilon, rel=1e-12)


BAD = [
    (lambda x, y: (x - y) ** 2, r"4 points against 5 give a tensor of shape \(4, 5, 3\), expected one cost a pair"),
    (lambda x, y: ((x - y) ** 2).sum(), r"give a tensor of shape \(\)"),
    (lambda x, y: 1.0, r"give a float"),
    (lambda x, y: ((x - y) ** 2).sum(-1).log().log(), r"NaN or infinite costs on random points"),
    (lambda x, y: (x - y).sum(-1), r"c\(x, y\) differs from c\(y, x\); register it with symmetric=False"),
    (lambda x, y: x.no_such_method(y), r"it fails on torch tensors of shapes"),
]
TWICE = "^degree, symmetric: given with a Cost, which has its own"


@pytest.mark.parametrize(
    ("expression", "sentence", "options"),
    [
        *((*bad, {}) for bad in BAD),
        (costs.get("euclidean"), TWICE, {"degree": 2.0}),
        (costs.get("euclidean"), TWICE, {"symmetric": False}),
    ],
)
def test_registering_refuses(expression, sentence, options):
    with pytest.raises(ValueError, match=sentence):
        costs.register("bad", expression, **options)
    assert "bad" not in costs.names()


@pytest.mark.parametrize("name", ["sqeuclidean", "power", "a:b"])
def test_names_that_are_taken(name):
    with pytest.raises(ValueError, match="is taken or has a colon"):
        costs.register(name, lambda x, y: ((x - y) ** 2).sum(-1))


def test_registering_twice():
    costs.register("twice", lambda x, y: (x - y).abs().sum(-1))
    try:
        with pytest.raises(ValueError, match="'twice' is taken"):
            costs.register("twice", lambda x, y: (x - y).abs().sum(-1))
    finally:
        costs.unregister("twice")


@pytest.mark.parametrize("degree", [-1, 0.0, float("inf"), float("nan")])
def test_degrees_are_positive_numbers(degree):
    expression = lambda x, y: (x - y).abs().sum(-1)  # noqa: E731
    for make in (
        lambda: costs.register("bad", expression, degree=degree),
        lambda: costs.Cost(name="bad", expression=expression, degree=degree),
        lambda: geomsink.MatrixCost([[0.0, 1.0]], degree=degree),
    ):
        with pytest.raises(ValueError, match=f"^degree: {degree!r} given, expected a positive number or None"):
            make()
    with pytest.raises(ValueError, match=f"^factor: {degree!r} given, expected a positive number"):
        costs.get("euclidean").scaled(degree)


@pytest.mark.parametrize("kind", [costs.Cost, kernels.Kernel])
def test_costs_and_kernels_are_made_by_keyword_only(kind):
    expression = lambda x, y: (x - y).abs().sum(-1)  # noqa: E731
    with pytest.raises(TypeError, match="positional argument"):
        kind("manhattan", expression)
    assert kind(name="manhattan", expression=expression).name == "manhattan"


def test_a_cost_that_differs_between_the_engines_is_refused():
    def two_faced(x, y):
        return ((x - y) ** 2).sum(-1) * (1.0 if isinstance(x, torch.Tensor) else 1.01)

    with pytest.raises(ValueError, match=r"^cost: 'two-faced' differs between the engines: on 7 x 5 of the points"):
        engine.pair(X, Y, costs.Cost(name="two-faced", expression=two_faced), "keops")


def test_a_cost_that_keops_cannot_write_is_refused():
    def sorted_first(x, y):
        return (x - y).abs().sort(-1).values[..., 0]

    cost = costs.Cost(name="sorted", expression=sorted_first)
    with pytest.raises(ValueError, match=r"^cost: 'sorted' cannot be written with KeOps LazyTensors"):
        engine.pair(X, Y, cost, "keops")
    assert engine.pair(X, Y, cost, "dense").row_sums(X[:, 0], Y[:, 0], 1.0).shape == (7,)


def test_the_public_names_lead_to_one_registry():
    """`geomsink.kernels` is the front door of what lies with the costs."""
    import geomsink.costs.kernels
    import geomsink.kernels

    assert geomsink.kernels.Kernel is geomsink.costs.kernels.Kernel
    kernel = geomsink.kernels.register("cauchy", lambda x, y: 1.0 / (((x - y) ** 2).sum(-1) + 1.0))
    assert geomsink.costs.kernels.get("cauchy") is kernel
    geomsink.costs.kernels.unregister("cauchy")
    assert "cauchy" not in geomsink.kernels.names()


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("geomsink.costs", "Cost Expression get mahalanobis names power register temperature unregister angle distance "
                           "half_squared_chord power_modulus root squared_distance to_sphere"),
        ("geomsink.kernels", "Kernel get names negative register unregister"),
    ],
)  # fmt: skip
def test_names_that_users_import(module, names):
    found = importlib.import_module(module)
    assert set(names.split()) <= set(found.__all__) and all(hasattr(found, name) for name in found.__all__)


def named_costs():
    theta = torch.tensor([1.5, 0.5, 2.0], dtype=torch.float64)
    return [
        *(costs.get(name) for name in ("sqeuclidean", "euclidean", "power:1.5", "power:0.7", "cosine", "geodesic")),
        costs.get("mahalanobis:2,1,0.5"),
        costs.mahalanobis(A),
        costs.get("power:1.5").scaled(0.3),
        costs.get("cosine").scaled(2.0).scaled(3.0),
        costs.Cost(name="downhill", expression=uneven, symmetric=False).transpose(),
        costs.Cost(name="weighted", expression=weighted, degree=2.0, parameters=(theta,)),
        geomsink.FeatureCost(torch.nn.Linear(3, 2).double(), "euclidean"),
    ]


def uneven(x, y):
    return ((x - y) ** 2).sum(-1) + (x - y).sum(-1) * 0.5


def weighted(x, y, theta):
    return (((x - y) ** 2) * theta).sum(-1)


@pytest.mark.parametrize("cost", named_costs(), ids=lambda cost: cost.name)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["copy", "pickle"])
def test_costs_go_to_other_processes(cost, copied):
    """Data loaders' workers, joblib and checkpoints take them as pickles; bounds go along."""
    again = copied(cost)
    assert torch.equal(again(X, Y), cost(X, Y)) and again.name == cost.name
    lengths = torch.rand(5, dtype=torch.float64)
    if cost.lower_bound is not None:
        assert torch.equal(again.lower_bound(lengths), cost.lower_bound(lengths))
    if cost.modulus is not None:
        assert torch.equal(again.modulus(lengths, 0.1 * lengths), cost.modulus(lengths, 0.1 * lengths))
    values = [geomsink.solve(X, Y, epsilon=0.3, cost=c).value for c in (cost, again)]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", ["gaussian", "laplacian", "energy", "-power:1.5", "-mahalanobis:2,1,0.5"])
def test_kernels_go_to_other_processes(name):
    kernel = kernels.get(name)
    again = pickle.loads(pickle.dumps(kernel))
    assert torch.equal(again.expression(X[:, None], Y), kernel.expression(X[:, None], Y))
    if kernel.upper_bound is not None:
        assert torch.equal(again.upper_bound(X[:, 0].abs()), kernel.upper_bound(X[:, 0].abs()))
    blur = 0.5 if kernel.takes_blur else None
    found = [geomsink.mmd(X, Y, kernel=k, blur=blur).value for k in (kernel, again)]
    assert found[0] == found[1]
