"""Tensors that are dealt out to processes: every operation against the same one on the whole."""

import pytest
import torch
from dealt import clouds, dealt
from outcomes import needs_gloo

from geomsink.processes import deal, own, parts_of

pytestmark = needs_gloo
X, _, A, _ = clouds()
PLACES = torch.tensor([59, 0, 20, 19, 44])


def extrapolated(x, a):
    """As Anderson acceleration does it: products of a few rows of numbers over all points."""
    steps = torch.stack((50.0 * a, x[..., 0].square(), x[..., 1].exp(), x[..., 2].sqrt()), -2)
    differences = steps.diff(dim=-2)
    right = torch.cat((differences, steps[..., -1:, :]), -2).mT
    few = (differences @ right).cpu()
    combination = torch.linalg.pinv(few[..., :-1], hermitian=True) @ few[..., -1:]
    return steps[..., -1, :] - (combination.mT @ differences)[..., 0, :]


def both_have_derivatives():
    """Whether this torch differentiates `torch.aminmax`; 2.6 does not."""
    try:
        torch.ones(2, requires_grad=True).aminmax().max.backward()
    except RuntimeError:
        return False
    return True


BOTH_HAVE_DERIVATIVES = both_have_derivatives()
# From points (N, D) and weights (N,) to numbers of all, or to numbers of each point.
OPERATIONS = {
    "weighted mean": lambda x, a: (a[..., None] * x).sum(-2),
    "mean": lambda x, a: x.mean(-2, keepdim=True),
    "all numbers": lambda x, a: x.sum() + x.mean(),
    "normalised": lambda x, a: a / a.sum(-1)[..., None],
    "extremes": lambda x, a: torch.cat((x.amax(0), x.amin(0), x.amax((-2, -1))[None], a.max()[None], a.min()[None])),
    "both extremes": lambda x, a: torch.stack((a if BOTH_HAVE_DERIVATIVES else a.detach()).log().aminmax()),
    "norms": lambda x, a: x.norm(dim=-1).amax(-1) + x.norm(),
    "logarithm of a sum": lambda x, a: (a.log() - x[..., 0]).logsumexp(-1),
    "spread": lambda x, a: (x.square().sum(-1) - 2.0 * (x @ x.mean(0))).clamp(min=0.1),
    "features": lambda x, a: torch.tanh(torch.nn.functional.linear(x, X[:2], X[0, :2])),
    "activations": lambda x, a: sum(
        f(x - 0.5) for f in (torch.nn.functional.silu, torch.nn.functional.gelu, torch.nn.functional.softplus)
    )
    + torch.nn.functional.leaky_relu(x - 0.5) * torch.nn.functional.elu(x - 0.5),
    "columns": lambda x, a: torch.cat((torch.ones_like(x[..., :1]), x, a[..., None]), -1),
    "columns apart": lambda x, a: sum(k * c for k, c in enumerate(x.unbind(1))) + sum(p.sum(1) for p in x.split(2, 1)),
    "chosen": lambda x, a: torch.where(a > 0.01, a, 0.0).masked_fill(x[..., 1] < 0.3, 2.0),
    "a constant of all": lambda x, a: a.sum()[..., None].expand_as(a) * a,
    "gram": lambda x, a: x.mT @ (a[..., None] * x),
    "some rows": lambda x, a: x.detach()[PLACES] + x.detach().gather(-2, PLACES[:, None].expand(5, 3)),
    "first rows": lambda x, a: x.detach()[:2] + a.detach()[..., 0],
    "places of extremes": lambda x, a: torch.stack((x.detach().argmin(0), x.detach().argmax(0))),
    "truths": lambda x, a: torch.stack([(x > 0).all(), (x > 1).any(), (x[..., 0] > 0.99).any(-1)]),
    "extrapolated": lambda x, a: extrapolated(x.detach(), a.detach()),
}  # fmt: skip
REFUSED = {
    "sorted": lambda x, a: x.sort(0),
    "cumulated": lambda x, a: a.cumsum(0),
    "with others of all": lambda x, a: a + A.clone(),
    "longer": lambda x, a: torch.cat((x, x)),
    "outer": lambda x, a: a[:, None] * a,
    "masked": lambda x, a: a[a > 0.5],
    "random": lambda x, a: torch.rand_like(a),
    "kept": lambda x, a: torch.save(a, "/dev/null"),
    "turned": lambda x, a: x @ x.mT,
}


def everything(group, mine, _):
    """Values, and derivatives of a number made of them."""
    found = {}
    x, a = X[mine].clone().requires_grad_(), A[mine].clone().requires_grad_()
    parts = parts_of(len(x), group)
    for name, operation in OPERATIONS.items():
        out = operation(deal(x, parts), deal(a, parts))
        found[name] = [own(out).detach()]
        if out.requires_grad:
            found[name] += torch.autograd.grad((out * out.exp()).sum(), (x, a), materialize_grads=True)
    for name, operation in REFUSED.items():
        try:
            operation(deal(x.detach(), parts), deal(a.detach(), parts))
            found[name] = "done"
        except (RuntimeError, TypeError) as error:
            found[name] = str(error)
    draws = deal(a.detach(), parts).multinomial(1000, True, generator=torch.Generator().manual_seed(0))
    same = deal(x.detach(), parts), deal(x.detach() + torch.arange(group.count)[group.rank], parts)
    return found | {"draws": draws, "equal": [torch.equal(same[0], other) for other in same]}


@pytest.fixture(scope="module")
def found():
    return dealt([everything])


def whole(name):
    x, a = X.clone().requires_grad_(), A.clone().requires_grad_()
    out = OPERATIONS[name](x, a)
    if not out.requires_grad:
        return [out]
    return [out.detach(), *torch.autograd.grad((out * out.exp()).sum(), (x, a), materialize_grads=True)]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_the_whole(found, name, count):
    results = [one[name] for one in found["everything", count]]
    for k, expected in enumerate(whole(name)):
        pieces = [one[k] for one in results]
        if len(torch.cat([p.reshape(-1) for p in pieces])) == expected.numel():
            of_all = torch.cat(pieces) if count > 1 else pieces[0]
        else:  # each process has it, to the bit
            assert all(torch.equal(pieces[0], other) for other in pieces)
            of_all = pieces[0]
        torch.testing.assert_close(of_all, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_rows_of_others_is_refused(found, name):
    for count in (1, 2, 4):
        for one in found["everything", count]:
            assert one[name] != "done" and ("dealt out" in one[name] or "expected the same" in one[name])


def test_draws_are_the_same_on_all_and_follow_the_weights(found):
    for count in (1, 2, 4):
        draws = [one["draws"] for one in found["everything", count]]
        assert all(torch.equal(draws[0], other) for other in draws)
        shares = torch.bincount(draws[0], minlength=len(A)) / 1000.0
        assert float((shares - A).abs().max()) < 4.0 * float((A / 1000.0).sqrt().max())


def test_equality_is_that_of_all(found):
    assert [one["equal"] for one in found["everything", 4]] == [[True, False]] * 4
    assert [one["equal"] for one in found["everything", 1]] == [[True, True]]
