"""Batches of clouds: as one tensor, as lists, or as all points with the item that each belongs to.

Whatever they come as, they are worked on as one tensor (B, N, D), where smaller clouds are filled up with copies of
their last point that have no weight; and what is found goes back in the form that the points came in.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arrays import native


@dataclass(frozen=True)
class Layout:
    """How the caller holds a batch of clouds.

    Attributes
    ----------
    kind : {"tensor", "list", "index"}
    lengths : tuple of int
        Points of each item.
    """

    kind: str
    lengths: tuple[int, ...]

    @property
    def counts(self) -> Tensor:
        """The lengths, shape (B,), int64, on the CPU."""
        return torch.tensor(self.lengths, device="cpu")

    def pad(self, items: list[Tensor], fill: bool) -> Tensor:
        """One tensor (B, N, ...) from items (n, ...): filled up with copies of the last row, or with zeros."""
        most = max(self.lengths)
        padded = []
        for item, n in zip(items, self.lengths, strict=True):
            rows = item[torch.arange(most, device=item.device).clamp(max=n - 1)]
            if not fill:
                rows = torch.where(torch.arange(most, device=item.device) < n, rows, 0.0)
            padded.append(rows)
        return torch.stack(padded)

    def unpad(self, t: Tensor) -> Any:
        """Vectors or matrices (B, N, ...) in the caller's form."""
        if self.kind == "tensor":
            return t
        items = [t[k, :n] for k, n in enumerate(self.lengths)]
        return items if self.kind == "list" else torch.cat(items)


def is_list(points: Any) -> bool:
    """Whether points are a list of clouds, and not one cloud written as nested lists of numbers."""
    return (
        isinstance(points, (list, tuple))
        and len(points) > 0
        and all(isinstance(p, (Tensor, np.ndarray)) for p in points)
        and any(p.ndim > 1 for p in points)
    )


def split(name: str, index: Any, arrays: dict[str, Any]) -> dict[str, list[Any]]:
    """Arrays over all points of a batch, cut into its items.

    Parameters
    ----------
    name : str
        What the caller calls the index.
    index : array_like, shape (P,), integers
        The item, from 0, that each point belongs to; not decreasing.
    arrays : dict of arrays, shapes (P, ...)

    Raises
    ------
    TypeError, ValueError
        For an index of another length, that is no whole numbers, that decreases, or that leaves an item out.

    Examples
    --------
    >>> split("x_batch", [0, 0, 1], {"x": torch.arange(3)})
    {'x': [tensor([0, 1]), tensor([2])]}
    """
    given = index if isinstance(index, Tensor) else np.asarray(index)
    kind = str(given.dtype).removeprefix("torch.") if isinstance(given, Tensor) else given.dtype.newbyteorder("=").name
    if kind not in ("int64", "int32"):
        raise TypeError(f"{name}: dtype is {kind}, expected int64.")
    item = given if isinstance(given, Tensor) else native(given)
    for other, array in arrays.items():
        if item.shape != (len(array),):
            raise ValueError(
                f"{name}: shape is {tuple(item.shape)}, expected ({len(array)},), one item a row of {other}."
            )
    if item.numel() and (int(item.min()) < 0 or bool((item.diff() < 0).any())):
        raise ValueError(
            f"{name}: it decreases or is negative somewhere, expected items 0, 0, ..., 1, 1, ... in order."
        )
    # Not counted before: of large numbers in the place of items, counts would fill the memory.
    before = torch.cat((item.new_full((1,), -1), item))
    left_out = (before.diff() > 1).nonzero()[:, 0] if item.numel() else item.new_zeros(1)
    if len(left_out):
        raise ValueError(f"{name}: item {int(before[left_out[0]]) + 1} has no points, expected one at least.")
    ends = [0, *torch.bincount(item).cumsum(0).tolist()]
    return {key: [array[i:j] for i, j in itertools.pairwise(ends)] for key, array in arrays.items()}
