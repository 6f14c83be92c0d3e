"""Implicit differentiation between sketches: derivatives of all pairs, and residuals that all points have."""

import pytest
import torch
from sketched_cases import CASES, SURFACES, TIGHT, TOL, gradients

from geomsink import sinkhorn_divergence, solve
from geomsink.derivatives import krylov
from geomsink.multiscale.sketched import SketchedSums


def implicitly(case, strategy, **options):
    """Gradients of ⟨P, C⟩, which feels the potentials, without the constants that mean nothing; and the solution."""
    solutions = []

    def loss(found):
        solutions.append(found)
        return found.transport_cost

    found = gradients(case, strategy, differentiation="implicit", loss=loss, **options)
    balanced = "reach" not in case
    return [t - t.mean() if t.ndim == 1 and balanced else t for t in found], solutions[0]


@pytest.mark.parametrize("name", ["a square", "uneven weights", "reach", "l2"])
def test_implicit_differentiation_between_sketches(name):
    """By the equation of all pairs, and by products between sketches, whose residual is that of all pairs as well."""
    case = {**CASES[name], "tol": TOL, "multiscale": True}
    found, solution = implicitly(case, "sketched", engine="keops", dtype="float32")
    exact, _ = implicitly({**case, **TIGHT}, "one-level")
    for one, other in zip(found, exact, strict=True):
        assert float((one - other).norm()) < 2e-3 * float(other.norm())
    (solve,) = solution.linear_solves
    assert solve.sketched and 1e-8 < solve.residual < krylov.ENOUGH[torch.float32]


def test_implicit_differentiation_of_self_problems_between_sketches():
    def gradient(**options):
        x, y = (torch.from_numpy(SURFACES[k]).requires_grad_() for k in "xy")
        found = sinkhorn_divergence(x, y, blur=0.4, form="sharp", differentiation="implicit", **options)
        return torch.autograd.grad(found.value, x)[0], found

    found, report = gradient(tol=TOL, multiscale=True, engine="keops", dtype="float32")
    exact, _ = gradient(**TIGHT)
    assert report.xx.strategy == "sketched" and report.xx.linear_solves[0].sketched
    assert float((found - exact).norm()) < 2e-3 * float(exact.norm())


def test_residuals_between_sketches_are_those_of_all_points(monkeypatch):
    """As dense algebra finds them, wherever the solution comes from; and weights of zero have derivatives, too."""
    seen, missed = [], krylov.ImplicitOperator._missed

    def looking(self, r, s, found):
        seen.append((self, r, s, found, missed(self, r, s, found)))
        return seen[-1][-1]

    monkeypatch.setattr(krylov.ImplicitOperator, "_missed", looking)
    case = {**CASES["weights of zero"], "tol": TOL, "multiscale": True}
    x, y, a = (torch.from_numpy(case[k]).requires_grad_() for k in "xya")
    found = solve(x, y, a, blur=0.25, tol=TOL, multiscale=True, differentiation="implicit", engine="keops")
    torch.autograd.grad(found.transport_cost, (x, a))
    assert found.strategy == "sketched"
    for operator, r, s, (lam, mu), reported in seen:
        state, kept = operator.solver.state, a.detach() > 0.0
        C = torch.cdist(x.detach(), y.detach()).square()
        P = a.detach()[:, None] * ((state.f[:, None] + state.g - C) / found.epsilon).exp() / len(y)
        rows, columns = a.detach() * state.log_rows.exp(), state.log_columns.exp() / len(y)
        left = (r - rows * lam - P @ mu)[kept], s - columns * mu - P.T @ lam
        sums = rows[kept], columns
        left[0].sub_(rows[kept] * left[0].sum() / rows.sum())  # which no solution has less of
        size, whole = (sum(map(lambda t, p: (t**2 / p).sum(), of, sums)) for of in (left, (r[kept], s)))
        size = float((size / whole).sqrt())
        assert size <= reported <= 1.5 * size
    assert len(seen) > 1 and found.linear_solves[0].sketched


def test_sketches_that_linear_systems_are_not_solved_with(monkeypatch):
    """What all points say is not believed of them: conjugate gradients over all pairs follow."""
    products = SketchedSums.row_products
    monkeypatch.setattr(SketchedSums, "row_products", lambda self, *given: 1.5 * products(self, *given))
    case = {**CASES["a square"], "tol": TOL, "multiscale": True}
    found, solution = implicitly(case, "sketched", engine="keops", dtype="float32")
    exact, _ = implicitly({**case, **TIGHT}, "one-level")
    assert not solution.linear_solves[0].sketched
    for one, other in zip(found, exact, strict=True):
        assert float((one - other).norm()) < 2e-3 * float(other.norm())
