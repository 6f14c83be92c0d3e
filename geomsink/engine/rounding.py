"""How far rounding can put a row sum of the Gibbs operator off, apart from that of its exponents."""

from __future__ import annotations

import torch

from . import codegen
from .batch import BatchPair
from .gibbs import Pair
from .keops import KeopsPair
from .sharded import SUFFIX, ShardedPair
from .tiled import TiledPair

UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
"""Largest relative error of one rounding."""
EXPONENTIAL = 4.0
"""Of the exponential function, in roundings: 2 units in the last place, compiled and in torch."""
FAST = 2.0 * (2.0 + 1.173 * 104.0)
"""The same of float32 on CUDA, which KeOps compiles with fast math: __expf is right to 2 + 1.173 |x| units in the last
place (CUDA C++ Programming Guide), and not 0 for |x| ≤ 104."""


def certain(pair: Pair) -> Pair:
    """The same on an engine whose rounding has a bound here: exponents of tiles have one that depends on them."""
    if isinstance(pair, (BatchPair, ShardedPair)):
        return pair.certain(certain)
    return KeopsPair(pair.x, pair.y, pair.cost) if isinstance(pair, TiledPair) else pair


def rounding(pair: Pair) -> float:
    """Relative error, at most, that exponentials and additions put into row sums: all terms are positive.

    Compiled sums are in double, but for tiles of columns; others may add all columns one by one, for all that is known.
    """
    columns, unit = pair.y.shape[-2], UNIT[pair.x.dtype]
    at_once, exponential, name = columns, EXPONENTIAL, pair.name.removesuffix(SUFFIX)
    if name == "keops" and not pair.x.is_cuda:
        at_once = min(codegen.tile(pair.x.shape[-1] + 1), columns)
    elif name == "keops" and pair.x.dtype == torch.float32:
        exponential = FAST
    again = float(isinstance(pair, ShardedPair))  # sums of blocks are rounded, and their sum
    return unit * (at_once + exponential + 1.0 + again) + UNIT[torch.float64] * columns
