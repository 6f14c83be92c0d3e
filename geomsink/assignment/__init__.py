"""Exact transport without regularisation: matchings and sparse plans of least cost, proven by their potentials.

Imports `multiscale` and what is below it. Hands on `least_transport`, and the `Optimum` that it returns.
"""

from .exact import CANDIDATES, Optimum, least_transport

__all__ = ["CANDIDATES", "Optimum", "least_transport"]
