"""What the registries of costs and of kernels have in common: what they try before they take one, and names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def tried(given: Callable[[Tensor, Tensor], Any], what: str, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """Random points of a cube, (4, 3) and (5, 3), and the finite numbers, (4, 5), that a cost or kernel has of them.

    Raises
    ------
    ValueError
        If it has none.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = (width * torch.rand(n, 3, generator=generator, dtype=torch.float64, device="cpu") for n in (4, 5))
    try:
        found = given(x, y)
    except Exception as error:
        found = f"expression: it fails on torch tensors of shapes (4, 1, 3) and (1, 5, 3) ({error})"
        raise ValueError(f"{found}, expected one {what} a pair.") from error
    if not isinstance(found, Tensor) or found.shape != (4, 5):
        kind = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(f"expression: 4 points against 5 give {kind}, expected one {what} a pair, shape (4, 5).")
    if not bool(found.isfinite().all()):
        raise ValueError(f"expression: it gives NaN or infinite {what}s on random points of a cube.")
    return x, y, found


def unknown(kind: str, name: str, known: Iterable[str], names: Iterable[str], where: str) -> str:
    """A sentence about a cost or a kernel, given as the argument ``kind``, that is none of the ``known`` ones, and
    where one's own get a name."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"{kind}: unknown name {name!r}{hint}; expected one of {', '.join(names)}, or one's own, which "
        f"geomsink.{where}.register gives a name."
    )
