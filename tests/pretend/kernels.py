"""KeOps' kernels on the pretend device: built by the library for CPUs, and run on what KeOps is given."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor

from geomsink.engine import Blocks, build, cuda, reduction

from .log import note
from .tensors import Pretended, Refused, inside


class AnyTensor:
    """Equal to the type of every tensor: a LazyTensor is made of a pretended one, too."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type) and issubclass(other, Tensor)

    __hash__ = None  # type: ignore[assignment]


@contextlib.contextmanager
def keops() -> Iterator[None]:
    build.keops()
    from pykeops.torch.utils import torchtools

    with contextlib.ExitStack() as stack:
        for owner, name, instead in (
            (torchtools, "arraytype", AnyTensor()),
            (cuda, "_reduction", functools.cache(_Reduction)),
            (cuda, "_compiled", set()),
            (build, "one_at_a_time", threading.RLock()),  # the library builds where KeOps would
        ):
            stack.enter_context(mock.patch.object(owner, name, instead))
        yield


class _Reduction:
    """In place of KeOps' object for a reduction over j."""

    def __init__(self, text: str, aliases: tuple[str, ...]):
        self.text, self.aliases = unbounded(text), aliases

    def __call__(self, *given: Tensor, ranges: tuple[Tensor, ...] | None = None) -> Tensor:
        note("keops", self.text)
        everything = (*given, *(ranges or ()))
        if not all(isinstance(t, Pretended) and t.is_contiguous() for t in everything):
            raise Refused("KeOps was given tensors that are not on the device, or not contiguous")
        sizes = self._rows(given, 0), self._rows(given, 1)
        blocks = None if ranges is None else pattern(*ranges)
        found = reduction.reduce(
            self.text, self.aliases, [inside(t) for t in given], sizes, _dimension(self.text, self.aliases), blocks
        )
        return Pretended(found)

    def _rows(self, given: tuple[Tensor, ...], axis: int) -> int:
        (rows,) = {len(given[int(k)]) for k in re.findall(rf"Var\((\d+),\d+,{axis}\)", self.text)}
        return rows


def pattern(rows: Tensor, slices: Tensor, columns: Tensor, *transpose: Tensor) -> Blocks:
    """The pattern that KeOps reads out of its ``ranges`` for a reduction over j."""
    rows, slices, columns = inside(rows), inside(slices), inside(columns)
    first = torch.cat((torch.zeros(1, dtype=torch.int64), slices))
    return Blocks(*(t.contiguous() for t in (rows[:, 0], rows[:, 1], first, columns[:, 0], columns[:, 1])))


@functools.cache
def _dimension(text: str, aliases: tuple[str, ...]) -> int:
    from keopscore.formulas.GetReduction import GetReduction

    return int(GetReduction(text, aliases=list(aliases)).formula.dim)


def unbounded(text: str) -> str:
    """A formula without bounds of its exponents, to which the library's exponential for CPUs keeps by itself: that one
    is compiled for other tests already.

    Examples
    --------
    >>> unbounded("Exp(ClampInt(Subtract(Var(0,1,0),Var(1,1,1)),-1000,88))*Var(2,1,1)")
    'Exp(Subtract(Var(0,1,0),Var(1,1,1)))*Var(2,1,1)'
    """
    before, clamp, rest = text.partition("ClampInt(")
    if not clamp:
        return text
    depth, ends = 0, []
    for k, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            ends.append(k)
    return before + unbounded(rest[: ends[0]] + rest[k + 1 :])
