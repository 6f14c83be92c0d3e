"""Reading and writing points: one entry per file extension."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geomsink.atomic import replacing
from geomsink.counts import flag
from geomsink.shapes.arrays import parse_npy, parse_npz
from geomsink.shapes.contents import WHOLE, Columns, Contents, FileWarning, Parser, Part, Refused, rgb
from geomsink.shapes.mesh import Mesh, Points, check_faces, check_points, fit_unit_cube
from geomsink.shapes.meshfiles import parse_obj, parse_off, parse_stl
from geomsink.shapes.plyfiles import parse_ply, ply_bytes
from geomsink.shapes.scans import parse_glb, parse_las, parse_pcd
from geomsink.shapes.sources import FilePath, check_path, is_stream, name_of, opened, suffix_of
from geomsink.shapes.tables import parse_table

Colors = NDArray[np.uint8]
Parsed = TypeVar("Parsed")

PARSERS: dict[str, Parser] = {
    ".obj": parse_obj,
    ".off": parse_off,
    ".stl": parse_stl,
    ".xyz": parse_table,
    ".csv": parse_table,
    ".txt": parse_table,
    ".asc": parse_table,
    ".pts": parse_table,
    ".tsv": parse_table,
    ".npy": parse_npy,
    ".npz": parse_npz,
}
BY_LIBRARY: dict[str, tuple[str, str, Callable[..., Contents]]] = {
    ".ply": ("plyfile", "shapes", parse_ply),
    ".glb": ("trimesh", "shapes", parse_glb),
    ".pcd": ("pypcd4", "scans", parse_pcd),
    ".las": ("laspy", "scans", parse_las),
    ".laz": ("laspy", "scans", parse_las),
}
"""The library that reads a format, imported when such a file is read, and the optional group that brings it."""
SUFFIXES = (".ply", *PARSERS, *list(BY_LIBRARY)[1:])


def read(path: FilePath, normalize: bool = False, columns: Columns | None = None, drop_invalid: bool = False) -> Points:
    """Read the points of a file.

    Parameters
    ----------
    path : str or path
        A mesh: ``.obj``, ``.off``, ``.stl``, or ``.ply`` and ``.glb`` (need ``pip install 'geomsink[shapes]'``); a
        scan: ``.pcd``, ``.las``, ``.laz`` (need ``pip install 'geomsink[scans]'``); arrays: ``.npy``, ``.npz`` (its
        array ``points``, or its only one, or ``x``, ``y`` and ``z``); or a table of text: ``.xyz``, ``.csv``, ``.tsv``,
        ``.txt``, ``.asc``, ``.pts``, whose columns are between commas, semicolons, tabs or blanks, with or without
        quotes; names may stand on top or in the last comment above (``#`` or ``//``), and the number of points in the
        first line. Any of these packed as ``.gz``, and ``"-"``, standard input, whose beginning says what it is.
    normalize : bool, default False
        Scale and shift so that the bounding box has longest side 1 and is centred in [0, 1]^D.
    columns : sequence of str or int, optional
        The columns that are coordinates, by name or counted from 0. None takes those named x, y and z (or x and y), in
        capitals or not; of others, all if they are three or fewer, or more than ten, and the first three otherwise
        (colours, normals and the like follow them), with a warning. A first column that counts the rows is left out.
        An array ``points`` of an ``.npz`` is taken whole.
    drop_invalid : bool, default False
        Leave out points that are not finite, as depth cameras write them, with a warning, and the faces that have one.

    Returns
    -------
    points : array (N, D)
        In the file's order, nothing merged or left out; of an ``.stl``, which lists triangles only,
        the distinct corners. D is 3 for meshes, and the number of columns otherwise. Binary files say themselves if
        they hold float32 or float64; tables and ``.las`` give float64; meshes and points of text (``.obj``, ``.off``,
        ``.stl``, ``.ply``, ``.pcd``) give float32, or float64 where float32 would lose digits that were written, such
        as those of 4649876.123.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the extension is not one of these, or the file holds no points, is truncated, is not what
        its extension says, announces what it cannot hold, has a line that cannot be read, a coordinate that is not
        finite, or no such columns. ``.obj`` and tables do not announce their length: of these, only a cut within a
        line can be noticed.
    ImportError
        If the package that reads this kind of file is missing.

    Warns
    -----
    FileWarning
        If columns had to be guessed, points that are not finite were left out, or faces of fewer than three corners.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/two.npz", [[0.0, 1.0], [4.0, 3.0]])
    ...     read(folder + "/two.npz", normalize=True)
    array([[0.  , 0.25],
           [1.  , 0.75]])
    """
    flag("normalize", normalize)
    points = load(path, columns, drop_invalid).points
    return fit_unit_cube(points, points.min(axis=0), points.max(axis=0)) if normalize else points


def read_mesh(path: FilePath, drop_invalid: bool = False) -> Mesh:
    """Read the vertices and triangles of a file; polygons are cut into fans, strips into triangles.

    Parameters
    ----------
    path : str or path
        As for `read`. A file of points alone gives a mesh without faces.
    drop_invalid : bool, default False
        As for `read`.

    Returns
    -------
    mesh : Mesh
        Its ``vertices`` are what `read` returns; ``faces`` has shape (F, 3).

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As for `read`; also ValueError if the points are not in three dimensions, or a face names one that is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/two.npz", [[0.0, 1.0, 2.0], [4.0, 3.0, 2.0]])
    ...     read_mesh(folder + "/two.npz").faces.shape
    (0, 3)
    """
    found = load(path, drop_invalid=drop_invalid)
    if found.points.shape[1] != 3:
        raise ValueError(f"{name_of(path)}: found points of shape {found.points.shape}, expected (N, 3) for a mesh.")
    return Mesh(found.points, found.faces)


def read_colors(path: FilePath, drop_invalid: bool = False) -> Colors | None:
    """Read the colours of a file's points, if it has any.

    Parameters
    ----------
    path : str or path
        As for `read`. Colours are looked for in a ``.ply`` (``red``, ``green`` and ``blue`` of its vertices: whole
        numbers up to 255, or up to 65535 if one is larger, or others in [0, 1]) and in an ``.npz`` (array ``colors``
        of uint8, as `write` writes it).
    drop_invalid : bool, default False
        As for `read`: without the colours of points that it leaves out.

    Returns
    -------
    colors : array of uint8 (N, 3), or None
        Red, green and blue of each point that `read` returns.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As for `read`; also ValueError if the colours are not one a point, or beyond their range.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/one.npz", [[0.0, 1.0]], colors=np.uint8([[255, 128, 0]]))
    ...     read_colors(folder + "/one.npz")
    array([[255, 128,   0]], dtype=uint8)
    """
    found = load(path, drop_invalid=drop_invalid)
    return None if found.colors is None else rgb(found.colors, len(found.points), f"{name_of(path)}: colors")


def write(path: FilePath, points: ArrayLike, colors: ArrayLike | None = None, faces: ArrayLike | None = None) -> None:
    """Write points as ``.ply`` (binary little-endian) or ``.npz`` (array ``points``).

    Parameters
    ----------
    path : str or path
        The extension chooses the format. A file that is there is replaced in one step, or left as it was.
    points : array or tensor (N, D)
        float32 and float64 are written as they are; D must be 3 for ``.ply``.
    colors : array of uint8 (N, 3), optional
        Red, green and blue of each point (array ``colors`` of an ``.npz``).
    faces : array of int (F, 3), optional
        Triangles: for each, the rows of its corners in ``points``. For ``.ply`` alone.

    Raises
    ------
    ValueError
        If the extension, a shape or a type is wrong, a coordinate is not finite, or a face names a point that
        is not there.
    OSError
        If the file cannot be written; what was there before is as it was.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/one.ply", [[0, 1, 2]], colors=np.uint8([[255, 0, 0]]))
    """
    check_path(path)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".ply", ".npz"):
        raise ValueError(f"path: found {path}, expected a name that ends in .ply or .npz.")
    columns: dict[str, NDArray[Any]] = {"points": check_points(_on_host(points), "points")}
    n, dimension = columns["points"].shape
    if suffix == ".ply" and dimension != 3:
        raise ValueError(f"points: found shape {(n, dimension)}, expected (N, 3) for a .ply file.")
    if colors is not None:
        columns["colors"] = _check_colors(np.asarray(_on_host(colors)), n, "colors")
    triangles = None
    if faces is not None:
        if suffix != ".ply":
            raise ValueError(f"faces: given for {path}, expected none: they are written to .ply alone.")
        triangles = check_faces(_on_host(faces), n, "faces")
    with replacing(path) as file:
        if suffix == ".npz":
            np.savez(file, **columns)  # type: ignore[arg-type]  # of the stub: no array is allow_pickle
        else:
            file.write(ply_bytes(**columns, faces=triangles))


def files_in(folder: FilePath) -> list[Path]:
    """The files of a folder that `read` reads, by their names.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = [
        path
        for path in sorted(Path(folder).iterdir())
        if path.is_file() and suffix_of(path).removesuffix(".gz") in SUFFIXES
    ]
    if not found:
        raise ValueError(f"{folder}: found a folder without files that end in one of {', '.join(SUFFIXES)}.")
    return found


def load(path: FilePath, columns: Columns | None = None, drop_invalid: bool = False, part: Part = WHOLE) -> Contents:
    """What a file holds, read once and checked; what had to be guessed or left out is said in warnings.

    Of a ``part`` of its points, no more of a ``.npy`` is read than these, which are counted before any are left out;
    other files are read whole.
    """
    check_path(path)
    flag("drop_invalid", drop_invalid)
    name = name_of(path)
    if not is_stream(path):
        _check(path)
    if suffix_of(path) == ".npy" and not is_stream(path):
        found = whole(path, lambda file, suffix: parse_npy(file, columns, part)).checked(name, drop_invalid)
    else:
        found = whole(path, partial(_parsed, columns=columns)).checked(name, drop_invalid)
        found = found if part == WHOLE else _part(found, part, name)
    for said in found.said:
        warnings.warn(f"{name}: {said}", FileWarning, stacklevel=3)
    return found


def _part(found: Contents, part: Part, name: str) -> Contents:
    try:
        return found.part(part)
    except Refused as error:
        raise ValueError(f"{name}: {error}.") from None


def whole(path: FilePath, parse: Callable[[BinaryIO, str], Parsed]) -> Parsed:
    """What a function makes of a file and its extension, or one sentence that says why it cannot.

    Raises
    ------
    ValueError
        If the file is malformed.
    OSError
        If it cannot be read at all.
    """
    name = name_of(path)
    suffix = suffix_of(path) or "file"
    with ExitStack() as stack:
        try:
            file, suffix = stack.enter_context(opened(path))
            if not file.read(1):
                raise _Empty
            file.seek(0)
            return parse(file, suffix)
        except (ImportError, MemoryError):
            raise
        except _Empty:
            raise ValueError(f"{name}: found an empty file, expected points.") from None
        except Refused as error:
            raise ValueError(f"{name}: {error}.") from None
        except OSError as error:
            if error.filename is not None:  # of the system, not of a library
                raise
            failure: Exception = error
        except Exception as error:  # whatever a library raises on a file that it cannot make sense of
            failure = error
    reason = str(failure).strip().partition("\n")[0] or type(failure).__name__
    raise ValueError(
        f"{name}: found a truncated or malformed file ({reason.rstrip('.')}), expected a complete {suffix} file."
    ) from failure


class _Empty(Exception):
    """There is nothing in the file."""


def _check(path: FilePath) -> None:
    """Say that there is no such file, or that nothing reads it, if so."""
    suffix = suffix_of(path)
    if suffix.removesuffix(".gz") not in SUFFIXES:
        raise ValueError(
            f"path: found {path}, expected a name that ends in one of {', '.join(SUFFIXES)}, with .gz or without; "
            "convert others, for example meshes by trimesh.load(path).export('mesh.ply') and scans by CloudCompare."
        )
    if not Path(path).exists():
        raise FileNotFoundError(f"path: there is no file {path}.")


def _parsed(file: BinaryIO, suffix: str, columns: Columns | None) -> Contents:
    if suffix in PARSERS:
        return PARSERS[suffix](file, columns)
    module, group, parse = BY_LIBRARY[suffix]
    try:
        library = import_module(module)
        if suffix == ".laz":
            import_module("lazrs")
    except ImportError as error:
        package = error.name if error.name == "lazrs" else module
        raise ImportError(
            f"reading {suffix} files needs the package {package}: pip install 'geomsink[{group}]'"
        ) from error
    return parse(file, columns, library=library)


def _check_colors(colors: NDArray[Any], n: int, name: str) -> Colors:
    if colors.shape != (n, 3) or colors.dtype != np.uint8:
        raise ValueError(f"{name}: found shape {colors.shape} of {colors.dtype}, expected {(n, 3)} of uint8.")
    return colors


def _on_host(array: ArrayLike) -> ArrayLike:
    """Bring a torch tensor to where NumPy reads it, without importing torch to ask if it is one."""
    return array.detach().cpu() if hasattr(array, "detach") else array
