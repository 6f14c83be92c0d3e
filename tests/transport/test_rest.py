"""Descents that begin at their optimum stop at once, converged, and move nothing."""

import functools

import pytest
import torch

from geomsink import MMD, EntropicOT, SinkhornDivergence, hausdorff_divergence, transport
from geomsink.transport.descent import FLAT, descend

generator = torch.Generator().manual_seed(0)
CLOUD = torch.rand(60, 3, generator=generator, dtype=torch.float64)
EYE, ZERO = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
OPTIMISERS = ("sgd", "adam", "lbfgs", "rmsprop")
LOSSES = {
    "sinkhorn": SinkhornDivergence(blur=0.1),
    "small blur": SinkhornDivergence(blur=0.01),
    "unbalanced": SinkhornDivergence(blur=0.1, reach=0.3),
    "euclidean": SinkhornDivergence(blur=0.1, cost="euclidean"),
    "directions": SinkhornDivergence(epsilon=0.1, cost="cosine"),
    "gaussian": MMD(blur=0.1),
    "energy": MMD(kernel="energy"),
    "hausdorff": functools.partial(hausdorff_divergence, blur=0.1),
    "own": lambda x, y: ((x - y) ** 2).sum(),
}


def at_once(history, moved):
    assert history.converged and history.n_steps == 0 and history.status.startswith("the gradient of the loss is zero")
    assert moved <= 1e-15  # maps, and weights of points, round


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("name", LOSSES)
def test_flows(name, optimizer, dtype):
    x = CLOUD.to(dtype)
    flow = transport.gradient_flow(x, x.clone(), loss=LOSSES[name], optimizer=optimizer, steps=3)
    at_once(flow.history, (flow.points - x).abs().max())
    assert len(flow.frames) == 1 and flow.times == (0.0,)


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("name", ["sinkhorn", "unbalanced", "euclidean", "gaussian", "energy"])
def test_barycentres(name, optimizer):
    found = transport.barycenter([CLOUD], loss=LOSSES[name], init=CLOUD, optimizer=optimizer, steps=3)
    at_once(found.history, (found.points - CLOUD).abs().max())
    shifts = [CLOUD + 1.0, CLOUD - 1.0]
    found = transport.barycenter(shifts, blur=0.1, init=CLOUD, optimizer="sgd")  # optimal to the solver's tolerance
    assert found.history.converged and found.history.n_steps <= 10
    assert (found.points - CLOUD).abs().max() < 1e-3


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_rule_has_no_unit(size):
    found = transport.barycenter([size * CLOUD], blur=0.1 * size, init=size * CLOUD, optimizer="adam", steps=3)
    at_once(found.history, (found.points / size - CLOUD).abs().max())


def test_weights_of_any_mass():
    w = 100.0 * torch.rand(60, generator=generator, dtype=torch.float64)
    flow = transport.gradient_flow(CLOUD, CLOUD, w, w, blur=0.1, optimizer="adam", steps=3)
    at_once(flow.history, (flow.points - CLOUD).abs().max())


def test_barycentres_that_start_where_one_came_to_rest():
    clouds = [CLOUD, 0.5 * CLOUD + 0.2]
    first = transport.barycenter(clouds, blur=0.1)
    again = transport.barycenter(clouds, blur=0.1, init=first.points)
    assert first.history.converged and again.history.converged and again.history.n_steps <= 20
    assert 0.0 <= first.history.values[-1] - again.history.values[-1] < 1e-3 * first.history.values[-1]


@pytest.mark.parametrize("fit_weights", [True, False])
def test_quantisation_into_the_points_themselves(fit_weights):
    found = transport.quantize(CLOUD, 60, blur=0.001, fit_weights=fit_weights)
    order, expected = (points[points[:, 0].argsort()] for points in (found.points, CLOUD))
    assert found.history.converged and found.history.n_steps == 0
    torch.testing.assert_close(order, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.weights, torch.full_like(found.weights, 1 / 60), rtol=1e-6, atol=0)


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("transform", transport.registration.TRANSFORMS)
def test_registrations(transform, optimizer):
    r = transport.register(
        CLOUD, CLOUD, transform=transform, blur=0.1, start=0.1, init=(EYE, ZERO), optimizer=optimizer
    )
    assert r.converged and r.history[-1].n_steps <= 20
    torch.testing.assert_close(r.points, CLOUD, rtol=0, atol=1e-4)
    if transform != "rigid":  # whose loss, without self problems, is optimal to the solver's tolerance
        at_once(r.history[-1], (r.points - CLOUD).abs().max())


def test_losses_with_a_gradient_at_rest_move_on():
    """OT_ε pulls the points of a cloud together: it is not at rest at its target."""
    flow = transport.gradient_flow(CLOUD, CLOUD.clone(), loss=EntropicOT(blur=0.1), steps=60)
    assert flow.history.converged and flow.history.n_steps > 2
    assert flow.history.values[-1] < flow.history.values[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_point_is_not_at_rest_where_all_of_them_are_at_one_place(optimizer):
    """Neither the cloud nor the target has an extent, or its first point is the target."""
    for x, y in ((CLOUD[:1], CLOUD[1:2]), (CLOUD[:2], CLOUD[:1]), (CLOUD[:1].expand(3, 3), CLOUD[1:])):
        rate = 0.02 if optimizer == "adam" else 0.5
        flow = transport.gradient_flow(x, y, blur=0.1, optimizer=optimizer, steps=20, lr=rate)
        assert flow.history.n_steps > 0 and flow.history.values[-1] < 0.9 * flow.history.values[0]


def test_without_a_tolerance_all_steps_are_done():
    flow = transport.gradient_flow(CLOUD, CLOUD.clone(), blur=0.1, tol=None, steps=3)
    assert flow.history.n_steps == 3 and not flow.history.converged


def test_sizes_and_spans_of_descents():
    """At 5 + (p − 1)², 1e-6 from the best p: rounding of a span of 1, and not of one of 1e-6."""
    for size, span in ((1.0, 1.0), (1e-12, 1e-6), (0.0, 1.0)):
        p = torch.tensor([1.0 + 1e-6], dtype=torch.float64, requires_grad=True)
        loss = functools.partial(lambda p: 5.0 + (p - 1.0) ** 2, p)
        history = descend([p], loss, optimizer="sgd", lr=0.4, size=size, span=span, tol=1e-3)
        assert history.converged and (history.n_steps == 0) == (size == 1.0)
    q = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    history = descend([q], lambda: 5.0 + 1e-5 * (q - 3.0) ** 2, optimizer="sgd", lr=1.0, size=1.0, tol=1e-3)
    assert history.converged and history.status.endswith(f"of {FLAT:.3g}") and history.n_steps == 10
