"""From the arrays that callers bring to tensors of one kind, device and precision, in which nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
"""Precisions that are computed in float32, and given back in their own."""
FLOATS = (*HALVES, torch.float32, torch.float64)
INTEGERS = {
    **dict.fromkeys(("bool", "int8", "uint8"), torch.float16),
    **dict.fromkeys(("int16", "uint16"), torch.float32),
    **dict.fromkeys(("int32", "uint32", "int64", "uint64"), torch.float64),
}
"""The narrowest floating-point numbers that hold them, which they promote others to, as in NumPy."""
WHOLE = 2**53
"""Integers up to which float64 holds all."""
MASS_TOLERANCE = {torch.bfloat16: 8e-3, torch.float16: 2e-3, torch.float32: 1e-4, torch.float64: 1e-6}
"""Relative difference of two masses that rounding of the weights explains: where they are normalised in half
precision, four times theirs; for float64, that of weights which were normalised in float32."""


@dataclass(frozen=True)
class Arrays:
    """What a caller gave, read.

    Attributes
    ----------
    tensors : dict of str to Tensor
        In the working precision, with their autograd history, under the names that sentences call them.
    dtype : torch.dtype
        What they promote to, which answers are given in.
    is_numpy : bool
        Whether they were no tensors.
    dtypes : dict of str to torch.dtype
        The floating-point numbers that they came in; integers are float64.
    """

    tensors: dict[str, Tensor]
    dtype: torch.dtype
    is_numpy: bool
    dtypes: dict[str, torch.dtype]

    @classmethod
    def read(cls, given: dict[str, Any], names: str) -> Arrays:
        """From what was given under its names, and what these are called together.

        Raises
        ------
        TypeError, ValueError
            For a mixture of tensors and others, different devices, and what is no real numbers.
        """
        first, *_ = given
        kinds = {name: isinstance(value, Tensor) for name, value in given.items()}
        if len(set(kinds.values())) > 1:
            found = ", ".join(f"{name} is a {type(given[name]).__name__}" for name in kinds)
            raise TypeError(f"{names}: torch tensors and other arrays are mixed ({found}); expected one kind.")
        read = {name: _read(name, value) for name, value in given.items()}
        needed = [dtype for _, dtype in read.values() if dtype is not None]
        dtype = promoted((array.dtype for array, integers in read.values() if integers is None), needed)
        device = read[first][0].device
        for name, (array, _) in read.items():
            if array.device != device:
                raise ValueError(
                    f"{name}: device is {array.device}, but that of {first} is {device}; expected the same."
                )
        tensors = {name: array.to(working(dtype)) for name, (array, _) in read.items()}
        return cls(tensors, dtype, not kinds[first], {name: array.dtype for name, (array, _) in read.items()})


def promoted(floats: Iterable[torch.dtype], integers: Iterable[torch.dtype] = ()) -> torch.dtype:
    """The precision of an answer to numbers of several, and to integers that need others; of integers alone float64.

    Examples
    --------
    >>> promoted([torch.float16, torch.bfloat16]), promoted([], [torch.float32])
    (torch.float32, torch.float64)
    """
    given = list(floats)
    return reduce(torch.promote_types, [*given, *integers]) if given else torch.float64


def working(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a precision are computed in, at the least."""
    return torch.float32 if dtype in HALVES else dtype


def check_masses(masses: tuple[Tensor, Tensor], tolerance: float, remedy: str, lost: Tensor | None = None) -> None:
    """Refuse two that differ, shape () or (B,), but for items that are ``lost``.

    Raises
    ------
    ValueError
    """
    apart = (masses[0] - masses[1]).abs() > tolerance * masses[0].maximum(masses[1])
    apart = apart if lost is None else apart & ~lost
    if bool(apart.any()):
        one, other = (float(mass.reshape(-1)[apart.reshape(-1)][0]) for mass in masses)
        found = f"a, b: they sum to {one:.9g} and {other:.9g}"
        raise ValueError(f"{found}; expected the same mass{', or ' if remedy else ''}{remedy}.")


def check_finite(name: str, array: Tensor) -> None:
    """Refuse NaN and infinities.

    Raises
    ------
    ValueError
    """
    wrong = int((~array.isfinite()).sum())
    if wrong:
        raise ValueError(f"{name}: {wrong} of {array.numel()} numbers are NaN or infinite; expected finite numbers.")


def tensor(name: str, value: Any) -> Tensor:
    """One array of real numbers as a tensor: floating-point numbers as they are, integers and booleans in float64.

    Raises
    ------
    TypeError, ValueError
        One sentence, which calls the array by its ``name``.

    Examples
    --------
    >>> tensor("x", [1, 2])
    tensor([1., 2.], dtype=torch.float64)
    """
    return _read(name, value)[0]


def native(numbers: np.ndarray) -> Tensor:
    """A copy of an array as a tensor: torch wants memory of its own, in native byte order, contiguous and writable."""
    return torch.from_numpy(np.array(numbers, dtype=numbers.dtype.newbyteorder("="), order="C"))


def _read(name: str, value: Any) -> tuple[Tensor, torch.dtype | None]:
    """A tensor of floating-point numbers; and of integers the precision that they need beside other numbers."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name}: a tensor of layout {value.layout} was given, expected a dense one.")
        kind = str(value.dtype).removeprefix("torch.")
        if value.dtype in FLOATS:
            return value, None
    else:
        if isinstance(value, np.ma.MaskedArray) and (hidden := int(np.ma.count_masked(value))):
            raise ValueError(f"{name}: {hidden} of {value.size} numbers are masked; expected none: leave points out.")
        try:
            numbers = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name}: NumPy cannot read it as an array ({error}).") from error
        kind = str(numbers.dtype.newbyteorder("="))
        if kind in ("float16", "float32", "float64"):
            return native(numbers), None
    if kind not in INTEGERS:
        raise TypeError(f"{name}: dtype is {kind}, expected real numbers of at most 64 bits.")
    array = value.double() if isinstance(value, Tensor) else native(numbers.astype(np.float64))
    largest = float(array.abs().max()) if array.numel() else 0.0
    if largest == WHOLE:  # or 2^53 + 1, rounded
        whole = value.cpu().numpy() if isinstance(value, Tensor) else numbers
        largest = max(int(whole.max()), -int(whole.min()))
    if largest > WHOLE:
        found = f"{name}: integers reach {largest:.3g}"
        raise ValueError(f"{found}, and float64 holds all of them up to 2^53 alone; subtract an origin from them.")
    return array, INTEGERS[kind]
