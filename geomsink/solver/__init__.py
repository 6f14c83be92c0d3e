"""One transport problem on one level: what it is, the updates, and the loop that runs them until it is solved.

Imports `engine`, `costs`, `measures`, `processes`. Hands on `Problem`; what a `Strategy` is, and two, `OneLevel` and
`Limit`; and what others are made of: `Solver`, penalties, sums, temperatures.
"""

from .accuracy import Accuracy
from .annealing import largest_cost, temperatures
from .audit import draw, of_exponents
from .decrement import accuracy, rounding, value_error
from .goal import Goal, share_of
from .iterate import Iterate, State
from .judged import Correction, Judged
from .kept import Kernel
from .limit import Limit
from .newton import Enough, LinearSolve, NewtonOperator
from .onelevel import OneLevel
from .penalties import KL, L2, TV, Balanced, Partial, Penalty, pair_of_penalties
from .problem import Problem, Step, free_constant
from .sinkhorn import Solver
from .strategy import LIMIT, Potentials, Solved, Strategy
from .sums import SAFE, Approximation, FullSums, Sums, log_sums, read
from .updates import change, relaxed, residual, within

__all__ = [
    "KL",
    "L2",
    "LIMIT",
    "SAFE",
    "TV",
    "Accuracy",
    "Approximation",
    "Balanced",
    "Correction",
    "Enough",
    "FullSums",
    "Goal",
    "Iterate",
    "Judged",
    "Kernel",
    "Limit",
    "LinearSolve",
    "NewtonOperator",
    "OneLevel",
    "Partial",
    "Penalty",
    "Potentials",
    "Problem",
    "Solved",
    "Solver",
    "State",
    "Step",
    "Strategy",
    "Sums",
    "accuracy",
    "change",
    "draw",
    "free_constant",
    "largest_cost",
    "log_sums",
    "of_exponents",
    "pair_of_penalties",
    "read",
    "relaxed",
    "residual",
    "rounding",
    "share_of",
    "temperatures",
    "value_error",
    "within",
]
