"""Divergences as lengths: of clouds moved as a whole, that by which they were moved."""

import numpy as np
import pytest
import torch

import geomsink

X = np.random.default_rng(0).random((60, 3))
MOVE = np.array([0.3, -0.6, 0.2])


@pytest.mark.parametrize("mass", [1.0, 5.0])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_length_of_a_move_is_its_length_whatever_the_unit_of_the_cost_and_the_mass(factor, mass):
    """S_ε of a measure and its translate by t is |t|² times the mass, for the squared distance."""
    a = np.full(60, mass / 60)
    cost = geomsink.costs.get("sqeuclidean").scaled(factor)
    r = geomsink.sinkhorn_divergence(X, X + MOVE, a, a, blur=0.2, cost=cost, tol=1e-9)
    assert isinstance(r.length, float)
    assert r.length == pytest.approx(np.linalg.norm(MOVE), rel=1e-6)


def test_the_divergence_of_a_distance_is_a_length_itself():
    r = geomsink.sinkhorn_divergence(X, X + MOVE, blur=0.2, cost="euclidean")
    assert r.length == pytest.approx(r.value)


def test_each_item_of_a_batch_has_its_own():
    x = torch.from_numpy(X).float()
    moves = torch.tensor([0.0, 0.5, 2.0])[:, None, None] * torch.from_numpy(MOVE).float()
    r = geomsink.sinkhorn_divergence(x.expand(3, -1, -1), x + moves, blur=0.2, tol=1e-6)
    assert r.length.dtype == torch.float32 and not r.length.requires_grad
    expected = torch.tensor([0.0, 0.5, 2.0]) * np.linalg.norm(MOVE)
    torch.testing.assert_close(r.length, expected.float(), rtol=1e-5, atol=1e-3)


def test_there_is_none_where_mass_may_be_given_up_or_the_cost_is_no_power_of_a_length():
    assert geomsink.sinkhorn_divergence(X, X + MOVE, blur=0.2, reach=1.0).length is None
    cost = geomsink.costs.Cost(name="capped", expression=lambda x, y: 1 - (-((x - y) ** 2).sum(-1)).exp())
    assert geomsink.sinkhorn_divergence(X, X + MOVE, epsilon=0.1, cost=cost).length is None


def test_there_is_none_with_a_group():
    """Processes have parts of it: what is looked at on one of them must not wait for the others."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert geomsink.sinkhorn_divergence(X, X + MOVE, blur=0.2, group=True).length is None
    finally:
        torch.distributed.destroy_process_group()
