"""Figures and animations as files, whose extensions choose the format."""

from __future__ import annotations

import errno
from os import PathLike
from pathlib import Path
from subprocess import CalledProcessError

from matplotlib.animation import Animation, FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..atomic import check, replacing

ANIMATIONS: dict[str, type[PillowWriter] | type[FFMpegWriter]] = {".gif": PillowWriter, ".mp4": FFMpegWriter}


def save(figure: Figure, path: str | PathLike[str], dpi: float = 150) -> None:
    """Write a figure to a file whose extension chooses the format; one that is there is replaced in one step, or
    left as it was.

    Parameters
    ----------
    figure : matplotlib figure
    path : str or path
        See `check_path`, whose errors this raises.
    dpi : float, default 150
        Pixels to an inch of the figure.

    Raises
    ------
    ValueError, OSError
        As `check_path`, and if it cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from geomsink.plotting import plot_clouds
    >>> x = np.random.default_rng(0).random((50, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "clouds.png"
    ...     save(plot_clouds(x, x + 1.0).get_figure(), path, dpi=50)
    ...     path.read_bytes()[1:4]
    b'PNG'
    """
    path = check_path(path)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=dpi, facecolor=figure.get_facecolor())


def check_path(path: str | PathLike[str]) -> Path:
    """Return ``path`` if a figure can go there, or say why not: worth asking before a long computation.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If the extension is not one that matplotlib writes without a display.
    FileNotFoundError
        If there is no such folder.

    Examples
    --------
    >>> check_path("clouds.png").suffix
    '.png'
    """
    return _check(path, [f".{name}" for name in sorted(FigureCanvasAgg.get_supported_filetypes())])


def save_animation(
    animation: Animation, path: str | PathLike[str], frames_per_second: int = 12, dpi: float = 100
) -> None:
    """Write an animation, such as one of `animate_flow`, as ``.gif``, or as ``.mp4`` where ffmpeg is found.

    Parameters
    ----------
    animation : matplotlib animation
    path : str or path
        See `check_animation_path`, whose errors this raises.
    frames_per_second : int, default 12
    dpi : float, default 100
        Pixels to an inch of the figure.

    Raises
    ------
    ValueError, FileNotFoundError
        As `check_animation_path`.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from geomsink.plotting import animate_flow
    >>> x = np.random.default_rng(0).random((20, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "flow.gif"
    ...     save_animation(animate_flow([x, x + 0.1]), path, dpi=20)
    ...     path.read_bytes()[:3]
    b'GIF'
    """
    path = check_animation_path(path)
    writer = ANIMATIONS[path.suffix.lower()](fps=frames_per_second)
    with replacing(path) as file:
        try:
            animation.save(file.name, writer=writer, dpi=dpi)
        except CalledProcessError as error:
            raise OSError(errno.EIO, f"ffmpeg could not write it (exit code {error.returncode})") from error


def check_animation_path(path: str | PathLike[str]) -> Path:
    """Return ``path`` if an animation can go there, or say why not: worth asking before a long computation.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If the extension is not ``.gif`` or ``.mp4``.
    FileNotFoundError
        If there is no such folder, or no program ffmpeg, which writes ``.mp4``.

    Examples
    --------
    >>> check_animation_path("flow.gif").name
    'flow.gif'
    """
    path = _check(path, list(ANIMATIONS))
    if not ANIMATIONS[path.suffix.lower()].isAvailable():
        raise FileNotFoundError(f"path: {path.name} needs the program ffmpeg, which is not found; .gif needs nothing.")
    return path


def _check(path: str | PathLike[str], extensions: list[str]) -> Path:
    path = Path(path)
    if path.suffix.lower() not in extensions:
        raise ValueError(f"path: found {path}, expected a name that ends in one of {', '.join(extensions)}.")
    check(path)
    return path
