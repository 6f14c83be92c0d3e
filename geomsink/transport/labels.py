"""Labels and colours of one cloud, carried to the other by a solved plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..copies import detached
from ..counts import flag
from ..divergences import Solution
from ..guards import guarded
from ..measures import check_finite, tensor
from ..plan import Plan
from ..shown import Words, line
from .conditional import Conditional, solution_plan

TOGETHER = 63
"""Classes that are voted on at a time, so that memory does not grow with their number: 64 columns with their sum."""

KINDS = {"f": "numbers", "i": "integers", "u": "integers", "b": "booleans", "U": "strings", "S": "strings"}
"""What labels can be, by NumPy's letters for types. All but numbers are classes."""

Array = Tensor | NDArray[Any]


class Votes(NamedTuple):
    """What the transfer of classes says: see `transfer`.

    Attributes
    ----------
    labels : array, shape (N,)
        The class of the largest probability.
    probabilities : array, shape (N, K)
    classes : array, shape (K,)
        Sorted: those of the columns of ``probabilities``.
    """

    labels: Any
    probabilities: Any
    classes: Any

    def __repr__(self) -> str:
        return line(self, {"points": Words(f"{len(self.labels):,} points"), "classes": len(self.classes)})

    def __reduce__(self) -> Any:
        """Deep copies and pickles are constants, as those of solutions are."""
        return Votes, tuple(detached(item) for item in self)

    def __copy__(self) -> Votes:
        return self


@dataclass(frozen=True)
class _Classes:
    """Classes in order, and the device of the tensor that they came in; None is an array."""

    names: NDArray[Any]
    device: torch.device | None

    def of(self, codes: Tensor) -> Any:
        """The classes that codes stand for, as the labels were given."""
        named = self.names[codes.cpu().numpy()]
        return named if self.device is None else torch.from_numpy(named).to(self.device)


@guarded
def transfer(
    solution: Solution, labels: Any, *, points: Any = None, probabilities: bool = False, reverse: bool = False
) -> Any:
    """Labels or colours of y, carried to x by the plan.

    Parameters
    ----------
    solution : Solution
    labels : array_like, shape (M,) or (M, E)
        Of the points y. Floating-point numbers are averaged, Σ_j P_ij l_j / Σ_j P_ij. Integers, booleans and strings,
        of shape (M,), are classes, of which the one of the largest probability Σ_j P_ij [l_j = k] / Σ_j P_ij is taken.
        Of a batch, in the form of its points.
    points : array, shape (K, D), optional
        Carry labels to these points, as `entropic_map` takes them, and not to x.
    probabilities : bool, default False
        Whether to return those of the classes as well.
    reverse : bool, default False
        Whether labels are of x, shape (N,), and are carried to y.

    Returns
    -------
    array, shape (N,) or (N, E), or Votes
        Numbers as the clouds' kind of arrays, with autograd history in ``labels`` and where the plan has any;
        classes as they were given, tensors or NumPy arrays. `Votes` with ``probabilities=True``.

    Raises
    ------
    TypeError, ValueError
        For labels of another length or another type, numbers that are NaN or infinite, or probabilities of numbers; and
        where a `geomsink.Sketch` stands for the points that have labels, of which its own do not tell those of others.

    Examples
    --------
    >>> import numpy as np
    >>> from geomsink import solve
    >>> s = solve(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]), epsilon=0.5)
    >>> transfer(s, ["left", "right"])
    array(['left', 'right'], dtype='<U5')
    >>> transfer(s, np.array([0.0, 1.0])).round(2)
    array([0.12, 0.88])
    """
    plan = solution_plan(solution, reverse)
    if bool((plan.terms.b < 0.0).any()):
        side = "x" if reverse else "y"
        raise ValueError(f"labels: given for a Sketch as {side}, expected a plan from the points themselves.")
    columns, classes = _labels(labels, plan)
    if flag("probabilities", probabilities) and classes is None:
        raise ValueError(
            "probabilities: True given with labels that are numbers, expected integers, booleans or names."
        )
    conditional = Conditional.of(plan, points)
    container = conditional.container
    if classes is None:
        vector = columns.ndim == len(plan.shape) - 1
        mean = conditional.mean(columns[..., None] if vector else columns)
        return container.array(mean[..., 0] if vector else mean, 0)
    winners, shares = _vote(conditional, columns, len(classes.names), probabilities)
    whole = container.layouts[0].unpad(winners) if container.layouts else winners
    voted = [classes.of(item) for item in whole] if isinstance(whole, list) else classes.of(whole)
    if not probabilities:
        return voted
    every = torch.arange(len(classes.names), device="cpu")
    return Votes(voted, container.array(torch.cat(shares, -1), 0), classes.of(every))


def _vote(conditional: Conditional, codes: Tensor, n_classes: int, keep: bool) -> tuple[Tensor, list[Tensor]]:
    """The likeliest class at each point, (..., K), and, to ``keep``, the probabilities, some classes at a time."""
    kept: list[Tensor] = []
    winners, best = codes.new_zeros((), dtype=torch.int64), codes.new_tensor(-1.0, dtype=torch.float64)
    for some in torch.arange(n_classes, device=codes.device).split(TOGETHER):
        shares = conditional.average((codes[..., None] == some).double())
        top, index = shares.detach().max(-1)
        winners = torch.where(top > best, some[index], winners)
        best = top.maximum(best)
        kept += [shares] * keep
    return winners, kept


def _labels(labels: Any, plan: Plan) -> tuple[Tensor, _Classes | None]:
    """Numbers (..., M) or (..., M, E), float64, and None; or codes (..., M) and the classes that they stand for."""
    container, (*batch, _, m) = plan.container, plan.shape
    listed = container.layouts is not None and container.layouts[1].kind == "list"
    if listed and not isinstance(labels, (list, tuple)):
        raise TypeError(f"labels: a {type(labels).__name__} was given, expected a list of arrays, as the clouds are.")
    if listed and len(labels) != batch[0]:
        raise ValueError(f"labels: {len(labels)} arrays were given, expected {batch[0]}, one a cloud.")
    items = [_read(item) for item in (labels if listed else [labels])]
    kinds = {_kind(item) for item in items}
    if len(kinds) > 1:
        raise TypeError(f"labels: {' and '.join(sorted(kinds))} are mixed, expected one kind.")
    kind = kinds.pop()
    classes, tensors = (None, [_double(item) for item in items]) if kind == "numbers" else _coded(items)
    columns = tensor("labels", container.padded("labels", tensors if listed else tensors[0], 1)).to(plan.g.device)
    shape, wanted = tuple(columns.shape), (*batch, m)
    more = len(shape) - len(wanted)
    if shape[: len(wanted)] != wanted or more not in ((0, 1) if classes is None else (0,)):
        form = f"{wanted} or {(*wanted, 'E')}".replace("'", "") if classes is None else f"{wanted}"
        raise ValueError(f"labels: {kind} of shape {shape} were given, expected shape {form}.")
    check_finite("labels", columns)
    return columns, classes


def _read(given: Any) -> Array:
    """A tensor, or an array: of Python's strings, of NumPy's."""
    if isinstance(given, Tensor):
        array: Array = given
    else:
        array = np.asarray(given)
        if array.dtype == object and array.size and all(isinstance(item, str) for item in array.flat):
            array = array.astype(str)
    if array.ndim == 0:
        raise ValueError(f"labels: {given!r} was given, expected an array, with a label a point.")
    return array


def _kind(array: Array) -> str:
    if isinstance(array, Tensor):
        letter = "f" if array.is_floating_point() else "c" if array.is_complex() else "i"
        letter = "b" if array.dtype == torch.bool else letter
    else:
        letter = array.dtype.kind
    if letter not in KINDS:
        raise TypeError(f"labels: dtype is {array.dtype}, expected numbers, integers, booleans or strings.")
    return KINDS[letter]


def _double(array: Array) -> Tensor:
    return array.double() if isinstance(array, Tensor) else torch.from_numpy(np.array(array, dtype=np.float64))


def _coded(items: list[Array]) -> tuple[_Classes, list[Tensor]]:
    """The classes of all items, and each item in codes."""
    arrays = [item.cpu().numpy() if isinstance(item, Tensor) else item for item in items]
    names, codes = np.unique(np.concatenate([array.ravel() for array in arrays]), return_inverse=True)
    first = items[0]
    parts = torch.from_numpy(codes.reshape(-1).astype(np.int64)).split([array.size for array in arrays])
    coded = [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]
    return _Classes(names, first.device if isinstance(first, Tensor) else None), coded
