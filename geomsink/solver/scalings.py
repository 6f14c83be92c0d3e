"""Small problems by Newton's method on scalings of a kernel in memory: products with a matrix, hardly an exponential.

Between two measures f is exact for each g, and the dual is a concave function of g alone, with Newton's matrix
diag(Pᵀ1) − Pᵀ diag(1/a) P over ε: each step is found by conjugate gradients, shifted where the marginal error is large
(Levenberg, Marquardt), and shortened until it raises the dual value; where a marginal is off by a factor it follows a
plain update. A self problem has diag(P1) + P. A vector of 200 numbers costs torch more than the arithmetic: on a CPU
they are NumPy's, on a GPU tensors, and what is written here is for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

Array = Any
"""Of NumPy, or a tensor."""

SHIFT, SMALLEST, LARGEST = 0.1, 0.01, 1e3
"""What Newton's matrix is shifted by, in units of its diagonal and of the marginal error: at first, and at least and at
most."""
OFF = 0.1
"""Relative error of a point's marginal from which on a plain update comes before Newton's step."""
STEP = 5.0
"""Largest change of a potential in a step, in ε: the dual is far from quadratic beyond it."""
GROWTH = 1.5
"""Growth of the marginal error that a step may have which raises the dual value."""
ROUNDED = 1e-14
"""What rounding does to the dual value, in ε and of itself: a step that lowers the marginal error may lose as much."""
SHORTER, TRIALS = 0.3, 6
"""What a step is shortened by that is of no use, and how often."""
ITERATIONS = 100
"""Of conjugate gradients, at most: a step that is found less well is one all the same."""
TOGETHER = 4
"""Iterations from one look at what is left to the next, on a GPU, which is waited for."""
LEAST = 1e-300
"""Diagonal of points without weight."""
FORCED = 0.1, 0.3
"""Residual of Newton's equation, relative: at first, and of what is left to the target."""
DIGITS = 1e-4
"""At least: products may be in float32."""


@dataclass
class Point:
    """Exponents of scalings and what follows from them.

    Attributes
    ----------
    exponents : tuple of array, shapes (N,) and (M,)
        Of rows and columns: potentials, less those in the kernel, over ε.
    sums : array, shape (M,)
        Marginal over weight of the columns; of a self problem, of the rows.
    error : float
        The marginal error.
    gain : float
        The dual value less that of the kernel's potentials, over ε.
    lowest, highest : float
        Of the sums.
    reach : float
        The largest exponent.
    """

    exponents: tuple[Array, Array]
    sums: Array
    error: float
    gain: float
    lowest: float
    highest: float
    reach: float

    @classmethod
    def of(cls, exponents: tuple[Array, Array], sums: Array, error: Array, gain: Array) -> Point:
        """Of the numbers as they are found."""
        first, second = exponents
        sizes = [first.max(), -first.min()]
        sizes += [] if second is first else [second.max(), -second.min()]
        error, gain, lowest, highest, *sizes = _numbers(error, gain, sums.min(), sums.max(), *sizes)
        return cls(exponents, sums, error, gain, lowest, highest, max(sizes))

    @property
    def sound(self) -> bool:
        """Whether sums are numbers, and nothing has underflowed."""
        return math.isfinite(self.error) and math.isfinite(self.gain) and self.lowest > 0.0

    @property
    def off(self) -> float:
        """The largest relative error of a marginal."""
        return max(self.highest - 1.0, 1.0 - self.lowest)


class Scaled(Protocol):
    """The unknown exponents, one vector z, and Newton's method for them."""

    def at(self, z: Array) -> Point: ...

    def unknown(self, state: Point) -> Array: ...
    def next(self, state: Point) -> Array:
        """After a plain update."""
        ...

    def newton(self, state: Point, shift: float) -> tuple[Array, Array, Callable[[Array], Array]]:
        """What the marginal misses, the matrix' diagonal, and products with the matrix; its diagonal is shifted by this
        share of itself."""
        ...


class Between:
    """Two measures; z are the exponents of the columns.

    Parameters
    ----------
    kernel : array, shape (N, M)
    light : array, shape (N, M)
        The same for Newton's steps, in float32 where that is faster.
    a : array, shape (N,)
    b : array, shape (M,)
        Weights, of the same sum.
    """

    def __init__(self, kernel: Array, light: Array, a: Array, b: Array):
        self.kernel, self.light, self.a, self.b = kernel, light, a, b

    def at(self, z: Array) -> Point:
        q = _exp(z)
        rows = _times(self.kernel, self.b * q)
        sums = q * _times(self.kernel.T, self.a / rows)
        up = -_log(rows)
        return Point.of((up, z), sums, abs(self.b * (sums - 1.0)).sum(), self.a @ up + self.b @ z)

    def unknown(self, state: Point) -> Array:
        return state.exponents[1]

    def next(self, state: Point) -> Array:
        return state.exponents[1] - _log(state.sums)

    def newton(self, state: Point, shift: float) -> tuple[Array, Array, Callable[[Array], Array]]:
        p, q = (_exp(h) for h in state.exponents)
        diagonal = ((1.0 + shift) * self.b * state.sums).clip(LEAST, None)
        squared, weights = self.a * p * p, self.b * q

        def times(d: Array) -> Array:
            rows = squared * _times(self.light, weights * d)
            return diagonal * d - weights * _times(self.light.T, rows)

        return self.b * (1.0 - state.sums), diagonal, times


class Within:
    """A measure and itself; both exponents are z.

    Parameters
    ----------
    kernel, light : array, shape (N, N)
    a : array, shape (N,)
    """

    def __init__(self, kernel: Array, light: Array, a: Array):
        self.kernel, self.light, self.a = kernel, light, a

    def at(self, z: Array) -> Point:
        p = _exp(z)
        sums = p * _times(self.kernel, self.a * p)
        missing = self.a * (sums - 1.0)
        return Point.of((z, z), sums, 2.0 * abs(missing).sum(), 2.0 * (self.a @ z) - missing.sum())

    def unknown(self, state: Point) -> Array:
        return state.exponents[0]

    def next(self, state: Point) -> Array:
        return state.exponents[0] - 0.5 * _log(state.sums)

    def newton(self, state: Point, shift: float) -> tuple[Array, Array, Callable[[Array], Array]]:
        weights = self.a * _exp(state.exponents[0])
        diagonal = ((1.0 + shift) * self.a * state.sums).clip(LEAST, None)

        def times(d: Array) -> Array:
            return diagonal * d + weights * _times(self.light, weights * d)

        return self.a * (1.0 - state.sums), diagonal, times


def _exp(z: Array) -> Array:
    return z.exp() if isinstance(z, Tensor) else np.exp(z)


def _log(z: Array) -> Array:
    return z.log() if isinstance(z, Tensor) else np.log(z)


def _times(kernel: Array, w: Array) -> Array:
    """A product in the kernel's precision."""
    if isinstance(kernel, Tensor):
        return (kernel @ w.to(kernel.dtype)).double()
    return (kernel @ w.astype(kernel.dtype, copy=False)).astype(np.float64, copy=False)


def _numbers(*found: Array) -> list[float]:
    """Read at once: a GPU is waited for."""
    if isinstance(found[0], Tensor):
        numbers: list[float] = torch.stack(found).tolist()
        return numbers
    return [float(number) for number in found]


def narrowed(kernel: Array) -> Array:
    """The same in float32."""
    return kernel.float() if isinstance(kernel, Tensor) else kernel.astype(np.float32)


def of_tensor(t: Tensor) -> Array:
    """What is computed with, on a tensor's device."""
    return t.numpy() if t.device.type == "cpu" else t


def to_tensor(array: Array) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def steps(problem: Scaled, state: Point, target: Callable[[Point], float]) -> Iterator[Point]:
    """Points one after the other: plain updates, each followed by Newton's step; ends at a marginal error, or where
    no step is of use."""
    shift = SHIFT
    while state.error > target(state):
        if state.off > OFF:
            state = problem.at(problem.next(state))
            yield state
            if not state.sound or state.error <= target(state):
                return
        missing, diagonal, times = problem.newton(state, shift * state.error)
        first, share = FORCED
        enough = max(min(first, state.error), share * target(state) / state.error, DIGITS)
        step = _conjugate_gradients(times, missing, diagonal, enough)
        length = min(1.0, STEP / max(float(abs(step).max()), 1e-300))
        for _ in range(TRIALS):
            after = problem.at(problem.unknown(state) + length * step)
            slack = ROUNDED * (1.0 + abs(state.gain)) if after.error < state.error else 0.0
            if after.sound and after.gain >= state.gain - slack and after.error < GROWTH * state.error:
                break
            length *= SHORTER
        else:
            return
        shift = max(SHORTER * shift, SMALLEST) if length == 1.0 else min(shift / math.sqrt(length), LARGEST)
        state = after
        yield state


def _conjugate_gradients(times: Callable[[Array], Array], right: Array, diagonal: Array, enough: float) -> Array:
    """To a relative residual, in the norm of the inverse diagonal."""
    z, residual = 0.0 * right, right
    scaled = residual / diagonal
    direction, size = scaled, residual @ scaled
    last, waited_for = enough * enough * size, isinstance(right, Tensor)
    for k in range(ITERATIONS):
        if not (waited_for and k % TOGETHER) and not size > last:
            break
        image = times(direction)
        curvature = direction @ image
        if waited_for:
            length = torch.where(curvature > 0.0, size / curvature, 0.0)
        elif curvature > 0.0:
            length = size / curvature
        else:
            break
        z, residual = z + length * direction, residual - length * image
        scaled = residual / diagonal
        before, size = size, residual @ scaled
        share = size / before
        direction = scaled + (share.nan_to_num(0.0) if waited_for else share) * direction
    return z
