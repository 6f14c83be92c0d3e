"""One transport problem on one level: what it is, the updates, and the loop that runs them until it is solved.

Imports `engine`, `costs`, `measures`. Hands on `Problem`; what a `Strategy` is, and two, `OneLevel` and `Limit`; and
what others are made of: `Solver`, penalties, sums, temperatures.
"""

from .annealing import largest_cost, temperatures
from .iterate import Iterate
from .limit import Limit
from .onelevel import OneLevel
from .penalties import KL, TV, Balanced, Penalty, pair_of_penalties, relaxed, residual, within
from .problem import Problem, Step, free_constant
from .sinkhorn import Correction, Solver
from .strategy import Potentials, Solved, Strategy
from .sums import SAFE, Approximation, FullSums, Sums, log_sums

__all__ = [
    "KL",
    "SAFE",
    "TV",
    "Approximation",
    "Balanced",
    "Correction",
    "FullSums",
    "Iterate",
    "Limit",
    "OneLevel",
    "Penalty",
    "Potentials",
    "Problem",
    "Solved",
    "Solver",
    "Step",
    "Strategy",
    "Sums",
    "free_constant",
    "largest_cost",
    "log_sums",
    "pair_of_penalties",
    "relaxed",
    "residual",
    "temperatures",
    "within",
]
