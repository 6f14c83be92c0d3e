"""Random points on the surface of a file's mesh or of a procedural shape."""

from pathlib import Path

import numpy as np

from geomsink.shapes.files import FilePath, load
from geomsink.shapes.mesh import Points, check_count, fit_unit_cube, generator, sample_surface
from geomsink.shapes.procedural import check_name, names, procedural


def sample(path_or_name: FilePath, n: int, seed: int = 0, normalize: bool = False) -> Points:
    """Draw random points from a surface, uniformly by area.

    Parameters
    ----------
    path_or_name : str or path
        A file that `read` reads, or a procedural shape by its name in `names`, bare or after
        ``shape:``. A bare name is never taken for a file (``./knot.ply`` is one).
    n : int
        How many points.
    seed : int, default 0
        The same seed gives the same points.
    normalize : bool, default False
        Scale and shift so that the bounding box of the whole shape (not of the drawn points) has
        longest side 1 and is centred in the unit cube: the frame of ``read(path, normalize=True)``.
        Procedural shapes always are.

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
    n = check_count(n)
    rng = generator(seed)
    if isinstance(path_or_name, str):
        name = path_or_name.removeprefix("shape:")
        # A word that is neither a file nor has an extension can only be meant as a name.
        word = Path(name).name == name and not Path(name).suffix and not Path(name).exists()
        if name != path_or_name or name in names() or word:
            return procedural(check_name(name, "path_or_name"), n, seed)
    points, faces = load(path_or_name)
    if len(faces):
        try:
            drawn = sample_surface(points, faces, n, rng)
        except ValueError as error:
            raise ValueError(f"{path_or_name}: {error}") from error
    else:
        drawn = points[rng.choice(len(points), size=n, replace=n > len(points))]
    return fit_unit_cube(drawn, np.min(points, 0), np.max(points, 0)) if normalize else drawn
