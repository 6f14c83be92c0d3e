"""The way to figures, whose package may be missing."""

from __future__ import annotations

from typing import Any

import click

_VIEW = "geomsink.view"


def plotting() -> Any:
    """Imported before any work starts, so that a missing package is said at once."""
    from geomsink import plotting

    return plotting


def check_figure(path: str | None, films: bool = False) -> None:
    """Say why there can be no figure, or with ``films`` no animation, if one is asked for."""
    if path is None:
        if (view := click.get_current_context().meta.get(_VIEW)) is not None:
            raise ValueError(f"--view: {view} given without --plot, expected the figure that it is for.")
        return
    if films and is_film(path):
        plotting().check_animation_path(path)
    else:
        plotting().check_path(path)


def is_film(path: str) -> bool:
    """Whether an animation is meant."""
    return path.lower().endswith((".gif", ".mp4"))


def look_from(context: click.Context, _: click.Parameter, given: str | None) -> None:
    """What ``--view`` says, for all figures of the command."""
    if given is None:
        return
    context.meta[_VIEW] = given
    try:
        azimuth, elevation, up = (given.split(",") + [""])[: max(3, given.count(",") + 1)]
        angles = float(azimuth), float(elevation)
    except ValueError:
        expected = "two numbers, and maybe the axis that is up, as in 28,22 or 28,22,z"
        raise ValueError(f"--view: {given} given, expected {expected}.") from None
    try:
        context.with_resource(plotting().look(*angles, up or None))
    except ValueError as error:
        raise ValueError(f"--view: {error}") from None
