"""Batches, item by item down the temperatures, against their items by themselves and linear programming."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

import geomsink
from geomsink.choose import tried


def clouds(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.random((n, 3))) for n in sizes]


def test_items_of_different_sizes_are_solved_as_by_themselves():
    x, y = clouds((300, 270)), clouds((260, 310), seed=1)
    together = geomsink.solve(x, y, blur=0.004)
    assert together.strategy == "item-by-item" and together.converged
    alone = [geomsink.solve(*pair, blur=0.004) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(together.value, [s.value for s in alone], rtol=1e-9)
    for k, s in enumerate(alone):
        f, g = (h[k] for h in together.potentials)
        shift = float((f - s.potentials[0]).mean())
        np.testing.assert_allclose(f - shift, s.potentials[0], atol=0.02 * s.epsilon)
        np.testing.assert_allclose(g + shift, s.potentials[1], atol=0.02 * s.epsilon)
    assert bool((together.value_error <= 1e-5 * together.value).all())


def test_the_limit_is_each_item_s_assignment():
    x, y = (torch.stack(clouds((256, 256, 256), seed)) for seed in (2, 3))
    found = geomsink.solve(x, y, blur=2e-4)
    assert found.converged
    for k in range(3):
        C = ((x[k][:, None] - y[k]) ** 2).sum(-1).numpy()
        exact = C[linear_sum_assignment(C)].mean()
        assert float(found.plan.transport_cost[k]) == pytest.approx(exact, rel=1e-6)


def test_points_without_weight_and_penalties():
    x, y = (torch.stack(clouds((280, 280), seed)) for seed in (4, 5))
    a, b = (torch.rand(2, 280, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (0, 1))
    a[0, :20], b[1, 30:60] = 0.0, 0.0
    together = geomsink.solve(x, y, a, b, blur=0.004, reach=0.3)
    assert together.strategy == "item-by-item" and together.converged
    for k in range(2):
        alone = geomsink.solve(x[k], y[k], a[k], b[k], blur=0.004, reach=0.3)
        assert float(together.value[k]) == pytest.approx(float(alone.value), rel=1e-7)
        for mine, theirs in zip(together.potentials, alone.potentials, strict=True):
            np.testing.assert_allclose(mine[k], theirs, atol=1e-6)


def test_gradients_are_those_of_the_items():
    x, y = torch.stack(clouds((256, 256))).requires_grad_(), torch.stack(clouds((256, 256), seed=1))
    geomsink.SinkhornDivergence(blur=0.005)(x, y).sum().backward()
    for k in range(2):
        alone = x[k].detach().clone().requires_grad_()
        geomsink.SinkhornDivergence(blur=0.005)(alone, y[k]).backward()
        np.testing.assert_allclose(x.grad[k], alone.grad, atol=1e-7)


def test_updates_go_on_for_longer_where_items_are_small():
    assert tried(10**6, 1) < tried(2**16 * 10, 10) < tried(2**16 * 10 - 1, 10)
