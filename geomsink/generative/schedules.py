"""Numbers that change while a generator learns: temperatures and learning rates."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..counts import positive

NAMES = ("blur", "epsilon")


def number(loss: Any, name: str) -> float | None:
    """A loss's ``blur`` or ``epsilon`` if it is one number."""
    value = getattr(loss, name, None)
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach())
    return float(value) if isinstance(value, numbers.Real) else None


def geometric(start: float, end: float, share: float) -> float:
    return float(start * (end / start) ** share)


def half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0


class Course:
    """A positive number for each step.

    Parameters
    ----------
    name : str
        Of the argument, for sentences.
    given : pair of float, or callable
        ``(start, end)``, of the first and the last step; or a function of the step t = 0, 1, ...
    steps : int
    between : callable
        ``between(start, end, t / (steps - 1))`` in between.

    Raises
    ------
    TypeError, ValueError
        For anything else.

    Examples
    --------
    >>> course = Course("lr", (1.0, 0.0001), 3, half_cosine)
    >>> [round(course(t), 3) for t in range(3)]
    [1.0, 0.5, 0.0]
    """

    def __init__(self, name: str, given: Any, steps: int, between: Callable[[float, float, float], float]):
        self.name, self._steps, self._between = name, steps, between
        self._function: Callable[[int], Any] | None = None
        if isinstance(given, (tuple, list)):
            if len(given) != 2:
                raise ValueError(
                    f"{name}: {len(given)} numbers given, expected (start, end) or a function of the step."
                )
            self._ends = positive(name, given[0]), positive(name, given[1])
        elif callable(given):
            self._function = given
        else:
            kind, or_one = type(given).__name__, "a number, " if name == "lr" else ""
            raise TypeError(f"{name}: a {kind} was given, expected {or_one}(start, end) or a function of the step.")

    def __call__(self, step: int) -> float:
        """The number at a step, counted from 0; after the last step it stays."""
        if self._function is not None:
            return positive(f"{self.name}, at step {step}", self._function(step))
        return self._between(*self._ends, min(step, self._steps - 1) / max(self._steps - 1, 1))

    def describe(self) -> str:
        """For checkpoints: what must be the same when a run is resumed."""
        if self._function is not None:
            first, then = self(0), self(min(1, self._steps - 1))
            return f"a function of the step that is {first:.9g} at first and {then:.9g} then"
        return f"from {self._ends[0]:.9g} to {self._ends[1]:.9g} in {self._steps} steps"


class Schedule(Course):
    """Of a loss's ``blur`` or ``epsilon``, geometric, which is set before each step.

    Parameters
    ----------
    loss : callable
        Whose attribute is set.
    name : {"blur", "epsilon"}
    given, steps
        As `Course` takes them.

    Raises
    ------
    TypeError, ValueError
        For anything else, and for a loss that has no such number.

    Examples
    --------
    >>> from geomsink import SinkhornDivergence
    >>> schedule = Schedule(SinkhornDivergence(blur=1.0), "blur", (1.0, 0.01), steps=3)
    >>> [round(schedule(t), 3) for t in range(3)]
    [1.0, 0.1, 0.01]
    """

    def __init__(self, loss: Any, name: str, given: Any, steps: int):
        if number(loss, name) is None:
            has = next((other for other in NAMES if number(loss, other) is not None), None)
            found = f"has {has}" if has else "has no blur or epsilon that is a number"
            raise ValueError(f"{name}: a schedule was given, but the loss {found}; expected a loss with {name}=.")
        if isinstance(getattr(loss, name), nn.Parameter):
            raise TypeError(f"{name}: a schedule was given for a loss whose {name} is a parameter; expected a number.")
        super().__init__(name, given, steps, geometric)
