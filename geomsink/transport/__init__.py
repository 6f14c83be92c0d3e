"""What a solved plan is used for: maps, labels, barycentres, flows, interpolation, registration, matchings.

Imports `divergences` and what is below. Hands on what users call; and to the commands, the names that options may have.
"""

from .barycenters import FittedMeasure, barycenter, quantize
from .descent import OPTIMIZERS as OPTIMIZERS
from .descent import History
from .flows import Flow, gradient_flow
from .interpolation import interpolate
from .labels import Votes, transfer
from .maps import barycentric_map, displacement, entropic_map
from .matchings import Matching, matching
from .registered import Registration
from .registration import INITS as INITS
from .registration import TRANSFORMS as TRANSFORMS
from .registration import register

__all__ = [
    "FittedMeasure",
    "Flow",
    "History",
    "Matching",
    "Registration",
    "Votes",
    "barycenter",
    "barycentric_map",
    "displacement",
    "entropic_map",
    "gradient_flow",
    "interpolate",
    "matching",
    "quantize",
    "register",
    "transfer",
]
