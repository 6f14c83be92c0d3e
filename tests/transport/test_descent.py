"""Descents: the optimisers are torch's, the stopping rule stops, and what goes wrong is said."""

import sys
import warnings
from itertools import pairwise

import pytest
import torch

from geomsink import ConvergenceWarning, SinkhornDivergence
from geomsink.transport.descent import WINDOW, Particles, descend

TARGET = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
SCALES = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)


def bowl(start=0.0):
    """A parameter, and a quadratic loss with its minimum, 5, at `TARGET`."""
    p = torch.full((3,), start, dtype=torch.float64, requires_grad=True)
    return p, lambda: 5.0 + (SCALES * (p - TARGET) ** 2).sum()


@pytest.mark.parametrize(("name", "lr"), [("adam", 0.3), ("sgd", 0.04), ("lbfgs", None), ("rmsprop", 0.02)])
def test_each_optimiser_finds_the_minimum(name, lr):
    p, loss = bowl()
    history = descend([p], loss, optimizer=name, lr=lr, steps=2000, tol=1e-9)
    # A step size of 0.02 is how far RMSprop swings about the minimum.
    assert (p.detach() - TARGET).abs().max() < (0.03 if name == "rmsprop" else 1e-3)
    assert history.values[0] == pytest.approx(5.0 + 107.0) and history.values[-1] == loss().item()
    assert history.converged


def test_steps_are_those_of_torch():
    ours, loss = bowl()
    theirs, same = bowl()
    descend([ours], loss, lr=0.1, steps=25, tol=None)
    optimiser = torch.optim.Adam([theirs], lr=0.1)
    for _ in range(25):
        optimiser.zero_grad()
        same().backward()
        optimiser.step()
    assert torch.equal(ours, theirs)


def test_line_searches_take_what_they_need():
    """One iteration of L-BFGS a step: a quadratic of three variables is done in a few, in spite of a tiny first one."""
    p, loss = bowl(start=1e4)
    history = descend([p], loss, optimizer="lbfgs", steps=20, tol=None)
    # L-BFGS stops at gradients of 1e-7 or, of 1e9 at the start, at a decrease along its direction of 1e-9.
    assert (p.detach() - TARGET).abs().max() < 1e-4
    assert all(after <= before for before, after in pairwise(history.values))


def test_an_optimiser_of_ones_own():
    p, loss = bowl()
    history = descend([p], loss, optimizer=lambda q: torch.optim.NAdam(q, lr=0.5), steps=500)
    assert history.converged and history.values[-1] == pytest.approx(5.0, abs=0.02)


def test_stops_where_nothing_is_gained():
    p, loss = bowl()
    history = descend([p], loss, optimizer="sgd", lr=0.05, tol=1e-3, steps=1000)
    assert history.converged and history.n_steps < 100 and "changed by no more than 0.001 of" in history.status
    last = history.values[-1 - WINDOW :]
    assert max(last) - min(last) <= 1e-3 * (history.values[0] - history.values[-1])
    # A loss that is shifted is the same loss.
    q, other = bowl()
    shifted = descend([q], lambda: other() - 5.0, optimizer="sgd", lr=0.05, tol=1e-3, steps=1000)
    assert shifted.n_steps == history.n_steps


def test_all_steps_are_done_without_a_tolerance():
    p, loss = bowl()
    history = descend([p], loss, optimizer="sgd", lr=0.05, tol=None, steps=60)
    assert history.n_steps == 60 and not history.converged and history.status == "60 steps are done"


def test_a_loss_that_rises_has_not_converged():
    p, loss = bowl()
    history = descend([p], loss, optimizer="sgd", lr=0.15, steps=30)
    assert not history.converged and "the loss rose from 112" in history.status


def test_callbacks_see_the_parameters_of_each_value():
    p, loss = bowl()
    seen = []
    history = descend([p], loss, lr=0.1, steps=3, callback=lambda k, v: seen.append((k, v, loss().item())))
    assert [k for k, *_ in seen] == [0, 1, 2, 3]
    assert all(value == there for _, value, there in seen) and [v for _, v, _ in seen] == list(history.values)
    searched = []
    q, loss = bowl()
    descend([q], loss, optimizer="lbfgs", steps=3, tol=None, callback=lambda k, v: searched.append(k))
    assert searched == [0, 1, 2, 3]


def test_losses_that_are_not_finite():
    p, _ = bowl(start=1.0)
    with pytest.raises(RuntimeError, match=r"^fit: the loss is nan at step 1, expected a finite number\.$"):
        descend([p], lambda: (p**1.5).sum(), optimizer="sgd", lr=0.8, steps=9, name="fit")
    q = torch.zeros(1, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^descent: the gradient of the loss has NaN or infinities at step 0"):
        descend([q], lambda: q.sqrt().sum())


def test_warnings_are_passed_on_once():
    x, y = torch.rand(20, 2, dtype=torch.float64), torch.rand(20, 2, dtype=torch.float64)
    p = x.clone().requires_grad_()

    def unsolved():
        return SinkhornDivergence(blur=0.01, max_iter=1, tol=1e-9)(p, y)  # a new module warns each time

    with pytest.warns(ConvergenceWarning, match="^fit: xy: not converged") as caught:
        history = descend([p], unsolved, optimizer="sgd", lr=1e-3, steps=4, tol=0.9, name="fit")
    assert sum(w.category is ConvergenceWarning for w in caught) == 1
    assert not history.converged and history.status.endswith("; 5 of its evaluations were not converged themselves")


def test_other_warnings_are_let_through_once():
    p, loss = bowl()

    def talkative():
        warnings.warn("look", UserWarning, stacklevel=1)
        return loss()

    with pytest.warns(UserWarning, match="look") as caught:
        descend([p], talkative, steps=5, tol=None)
    assert len(caught) == 1


def test_a_bar(capsys):
    pytest.importorskip("tqdm")
    p, loss = bowl()
    descend([p], loss, lr=0.1, steps=12, tol=None, progress=True, name="fit")
    shown = capsys.readouterr().err
    assert "fit  step 0 of 12  loss 1.1200e+02" in shown and "100 %" in shown


def test_no_bar_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"progress=True needs the package tqdm"):
        descend([bowl()[0]], bowl()[1], progress=True)


P, LOSS = bowl()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (([], LOSS), ValueError, "^parameters: 0 given, expected leaf tensors that require gradients"),
        (([P.detach()], LOSS), ValueError, "^parameters: 1 given, expected leaf tensors"),
        (([P], lambda: 1.0), TypeError, "^descent: the loss gave a float, expected a tensor with one number"),
        (([P], lambda: P), TypeError, r"^descent: the loss gave shape \(3,\), expected"),
        (([P], lambda: torch.ones(())), ValueError, "^descent: the loss has no autograd history"),
    ],
)
def test_bad_losses(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        descend(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (dict(optimizer="newton"), ValueError, "^optimizer: unknown name 'newton'; expected one of adam, lbfgs"),
        (dict(optimizer=3), TypeError, "^optimizer: a int was given, expected a name or a callable"),
        (dict(optimizer=lambda p: p), TypeError, "^optimizer: it made a list, expected a torch.optim.Optimizer"),
        (dict(optimizer=torch.optim.Adam, lr=0.1), ValueError, "^lr: 0.1 given with an optimizer of one's own"),
        (dict(lr=-1.0), ValueError, "^lr: -1.0 given, expected a positive step size"),
        (dict(lr="big"), TypeError, "^lr: a str was given, expected a number"),
        (dict(steps=0), ValueError, "^steps: 0 given, expected a whole number of at least 1"),
        (dict(steps=True), TypeError, "^steps: a bool was given, expected a whole number"),
        (dict(tol=1.0), ValueError, "^tol: 1.0 given, expected a share from 0 to less than 1, or None"),
        (dict(tol="small"), TypeError, "^tol: a str was given, expected a number"),
    ],
)  # fmt: skip
def test_bad_options(options, error, sentence):
    with pytest.raises(error, match=sentence):
        descend([P], LOSS, **options)


def test_particles_move_by_the_gradient_over_their_weight():
    """Whatever the weights, one step of size η is x − η (1/a) ∂L/∂x; a point without mass stays where it is."""
    random = torch.Generator().manual_seed(0)
    x, y = (torch.rand(6, 2, generator=random, dtype=torch.float64) for _ in range(2))
    a = torch.tensor([0.1, 0.2, 0.0, 1.2, 0.5, 1.0], dtype=torch.float64)
    particles = Particles(x, a)
    torch.testing.assert_close(particles.points, x, rtol=1e-15, atol=0)
    descend([particles.parameter], lambda: (a[:, None] * (particles.points - y) ** 2).sum(), optimizer="sgd",
            lr=0.25, steps=1, tol=None, scale=particles.scale)  # fmt: skip
    halfway = torch.where(a[:, None] > 0, 0.5 * (x + y), x)
    torch.testing.assert_close(particles.points, halfway, rtol=1e-14, atol=1e-15)
