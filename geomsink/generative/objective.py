"""A loss of the points of all processes, at learned features where there are any."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..measures import OutOfRange
from . import processes

Loss = Callable[[Tensor, Tensor], Tensor]


class NotFinite(Exception):
    """Numbers that are not finite: where, and the loss if there is one; with the seed and the points of the batch.

    Attributes
    ----------
    seed : int
    clouds : pair of Tensor, or None
        Generated points and data.
    """

    def __init__(self, what: str, value: float | None = None):
        super().__init__(what)
        self.what, self.value = what, value
        self.seed = 0
        self.clouds: tuple[Tensor, Tensor] | None = None


def forgetful(name: str, loss: Any) -> Any:
    """A loss without memory of its last call.

    The points of one step are not those of the next, so that potentials are no start for it; and a resumed run could
    not have them.

    Raises
    ------
    TypeError
        For what cannot be called.
    """
    if not callable(loss):
        raise TypeError(f"{name}: a {type(loss).__name__} was given, expected a module or a function of (x, y).")
    if not isinstance(loss, nn.Module):
        return loss
    twin = copy.copy(loss)
    for option in ("warm_start", "reuse"):
        if hasattr(twin, option):
            setattr(twin, option, False)
    return twin


def describe(loss: Any) -> str:
    """For checkpoints: what must be the same when a run is resumed."""
    return repr(loss) if isinstance(loss, nn.Module) else str(getattr(loss, "__qualname__", type(loss).__name__))


class Objective:
    """``loss(φ(x), φ(y))`` of the union of what the processes have, points flattened to vectors.

    Parameters
    ----------
    loss : callable
    phi : torch.nn.Module, optional
    """

    def __init__(self, loss: Loss, phi: nn.Module | None = None):
        self.loss, self._phi = loss, phi

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss, a scalar; x has shape (n, ...), y (m, ...).

        Raises
        ------
        NotFinite
            If points, features or the loss are not: on all processes alike.
        TypeError, ValueError
            For points of different shapes, and a loss that is no scalar.
        """
        if x.shape[1:] != y.shape[1:]:
            found = f"points of shape {tuple(x.shape[1:])}, but data has {tuple(y.shape[1:])}"
            raise ValueError(f"generator: it makes {found}; expected the same.")
        if self._phi is not None:
            if processes.total(int((~x.isfinite()).sum())):
                raise NotFinite("generated points")
            both = self._phi(torch.cat((x, y)))
            if not isinstance(both, Tensor) or len(both) != len(x) + len(y):
                found = f"shape {tuple(both.shape)}" if isinstance(both, Tensor) else f"a {type(both).__name__}"
                raise ValueError(f"features: {found} came of {len(x) + len(y)} points, expected one row a point.")
            x, y = both.split([len(x), len(y)])
        x, y = processes.gather(x.flatten(1)), processes.gather(y.flatten(1))
        finite("generated points" if self._phi is None else "features", x)
        finite("data" if self._phi is None else "features", y)
        try:
            value = self.loss(x, y)
        except OutOfRange as error:
            raise NotFinite("loss", math.inf) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise TypeError(f"loss: it returned {found}, expected a scalar tensor.")
        value = value.reshape(())
        finite("loss", value, float(value.detach()))
        return value

    @property
    def report(self) -> Any:
        """Of the last call, where the loss has one."""
        return getattr(self.loss, "report", None)


def finite(what: str, numbers: Tensor, value: float | None = None) -> None:
    if not bool(numbers.isfinite().all()):
        raise NotFinite(what, value)


@contextmanager
def untrained(module: nn.Module | None) -> Iterator[None]:
    """Without gradients in a module's weights."""
    trained = [] if module is None else [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
