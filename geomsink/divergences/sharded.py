"""Clouds that are dealt out to processes, for what nothing can be compressed: requests whose points are `Sharded`.

Each process gives its own points and gets what belongs to them; values are the same number on all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..measures import Arrays, Container, tensor
from ..processes import Group, Parts, deal, own, parts_of
from .options import Options
from .parts import plain
from .requests import Request
from .sketches import Sketch

Layouts = tuple[Parts, Parts]


@dataclass(frozen=True)
class OfParts(Container):
    """What the arrays of one process were: numbers over points are those of its own.

    Attributes
    ----------
    parts : pair of Parts
        Of the two clouds.
    """

    parts: Layouts | None = None

    def of_sides(self, first: int, second: int) -> OfParts:
        assert self.parts is not None
        return replace(self, parts=(self.parts[first], self.parts[second]))

    def array(self, t: Tensor, side: int) -> Any:
        return super().array(own(self._narrowed(t)), side)

    def padded(self, name: str, given: Any, side: int) -> Tensor:
        """Numbers over the own points, as part of those of all; a call of all processes.

        Raises
        ------
        TypeError, ValueError
            For another number of rows.
        """
        assert self.parts is not None
        parts = self.parts[side]
        with parts.group.step(name):
            rows = tensor(name, given)
            if len(rows) != parts.mine:
                raise ValueError(f"{name}: {len(rows)} rows given, expected {parts.mine}, one for each own point.")
            rows = rows.to(self.device)
        return deal(rows, parts)


@dataclass(frozen=True)
class Dealt:
    """The points and weights of all processes, of which each has its rows.

    Attributes
    ----------
    x, y : Tensor
    a, b : Tensor or None
    parts : pair of Parts
    is_numpy : bool
    dtype : torch.dtype
        What the arrays of this process were.
    """

    x: Tensor
    y: Tensor
    a: Tensor | None
    b: Tensor | None
    parts: Layouts
    is_numpy: bool
    dtype: torch.dtype

    @classmethod
    def read(
        cls, given: dict[str, Any], index: tuple[Any, Any], group: Group, what: str, same: dict[str, Any]
    ) -> Dealt:
        """From those of this process, by their names, where all were asked for the same; a call of all.

        Raises
        ------
        TypeError, ValueError
            For bad arrays, and for what is not defined across processes.
        ProcessesError
            If another process fails, or was asked for something else.
        """
        with group.step(what):
            for name in ("x", "y"):
                if isinstance(given[name], Sketch):
                    raise TypeError(f"{name}: a Sketch was given with group, expected the points of this process.")
            if any(one is not None for one in index):
                raise ValueError("x_batch, y_batch: given with group, expected single clouds.")
            own = {name: _as_tensor(name, t) for name, t in given.items() if t is not None}
            arrays = Arrays.read(own, "x, y, a, b")
            is_numpy = not isinstance(given["x"], Tensor)
            for name in ("x", "y"):
                found = f"{name}: shape is {tuple(arrays.tensors[name].shape)}"
                if arrays.tensors[name].ndim != 2:
                    raise ValueError(f"{found}, expected (points, coordinates), those of this process.")
            for name, of in (("a", "x"), ("b", "y")):
                if name in arrays.tensors and len(arrays.tensors[name]) != len(arrays.tensors[of]):
                    found = f"{name}: {len(arrays.tensors[name])} weights for {len(arrays.tensors[of])} points of {of}"
                    raise ValueError(f"{found}, expected one a point.")
        tensors = arrays.tensors
        with group.step(what, **same, **_described(tensors, arrays.dtype, is_numpy)):
            pass
        parts = parts_of(len(tensors["x"]), group), parts_of(len(tensors["y"]), group)
        sides = {"x": parts[0], "a": parts[0], "y": parts[1], "b": parts[1]}
        whole = {name: deal(t, sides[name]) for name, t in tensors.items()}
        return cls(whole["x"], whole["y"], whole.get("a"), whole.get("b"), parts, is_numpy, arrays.dtype)

    def container(self, of_whole: Container) -> OfParts:
        """For numbers over the own points, from the container of the whole."""
        made = {f.name: getattr(of_whole, f.name) for f in fields(Container)}
        return OfParts(**made | {"is_numpy": self.is_numpy, "dtype": self.dtype}, parts=self.parts)


def sharded_request(
    x: Any, y: Any, a: Any, b: Any, options: Options, index: tuple[Any, Any], group: Group, what: str,
    centre: Tensor | None = None,
) -> Request:  # fmt: skip
    """Of all points, from those of this process.

    Raises
    ------
    TypeError, ValueError
        For bad points and weights, and for what is not defined across processes.
    ProcessesError
        If another process fails, or was asked for something else.
    """
    with group.step(what):
        if options.multiscale:
            found = "multiscale: True given with group, whose processes have no cells in common"
            raise ValueError(f"{found}; expected None.")
        if options.iterations is not None:
            raise ValueError("differentiation: 'unrolled' given with group, expected 'envelope' or 'implicit'.")
    same = {f.name: plain(getattr(options, f.name)) for f in fields(Options)}
    whole = Dealt.read({"x": x, "y": y, "a": a, "b": b}, index, group, what, same)
    request = Request.of(whole.x, whole.y, whole.a, whole.b, options, centre=centre)
    return replace(request, container=whole.container(request.container))


def _as_tensor(name: str, given: Any) -> Tensor:
    """An array as it is, in its own precision."""
    if isinstance(given, Tensor):
        return given
    tensor(name, given)
    return torch.from_numpy(np.array(given, order="C"))


def _described(tensors: dict[str, Tensor], dtype: torch.dtype, is_numpy: bool) -> dict[str, Any]:
    """What the arrays of all processes are to be alike in."""
    return {
        "coordinates": [tensors["x"].shape[1], tensors["y"].shape[1]],
        "arrays": "NumPy" if is_numpy else "torch",
        "dtype of the points": str(dtype),
        "weights": [name in tensors for name in ("a", "b")],
        "gradients": sorted(name for name, t in tensors.items() if t.requires_grad),
    }
