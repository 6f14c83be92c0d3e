"""Ground costs and kernels: one symbolic expression each, shared by every engine, in two registries.

Asks `choose` alone. Hands on the registry of costs, by name or as `Cost`, costs of learned features, and
`kernels`, the registry of kernels.
"""

from . import kernels
from .learned import FeatureCost
from .registry import Cost, Expression, get, mahalanobis, names, power, register, temperature, unregister

__all__ = [
    "Cost",
    "Expression",
    "FeatureCost",
    "get",
    "kernels",
    "mahalanobis",
    "names",
    "power",
    "register",
    "temperature",
    "unregister",
]
