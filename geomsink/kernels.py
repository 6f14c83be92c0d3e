"""The registry of kernels under its public name; it lives with the costs, in `geomsink.costs.kernels`."""

from .costs.kernels import Kernel, get, names, negative, register, unregister

__all__ = ["Kernel", "get", "names", "negative", "register", "unregister"]
