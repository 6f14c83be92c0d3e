"""How wrong the value of a solve is: Newton's decrement, with what Newton's equation leaves.

With the plan P of potentials f, g and the optimal plan P*, OT_ε − D(f, g) = ε KL(P* | P), and P* is the feasible plan
nearest to P. If (δu, δv) solves Newton's equation, P_ij (1 + δu_i + δv_j) has the right marginals; where it is not
negative it is feasible, so that

    OT_ε − D(f, g) ≤ ε Σ P_ij φ(δu_i + δv_j) ≤ ½ ε (1 + n) Σ P_ij (δu_i + δv_j)²,    φ(t) = (1 + t) log(1 + t) − t,

n the largest of −δu_i − δv_j, at most 1; 2n is taken, for marginals with penalties. The sum is ρᵀ M⁺ ρ for the gradient
ρ of the dual and Newton's matrix M: half of it is what Newton's step gains. Mass e that the solution leaves uncorrected
has to be moved to anywhere: at the mean of C − f − g over the columns a unit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from ..choose import ROUNDING, by_products
from .accuracy import Accuracy
from .hot import is_hot, rounding_when_hot
from .iterate import Iterate
from .newton import Enough, NewtonOperator
from .sums import Sums

MODEL = 0.5
"""Largest fall of an entry of the plan, relative, in a step that Newton's equation is believed for."""
WORST = 0.9
"""Contraction above which an approximate step is believed no less."""
ROUNDED = 4.0
"""Roundings in a value, relative to its parts."""
NOISE = 10.0
"""Marginal error, in units of the floor, up to which it is nothing but rounding."""
SMALL = 1000.0
"""Cost of moving it, in units of what rounding does to the value, up to which it is."""
FEW = 4
"""Iterations from which on their rate of convergence is believed."""
EXACT = 1e-12
"""Or a floor, up to which it is whatever it costs."""
KINKS = 10.0
"""Margin for potentials with a range: which are at its end changes on the way."""
LEFT = 0.1
"""Share of the error that a value may have, and of each point's mass, which Newton's equation may leave."""
SMALLER, CHEAP = 1e-4, 2**19
"""Square of what it is to become smaller by where the plan has up to so many entries, in memory: between clusters that
exchange less mass than is missing, potentials are off by more than the value says."""


class Equation(Protocol):
    """Newton's equation at a state; see `geomsink.solver.NewtonOperator`."""

    left: Tensor

    @property
    def rows(self) -> Tensor: ...
    @property
    def is_stored(self) -> bool: ...
    def solve(self, r: Tensor, s: Tensor, enough: Enough | None = None) -> tuple[Tensor, Tensor]: ...


def accuracy(
    solver: Iterate,
    allowed: Tensor,
    sums: Sums | None = None,
    sharp: bool = False,
    equation: Equation | None = None,
) -> Accuracy:
    """Of the present state.

    Parameters
    ----------
    solver : Iterate
    allowed : Tensor, shape () or (B,)
        Error that the value may have: what Newton's equation leaves is to be little of it.
    sums : Sums, optional
        How products with the plan are found. Default: over all pairs.
    sharp : bool
        Whether the value is ⟨P, C⟩ and the penalties of the marginals.
    equation : Equation, optional
        Newton's equation at this state. Default: by conjugate gradients on the sums' products.
    """
    allowed = _share(solver) * allowed if sharp else allowed
    problem, state = solver.problem, solver.state
    epsilon, price = problem.epsilon, _price(solver)
    r = solver.missing(0, state.log_rows)
    s = torch.zeros_like(r) if problem.is_self else solver.missing(1, state.log_columns)
    operator: Equation = equation or NewtonOperator(solver, sums)

    finely = _finely(solver, operator)
    sizes: list[Tensor] = []

    def size_of(left: Tensor) -> Tensor:
        return (left.square() / operator.rows).sum(-1).clamp(min=1e-300)

    def cost_of(left: Tensor, spread: Tensor | float = 1.0) -> Tensor:
        """By moving it; or, where products are dear, by Newton's equation again, whose matrix is as large as conjugate
        gradients have found it, at least."""
        moved = (left.abs() * (price + epsilon * spread)).sum(-1)
        if operator.is_stored or len(sizes) < FEW:
            return moved
        rate = ((sizes[-1] / sizes[0]) ** (0.5 / (len(sizes) - 1))).clamp(max=0.999)
        bound = epsilon * sizes[-1] * ((1.0 + rate) / (1.0 - rate)) ** 2
        # Of an earlier iterate, since steps became too long, iterations say nothing.
        return torch.where(size_of(left) <= sizes[-1], moved.minimum(bound), moved)

    def enough(left: Tensor) -> Tensor:
        sizes.append(size_of(left))
        matched = (left.abs() <= LEFT * operator.rows).all(-1)
        cheap = matched & (cost_of(left) <= LEFT * allowed)
        return cheap & (sizes[-1] <= SMALLER * sizes[0]) if finely else cheap

    step = operator.solve(r, s, enough)
    left = operator.left.abs().sum(-1)
    cost = cost_of(operator.left, 1.0 if sharp else _spread_thin(solver, operator))
    kinks = _at_kinks(solver)
    cheap = cost <= SMALL * _rounding(solver)
    least = left <= NOISE * problem.floor() * solver.mass
    noise = least & (cheap | (problem.floor() <= EXACT))
    left, rounded = torch.where(noise, 0.0, cost) + kinks, torch.where(noise, cost, 0.0)
    found = judged(solver, (r, r if problem.is_self else s), step, left)
    # Points that are left without a match say so, however light they are.
    unmatched = (operator.left.abs() / operator.rows).amax(-1)
    decrement, potentials = torch.where(unmatched <= MODEL, found.decrement, math.inf), found.potentials
    if finely:
        before = sizes[0] if sizes else size_of(r) + (s.square() / marginal(solver, 1)).sum(-1)
        potentials = torch.where((size_of(operator.left) > SMALLER * before) & ~least, math.inf, potentials)
    gap = duality_gap(solver)
    if gap is not None:  # Newton's equation has potentials at the ends of their ranges fixed
        known = gap.isfinite() & ~_far_from_kinks(solver, found.step)
        potentials = torch.where(decrement.isfinite(), potentials, math.inf)
        decrement, kept = torch.where(known, gap, decrement), torch.where(known, 0.0, found.left)
        found, rounded = replace(found, left=kept), torch.where(known, 0.0, rounded)
    return replace(found, decrement=decrement, rounded=rounded, potentials=potentials)


def duality_gap(solver: Iterate) -> Tensor | None:
    """What the primal value of the plan is above the dual one, of penalties with kinks and few pairs, shape () or (B,);
    infinite where it does not tell: the plan has marginals that are not allowed, or are right but for rounding.

    It is Σ_i D(P1_i | a_i) + D*(−f_i) + f_i P1_i for both marginals: |P1_i − a_i| times what f_i is away from the end
    of its range that belongs to such a marginal.
    """
    problem, state = solver.problem, solver.state
    if not any(p.kinked for p in problem.penalties) or problem.pairs > CHEAP or solver.dtype != "float64":
        return None
    gap, kinked = torch.zeros_like(state.f[..., 0]), torch.zeros_like(state.f[..., 0])
    noise = NOISE * problem.floor() * solver.mass
    sides = ((problem.alpha, state.f, state.log_rows), (problem.beta, state.g, state.log_columns))
    for penalty, (measure, potential, log_sums) in zip(problem.penalties, sides, strict=True):
        off = measure.sizes * log_sums.clamp(max=700.0).expm1()
        if not penalty.kinked:  # and fixed: it is met where it was updated last
            gap = torch.where(off.abs().sum(-1) <= noise, gap, math.inf)
            continue
        room = torch.where(off < 0.0, penalty.high - potential, potential - penalty.low)
        kinked = kinked + torch.where(room > 0.0, off.abs(), 0.0).sum(-1)
        gap = gap + torch.where(off == 0.0, 0.0, off.abs() * room).sum(-1)
    return torch.where(kinked <= noise, math.inf, gap)


def _far_from_kinks(solver: Iterate, step: tuple[Tensor, Tensor]) -> Tensor:
    """Whether no potential comes near the end of its range in some of Newton's steps, which know of no ranges then."""
    problem, state, far = solver.problem, solver.state, torch.ones_like(solver.state.f[..., 0], dtype=torch.bool)
    for penalty, potential, h in zip(problem.penalties, (state.f, state.g), step, strict=True):
        away = (penalty.high - potential).minimum(potential - penalty.low)
        far = far & (KINKS * problem.epsilon * h.abs() < away).all(-1)
    return far


def _finely(solver: Iterate, equation: Equation) -> bool:
    """Whether Newton's equation is solved further than the value needs, and a part of it that no step of use mends says
    that potentials are not known: where that is cheap, and something else can be done."""
    problem = solver.problem
    definite = problem.is_self and problem.pair.cost.quadratic is not None  # M is diag(P1), or more
    smooth = not any(penalty.kinked for penalty in problem.penalties)
    return smooth and not definite and equation.is_stored and problem.pairs <= CHEAP and solver.dtype == "float64"


def judged(solver: Iterate, missing: tuple[Tensor, Tensor], step: tuple[Tensor, Tensor], left: Tensor) -> Accuracy:
    """From what the marginals miss, Newton's step, and what mass that this leaves uncorrected may cost."""
    problem = solver.problem
    weights = [
        m.sizes * log_sums.clamp(-300.0, 300.0).exp()
        for m, log_sums in ((problem.alpha, solver.state.log_rows), (problem.beta, solver.state.log_columns))
    ]
    du, dv = (torch.where(w > 0.0, h, 0.0) for w, h in zip(weights, step, strict=True))
    step = du, dv
    fall = (-du).amax(-1) + (-dv).amax(-1)
    for penalty, h in zip(problem.penalties, step, strict=True):  # asked marginals change by factors of their own
        fall = fall.maximum(penalty.bend * problem.epsilon * h.abs().amax(-1))
    decrement = (missing[0] * du).sum(-1) + (missing[1] * dv).sum(-1)
    gained = 0.5 * problem.epsilon * decrement.clamp(min=0.0) * (1.0 + 2.0 * fall.clamp(min=0.0))
    if any(penalty.kinked for penalty in problem.penalties):
        gained = KINKS * gained
    gained = torch.where((fall <= MODEL) & gained.isfinite(), gained, math.inf)
    means = [(w * h).sum(-1) / w.sum(-1).clamp(min=1e-300) for w, h in zip(weights, step, strict=True)]
    t = 0.5 * (means[1] - means[0])[..., None]  # a constant may pass from one to the other
    square = torch.zeros_like(fall)
    for w, h in zip(weights, (du + t, dv - t), strict=True):
        square = square + (w * h * h).sum(-1) / w.sum(-1).clamp(min=1e-300)
    return Accuracy(gained, left, torch.zeros_like(left), square.sqrt(), step, fall)


def _at_kinks(solver: Iterate) -> Tensor:
    """What potentials that come to the end of their range, or leave it, gain on the way, at most: Newton's equation has
    them fixed or free."""
    state = solver.state
    gained = torch.zeros_like(state.f[..., 0])
    sides = ((solver.problem.alpha, state.f, state.log_rows), (solver.problem.beta, state.g, state.log_columns))
    for side, (measure, potential, log_sums) in enumerate(sides):
        penalty = solver.problem.penalties[side]
        if penalty.kinked:
            after = solver.exact(side)[0]
            inside = [(h > penalty.low) & (h < penalty.high) for h in (potential, after)]
            turned = inside[0] != inside[1]
            slope = measure.sizes * log_sums.clamp(max=700.0).expm1().abs()
            gained = gained + torch.where(turned, slope * (after - potential).abs(), 0.0).sum(-1)
    return KINKS * gained


def of_self(solver: Iterate) -> Accuracy:
    """Of a self problem whose kernel is positive definite: Newton's matrix diag(P1) + P is at least diag(P1)."""
    problem, state = solver.problem, solver.state
    r = -problem.alpha.sizes * solver.surplus(0, state.log_rows)
    step = r / marginal(solver, 0)
    return judged(solver, (r, r), (step, step), torch.zeros_like(r[..., 0]))


def by_contraction(solver: Iterate, surplus: Tensor, smooth: Tensor, contraction: float, left: float) -> Accuracy:
    """After a row update, from an approximate Newton step that makes errors smaller by a known factor c: the step
    itself is 1 − c of Newton's, at least.

    ``surplus`` is what columns have too much of, in units of their weights, ``smooth`` what the step has beside the
    plain update, and mass that it has ``left`` counts at the highest price.
    """
    epsilon, remains = solver.problem.epsilon, 1.0 - min(max(contraction, 0.0), WORST)
    rho = -solver.problem.beta.sizes * surplus
    step = (smooth / epsilon + rho / marginal(solver, 1)) / remains
    of_rows = (-step.abs()).amin(-1, keepdim=True).expand_as(solver.state.f)  # bounds a mean of steps
    cost = left * (_price(solver).amax(-1) + epsilon) + _at_kinks(solver)
    found = judged(solver, (torch.zeros_like(of_rows), rho), (of_rows, step), cost)
    return replace(
        found, step=(torch.zeros_like(of_rows), step), potentials=1.5 * _deviation(solver.problem.beta.sizes, step)
    )


def unknown(solver: Iterate) -> Accuracy:
    """Where nothing tells."""
    zeros, infinite = (torch.full_like(solver.state.f[..., 0], size) for size in (0.0, math.inf))
    step = torch.zeros_like(solver.state.f), torch.zeros_like(solver.state.g)
    return Accuracy(infinite, zeros, zeros, zeros, step, zeros)


def marginal(solver: Iterate, side: int) -> Tensor:
    """Of the plan, times the penalty's curvature: the diagonal of Newton's matrix."""
    problem, state = solver.problem, solver.state
    measure, log_sums = ((problem.alpha, state.log_rows), (problem.beta, state.log_columns))[side]
    kappa = problem.penalties[side].curvature((state.f, state.g)[side], problem.epsilon)
    return (measure.sizes * log_sums.clamp(-300.0, 300.0).exp() * kappa).clamp(min=1e-300)


def value_error(solver: Iterate, found: Accuracy, sharp: bool = False) -> Tensor:
    """What the value is off by, shape () or (B,), without rounding; or the ``sharp`` one, ⟨P, C⟩ and penalties.

    The plan is off by √(2 error / ε) in total variation (Pinsker), and the sharp value by that times the spread of what
    it pays.
    """
    if not sharp or solver.problem.epsilon == math.inf:
        return found.value
    moved = spread(solver) * (2.0 * found.decrement / solver.problem.epsilon).sqrt()
    return found.decrement + moved + found.left / _share(solver)


def _share(solver: Iterate) -> float:
    """Of what mass that is left costs the dual value, at ε a unit and more, and the sharp one, at the largest cost."""
    return min(1.0, solver.problem.epsilon / max(solver.problem.cost_scale, 1e-300))


def rounding(solver: Iterate, sharp: bool = False) -> Tensor:
    """About what rounding does to the value, shape () or (B,), or to the ``sharp`` one."""
    found = _rounding(solver)
    if solver.accuracy is not None:
        found = found + solver.accuracy.rounded
    if not sharp or solver.problem.epsilon == math.inf:
        return found
    return found + 2.0 * solver.problem.floor() * spread(solver)  # of the exponents, and of the sums of them


def _rounding(solver: Iterate) -> Tensor:
    """Of the sums that the dual value consists of."""
    return solver.once("rounding", lambda: _rounding_of_sums(solver))


def _rounding_of_sums(solver: Iterate) -> Tensor:
    problem, state = solver.problem, solver.state
    size = torch.zeros_like(state.f[..., :0].sum(-1))
    kappa, dimension = problem.pair.cost.quadratic, problem.pair.x.shape[-1]
    for measure, potential in ((problem.alpha, state.f), (problem.beta, state.g)):
        size = size + (measure.sizes * potential.abs()).sum(-1)
        if kappa is not None and by_products(dimension):  # costs are rounded like the squares that they are made of
            size = size + kappa * (measure.sizes * measure.points.square().sum(-1)).sum(-1)
    size = solver.completed(size)
    if problem.epsilon < math.inf:
        of_sums = rounding_when_hot(problem) if is_hot(problem, solver.sums) else problem.epsilon
        size = size + of_sums * problem.masses[0].maximum(problem.masses[1])
    return ROUNDED * ROUNDING[problem.pair.x.dtype] * size


def spread(solver: Iterate) -> Tensor:
    """A bound of the root of Σ P_ij c_ij², c what the sharp value pays for a change of P_ij: C less a constant if the
    marginals are fixed, and the potentials' part of a penalty besides."""
    problem, state = solver.problem, solver.state
    largest = problem.cost_scale + torch.zeros_like(state.f[..., 0])
    if solver.balanced:  # ⟨P, C²⟩ ≤ ⟨P, C⟩ max C, and ⟨P, C⟩ is below the value for costs that are not negative
        return largest.sqrt() * solver.value().abs().clamp(max=problem.cost_scale).sqrt()
    sides = (problem.alpha, state.f), (problem.beta, state.g)
    sizes = [torch.where(m.sizes > 0.0, h.abs(), 0.0).amax(-1) for m, h in sides]
    return (largest + sizes[0] + sizes[1]) * solver.transported.sqrt()


def spread_of_potentials(solver: Iterate) -> Tensor:
    """In units of ε, and one at least: the larger standard deviation of the two."""
    problem, state = solver.problem, solver.state
    f, g = (_deviation(m.sizes, h) for m, h in ((problem.alpha, state.f), (problem.beta, state.g)))
    return (f.maximum(g) / problem.epsilon).clamp(min=1.0)


def _deviation(weights: Tensor, values: Tensor) -> Tensor:
    """The weighted standard deviation, of numbers whose squares may have no place in the range of floats."""
    share = weights / weights.sum(-1, keepdim=True)
    away = values - (share * values).sum(-1, keepdim=True)
    largest = away.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    return largest[..., 0] * (share * (away / largest) ** 2).sum(-1).sqrt()


def _price(solver: Iterate) -> Tensor:
    """What it costs to move a unit of a row's mass to anywhere, shape (..., N), but for entropy: the mean of C − f − g
    over columns; where that is not known at once, about the largest."""
    problem, state = solver.problem, solver.state
    kappa, (alpha, beta) = problem.pair.cost.quadratic, (problem.alpha, problem.beta)
    if kappa is not None:
        share = (beta.sizes / beta.sizes.sum(-1, keepdim=True))[..., None]
        mean, square = (share * beta.points).sum(-2, keepdim=True), (share * beta.points.square()).sum((-2, -1))
        costs = kappa * (alpha.points.square().sum(-1) - 2.0 * (alpha.points * mean).sum(-1) + square[..., None])
        price = costs - state.f - (share[..., 0] * state.g).sum(-1, keepdim=True)
    else:
        lowest = [torch.where(m.sizes > 0.0, h, math.inf).amin(-1) for m, h in ((alpha, state.f), (beta, state.g))]
        price = (problem.cost_scale - lowest[0] - lowest[1])[..., None].expand_as(state.f)
    return price.clamp(min=0.0)


def _spread_thin(solver: Iterate, operator: Equation) -> Tensor | float:
    """What that does to the entropy, a unit of mass: Σ_j b_j log(1 + t exp((C_ij − f_i − g_j)/ε)) less what `_price`
    has of it, for a share t of the row; 1 at most, and less than 3t where no cost is more than ε."""
    if solver.problem.epsilon <= solver.problem.cost_scale or not solver.balanced:
        return 1.0
    return (3.0 * operator.left.abs() / operator.rows).clamp(max=1.0)
