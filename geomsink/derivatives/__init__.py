"""Derivatives of solved problems: by the envelope theorem, implicitly, or through chosen iterations.

Imports `multiscale`, `solver` and what is below them. Hands on `Terms`, with what values and potentials are
differentiated in, and the three ways.
"""

from .gradients import Terms, optimal_potentials, optimal_value, softmin
from .krylov import LinearSolve, LinearSolveWarning, NewtonOperator
from .unrolled import unrolled_potentials

__all__ = [
    "LinearSolve",
    "LinearSolveWarning",
    "NewtonOperator",
    "Terms",
    "optimal_potentials",
    "optimal_value",
    "softmin",
    "unrolled_potentials",
]
