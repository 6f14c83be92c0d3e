"""Points and weights: validated once, and given back in the form that they came in.

Imports nothing of the house. Hands on `Measure`, `Container`, and the functions that make them of a caller's
arrays, and check these; and what type checkers call the answers.
"""

from .arrays import Arrays, check_finite, check_masses, promoted, tensor, working
from .batches import Layout, is_list
from .kinds import Array, Value
from .measures import Container, Measure, OutOfRange, measure, pair_of_measures
from .potentials import potentials

__all__ = [
    "Array",
    "Arrays",
    "Container",
    "Layout",
    "Measure",
    "OutOfRange",
    "Value",
    "check_finite",
    "check_masses",
    "is_list",
    "measure",
    "pair_of_measures",
    "potentials",
    "promoted",
    "tensor",
    "working",
]
