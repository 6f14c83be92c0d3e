"""Generators that are fitted to data with Sinkhorn divergences (arXiv:1706.00292, Algorithm 1).

Imports `measures`, `processes`, `progress`, `shapes` and what is below them: losses are whatever module it is given.
Hands on what users call; and to the commands, how numbers are checked, which checkpoints a folder has, names of
optimisers, and seeds.
"""

from .adversary import Clip, GradientPenalty, LearnedCost, SpectralNorm
from .arguments import finite as finite
from .checkpoints import CheckpointError, CheckpointWarning
from .checkpoints import existing as existing
from .data import Shape
from .failures import NonFiniteError
from .fitting import fit, load
from .generators import MLP, Ellipse, Generator, Images, Surface
from .latents import sample
from .optimisers import OPTIMISERS as OPTIMISERS
from .randomness import START as START
from .randomness import seeded as seeded
from .result import Fit
from .targets import Targets
from .trainer import Trainer

__all__ = [
    "MLP",
    "CheckpointError",
    "CheckpointWarning",
    "Clip",
    "Ellipse",
    "Fit",
    "Generator",
    "GradientPenalty",
    "Images",
    "LearnedCost",
    "NonFiniteError",
    "Shape",
    "SpectralNorm",
    "Surface",
    "Targets",
    "Trainer",
    "fit",
    "load",
    "sample",
]
