"""What type checkers know of answers: they are of the kind that the points were."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

Value = TypeVar("Value", covariant=True, default=Any)
"""float for NumPy callers, Tensor for torch callers; of a NumPy batch an array, which checkers take for a float."""
Array = TypeVar("Array", covariant=True, default=Any)
"""NumPy array or Tensor; of a batch of clouds in a list, a list of them."""
