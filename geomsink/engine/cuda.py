"""Runs a KeOps formula on CUDA, by KeOps' own kernels; its derivatives are formulas of their own here."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor

from . import build
from .blocks import Blocks

_compiled: set[tuple[Any, ...]] = set()
"""Reductions that have run, with the precision, device and kind of pattern that they are compiled for."""


def reduce(text: str, aliases: Sequence[str], variables: Sequence[Tensor], blocks: Blocks | None = None) -> Tensor:
    """A KeOps reduction over j; parameters are those of `geomsink.engine.reduction.reduce`, on a GPU."""
    given = tuple(t.detach().contiguous() for t in variables)
    ranges = None if blocks is None else blocks.keops_ranges(given[0].device)
    stream = torch.cuda.current_stream(given[0].device)
    if stream != torch.cuda.default_stream(given[0].device):
        stream.synchronize()  # KeOps launches on the default one, which does not wait for others, and waits for it
    reduction = _reduction(text, tuple(aliases))
    kind = reduction, given[0].dtype, given[0].device, ranges is None
    if kind in _compiled:
        return reduction(*given, ranges=ranges)  # type: ignore[no-any-return]
    with build.one_at_a_time, redirect_stdout(io.StringIO()):  # KeOps says what it compiles
        out: Tensor = reduction(*given, ranges=ranges)
    _compiled.add(kind)
    return out


@functools.lru_cache(maxsize=256)
def _reduction(text: str, aliases: tuple[str, ...]) -> Any:
    """KeOps' object for the text of a reduction, ``Sum_Reduction(formula,0)``, over j."""
    kind, _, rest = text.partition("_Reduction(")
    formula, _, axis = rest.rpartition(",")
    if axis != "0)":
        raise ValueError(f"{text} is not reduced over j.")
    # None, as KeOps takes its own default for a yes: its loop for wide factors fails on gradients in 147 coordinates.
    return build.keops().Genred(formula, list(aliases), reduction_op=kind, axis=1, rec_multVar_highdim=None)
