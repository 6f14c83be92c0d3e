"""The Gibbs operator on KeOps or in plain torch, and sums over pairs with derivatives. Nothing else knows KeOps.

Imports `costs` and `processes`, and asks `choose`. Hands on `pair` and `Gibbs`, `Pairs` for what is differentiated,
patterns of `Blocks`, how they are walked row by row, and how sums are rounded.
"""

from __future__ import annotations

import warnings
import weakref
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from ..choose import engine_of
from ..costs import Cost, Expression
from ..counts import one_of
from ..processes import Sharded
from .batch import BatchPair, diagonal
from .blocks import Blocks
from .build import BuildError
from .dense import DensePair, costs, in_single, matrix
from .diagnosis import describe, speed
from .differentiable import Pairs
from .exponents import bounded_with_room, room
from .flow import shortest_paths
from .gibbs import Gibbs, Pair
from .keops import KeopsPair
from .pivots import chosen_points, gaussian
from .rounding import UNIT, certain, rounding
from .rows import can_skip, row_by_row, rows_at_once
from .sharded import SUFFIX, ShardedPair, passed
from .tiled import TiledPair, compiled

__all__ = [
    "ENGINES",
    "SUFFIX",
    "UNIT",
    "Blocks",
    "BuildError",
    "Gibbs",
    "Pair",
    "Pairs",
    "bounded_with_room",
    "can_skip",
    "certain",
    "check_name",
    "chosen_points",
    "costs",
    "describe",
    "diagonal",
    "gaussian",
    "in_single",
    "matrix",
    "pair",
    "passed",
    "room",
    "rounding",
    "row_by_row",
    "rows_at_once",
    "shortest_paths",
    "speed",
]

ENGINES = ("auto", "keops", "dense")
SAMPLE = 16
"""Points of each cloud on which a compiled formula is compared with torch before its first use."""

_agreed: dict[tuple[object, ...], weakref.ref[Expression]] = {}
"""What was compared, by places of expressions in memory: they are their callers', may hold much, and are let go."""
_told: set[str] = set()


def check_name(engine: str) -> None:
    """Refuse an unknown engine.

    Raises
    ------
    TypeError, ValueError
    """
    one_of("engine", engine, ENGINES)


def pair(x: Tensor, y: Tensor, cost: Cost, engine: str = "auto", lengths: tuple[Tensor, Tensor] | None = None) -> Pair:
    """Two clouds and a cost on an engine.

    Parameters
    ----------
    x : Tensor, shape (N, D) or (B, N, D)
    y : Tensor, shape (M, D) or (B, M, D)
        Features of the points, as `Cost.map` gives them: float32 or float64, on one device.
    cost : Cost
    engine : {"auto", "keops", "dense"}
        ``"dense"`` is plain torch, with any leading batch dimensions; ``"keops"`` compiles;
        ``"auto"`` takes dense for small clouds, for squared distances in 32 coordinates or more, others in
        128, and where nothing can be compiled, which is said once.
    lengths : pair of Tensor, shape (B,), optional
        How many points of each item of a batch are no padding. Default: all.

    Raises
    ------
    ValueError
        For an unknown name, or if torch and KeOps disagree on the cost.
    BuildError
        If ``"keops"`` was asked for and cannot be had; the message says why.
    """
    if isinstance(x, Sharded) or isinstance(y, Sharded):
        return _sharded(x, y, cost, engine.removesuffix(SUFFIX))
    check_name(engine)
    chosen = _chosen(x, cost, engine, x[..., 0].numel() * y.shape[-2])
    if chosen == "keops" and x.ndim > 2:
        try:
            every = tuple(torch.full(p.shape[:1], p.shape[1], device="cpu") for p in (x, y))
            batch = BatchPair(x, y, cost, lengths or (every[0], every[1]))
            _check_agreement(compiled(x[0], y[0], cost))
            return batch
        except BuildError as error:
            return _dense_instead(x, y, cost, engine, error)
    return _single(engine, chosen, x, y, cost)


def _chosen(x: Tensor, cost: Cost, engine: str, pairs: int) -> str:
    """``"dense"`` or ``"keops"``, for so many pairs in a reduction."""
    if cost.looked_up:
        if engine == "keops":
            raise ValueError(f"engine: 'keops' given, but cost {cost.name!r} is looked up; expected 'auto' or 'dense'.")
        return "dense"
    if engine != "auto":
        return engine
    quadratic, tiled = cost.quadratic is not None, TiledPair.takes(x, cost)
    return engine_of(pairs, x.shape[-1], quadratic, x.dtype, cost.of_distances, tiled, x.device)


def _single(engine: str, chosen: str, x: Tensor, y: Tensor, cost: Cost, stays: bool = True) -> Pair:
    """Two single clouds on the engine that was chosen where ``engine`` was asked for; ``stays`` says whether they will
    be there again."""
    if chosen == "dense":
        return DensePair(x, y, cost, stays)
    try:
        single = compiled(x, y, cost)
        _check_agreement(single)
        return single
    except BuildError as error:
        return _dense_instead(x, y, cost, engine, error)


def _dense_instead(x: Tensor, y: Tensor, cost: Cost, engine: str, error: BuildError) -> Pair:
    if engine == "keops":
        raise error
    if str(error) not in _told:
        _told.add(str(error))
        warnings.warn(f"the dense engine is used, which is slower: {error}", stacklevel=4)
    return DensePair(x, y, cost)


def _sharded(x: Tensor, y: Tensor, cost: Cost, engine: str) -> ShardedPair:
    """Of clouds that are dealt out to processes."""
    check_name(engine)
    most = [max(p.parts.counts) if isinstance(p, Sharded) else len(p) for p in (x, y)]
    chosen = _chosen(x, cost, engine, most[0] * most[1])
    return ShardedPair(x, y, cost, chosen, partial(_single, engine, chosen))


def _check_agreement(compiled: KeopsPair) -> None:
    """Refuse a cost whose compiled row sums differ from torch's on a few of the points at hand."""
    x, y = (p[:: max(1, len(p) // SAMPLE)][:SAMPLE] for p in (compiled.x, compiled.y))
    expression = compiled.cost.expression
    key = (id(expression), type(compiled), x.shape[1], x.dtype, x.device)
    if key in _agreed:
        return
    u, v = x.new_zeros(len(x)), x.new_zeros(len(y))
    dense = DensePair(x, y, compiled.cost)
    epsilon = float(dense.cost.between(x[:, None], y[None]).abs().mean()) or 1.0
    expected = dense.row_sums(u, v, epsilon)
    try:
        found = type(compiled)(x, y, compiled.cost).row_sums(u, v, epsilon)
    except BuildError:
        raise
    except Exception as error:
        raise ValueError(f"cost: {compiled.cost.name!r} cannot be written with KeOps LazyTensors: {error}") from error
    tolerance = 1e-4 if x.dtype == torch.float32 else 1e-9
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=tolerance):
        raise ValueError(
            f"cost: {compiled.cost.name!r} differs between the engines: on {len(x)} x {len(y)} of the points, sums of "
            f"exp(-C/epsilon) are {expected.tolist()[:3]} in torch and {found.tolist()[:3]} in KeOps."
        )
    with suppress(TypeError):  # what has no weak references is compared again
        _agreed[key] = weakref.ref(expression, lambda _: _agreed.pop(key, None))
