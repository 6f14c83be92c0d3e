"""geomsink: Sinkhorn divergences between large point clouds, fast and with a report of how right they are."""

from . import costs, engine, generative, shapes, transport
from .costs import FeatureCost, MatrixCost, kernels
from .derivatives import LinearSolveWarning
from .divergences import (
    MMD,
    ConvergenceWarning,
    Discrepancy,
    Divergence,
    EntropicOT,
    HausdorffDivergence,
    SinkhornDivergence,
    Sketch,
    Solution,
    WassersteinBounds,
    c_transform,
    hausdorff_divergence,
    mmd,
    partial_transport,
    sinkhorn_divergence,
    sketch,
    solve,
    wasserstein_bounds,
)
from .plan import Entries, Plan
from .processes import Group, ProcessesError
from .solver import Approximation, LinearSolve

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
    "Group",
    "HausdorffDivergence",
    "LinearSolve",
    "LinearSolveWarning",
    "MatrixCost",
    "Plan",
    "ProcessesError",
    "SinkhornDivergence",
    "Sketch",
    "Solution",
    "WassersteinBounds",
    "c_transform",
    "costs",
    "engine",
    "generative",
    "hausdorff_divergence",
    "kernels",
    "mmd",
    "partial_transport",
    "shapes",
    "sinkhorn_divergence",
    "sketch",
    "solve",
    "transport",
    "wasserstein_bounds",
]
