"""What a cycle costs besides its sums: on a GPU the host waits where it reads, and each operation is a launch."""

from unittest import mock

import pytest
import torch
from pretend import pretend

from geomsink import costs, engine
from geomsink.measures import Measure
from geomsink.progress import Progress
from geomsink.solver import KL, L2, Balanced, Goal, Iterate, OneLevel, Problem
from geomsink.solver.approach import Approach
from geomsink.solver.kept import KeptSums

drawn = torch.Generator().manual_seed(0)
X, Y = (torch.rand(2, n, 3, generator=drawn, dtype=torch.float64) for n in (20, 30))
EPSILON, CYCLES = 0.05, 12
BUDGET = {
    "dense": (1, 29),
    "dense in float32": (1, 33),
    "a batch": (1, 32),
    "unbalanced": (1, 66),
    "squared differences": (2, 136),
    "a self problem": (2, 45),
    "keops": (1, 23),
    "a batch of keops": (1, 25),
}
"""Of an evaluation: reads, of the marginal error and what says whether the sums are right, and of a self problem of its
extrapolation; and operations of torch, at most. On a GPU a read takes about 30 µs, an operation 10 µs. Two evaluations
are a cycle."""


class Marks:
    """Progress that keeps what has happened on the device before each evaluation was noted."""

    def __init__(self, log):
        self.log, self.places = log, []

    def update(self, epsilon, error, tol):
        if epsilon == EPSILON:
            self.places.append(len(self.log.events))


def evaluations(name):
    """Events on the device from each evaluation to the next but one, where updates are over-relaxed."""
    items = slice(None) if "batch" in name else 0
    penalty = {"unbalanced": KL(0.5), "squared differences": L2(0.5)}.get(name, Balanced())
    with pretend() as log:
        x, y = (t[items].to("cuda", torch.float32 if "float32" in name else torch.float64) for t in (X, Y))
        alpha, beta = (Measure(t.double(), torch.full_like(t[..., 0], 1 / t.shape[-2]).double()) for t in (x, y))
        beta = alpha if "self" in name else beta
        name_of_engine = "keops" if "keops" in name else "dense"
        pair = engine.pair(x, x if "self" in name else y, costs.get("sqeuclidean"), name_of_engine)
        marks = Marks(log)
        problem = Problem(alpha, beta, pair, (0.2, EPSILON), 2.0, (penalty, Balanced()))
        with mock.patch.object(Approach, "takes", return_value=False):  # updates, and not Newton's method on scalings
            OneLevel(Goal(1e-15), CYCLES).solve(problem, marks)
    first = 2 if "self" in name else 6
    return [log.events[a:b] for a, b in zip(marks.places[first:-6], marks.places[first + 2 : -4], strict=True)]


@pytest.mark.parametrize("name", BUDGET)
def test_evaluations_keep_to_their_budget(name):
    reads, launches = BUDGET[name]
    found = evaluations(name)
    assert len(found) >= 4
    for events in found:
        read = [event for event in events if event.kind == "read"]
        assert len(read) <= 2 * reads, read
        assert sum(event.kind == "launch" for event in events) <= 2 * launches
    copies = [event.where.split(":")[0] for events in found for event in events if event.kind == "copy"]
    assert copies.count("solver/relaxation.py") <= 2 * ("batch" in name)  # of ω for each item, where it changes
    assert {place for place in copies if place.startswith("solver/")} <= {
        "solver/relaxation.py",
        "solver/acceleration.py",
    }


@pytest.mark.parametrize("moved", [0.0, 400.0, -400.0, 1000.0, -1000.0])
@pytest.mark.parametrize("kept", [False, True])
def test_sums_that_leave_the_range_are_found_again(kept, moved):
    """After they were taken, with the marginal error, as though they were right."""
    x, y = X[0], Y[0]
    alpha, beta = (Measure(t, torch.full((len(t),), 1 / len(t), dtype=torch.float64)) for t in (x, y))
    pair = engine.pair(x, y, costs.get("sqeuclidean"), "dense")
    problem = Problem(alpha, beta, pair, (EPSILON,), 2.0)
    iterate = Iterate(problem, 1e-9, Progress(False), sums=KeptSums(pair, alpha, beta) if kept else None)
    for side, f in enumerate((0.0, moved)):
        iterate.state.f = torch.full((20,), EPSILON * f, dtype=torch.float64)
        error = iterate._find(side, EPSILON)
    z = (moved * EPSILON - pair.cost.between(x[:, None], y)) / EPSILON
    torch.testing.assert_close(iterate.state.log_columns, (z + alpha.log_weights[:, None]).logsumexp(0))
    assert error == iterate.history[-1].marginal_error == float(iterate.marginal_errors(EPSILON))
    assert iterate.evaluations == len(iterate.history) == 2
