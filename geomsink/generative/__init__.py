"""Generators that are fitted to data with Sinkhorn divergences (arXiv:1706.00292, Algorithm 1)."""

from .adversary import Clip, GradientPenalty, LearnedCost, SpectralNorm
from .checkpoints import CheckpointError, CheckpointWarning
from .data import Shape
from .failures import NonFiniteError
from .fitting import fit, load
from .generators import MLP, Ellipse, Generator, Images, Surface
from .latents import sample
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
