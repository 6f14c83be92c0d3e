"""What is made of masses that differ, and of items of a batch that are not finite."""

import math

import numpy as np
import pytest
import torch

import geomsink
from geomsink import MMD, EntropicOT, SinkhornDivergence, mmd, sinkhorn_divergence, solve

TIGHT = {"epsilon": 0.05, "tol": 1e-9, "max_iter": 5000}


def batch(items=3, n=6, m=5):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(items, *shape, generator=generator).double() for shape in ((n, 2), (m, 2), (n,), (m,)))


@pytest.mark.parametrize("engine", ["dense", "keops"])
@pytest.mark.parametrize("options", [{}, {"rho": 0.3}])
def test_normalized_masses(options, engine):
    """Value, potentials, plan and gradients are those of the weights over their sums, on single clouds and batches."""
    x, y, a, b = (t.requires_grad_() for t in batch())
    how = TIGHT | options | {"engine": engine}
    for k in (0, slice(None)):
        given = x[k], y[k], a[k], b[k]
        found = solve(*given, normalize=True, **how)
        expected = solve(x[k], y[k], a[k] / a[k].sum(-1, keepdim=True), b[k] / b[k].sum(-1, keepdim=True), **how)
        torch.testing.assert_close(found.value, expected.value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.plan.to_dense(), expected.plan.to_dense(), rtol=1e-9, atol=1e-14)
        for one, other in zip(found.potentials, expected.potentials, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
        for one, other in zip(
            *(torch.autograd.grad(s.value.sum(), (x, y, a, b)) for s in (found, expected)), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    value = SinkhornDivergence(normalize=True, **TIGHT)(a[0], x[0], b[0], y[0])
    same = sinkhorn_divergence(x[0], y[0], 2.0 * a[0], b[0], normalize=True, **TIGHT).value
    torch.testing.assert_close(value, same)


NOT_FINITE = {"a point": (0, math.nan), "a coordinate": (1, math.inf), "a weight": (2, math.nan)}


def calls(nan_policy):
    loss = SinkhornDivergence(nan_policy=nan_policy, normalize=True, **TIGHT)
    cost = EntropicOT(nan_policy=nan_policy, normalize=True, **TIGHT)
    kernel = MMD(kernel="energy", nan_policy=nan_policy)
    return {
        "solve": lambda x, y, a, b: solve(x, y, a, b, nan_policy=nan_policy, normalize=True, **TIGHT).value,
        "divergence": lambda x, y, a, b: (
            sinkhorn_divergence(x, y, a, b, nan_policy=nan_policy, normalize=True, engine="keops", **TIGHT).value
        ),
        "mmd": lambda x, y, a, b: mmd(x, y, a, b, blur=0.3, nan_policy=nan_policy).value,
        "loss": lambda x, y, a, b: loss(a, x, b, y),
        "cost": lambda x, y, a, b: cost(a, x, b, y),
        "energy": lambda x, y, a, b: kernel(a, x, b, y),
    }


@pytest.mark.parametrize("where", NOT_FINITE)
@pytest.mark.parametrize("call", calls("propagate"))
def test_an_item_that_is_not_finite(call, where):
    """Its value is NaN, and nothing of it reaches the others, whose values and gradients are their own."""
    whole = [t.clone() for t in batch()]
    k, number = NOT_FINITE[where]
    whole[k][1].view(-1)[0] = number
    live = [t.clone().requires_grad_() for t in whole]
    values = calls("propagate")[call](*live)
    others = [t[[0, 2]].clone().requires_grad_() for t in whole]
    expected = calls("raise")[call](*others)
    assert values.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(values[[0, 2]], expected, rtol=1e-8, atol=1e-12)
    found = torch.autograd.grad(values.nansum(), live)
    for one, other in zip(found, torch.autograd.grad(expected.sum(), others), strict=True):
        torch.testing.assert_close(one[[0, 2]], other, rtol=1e-6, atol=1e-9)
        assert not one[1].any()
    with pytest.raises(ValueError, match="numbers are NaN or infinite"):
        calls("raise")[call](*whole)


def test_lists_and_reports_of_what_is_lost():
    x, y, _, _ = (t.numpy() for t in batch())
    xs, ys = [x[0], x[1, :4], x[2]], [y[0], np.full((2, 2), np.nan), y[2]]
    s = solve(xs, ys, nan_policy="propagate", **TIGHT)
    assert np.isnan(s.value).tolist() == [False, True, False] and s.converged
    assert [np.isnan(f).all() for f in s.potentials[0]] == [False, True, False]
    assert np.isnan(s.transport_cost).tolist() == np.isnan(s.marginal_errors).tolist() == [False, True, False]
    assert [np.isnan(p).any() for p in s.plan @ [np.ones(len(t)) for t in ys]] == [False, True, False]
    assert s.value[2] == pytest.approx(solve(x[2], y[2], **TIGHT).value, rel=1e-9)
    index = np.repeat([0, 1, 2], [6, 4, 6]), np.repeat([0, 1, 2], [5, 2, 5])
    again = solve(
        np.concatenate(xs), np.concatenate(ys), x_batch=index[0], y_batch=index[1], nan_policy="propagate", **TIGHT
    )
    np.testing.assert_array_equal(again.value, s.value)
    nothing = solve([t * np.nan for t in xs], ys, nan_policy="propagate", cost="cosine", **TIGHT)
    assert np.isnan(nothing.value).all()


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"nan_policy": "omit"}, ValueError, "^nan_policy: unknown name 'omit'; expected one of raise, propagate"),
        ({"normalize": 1}, TypeError, "^normalize: a int was given"),
        ({"nan_policy": "propagate"}, ValueError, "^x: 12 of 12 numbers are NaN or infinite"),
    ],
)
def test_refusals(options, error, sentence):
    x, y, _, _ = batch()
    with pytest.raises(error, match=sentence):
        solve(x[0] * math.nan, y[0], **TIGHT, **options)
    with pytest.raises(ValueError, match="nan_policy"):
        MMD(blur=1.0, nan_policy="omit")


def test_masses_of_single_clouds_are_told_of_it():
    x, y, a, b = (t[0] for t in batch())
    with pytest.raises(ValueError, match=r"expected the same mass, or reach= for others, or normalize=True\.$"):
        geomsink.solve(x, y, a, b, **TIGHT)


@pytest.mark.parametrize(
    "function", [geomsink.wasserstein_bounds, geomsink.transport.matching], ids=lambda function: function.__name__
)
def test_masses_of_what_has_no_penalties(function):
    x, y, a, b = (t[0] for t in batch())
    with pytest.raises(ValueError, match=r"^a, b: they sum to .* expected the same mass\.$"):
        function(x, y, a, b)


def test_a_loss_goes_on_after_items_that_are_lost():
    """From call to call it compares what it has kept, which items are lost included: the second call failed."""
    x, y, _, _ = (t.clone() for t in batch())
    loss = SinkhornDivergence(nan_policy="propagate", **TIGHT)
    right = loss(x, y)
    for wrong in (1, 0, None, 1):
        given = x.clone()
        if wrong is not None:
            given[wrong, 0, 0] = math.nan
        found = loss(given, y)
        lost = torch.arange(len(x)) == (-1 if wrong is None else wrong)
        assert torch.equal(found.isnan(), lost)
        torch.testing.assert_close(found[~lost], right[~lost], rtol=1e-9, atol=1e-12)
