"""Potentials that callers give, checked against the measures that they are of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .arrays import check_finite, tensor
from .measures import Container, Measure


def potentials(name: str, given: Any, measures: tuple[Measure, Measure], container: Container) -> tuple[Tensor, Tensor]:
    """Two potentials, in float64, from what the caller gave under this name.

    Parameters
    ----------
    name : str
    given : pair of array_like, shapes (N,) and (M,)
        Or in the form of a batch.
    measures : pair of Measure
        That the potentials are of.
    container : Container

    Raises
    ------
    TypeError, ValueError
        For anything but two vectors of those lengths, of finite real numbers.
    """
    if not (isinstance(given, (tuple, list)) and len(given) == 2):
        raise TypeError(f"{name}: a {type(given).__name__} was given, expected an earlier solution or a pair (f, g).")
    vectors = []
    for side, (which, vector, measure) in enumerate(zip("fg", given, measures, strict=True)):
        expected = measure.weights.shape
        array = tensor(f"{name}, {which}", container.padded(f"{name}, {which}", vector, side)).detach()
        if array.shape != expected:
            found = f"{name}, {which}: shape is {tuple(array.shape)}"
            raise ValueError(f"{found}, expected {tuple(expected)}, one number a point.")
        check_finite(f"{name}, {which}", array)
        vectors.append(array.to(measure.weights.device, torch.float64))
    return vectors[0], vectors[1]
