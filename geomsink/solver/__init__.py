"""One transport problem on one level: what it is, the updates, and the loop that runs them until it is solved.

Imports `engine`, `costs`, `measures`. Hands on `Problem`, `Solver`, its penalties, sums and temperatures.
"""

from .annealing import largest_cost, temperatures
from .iterate import Iterate
from .penalties import KL, TV, Balanced, Penalty, pair_of_penalties, relaxed, residual, within
from .problem import ROUNDING, Problem, Step
from .sinkhorn import Solver, solve_problem
from .sums import SAFE, Approximation, FullSums, Sums, log_sums

__all__ = [
    "KL",
    "ROUNDING",
    "SAFE",
    "TV",
    "Approximation",
    "Balanced",
    "FullSums",
    "Iterate",
    "Penalty",
    "Problem",
    "Solver",
    "Step",
    "Sums",
    "largest_cost",
    "log_sums",
    "pair_of_penalties",
    "relaxed",
    "residual",
    "solve_problem",
    "temperatures",
    "within",
]
