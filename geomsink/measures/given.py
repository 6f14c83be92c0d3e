"""One of two measures, or of two batches of them, as a caller gives it: read, checked, and put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .arrays import check_finite
from .batches import Layout, is_list, split

LARGEST_MASS = 1e150
"""Of a measure: squares of masses are computed with, too."""


@dataclass(frozen=True)
class Side:
    """One of the two measures or batches as the caller gave it: names of its points and weights, item by item."""

    kind: str | None
    names: list[tuple[str, str]]

    @classmethod
    def of(cls, of_points: str, of_weights: str, points: Any, weights: Any, index: Any, given: dict[str, Any]) -> Side:
        """Puts the arrays into ``given`` under their names."""
        if points is None:
            raise TypeError(f"{of_points}: None was given, expected points (points, coordinates).")
        kind = "list" if is_list(points) else None
        many: list[Any] = [points]
        of_items: list[Any] = [weights]
        if index is not None:
            arrays = {of_points: points} | ({} if weights is None else {of_weights: weights})
            parts, kind = split(f"{of_points}_batch", index, arrays), "index"
            many, of_items = parts[of_points], parts.get(of_weights, [None] * len(parts[of_points]))
        elif kind == "list":
            many = list(points)
            of_items = [None] * len(many) if weights is None else list(weights)
            if len(of_items) != len(many):
                raise ValueError(f"{of_weights}: {len(of_items)} weights for {len(many)} clouds, expected one of each.")
        names = [
            (f"{of_points}[{k}]", f"{of_weights}[{k}]") if kind else (of_points, of_weights) for k in range(len(many))
        ]
        for pair, item, w in zip(names, many, of_items, strict=True):
            given[pair[0]] = item
            if w is not None:
                given[pair[1]] = w
        return cls(kind, names)

    def assembled(self, arrays: dict[str, Tensor], parts: bool = False) -> tuple[Tensor, Tensor, Layout | None]:
        """Points, weights, and the layout of a batch; ``parts`` may be empty."""
        points = [_shaped(name, arrays[name], batched=self.kind is None, empty=parts) for name, _ in self.names]
        given = [arrays.get(name) for _, name in self.names]
        for (of_points, of_weights), p, w in zip(self.names, points, given, strict=True):
            if p.shape[-1] != points[0].shape[-1]:
                found = f"{p.shape[-1]} coordinates a point, but {self.names[0][0]} has {points[0].shape[-1]}"
                raise ValueError(f"{of_points}: {found}; expected the same number.")
            if w is not None and w.shape != p.shape[:-1]:
                raise ValueError(
                    f"{of_weights}: shape is {tuple(w.shape)}, expected {tuple(p.shape[:-1])}, one weight a point of "
                    f"{of_points}."
                )
        # A GPU is waited for: once where all is well, however many clouds there are.
        sound = [p.isfinite().all() for p in points] + [_are_weights(w, parts) for w in given if w is not None]
        if not bool(torch.stack(sound).all()):
            for (of_points, of_weights), p, w in zip(self.names, points, given, strict=True):
                check_finite(of_points, p)
                if w is not None:
                    _check_weights(of_weights, w, parts)
        weights = [_uniform(p) if w is None else w.double() for p, w in zip(points, given, strict=True)]
        if self.kind is not None:
            layout = Layout(self.kind, tuple(len(p) for p in points))
            return layout.pad(points, fill=True), layout.pad(weights, fill=False), layout
        batch = Layout("tensor", (points[0].shape[1],) * len(points[0])) if points[0].ndim == 3 else None
        return points[0], weights[0], batch


def _shaped(name: str, points: Tensor, batched: bool, empty: bool) -> Tensor:
    if points.ndim != 2 and not (batched and points.ndim == 3):
        raise ValueError(f"{name}: shape is {tuple(points.shape)}, expected (points, coordinates).")
    if 0 in (points.shape[-1:] if empty else points.shape):
        raise ValueError(f"{name}: shape is {tuple(points.shape)}, expected at least one point and one coordinate.")
    return points


def _uniform(points: Tensor) -> Tensor:
    shape = points.shape[:-1]
    return points.new_full(shape, 1.0 / max(shape[-1], 1), dtype=torch.float64)


def _are_weights(weights: Tensor, empty: bool) -> Tensor:
    """Whether all are finite and none is negative, and, unless they may be ``empty``, they have a mass; shape ()."""
    sound = (weights.isfinite() & (weights >= 0)).all() & (weights.double().sum(-1) < LARGEST_MASS).all()
    return sound if empty else sound & (weights > 0).any(-1).all()


def _check_weights(name: str, weights: Tensor, empty: bool) -> None:
    """Say what is wrong with weights that are none."""
    check_finite(name, weights)
    if bool((weights < 0).any()):
        raise ValueError(f"{name}: the smallest weight is {float(weights.min()):.3g}, expected none below zero.")
    if not (empty or bool((weights > 0).any(-1).all())):
        raise ValueError(f"{name}: all weights are zero, expected a positive mass.")
    if not bool((weights.double().sum(-1) < LARGEST_MASS).all()):
        raise ValueError(f"{name}: they sum to more than {LARGEST_MASS:.0e}, expected a smaller mass.")
