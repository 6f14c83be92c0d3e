"""What choices depend on: what is known of a problem, and what its caller wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch


class Cells(Protocol):
    """The finest cells that two clouds would be solved between."""

    @property
    def width(self) -> float:
        """Mean cost within one, in ε; of the two clouds, the larger."""
        ...


@dataclass(frozen=True)
class Facts:
    """What a choice depends on.

    Attributes
    ----------
    pairs, dimension : int
        Of points; coordinates of their features.
    epsilon, cost_scale, tol : float
        ``cost_scale`` is about the largest cost.
    dtype : torch.dtype
        The caller's.
    batched, is_self : bool
    cells : callable
        The finest cells, or None for clouds too small to have any: trees are made, so that it is asked last.
    extent : float, default 1
        Length that coordinates extend over.
    nearest : callable, default 0
        Cost to the nearest neighbour in the own cloud: distances are computed, so that it is asked last.
    bounded, quadratic : bool, default False
        Whether the cost has a lower bound between boxes; whether it is a squared distance.
    smooth : bool, default True
        Whether Newton's equation tells of all potentials: no penalty has kinks.
    fixed : bool, default True
        Whether both marginals are.
    items : int, default 1
        Of a batch.
    looked_up : bool, default False
        Whether points are positions in a table of costs, and have no cells.
    sketched : callable, default False
        Whether a few points stand for one of the clouds at least: they are looked for, so that it is asked last.
    signed : bool, default False
        Whether one of the clouds is a sketch already, with weights of any sign, which other strategies do not know.
    across : {None, "sketches", "pairs"}, default None
        What is summed where the points lie on several processes.
    processes : int, default 1
        How many these are.
    """

    pairs: int
    dimension: int
    epsilon: float
    cost_scale: float
    tol: float
    dtype: torch.dtype
    batched: bool
    is_self: bool
    cells: Callable[[], Cells | None]
    extent: float = 1.0
    nearest: Callable[[], float] = lambda: 0.0
    bounded: bool = False
    smooth: bool = True
    quadratic: bool = False
    fixed: bool = True
    items: int = 1
    looked_up: bool = False
    sketched: Callable[[], bool] = lambda: False
    signed: bool = False
    across: str | None = None
    processes: int = 1


class Wanted(Protocol):
    """What callers may say of the choice; None leaves it to this room."""

    @property
    def iterations(self) -> int | None: ...
    @property
    def multiscale(self) -> bool | None: ...
    @property
    def working_dtype(self) -> torch.dtype | None: ...
