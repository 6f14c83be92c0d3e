"""The figures of the tutorials: those of the package, which do not know pyplot, and pyplot's, in one dark style."""

from __future__ import annotations

from itertools import islice
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from cycler import cycler
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

from geomsink.plotting import BACKGROUND, CLOUD_COLORS, FAINT, INK

STYLE = {
    "figure.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
    "axes.facecolor": BACKGROUND,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.prop_cycle": cycler(color=[*reversed(CLOUD_COLORS), "#7fd18b", "#d98cd9"]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "image.cmap": "plasma",
}


def style(_: Any, __: Any) -> None:
    """Before and after each tutorial."""
    matplotlib.rcdefaults()
    matplotlib.use("agg")
    matplotlib.rcParams.update(STYLE)
    plt.close("all")


def figures(_: Any, variables: dict[str, Any], configuration: dict[str, Any]) -> str:
    """Save the figure that a block of a tutorial has made, if it has: the one that is called ``figure`` there."""
    names = variables["example_globals"]
    made = names.get("figure")
    if not isinstance(made, Figure) or getattr(made, "is_shown", False):
        return ""
    made.is_shown = True
    (path,) = islice(variables["image_path_iterator"], 1)
    of_pyplot = hasattr(made, "number")
    made.savefig(path, dpi=110, bbox_inches="tight" if of_pyplot else None)
    return figure_rst([path], configuration["src_dir"])


def _get_sg_image_scraper() -> Any:
    """What sphinx-gallery asks a module of this name in its settings for."""
    return figures
