"""Random points on the surface of a file's mesh or of a procedural shape."""

from pathlib import Path

import numpy as np

from geomsink.counts import flag
from geomsink.shapes.contents import Columns, Contents
from geomsink.shapes.files import load
from geomsink.shapes.mesh import Points, check_count, fit_unit_cube, generator, sample_surface
from geomsink.shapes.procedural import check_name, names, procedural
from geomsink.shapes.sources import STDIN, FilePath, name_of


def sample(
    path_or_name: FilePath,
    n: int,
    seed: int = 0,
    normalize: bool = False,
    columns: Columns | None = None,
    drop_invalid: bool = False,
) -> Points:
    """Draw random points from a surface, uniformly by area.

    Parameters
    ----------
    path_or_name : str or path
        A file that `read` reads, or a procedural shape by its name in `names`, bare or after
        ``shape:``. A bare name is never taken for a file (``./knot.ply`` is one).
    n : int
        How many points, as many as memory holds.
    seed : int, default 0
        The same seed gives the same points.
    normalize : bool, default False
        Scale and shift so that the bounding box of the whole shape (not of the drawn points) has
        longest side 1 and is centred in the unit cube: the frame of ``read(path, normalize=True)``.
        Procedural shapes always are.
    columns, drop_invalid
        Of a file, as for `read`.

    Returns
    -------
    points : array (n, D)
        Of the dtype that `read` gives, float32 for procedural shapes. From a file without faces,
        rows of its points: each at most once when it has ``n`` or more, with replacement when not.

    Raises
    ------
    ValueError
        If ``n``, ``seed`` or the name is wrong, or the faces have no area; and as for `read`.
    FileNotFoundError, ImportError
        As for `read`.

    Examples
    --------
    >>> sample("shape:sphere", 1000, seed=3).shape
    (1000, 3)
    """
    n, rng = check_count(n), generator(seed)
    flag("normalize", normalize)
    flag("drop_invalid", drop_invalid)  # of a procedural shape, too
    name = shape_name(path_or_name)
    if name is not None:
        return procedural(check_name(name), n, seed)
    return draw(load(path_or_name, columns, drop_invalid), n, rng, normalize, name_of(path_or_name))


def shape_name(path_or_name: FilePath) -> str | None:
    """The name of the surface that is meant, known or not; None for a file."""
    if not isinstance(path_or_name, str):
        return None
    name = path_or_name.removeprefix("shape:")
    # A word that is neither a file nor has an extension can only be meant as a name.
    word = name != STDIN and Path(name).name == name and not Path(name).suffix and not Path(name).exists()
    return name if name != path_or_name or name in names() or word else None


def draw(found: Contents, n: int, rng: np.random.Generator, normalize: bool, name: str) -> Points:
    """Random points of what a file holds: of its surface, or of its points where it has no faces."""
    points = found.points
    if len(found.faces):
        try:
            drawn = sample_surface(points, found.faces, n, rng)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    else:
        drawn = points[rng.choice(len(points), size=n, replace=n > len(points))]
    return fit_unit_cube(drawn, np.min(points, 0), np.max(points, 0)) if normalize else drawn
