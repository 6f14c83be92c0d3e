"""GeomLoss's interface: ``from geomsink.compat.geomloss import SamplesLoss, ot`` in the place of ``from geomloss import``.

What is computed is geomsink's: see docs/geomloss.md.
"""

from . import ot
from .samples import SamplesLoss

__all__ = ["SamplesLoss", "ot"]
