"""GeomLoss's interface: its names, from ``geomsink.compat.geomloss`` in the place of ``geomloss``.

What is computed is geomsink's: see docs/geomloss.md.
"""

from . import ot
from .samples import SamplesLoss

__all__ = ["SamplesLoss", "ot"]
