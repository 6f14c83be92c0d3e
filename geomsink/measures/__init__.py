"""Points and weights: validated once, and given back in the form that they came in.

Imports nothing of the house. Hands on `Measure`, `Container`, and the functions that make them of a caller's arrays.
"""

from .batches import Layout, is_list
from .measures import MASS_TOLERANCE, Container, Measure, OutOfRange, as_tensor, measure, pair_of_measures, potentials

__all__ = [
    "MASS_TOLERANCE",
    "Container",
    "Layout",
    "Measure",
    "OutOfRange",
    "as_tensor",
    "is_list",
    "measure",
    "pair_of_measures",
    "potentials",
]
