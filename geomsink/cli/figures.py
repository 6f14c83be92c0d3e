"""The way to figures, whose package may be missing."""

from __future__ import annotations

from typing import Any


def plotting() -> Any:
    """Imported before any work starts, so that a missing package is said at once."""
    from geomsink import plotting

    return plotting


def check_figure(path: str | None, films: bool = False) -> None:
    """Say why there can be no figure, or with ``films`` no animation, if one is asked for."""
    if path is None:
        return
    if films and is_film(path):
        plotting().check_animation_path(path)
    else:
        plotting().check_path(path)


def is_film(path: str) -> bool:
    """Whether an animation is meant."""
    return path.lower().endswith((".gif", ".mp4"))
