"""What users call: options and inputs to problems, problems to reports; divergences, losses, discrepancies, bounds.

Imports everything below. Hands on the functions, the modules and the results of the front door, and `Options`,
`compare` and `transport` for other libraries' interfaces.
"""

from .comparison import compare, transport, warn_of
from .functions import Reach, sinkhorn_divergence, solve
from .hausdorff import HausdorffDivergence, hausdorff_divergence
from .losses import MMD, EntropicOT, SinkhornDivergence
from .mmd import Discrepancy, mmd
from .options import DTYPES, FORMS, MAX_ITER, TOL, Options
from .solution import ConvergenceWarning, Divergence, Solution
from .wasserstein import WassersteinBounds, wasserstein_bounds

__all__ = [
    "DTYPES",
    "FORMS",
    "MAX_ITER",
    "MMD",
    "TOL",
    "ConvergenceWarning",
    "Discrepancy",
    "Divergence",
    "EntropicOT",
    "HausdorffDivergence",
    "Options",
    "Reach",
    "SinkhornDivergence",
    "Solution",
    "WassersteinBounds",
    "compare",
    "hausdorff_divergence",
    "mmd",
    "sinkhorn_divergence",
    "solve",
    "transport",
    "warn_of",
    "wasserstein_bounds",
]
