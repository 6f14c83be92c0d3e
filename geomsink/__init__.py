"""geomsink: Sinkhorn divergences between large point clouds, fast and with a report of how right they are."""

import importlib
from typing import TYPE_CHECKING, Any

from . import waiting as waiting  # before torch is

# isort: split
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
    Pairwise,
    SinkhornDivergence,
    Sketch,
    Solution,
    TwoSampleTest,
    WassersteinBounds,
    c_transform,
    hausdorff_divergence,
    mmd,
    pairwise,
    partial_transport,
    sinkhorn_divergence,
    sketch,
    solve,
    suggest_blur,
    two_sample_test,
    wasserstein_bounds,
)
from .plan import Entries, Plan
from .processes import Group, ProcessesError
from .solver import Approximation, LinearSolve

if TYPE_CHECKING:
    from . import compat, plotting

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
    "Pairwise",
    "Plan",
    "ProcessesError",
    "SinkhornDivergence",
    "Sketch",
    "Solution",
    "TwoSampleTest",
    "WassersteinBounds",
    "c_transform",
    "compat",
    "costs",
    "engine",
    "generative",
    "hausdorff_divergence",
    "kernels",
    "mmd",
    "pairwise",
    "partial_transport",
    "plotting",
    "shapes",
    "sinkhorn_divergence",
    "sketch",
    "solve",
    "suggest_blur",
    "transport",
    "two_sample_test",
    "wasserstein_bounds",
]

_LATER = ("compat", "plotting")
"""Modules that are imported when they are asked for: one needs matplotlib, the other is needed by few."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
