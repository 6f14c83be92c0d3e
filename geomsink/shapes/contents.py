"""What a file holds, as its parser found it, and what parsers of text share."""

import codecs
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geomsink.shapes.mesh import Faces, Points, check_exact, check_faces, check_points, fans

Columns = Sequence[int | str]
Part = tuple[int, int]
"""Which one, and of how many of the rows, in order and as equal as can be."""
WHOLE = (0, 1)

COMMENT = re.compile(r"(?:^|(?<=[\s\w.)]))#(?:(?<!\d\.#)|(?![A-Za-z]))")
"""Opens a comment, but not within ``1.#QNAN``; behind a separator it is text of a column, such as ``#ff0000``."""
INVALID = re.compile(r"([+-]?)(?:1\.#(?:([QS]NAN|IND|INF)0*|QO|SO|IO|R|T|J)(?:e[+-]?\d+)?|nan\((?:ind|snan)\))", re.I)
"""NaN and infinity as Microsoft's C writes them, some rounded as if they were digits."""


class Refused(ValueError):
    """What was asked of a file is wrong, or what it holds cannot be points; the file is whole."""


class FileWarning(UserWarning):
    """What was made of a file that does not say how it is meant, or left out of it."""


@dataclass(frozen=True)
class Contents:
    """Points (N, D), with what belongs to them.

    Attributes
    ----------
    faces : array of int (F, 3)
        Triangles; none of what has not three dimensions.
    colors : array (N, 3), optional
        In the type that the file has them in.
    said : tuple of str
        What was left out or had to be guessed, each the rest of a sentence that begins with the file's name.
    kept : array of bool, optional
        Which of the file's points these are; None is all.
    """

    points: NDArray[Any]
    faces: NDArray[Any] = field(default_factory=lambda: np.empty((0, 3), np.int64))
    colors: NDArray[Any] | None = None
    said: tuple[str, ...] = ()
    kept: NDArray[np.bool_] | None = None

    def checked(self, name: str, drop_invalid: bool) -> "Contents":
        """The same with finite points and faces between them, or a sentence that says what is wrong."""
        whole = self._finite(name) if drop_invalid else self
        points = check_points(whole.points, name)
        faces = check_faces(whole.faces, len(points), f"{name}: faces")
        return replace(whole, points=points, faces=faces if points.shape[1] == 3 else faces[:0])

    def part(self, part: Part) -> "Contents":
        """Some of the points, without faces between them."""
        rows, n = share(len(self.points), part), len(self.points)
        colors = self.colors[rows] if self.colors is not None and len(self.colors) == n else self.colors
        return Contents(self.points[rows], colors=colors, said=self.said)

    def _finite(self, name: str) -> "Contents":
        """Without points that are not finite, and the faces that have one of them."""
        if self.points.ndim != 2 or self.points.dtype.kind != "f":
            return self
        kept = np.isfinite(self.points).all(axis=1)
        if kept.all():
            return self
        left_out = np.count_nonzero(~kept)
        said = f"{left_out:,} of {len(kept):,} points are not finite and were left out."
        faces = check_faces(self.faces, len(kept), f"{name}: faces")
        faces = (np.cumsum(kept) - 1)[faces[kept[faces].all(axis=1)]]
        colors = self.colors
        if colors is not None and len(colors) == len(kept):
            colors = colors[kept]
        return replace(self, points=self.points[kept], faces=faces, colors=colors, said=(*self.said, said), kept=kept)


def share(n: int, part: Part) -> slice:
    """Those of n rows that are in a part.

    Raises
    ------
    Refused
        Where there are more parts than rows.

    Examples
    --------
    >>> share(10, (0, 3)), share(10, (2, 3))
    (slice(0, 3, None), slice(6, 10, None))
    """
    k, parts = part
    if n < parts and part != WHOLE:
        raise Refused(f"found {n} points for {parts} processes, expected at least one for each")
    return slice(n * k // parts, n * (k + 1) // parts)


def stacked(fields: Mapping[str, NDArray[Any]] | NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
    """Some fields (N,) by their names, side by side: (N, D), none of their numbers rounded.

    Raises
    ------
    Refused
        For whole numbers beyond 2⁵³, which other fields of floats would make floats.
    """
    try:
        for name in names:
            check_exact(fields[name], name)
    except ValueError as error:
        raise Refused(str(error).rstrip(".")) from None
    return np.stack([fields[name] for name in names], axis=1)


def rgb(colors: NDArray[Any], n: int, name: str) -> NDArray[np.uint8]:
    """Colours of ``n`` points in 8 bits: whole numbers up to 255, or 65535 if one is larger, others up to 1."""
    if colors.shape != (n, 3) or colors.dtype.kind not in "fiu":
        raise ValueError(f"{name}: found shape {colors.shape} of {colors.dtype}, expected {(n, 3)} of uint8.")
    full = 1.0 if colors.dtype.kind == "f" else 255.0 if colors.max(initial=0) <= 255 else 65535.0
    if not (colors.min(initial=0) >= 0 and colors.max(initial=0) <= full):
        raise ValueError(f"{name}: it has colours from {colors.min()} to {colors.max()}, beyond 0 to {full:g}")
    return np.asarray(np.rint(colors * (255.0 / full)), np.uint8)


Parser = Callable[[BinaryIO, Columns | None], Contents]


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 where its mark says so; names in other encodings are of no matter.

    Raises
    ------
    ValueError
        If it holds zeros, as no text does.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if b"\0" in data:
        raise ValueError("it is not text")
    return data.decode("utf-8-sig", errors="replace")


def lines_of(text: str) -> list[str]:
    """Its lines, whose ends may be those of any system."""
    return re.split(r"\r\n?|\n", text)


def split_comment(line: str, opens: re.Pattern[str] = COMMENT) -> tuple[str, str]:
    """What stands before the comment of a line, and the comment.

    Examples
    --------
    >>> split_comment("0.5 1.#QNAN # lost")
    ('0.5 1.#QNAN ', ' lost')
    """
    found = opens.search(line)
    return (line[: found.start()], line[found.end() :]) if found else (line, "")


def words(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each line that has some, as its number and its words, comments left out."""
    for number, line in enumerate(lines_of(text), 1):
        found = (split_comment(line)[0] if "#" in line else line).split()
        if found:
            yield number, found


def real(word: str) -> float:
    """A number as files write it.

    Examples
    --------
    >>> real("1e3"), real("-1.#INF"), real("1.#QNAN")
    (1000.0, -inf, nan)
    """
    if "_" in word:  # Python alone reads 1_0 as 10
        raise ValueError(f"could not convert string to float: {word!r}")
    if ("#" in word or "(" in word) and (invalid := INVALID.fullmatch(word.strip())):
        return float(invalid[1] + ("inf" if (invalid[2] or "").upper() == "INF" else "nan"))
    return float(word)


def reals(found: Sequence[str], line: int) -> list[float]:
    """Numbers of a line, or a sentence that says which word is none."""
    try:
        return list(map(float if "_" not in "".join(found) else real, found))
    except ValueError:
        pass
    try:
        return list(map(real, found))
    except ValueError:
        raise ValueError(f"line {line}: found {_first_of(found, real)!r}, expected a number") from None


def wholes(found: Sequence[str], line: int) -> list[int]:
    """Whole numbers of a line."""
    try:
        if "_" not in "".join(found):
            return list(map(int, found))
    except ValueError:
        pass
    raise ValueError(f"line {line}: found {_first_of(found, whole)!r}, expected a whole number")


def whole(word: str) -> int:
    if "_" in word:
        raise ValueError(word)
    return int(word)


def _first_of(found: Sequence[str], convert: Callable[[str], Any]) -> str:
    """The first word that cannot be converted."""
    for word in found:
        try:
            convert(word)
        except ValueError:
            return word[:40]
    raise AssertionError(found)


def narrowest(values: NDArray[np.float64]) -> Points:
    """Numbers of a text (N, D) in float32 where it has each digit that was written, otherwise as they are.

    A float32 that was written with any number of digits is read as itself: the text is off by half a unit of its last
    digit at most, and so the float32 next to the text is no further from it. Where digits are zeros, they count if
    rounding moves a point by 2⁻²² of the longest side of the box.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        error = np.abs(values - single)
    finite = np.isfinite(values)
    off = finite & (error > 0)
    if not off.any():
        return single
    if not np.isfinite(error[off]).all():
        return values
    value, error = values[off], error[off]
    # The last digit that float32 has; a tie, which doubles do not hit, counts as such.
    place = 10.0 ** np.ceil(np.log10(2 * error) - 1e-6)
    digits = value / place
    lost = np.abs(digits - np.rint(digits)) > 1e-6 + np.abs(digits) * 2.0**-51
    rows = values[finite.all(axis=1)]
    side = np.max(np.ptp(rows, axis=0)) if len(rows) else 0.0
    return values if lost.any() or (side > 0 and error.max() > 2.0**-22 * side) else single


def triangles(polygons: Any) -> tuple[Faces, tuple[str, ...]]:
    """Polygons as triangles, and what to say of those that have no area since they have fewer than three corners."""
    table = isinstance(polygons, np.ndarray) and polygons.ndim == 2
    sizes = {polygons.shape[1]} if table else set(map(len, polygons))
    if len(sizes) == 1 and min(sizes) > 2:  # all at once
        return fans(polygons if table else np.array(list(polygons))), ()
    surfaces = [polygon for polygon in polygons if len(polygon) > 2]
    left_out = len(polygons) - len(surfaces)
    said = f"{left_out:,} of {len(polygons):,} faces have fewer than three corners and were left out."
    return fans([np.asarray(polygon) for polygon in surfaces]), (said,) if left_out else ()
