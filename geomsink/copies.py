"""Copies and pickles of results: constants, since torch copies no tensor that has autograd history."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class Constant:
    """What `copy.deepcopy` and pickle make of it has the same numbers without history; `copy.copy` keeps history.

    Examples
    --------
    >>> import copy, torch
    >>> class Result(Constant):
    ...     def __init__(self, value):
    ...         self.value = value
    >>> result = Result(2.0 * torch.ones(1, requires_grad=True))
    >>> copy.deepcopy(result).value
    tensor([2.])
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: detached(value) for name, value in self.__dict__.items()}

    def __copy__(self: T) -> T:
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new


def detached(value: Any) -> Any:
    """A tensor without its history, and so those in tuples, lists and dicts; anything else as it is."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    if type(value) in (tuple, list):
        return type(value)(detached(item) for item in value)
    return {key: detached(item) for key, item in value.items()} if type(value) is dict else value
