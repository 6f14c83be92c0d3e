"""geomsink: Sinkhorn divergences between large point clouds, fast and with a report of how right they are."""

from . import costs, engine, generative, kernels, shapes, transport
from .divergences import sinkhorn_divergence, solve
from .entries import Entries
from .hausdorff import HausdorffDivergence, hausdorff_divergence
from .krylov import LinearSolve, LinearSolveWarning
from .learned import FeatureCost
from .losses import MMD, EntropicOT, SinkhornDivergence
from .mmd import Discrepancy, mmd
from .plan import Plan
from .solution import ConvergenceWarning, Divergence, Solution
from .sums import Approximation
from .wasserstein import WassersteinBounds, wasserstein_bounds

__version__ = "0.1.0"

__all__ = [
    "MMD",
    "Approximation",
    "ConvergenceWarning",
    "Discrepancy",
    "Divergence",
    "Entries",
    "EntropicOT",
    "FeatureCost",
    "HausdorffDivergence",
    "LinearSolve",
    "LinearSolveWarning",
    "Plan",
    "SinkhornDivergence",
    "Solution",
    "WassersteinBounds",
    "costs",
    "engine",
    "generative",
    "hausdorff_divergence",
    "kernels",
    "mmd",
    "shapes",
    "sinkhorn_divergence",
    "solve",
    "transport",
    "wasserstein_bounds",
]
