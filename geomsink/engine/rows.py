"""Row by row: what is wanted of single pairs, which no reduction tells, a bounded number of them at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..choose import skips_pairs
from .blocks import Blocks
from .gibbs import Pair

CHUNK = 2**21
"""Numbers in memory at a time, of the cost's largest temporary, (rows, columns, D)."""


def can_skip(pair: Pair) -> bool:
    """Whether blocks of pairs between two single clouds can be skipped."""
    return skips_pairs(len(pair.x) * len(pair.y), pair.x.device, pair.cost.lower_bound is not None)


def rows_at_once(pair: Pair, columns: int) -> int:
    """Rows whose pairs with so many columns are in memory at a time."""
    return max(1, CHUNK // (columns * pair.cost.temporaries(pair.x.shape[1])))


def row_by_row(pair: Pair, blocks: Blocks, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the rows that are ``wanted``, and the columns that they see; rows that see none are left out.

    Parameters
    ----------
    pair : Pair
        Two single clouds.
    blocks : Blocks
    wanted : Tensor, shape (K,), int64
        In order.
    """
    device = wanted.device
    cuts = torch.searchsorted(wanted, torch.stack((blocks.row_begin, blocks.row_end)).to(device)).tolist()
    first, begin, end = blocks.first.tolist(), blocks.begin.tolist(), blocks.end.tolist()
    for k, (low, high) in enumerate(zip(*cuts, strict=True)):
        ranges = [r for r in range(first[k], first[k + 1]) if begin[r] < end[r]]
        if low == high or not ranges:
            continue
        columns = torch.cat([torch.arange(begin[r], end[r], device=device) for r in ranges])
        for rows in wanted[low:high].split(rows_at_once(pair, len(columns))):
            yield rows, columns
