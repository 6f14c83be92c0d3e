"""Reading and writing points: one entry per file extension."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geomsink.shapes.mesh import Faces, Mesh, Points, check_faces, check_points, fit_unit_cube
from geomsink.shapes.meshfiles import PARSERS, ply_colors

FilePath = str | PathLike[str]
Colors = NDArray[np.uint8]
Parsed = TypeVar("Parsed")


def read(path: FilePath, normalize: bool = False) -> Points:
    """Read the points of a file.

    Parameters
    ----------
    path : str or path
        A ``.ply``, ``.obj``, ``.off`` or ``.stl`` mesh (needs ``pip install 'geomsink[shapes]'``),
        or points in ``.xyz`` (columns between blanks), ``.csv`` (columns between commas, a line of
        names allowed on top; in both, ``#`` starts a comment), ``.npy``, or ``.npz`` (its array
        ``points``, or its only array).
    normalize : bool, default False
        Scale and shift so that the bounding box has longest side 1 and is centred in [0, 1]^D.

    Returns
    -------
    points : array (N, D)
        In the file's order, nothing merged or left out; of an ``.stl``, which lists triangles only,
        the distinct corners. D is 3 for meshes, and the number of columns otherwise. ``.ply``,
        ``.npy`` and ``.npz`` say themselves if they hold float32 or float64; ``.obj``, ``.off``
        and ``.stl`` give float32, ``.xyz`` and ``.csv`` float64.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the extension is not one of these, or the file holds no points, is truncated, is not what
        its extension says, or has a coordinate that is not finite. ``.obj``, ``.xyz`` and ``.csv``
        do not announce their length: of these, only a cut within a line can be noticed.
    ImportError
        If the package that reads this kind of mesh is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/two.npz", [[0.0, 1.0], [4.0, 3.0]])
    ...     read(folder + "/two.npz", normalize=True)
    array([[0.  , 0.25],
           [1.  , 0.75]])
    """
    points, _ = load(path)
    return fit_unit_cube(points, points.min(axis=0), points.max(axis=0)) if normalize else points


def read_mesh(path: FilePath) -> Mesh:
    """Read the vertices and triangles of a file; polygons are cut into fans, strips into triangles.

    Parameters
    ----------
    path : str or path
        As for `read`. A file of points alone gives a mesh without faces.

    Returns
    -------
    mesh : Mesh
        Its ``vertices`` are what `read` returns; ``faces`` has shape (F, 3).

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As for `read`; also ValueError if the points are not in three dimensions.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/two.npz", [[0.0, 1.0, 2.0], [4.0, 3.0, 2.0]])
    ...     read_mesh(folder + "/two.npz").faces.shape
    (0, 3)
    """
    points, faces = load(path)
    if points.shape[1] != 3:
        raise ValueError(f"{path}: found points of shape {points.shape}, expected (N, 3) for a mesh.")
    return Mesh(points, faces)


def read_colors(path: FilePath) -> Colors | None:
    """Read the colours of a file's points, if it has any.

    Parameters
    ----------
    path : str or path
        As for `read`. Colours are looked for in a ``.ply`` (``red``, ``green`` and ``blue`` of its vertices, of 8
        or 16 bits, or in [0, 1]) and in an ``.npz`` (array ``colors`` of uint8, as `write` writes it).

    Returns
    -------
    colors : array of uint8 (N, 3), or None
        Red, green and blue of each point that `read` returns.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As for `read`; also ValueError if the colours are not one a point, or of another type.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/one.npz", [[0.0, 1.0]], colors=np.uint8([[255, 128, 0]]))
    ...     read_colors(folder + "/one.npz")
    array([[255, 128,   0]], dtype=uint8)
    """
    points, _ = load(path)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".ply":
        colors = _complete(path, _mesh_parser(suffix, ply_colors))
    elif suffix == ".npz":
        colors = _complete(path, _numpy_colors)
    else:
        return None
    return None if colors is None else _check_colors(colors, len(points), f"{path}: colors")


def write(path: FilePath, points: ArrayLike, colors: ArrayLike | None = None, faces: ArrayLike | None = None) -> None:
    """Write points as ``.ply`` (binary little-endian) or ``.npz`` (array ``points``).

    Parameters
    ----------
    path : str or path
        The extension chooses the format. A file that is there is replaced.
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

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder + "/one.ply", [[0, 1, 2]], colors=np.uint8([[255, 0, 0]]))
    """
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
    with path.open("wb") as file:
        if suffix == ".npz":
            np.savez(file, **columns)  # type: ignore[arg-type]  # of the stub: no array is allow_pickle
        else:
            file.write(_ply(**columns, faces=triangles))


def load(path: FilePath) -> tuple[Points, Faces]:
    """Read points (N, D) and triangles (F, 3), of which there may be none."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*PARSERS, *_POINTS):
        known = ", ".join((*PARSERS, *_POINTS))
        raise ValueError(f"path: found {path}, expected a name that ends in one of {known}.")
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path}.")
    if not path.stat().st_size:
        raise ValueError(f"{path}: found an empty file, expected points.")
    points, faces = _complete(path, _mesh_parser(suffix) if suffix in PARSERS else _POINTS[suffix])
    points = check_points(points, str(path))
    return points, check_faces(faces, len(points), f"{path}: faces")


def _complete(path: Path, parse: Callable[[BinaryIO], Parsed]) -> Parsed:
    """What a parser makes of a file, or one sentence that says why it cannot."""
    try:
        with path.open("rb") as file:
            return parse(file)
    except OSError:
        raise
    except Exception as error:  # whatever a library raises on a file that it cannot make sense of
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path}: found a truncated or malformed file ({reason.rstrip('.')}), "
            f"expected a complete {path.suffix.lower()} file."
        ) from error


def _mesh_parser(suffix: str, parser: Callable[..., Any] | None = None) -> Callable[[BinaryIO], Any]:
    """The parser of a mesh file, or another one that needs the same library, which is imported here."""
    module, parse = PARSERS[suffix]
    try:
        return partial(parser or parse, library=import_module(module))
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"reading {suffix} files needs the package {package}: pip install 'geomsink[shapes]'"
        ) from error


def _numpy(file: BinaryIO) -> tuple[Points, Faces]:
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        name = loaded.files[0] if len(loaded.files) == 1 else "points"
        if name not in loaded:
            raise ValueError(f"it has the arrays {loaded.files}, none of them named 'points'")
        loaded = loaded[name]
    return loaded, np.empty((0, 3), np.int64)


def _numpy_colors(file: BinaryIO) -> NDArray[Any] | None:
    loaded = np.load(file, allow_pickle=False)
    return np.asarray(loaded["colors"]) if "colors" in loaded else None


def _check_colors(colors: NDArray[Any], n: int, name: str) -> Colors:
    if colors.shape != (n, 3) or colors.dtype != np.uint8:
        raise ValueError(f"{name}: found shape {colors.shape} of {colors.dtype}, expected {(n, 3)} of uint8.")
    return colors


def _text(file: BinaryIO, delimiter: str | None) -> tuple[Points, Faces]:
    lines = [line.partition("#")[0].strip() for line in file.read().decode("utf-8-sig").splitlines()]
    lines = [line for line in lines if line]
    if delimiter and lines and not any(map(_is_number, lines[0].split(delimiter))):
        del lines[0]  # the names of the columns
    points = np.loadtxt(lines, delimiter=delimiter, ndmin=2) if lines else np.empty((0, 0))
    return points, np.empty((0, 3), np.int64)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


_POINTS: dict[str, Callable[[BinaryIO], tuple[Points, Faces]]] = {
    ".xyz": partial(_text, delimiter=None),
    ".csv": partial(_text, delimiter=","),
    ".npy": _numpy,
    ".npz": _numpy,
}


def _on_host(array: ArrayLike) -> ArrayLike:
    """Bring a torch tensor to where NumPy reads it, without importing torch to ask if it is one."""
    return array.detach().cpu() if hasattr(array, "detach") else array


def _ply(points: Points, colors: Colors | None = None, faces: Faces | None = None) -> bytes:
    kind = "float" if points.dtype == np.float32 else "double"
    columns: list[tuple[str, str, NDArray[Any]]] = [(axis, kind, points[:, k]) for k, axis in enumerate("xyz")]
    if colors is not None:
        columns += [(c, "uchar", colors[:, k]) for k, c in enumerate(("red", "green", "blue"))]
    code = {"float": "<f4", "double": "<f8", "uchar": "u1"}
    table = np.empty(len(points), dtype=[(name, code[kind]) for name, kind, _ in columns])
    for name, _, column in columns:
        table[name] = column
    properties = "".join(f"property {kind} {name}\n" for name, kind, _ in columns)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}"
    body = table.tobytes()
    if faces is not None:
        header += f"element face {len(faces)}\nproperty list uchar int vertex_indices\n"
        triangles = np.empty(len(faces), dtype=[("corners", "u1"), ("rows", "<i4", 3)])
        triangles["corners"], triangles["rows"] = 3, faces
        body += triangles.tobytes()
    return f"{header}end_header\n".encode() + body
