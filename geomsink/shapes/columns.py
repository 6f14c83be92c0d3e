"""Which columns of a table are coordinates."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from geomsink.shapes.contents import Columns, Refused

AXES = (("x", "y", "z"), ("points:0", "points:1", "points:2"), ("points_0", "points_1", "points_2"))
"""Names of coordinates; the others are those of ParaView."""
COUNTERS = ("", "index", "id", "unnamed: 0")
"""Names that a column has which only counts the rows."""
MOST = 10
"""More columns than this are features; colours, normals, an intensity and a label beside coordinates are fewer."""


def choose(
    names: Sequence[str] | None, width: int, wanted: Columns | None, head: NDArray[np.float64] | None = None
) -> tuple[list[int], tuple[str, ...]]:
    """The columns that are coordinates, and what to say if that had to be guessed.

    Parameters
    ----------
    names : sequence of str, optional
        Of the columns.
    width : int
        How many there are.
    wanted : sequence of int or str, optional
        What the caller asked for: numbers counted from 0, or names.
    head : array (n, width), optional
        The first rows, which show a column that counts them.

    Raises
    ------
    Refused
        For a column that is not there.
    """
    if wanted is not None:
        return _wanted(names, width, wanted), ()
    if names is not None and (found := coordinates(names)):
        return found, ()
    named = names is not None and any(name and not name.isdecimal() for name in names)
    first = (names[0].strip().lower() if names else "") in COUNTERS
    counted = head is not None and width > 1 and first and (names is not None or width > 3) and counts(head[:, 0])
    taken = list(range(int(counted), width))
    what = f"columns {', '.join(names or ())}, none of them x and y" if named else f"{width} columns without names"
    counter = "; the first counts the rows and was left out" if counted else ""
    if 3 < len(taken) <= MOST:
        said = f"it has {what}{counter}; the {'next' if counted else 'first'} three were taken as coordinates"
        taken = taken[:3]
    elif named or counter or len(taken) > MOST:
        said = f"it has {what}{counter}; all {'others' if counted else len(taken)} were taken as coordinates"
    else:
        return taken, ()
    return taken, (f"{said}, columns= (--columns) chooses.",)


def coordinates(names: Sequence[str]) -> list[int]:
    """Where x, y and z are, or x and y; an empty list if they are not there, or not once each."""
    lower = [name.strip().lower() for name in names]
    for axes in AXES:
        if all(lower.count(axis) == 1 for axis in axes[:2]) and lower.count(axes[2]) <= 1:
            return [lower.index(axis) for axis in axes if axis in lower]
    return []


def _wanted(names: Sequence[str] | None, width: int, wanted: Columns) -> list[int]:
    known = list(names or ())
    lower = [name.strip().lower() for name in known]
    found = []
    for item in [wanted] if isinstance(wanted, (str, int)) else list(wanted):
        if isinstance(item, str) and (item in known or lower.count(item.strip().lower()) == 1):
            place = known.index(item) if item in known else lower.index(item.strip().lower())
        else:
            place = _number(item)
        if not 0 <= place < width:
            expected = f"0 to {width - 1}" + (f", or names among {', '.join(known[:20])}" if known else "")
            raise Refused(f"columns: found {item!r}, expected numbers from {expected}")
        found.append(place)
    if not found or len(set(found)) < len(found):
        raise Refused(f"columns: found {wanted!r}, expected one column at least, each once")
    return found


def _number(item: object) -> int:
    convert: Callable[[object], int] = int  # type: ignore[assignment]  # of a str or an index
    if isinstance(item, bool) or not isinstance(item, (str, int, np.integer)):
        return -1
    try:
        return convert(item)
    except ValueError:
        return -1


def counts(column: NDArray[np.float64]) -> bool:
    """Whether it is 0, 1, 2 ... or 1, 2, 3 ..."""
    if len(column) < 2 or column[0] not in (0.0, 1.0):
        return False
    return bool((column == np.arange(len(column)) + column[0]).all())
