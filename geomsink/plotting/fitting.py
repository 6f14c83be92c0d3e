"""Words that stay within their place: smaller where they are long, and cut where they are longer."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_SMALLEST = 0.7
"""Of the size that was asked for."""


def fit(text: Text, width: float, keep: str = "") -> None:
    """Make a text no wider than so many inches; ``keep`` is its end, which is not cut."""
    size = float(text.get_fontsize())
    within = width / (_inches(text) or width)
    text.set_fontsize(size * min(max(within, _SMALLEST), 1.0))
    words = text.get_text()[: len(text.get_text()) - len(keep)]
    low, high = 0, len(words)  # so many letters fit, and so many may
    if _inches(text) <= width:
        return
    while low < high:
        middle = (low + high + 1) // 2
        text.set_text(f"{words[:middle].rstrip()}…{keep}")
        low, high = (middle, high) if _inches(text) <= width else (low, middle - 1)
    text.set_text(f"{words[:low].rstrip()}…{keep}")


def width_of(ax: Axes) -> float:
    """Inches across an axis."""
    return float(ax.get_window_extent().width / ax.figure.dpi)


def _inches(text: Text) -> float:
    """Found by Agg, whatever the figure will be written as."""
    figure = text.figure.figure
    assert isinstance(figure, Figure)
    drawn = RendererAgg(1, 1, figure.dpi)
    return float(text.get_window_extent(drawn).width / figure.dpi)
