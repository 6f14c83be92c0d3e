"""Derivatives of solved problems: by the envelope theorem, implicitly, or through chosen iterations.

Imports `multiscale`, `solver` and what is below them. Hands on `Terms`, what values and potentials are differentiated
in, and the three ways; the last is the strategy `Unrolled`.
"""

from .gradients import optimal_value, weight_gradient
from .implicit import optimal_potentials
from .krylov import ImplicitOperator, LinearSolveWarning
from .terms import Terms, softmin
from .unrolled import Unrolled

__all__ = [
    "ImplicitOperator",
    "LinearSolveWarning",
    "Terms",
    "Unrolled",
    "optimal_potentials",
    "optimal_value",
    "softmin",
    "weight_gradient",
]
