"""What users call: options and inputs to problems, problems to reports; divergences, losses, discrepancies, bounds.

Imports everything below. Hands on the functions, the modules and the results of the front door; `Options`, `compare`
and `transport` for other libraries' interfaces; `Request`, `proposing` and `exact_transport` for matchings; and what
commands ask of files with sketches.
"""

from .comparison import compare, transport, warn_of
from .exact import PROPOSED, exact_transport, proposing
from .functions import Reach, sinkhorn_divergence, solve
from .hausdorff import HausdorffDivergence, hausdorff_divergence
from .losses import MMD, EntropicOT, SinkhornDivergence
from .mmd import Discrepancy, mmd
from .options import DTYPES, FORMS, MAX_ITER, TOL, Options
from .pairwise import Pairwise, pairwise
from .partial import partial_transport
from .requests import Request
from .scales import suggest_blur
from .sketches import ACCURACY, Sketch, sketch
from .sketchfiles import check_name, holds_sketch
from .solution import ConvergenceWarning, Divergence, Solution
from .testing import TwoSampleTest, two_sample_test
from .transforms import c_transform
from .wasserstein import WassersteinBounds, wasserstein_bounds

__all__ = [
    "ACCURACY",
    "DTYPES",
    "FORMS",
    "MAX_ITER",
    "MMD",
    "PROPOSED",
    "TOL",
    "ConvergenceWarning",
    "Discrepancy",
    "Divergence",
    "EntropicOT",
    "HausdorffDivergence",
    "Options",
    "Pairwise",
    "Reach",
    "Request",
    "SinkhornDivergence",
    "Sketch",
    "Solution",
    "TwoSampleTest",
    "WassersteinBounds",
    "c_transform",
    "check_name",
    "compare",
    "exact_transport",
    "hausdorff_divergence",
    "holds_sketch",
    "mmd",
    "pairwise",
    "partial_transport",
    "proposing",
    "sinkhorn_divergence",
    "sketch",
    "solve",
    "suggest_blur",
    "transport",
    "two_sample_test",
    "warn_of",
    "wasserstein_bounds",
]
