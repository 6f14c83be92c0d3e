"""Drop-in replacements for other libraries' interfaces, a file or folder each, which users import.

Imports `transport`, `divergences` and what is below. Hands on `geomloss` and `pot`, imported when they are asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import geomloss, pot

__all__ = ["geomloss", "pot"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
