"""geomsink: Sinkhorn divergences between large point clouds, fast and with a report of how right they are."""

from . import costs, engine, shapes
from .divergences import sinkhorn_divergence, solve
from .krylov import LinearSolve, LinearSolveWarning
from .learned import FeatureCost
from .losses import EntropicOT, SinkhornDivergence
from .plan import Plan
from .solution import ConvergenceWarning, Divergence, Solution
from .sums import Approximation

__version__ = "0.1.0"

__all__ = [
    "Approximation",
    "ConvergenceWarning",
    "Divergence",
    "EntropicOT",
    "FeatureCost",
    "LinearSolve",
    "LinearSolveWarning",
    "Plan",
    "SinkhornDivergence",
    "Solution",
    "costs",
    "engine",
    "shapes",
    "sinkhorn_divergence",
    "solve",
]
