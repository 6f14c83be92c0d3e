"""Ground costs and kernels: one symbolic expression each, shared by every engine, in two registries.

Imports `measures`, and asks `choose`. Hands on the registry of costs, by name or as `Cost`, what expressions are made
of, costs of learned features, and `kernels`, the registry of kernels.
"""

from . import kernels
from .cost import Cost
from .expressions import (
    Expression,
    angle,
    distance,
    half_squared_chord,
    power_modulus,
    root,
    squared_distance,
    to_sphere,
)
from .learned import FeatureCost
from .matrix import MatrixCost
from .products import FROM_DIFFERENCES
from .registry import get, mahalanobis, names, power, register, temperature, unregister

__all__ = [
    "FROM_DIFFERENCES",
    "Cost",
    "Expression",
    "FeatureCost",
    "MatrixCost",
    "angle",
    "distance",
    "get",
    "half_squared_chord",
    "kernels",
    "mahalanobis",
    "names",
    "power",
    "power_modulus",
    "register",
    "root",
    "squared_distance",
    "temperature",
    "to_sphere",
    "unregister",
]
