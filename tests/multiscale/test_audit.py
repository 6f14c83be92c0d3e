"""Audits: what sums are found to be off by in rows that are drawn, against all of them in dense float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cellsums_cases import EPSILON, arguments, full, log_sums, problem, sides

from geomsink.measures import Measure
from geomsink.multiscale.audit import AUDITED, Audit, Audited, right_with
from geomsink.multiscale.cellsums import CellSums
from geomsink.progress import Progress
from geomsink.solver import FullSums, Goal, OneLevel, Problem


def claims(p):
    """Logarithms of the rows' sums in dense float64, and the same wrong by known amounts, larger where weights are."""
    exact = log_sums(p, *arguments(p))
    wrong = 0.02 * np.random.default_rng(5).normal(size=2000) + 0.01 * (p.a > np.median(p.a))
    return exact, exact + wrong


def test_audits_find_the_mean_difference():
    p = problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    audited = Audited(p.alpha, p.beta, full(p).pair)
    exact, claimed = claims(p)
    found = audited.against(f, g, torch.as_tensor(claimed), EPSILON)
    difference = np.exp(exact) - np.exp(claimed)
    mean, size, square = p.a @ difference, p.a @ np.abs(difference), p.a @ difference**2
    rows = AUDITED[1]  # few columns
    errors = [np.sqrt(p.a @ (d - p.a @ d) ** 2 / rows) for d in (difference, np.abs(difference), difference**2)]
    assert abs(found.missing - mean) < 4 * errors[0] < abs(mean)
    assert found.uncertain == pytest.approx(3 * errors[0], rel=0.2)
    assert size < found.off < size + 7 * errors[1]
    assert abs(found.square - square) < 4 * errors[2]
    right = audited.against(f, g, torch.as_tensor(exact), EPSILON)
    assert max(right.off, abs(right.missing), right.uncertain) < 1e-11 and right.square < 1e-22


def test_rows_are_drawn_with_their_weights():
    p = problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    drawn, sums = Audited(p.alpha, p.beta, full(p).pair).sample(f, g, EPSILON)
    assert len(drawn) == AUDITED[1]
    np.testing.assert_allclose(sums, log_sums(p, *arguments(p))[drawn.numpy()], rtol=0, atol=1e-11)
    # The first coordinate's mean under the weights, to four standard errors of a thousand draws.
    x = p.alpha.points[:, 0].numpy()
    assert abs(x[drawn.numpy()].mean() - p.a @ x) < 4 * np.sqrt(p.a @ (x - p.a @ x) ** 2 / len(drawn))


def test_audits_by_way_of_sums_that_are_near():
    """The near sums' own error is measured on few rows, and what is claimed against these on many: the errors of both
    are counted, and the mean is found better."""
    p = problem()
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    audited = Audited(p.alpha, p.beta, full(p).pair)
    exact, claimed = claims(p)
    near = torch.as_tensor(exact + 1e-3)
    alone = audited.against(f, g, torch.as_tensor(claimed), EPSILON)
    found = audited.against(f, g, torch.as_tensor(claimed), EPSILON, lambda rows: near[rows])
    difference = np.exp(exact) - np.exp(claimed)
    assert found.uncertain < 0.6 * alone.uncertain
    assert abs(found.missing - p.a @ difference) <= found.uncertain + 1e-15
    assert p.a @ np.abs(difference) < found.off < p.a @ np.abs(difference) + 4e-3
    # Near sums that are wrong do not hide it.
    hidden = audited.against(f, g, torch.as_tensor(claimed), EPSILON, lambda rows: torch.as_tensor(claimed)[rows])
    assert hidden.off == pytest.approx(alone.off, rel=1e-9) and hidden.missing == pytest.approx(alone.missing, rel=1e-9)


def test_audits_of_truncation():
    """The mass that is missing in the columns, and the marginal error of both sides."""
    p = problem()
    sums = CellSums(full(p), *sides(p, skipped=0.5))
    f, g = torch.as_tensor(p.f), torch.as_tensor(p.g)
    rows, columns = sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
    left_out = [
        float(w @ (exact.exp() - found.exp()))
        for w, exact, found in (
            (p.alpha.weights, sums.full.log_rows(f, g, EPSILON), rows),
            (p.beta.weights, sums.full.log_columns(f, g, EPSILON), columns),
        )
    ]
    audit = sums.audit(f, g, rows, columns, EPSILON)
    assert 1e-9 < left_out[1] < sums.skipped
    assert abs(audit.missing - left_out[1]) <= audit.uncertain < 3.0 * left_out[1]
    assert sum(left_out) <= audit.off < 3.0 * sum(left_out)


def test_audits_of_unequal_masses():
    """Errors are relative to the mean mass, and the missing mass is a mass."""
    given = problem()
    alpha, beta = Measure(given.alpha.points, 3.0 * given.alpha.weights), given.beta
    sums = FullSums(full(given).pair, alpha, beta)
    f, g = torch.as_tensor(given.f), torch.as_tensor(given.g)
    rows, columns = sums.log_rows(f, g, EPSILON), sums.log_columns(f, g, EPSILON)
    claimed = rows - 0.1, columns - 0.2
    cells = CellSums(sums, *sides(SimpleNamespace(**{**vars(given), "alpha": alpha})))
    found = cells.audit(f, g, *claimed, EPSILON)
    drawn = [
        Audited(*pair).sample(*potentials, EPSILON)[1].exp().mean()
        for pair, potentials in (((alpha, beta, sums.pair), (f, g)), ((beta, alpha, sums.pair.T), (g, f)))
    ]
    wanted = (3.0 * -np.expm1(-0.1) * float(drawn[0]) + -np.expm1(-0.2) * float(drawn[1])) / 2.0
    assert found.off == pytest.approx(wanted, rel=0.05)
    assert found.missing == pytest.approx(-np.expm1(-0.2) * float(drawn[1]), rel=1e-9)


def test_an_audit_counts_in_the_error_of_the_value():
    """ε times what is uncertain of the mass, and twice the mean square: a goal without room for it is not reached."""
    p = problem()
    problem_ = Problem(p.alpha, p.beta, full(p).pair, (EPSILON,), 2.0)
    found = OneLevel(Goal(1e-6, share=1e-6), 2000).solve(problem_, Progress(False)).solver
    before, value = found.accuracy.left, float(found.value())
    assert right_with(found, Audit(), Goal(1e-6, share=1e-6)) and found.accuracy.left == before
    fine = Audit(uncertain=1e-8 * value / EPSILON, square=1e-8 * value / EPSILON)
    assert right_with(found, fine, Goal(1e-6, share=1e-6))
    assert float(found.accuracy.left) == pytest.approx(float(before) + 3e-8 * value, rel=1e-9)
    assert not right_with(found, Audit(square=1e-6 * value / EPSILON), Goal(1e-6, share=1e-6))
    # Nobody asks for values.
    assert right_with(found, Audit(square=1.0), Goal(1e-6))
