"""The compiled inner loop of exact transport on a sparse graph; what it does is said in ``assignment/flow.py``."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import build


@functools.cache
def _program() -> build.Program:
    return build.Program("flow.h", (Path(__file__).parent / "flow.h").read_text(encoding="utf-8"))


def shortest_paths(sizes: tuple[int, int], arrays: Sequence[Any], lift: float, most: int) -> int:
    """Send each row's supply along shortest paths, in place.

    Parameters
    ----------
    sizes : (int, int)
    arrays : sequence of array
        begin, column, row, cost, f, g, supply, demand and flow, contiguous: int64 and float64.
    lift : float
        By which potentials of rows rise that reach no demand.
    most : int
        Columns that are looked at for each path.

    Returns
    -------
    int
        How many times a row reached none.

    Raises
    ------
    BuildError
        If nothing can be compiled.
    """
    library = build.load(_program())
    library.geomsink_flow.restype = ctypes.c_int64
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    options = ctypes.c_double(lift), ctypes.c_int64(most)
    return int(library.geomsink_flow(*(ctypes.c_int64(n) for n in sizes), *pointers, *options))
