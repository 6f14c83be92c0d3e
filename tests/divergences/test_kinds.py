"""Types of answers are those of points, for type checkers (make lint) and in fact."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import assert_type

import geomsink
from geomsink import Divergence, Plan, Solution

Numbers = NDArray[Any]


def rounded(result: Divergence) -> float:
    """Of an annotation without kinds, values are what a caller takes them for."""
    value: float = round(result.value, 3)
    return value


def test_of_arrays() -> None:
    x, y = np.array([[0.0], [1.0]]), np.array([[0.5], [1.5], [2.0]])
    r = geomsink.sinkhorn_divergence(x, y, blur=0.5)
    assert_type(r, Divergence[float, Numbers])
    assert_type(round(r.value, 3), float)
    f, g = assert_type(r.potentials, tuple[Numbers, Numbers])
    assert type(r.value) is float and (f.shape, g.shape) == ((2,), (3,)) and rounded(r) == round(float(r), 3)
    s = assert_type(geomsink.solve(x=x, y=y, epsilon=0.5), Solution[float, Numbers])
    assert_type(s.plan, Plan[float, Numbers])
    assert isinstance(assert_type(s.plan.T @ np.ones(2), Numbers), np.ndarray)
    assert type(assert_type(geomsink.mmd(x, y, blur=0.5).value, float)) is float
    assert type(assert_type(geomsink.hausdorff_divergence(x, y, blur=0.5).value, float)) is float
    assert type(assert_type(geomsink.wasserstein_bounds(x, y).upper, float)) is float
    assert type(assert_type(geomsink.partial_transport(x, y, mass=0.5, blur=0.5).value, float)) is float


def test_of_tensors() -> None:
    x, y = torch.rand(4, 2, requires_grad=True), torch.rand(3, 2)
    r = geomsink.sinkhorn_divergence(x, y, blur=0.5)
    assert_type(r, Divergence[Tensor, Tensor])
    assert_type(r.value, Tensor).backward()
    assert x.grad is not None and isinstance(assert_type(r.plan.row_marginal(), Tensor), Tensor)
    assert isinstance(assert_type(geomsink.solve(x, y, blur=0.5).value, Tensor), Tensor)
    assert isinstance(assert_type(geomsink.mmd(x, y, blur=0.5).value, Tensor), Tensor)


def test_of_anything_else() -> None:
    r = geomsink.sinkhorn_divergence([[0.0], [1.0]], [[0.5], [1.5]], blur=0.5)
    assert_type(r, Divergence[Any, Any])
    assert r.value > 0.0
