"""Figures: clouds and what transport makes of them, and how a solver converged.

A function takes a matplotlib axis, draws on it and returns it; without one, it makes a figure of its own. What needs
several axes makes a figure and returns that, to be shown in a notebook or passed to `save`. Nothing here touches pyplot
or its choice of a backend, so that figures are made without a display, and in the middle of a notebook or a program
that has figures of its own.

Clouds are drawn on plain axes: three-dimensional ones are projected here, sorted by depth and lit from
the camera, which gives surfaces a shape where matplotlib's own 3D axes give a flat mist of points.

Imports `atomic`: results come as they are. Hands on what users call.
"""

from __future__ import annotations

try:
    import matplotlib  # noqa: F401  a parent package is imported ahead of its modules: said here, it is said of all
except ImportError as error:
    raise ImportError("figures need the package matplotlib: pip install 'geomsink[plot]'") from error

from .certificate import plot_certificate
from .clouds import plot_clouds, plot_colors, plot_potentials
from .colors import label_colors, position_colors
from .convergence import plot_convergence
from .divergence import plot_divergence
from .files import check_animation_path, check_path, save, save_animation
from .fits import plot_fit, plot_training
from .flows import animate_flow, plot_flow
from .history import plot_history
from .look import BACKGROUND, look
from .matches import plot_matches
from .pages import plot_gallery, plot_registration
from .scene import MAX_DRAWN
from .style import CLOUD_COLORS, COLORMAP, FAINT, INK

__all__ = [
    "BACKGROUND",
    "CLOUD_COLORS",
    "COLORMAP",
    "FAINT",
    "INK",
    "MAX_DRAWN",
    "animate_flow",
    "check_animation_path",
    "check_path",
    "label_colors",
    "look",
    "plot_certificate",
    "plot_clouds",
    "plot_colors",
    "plot_convergence",
    "plot_divergence",
    "plot_fit",
    "plot_flow",
    "plot_gallery",
    "plot_history",
    "plot_matches",
    "plot_potentials",
    "plot_registration",
    "plot_training",
    "position_colors",
    "save",
    "save_animation",
]
