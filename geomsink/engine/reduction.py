"""Runs a KeOps formula: on a CPU with arguments laid out for the compiled loop, long calls cut into short ones."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import build, codegen, cuda
from .blocks import Blocks

PAIRS_PER_CALL = 2**33
"""A longer reduction is cut into calls of this many pairs (seconds each), so that Ctrl-C is answered."""
WIDTHS = (1, 4, 16)
"""Columns that products have in one pass: each width is one compilation."""
REALS = {torch.float32: "float", torch.float64: "double"}


def reduce(
    text: str,
    aliases: Sequence[str],
    variables: Sequence[Tensor],
    sizes: tuple[int, int],
    dimension: int,
    blocks: Blocks | None = None,
    by_columns: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """A KeOps reduction over j: on a CPU by our own build of it, on CUDA by KeOps'.

    Parameters
    ----------
    text : str
        ``Sum_Reduction(...)`` or ``Max_Reduction(...)``, over j.
    aliases : sequence of str
        KeOps' declarations of its variables, if any.
    variables : sequence of Tensor
        (N, d) for those over i, (M, d) for those over j, (d,) for parameters; of one precision and device.
    sizes : (int, int)
        N and M.
    dimension : int
        Numbers a row of the result.
    blocks : Blocks, optional
        The pairs to reduce over. Default: all.
    by_columns : callable, optional
        `columns`, or a version of it that remembers; for CPUs.

    Returns
    -------
    Tensor, shape (N, dimension)
    """
    first = variables[0]
    if first.is_cuda:
        return cuda.reduce(text, aliases, variables, blocks)
    formula = codegen.Formula(text, tuple(aliases), len(variables), REALS[first.dtype])
    library = build.load(formula)
    over_j = _over_j(text)
    lay = by_columns or columns
    arguments = [lay(t) if k in over_j else t.contiguous() for k, t in enumerate(variables)]
    out = torch.empty(sizes[0], dimension, dtype=first.dtype, device=first.device)
    for part in (blocks or Blocks.whole(*sizes)).parts(PAIRS_PER_CALL):
        pattern = (part.row_begin, part.row_end, part.first, part.begin, part.end)
        library.geomsink_reduce(
            ctypes.c_int64(stride(sizes[1], first.element_size())),
            ctypes.c_int64(len(part.row_begin)),
            *(ctypes.c_void_p(t.data_ptr()) for t in pattern),
            ctypes.c_void_p(out.data_ptr()),
            (ctypes.c_void_p * len(arguments))(*(t.data_ptr() for t in arguments)),
            ctypes.c_int(torch.get_num_threads()),
        )
    return out


@functools.lru_cache(maxsize=256)
def _over_j(text: str) -> frozenset[int]:
    """Which variables of a formula are over j."""
    return frozenset(int(k) for k in re.findall(r"Var\((\d+),\d+,1\)", text))


def apart(width: int) -> list[int]:
    """Widths of the passes that make up a product of so many columns, or of a few more.

    Examples
    --------
    >>> apart(21)
    [16, 16]
    """
    whole, left = divmod(width, WIDTHS[-1])
    return [WIDTHS[-1]] * whole + [next(size for size in WIDTHS if size >= left)] * (left > 0 or not width)


def columns(t: Tensor) -> Tensor:
    """A j-variable (M, d), coordinate by coordinate."""
    if t.shape[1] == 1:
        return t.contiguous()
    laid = t.new_empty(t.shape[1], stride(len(t), t.element_size()))
    laid[:, : len(t)] = t.t()
    return laid


def stride(n: int, bytes_each: int) -> int:
    """Numbers from one coordinate of a j-variable to the next: an odd number of cache lines.

    With 16 coordinates and a stride of a power of two, all would compete for the same places in the
    cache, which was measured to be 2 to 3 times slower.
    """
    per_line = 64 // bytes_each
    return (-(-n // per_line) | 1) * per_line
