"""From a request to its exact transport: an entropic solve proposes potentials, and those the candidates."""

from __future__ import annotations

from typing import Any

from ..assignment import CANDIDATES, Optimum, least_transport
from ..measures import Measure
from ..path import nearest_cost
from ..progress import Progress
from ..solver import Solved
from .options import Options
from .problems import Problems
from .requests import Request

BLURRED = 3.0
"""Spacings of the points that the entropic solve blurs: with 5 it takes half as long, and what follows twice, between
10,000 points of a cube."""
COLDEST = 1e-5
"""Of the largest cost, the lowest temperature of that solve by default: where many points are in one place."""
PROPOSED: dict[str, Any] = {"tol": 0.1, "max_iter": 20}
"""How well that solve is solved by default: what it leaves is mended."""


def proposing(request: Request, options: dict[str, Any]) -> Request:
    """The request at the temperature by default; ``options`` are those of it without a temperature."""
    cost, scale = request.cost, request.cost_scale
    nearest = min(nearest_cost(measure.points, measure.weights, cost) for measure in (request.alpha, request.beta))
    degree = cost.degree or 2.0
    epsilon = max(degree * BLURRED**degree * nearest, COLDEST * scale)
    if request.alpha.points.shape[-1] == 1 and degree >= 1.0:  # sorting is better
        options = options | {"max_iter": 1}
    return request.at(Options(**(options | {"epsilon": epsilon if epsilon > 0.0 else 1.0})))


def exact_transport(
    request: Request, bar: Progress, *, candidates: int = CANDIDATES, tol_gap: float | None = None
) -> tuple[Optimum, Problems, Solved]:
    """min ⟨P, C⟩ for measures of mass 1, and the entropic solve that it was found from."""
    problems = Problems(request)
    bar.unforeseen()
    solved = problems.solve("xy", request.alpha, request.beta, bar)
    bar.begin("exact", 1.0, 0.0)
    alpha, beta = (Measure(m.points.cpu(), m.weights.cpu()) for m in (request.alpha, request.beta))
    f, g = (h.double().cpu() for h in solved.potentials)
    how = dict(candidates=candidates, tol_gap=tol_gap, engine=request.options.engine, bar=bar)
    optimum = least_transport(alpha, beta, request.cost, (f, g), **how)  # type: ignore[arg-type]
    return optimum, problems, solved
