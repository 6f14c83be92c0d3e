"""What a generator learns from: points of any source, batch by batch, each batch the same whenever it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, Subset, default_collate

from ..counts import whole
from ..measures import tensor
from ..shapes import Columns, Points, Triangles, fit_unit_cube, load, procedural, shape_name
from . import arguments, processes
from .randomness import DATA, HELD_OUT, ORDER, SPLIT, seed_of, seeded


class Source(Protocol):
    """Batches of points; a process gets its part of each."""

    def batch(self, k: int) -> Tensor:
        """Batch number k, counted from 0, shape (n, ...)."""

    def describe(self) -> str:
        """For checkpoints: what must be the same when a run is resumed."""


@dataclass(frozen=True)
class Shape:
    """A surface to learn, read once and resampled uniformly by area for each batch.

    Parameters
    ----------
    path_or_name : str or path
        As `geomsink.shapes.sample` takes it: a file, or the name of a procedural shape such as ``"shape:torus"``.
    normalize : bool, default False
        Put the shape into the unit cube, where procedural shapes always are.
    columns, drop_invalid
        Of a file, as `geomsink.shapes.read` takes them.

    Examples
    --------
    >>> Shape("shape:torus").sampler()(100, 0).shape
    (100, 3)
    """

    path_or_name: str | PathLike[str]
    normalize: bool = False
    columns: Columns | None = None
    drop_invalid: bool = False

    def sampler(self) -> Callable[[int, int], Points]:
        """A function of a number of points and a seed.

        Returns
        -------
        callable
            From a number of points and a seed to points, shape (n, D).

        Raises
        ------
        ValueError, FileNotFoundError, ImportError
            As `geomsink.shapes.sample`.
        """
        name = shape_name(self.path_or_name)
        if name is not None:
            procedural(name, 1)  # an unknown name is refused now
            return lambda n, seed: procedural(name, n, seed)
        found = load(self.path_or_name, self.columns, self.drop_invalid)
        points, faces = found.points, found.faces
        if self.normalize:
            points = fit_unit_cube(points, points.min(axis=0), points.max(axis=0))
        surface = Triangles(points, faces) if len(faces) else None

        def draw(n: int, seed: int) -> Points:
            rng = np.random.default_rng(seed)
            if surface is not None:
                return surface.draw(n, rng)
            return points[rng.choice(len(points), size=n, replace=n > len(points))]

        return draw


@dataclass(frozen=True)
class Rows:
    """Batches of a finite set, in a new order for each pass; what fills no batch is left out of a pass.

    Attributes
    ----------
    items : Tensor (N, ...) or Dataset
    size : int or None
        Of a batch; None is all of them, in their order.
    """

    items: Any
    size: int | None
    seed: int

    def batch(self, k: int) -> Tensor:
        if self.size is None:
            return self.take(np.arange(len(self.items)), DATA, k)
        epoch, place = divmod(k, len(self.items) // self.size)
        order = _order(self.seed, epoch, len(self.items))
        return self.take(order[place * self.size : (place + 1) * self.size], DATA, k)

    def take(self, rows: Any, *place: int) -> Tensor:
        """This process's part of those rows, with what a Dataset does to them at random."""
        mine = rows[processes.part(len(rows))]
        if isinstance(self.items, Tensor):
            return self.items[torch.from_numpy(mine)]
        with seeded(self.seed, *place):
            return arguments.points("data", _first(default_collate([self.items[int(row)] for row in mine])))

    def describe(self) -> str:
        kind = "points" if isinstance(self.items, Tensor) else f"items of {type(self.items).__name__}"
        return f"{len(self.items)} {kind}{_digest(self.items)}"


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n: int) -> Any:
    """Of one pass through n rows."""
    return np.random.default_rng(seed_of(seed, ORDER, epoch)).permutation(n)


@dataclass(frozen=True)
class Drawn:
    """Points that are drawn anew for each batch.

    Attributes
    ----------
    draw : callable
        From a number of points and a seed.
    name : str
    """

    draw: Callable[[int, int], ArrayLike | Tensor]
    size: int
    seed: int
    name: str
    device: torch.device

    def batch(self, k: int) -> Tensor:
        with seeded(self.seed, DATA, k, device=self.device) as seed:
            drawn = self.draw(self.size, seed % 2**32)
        points = arguments.points("data", drawn if isinstance(drawn, Tensor) else tensor("data", drawn))
        if len(points) != self.size:
            raise ValueError(f"data: {len(points)} points were drawn, expected {self.size}.")
        return points[processes.part(self.size)]

    def describe(self) -> str:
        return self.name


class Loader:
    """Batches of a DataLoader, pass after pass, of which each is seeded.

    With a `DistributedSampler` each process has a part of the data; any other loader gives every process all of a
    batch, of which it takes its part.
    """

    def __init__(self, loader: DataLoader[Any], seed: int):
        self._loader, self._seed = loader, seed
        self._batches: Iterator[Any] | None = None
        self._epoch, self._next = -1, 0

    def batch(self, k: int) -> Tensor:
        while self._next < k:  # a resumed run: what was seen is skipped
            self._fetch()
        return _mine(arguments.points("data", _first(self._fetch())), self._loader)

    def _fetch(self) -> Any:
        with seeded(self._seed, DATA, self._next):
            batch = None if self._batches is None else next(self._batches, None)
            if batch is None:
                self._begin()
                batch = next(self._batches, None)  # type: ignore[arg-type]
                if batch is None:
                    raise ValueError("data: the DataLoader gave no batch, expected one at least in each pass.")
        self._next += 1
        return batch

    def _begin(self) -> None:
        self._epoch += 1
        sampler = self._loader.sampler
        for generator in (self._loader.generator, getattr(sampler, "generator", None)):
            if generator is not None:
                generator.manual_seed(seed_of(self._seed, ORDER, self._epoch))
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(self._epoch)
        self._batches = iter(self._loader)

    def describe(self) -> str:
        return f"a DataLoader of {type(self._loader.dataset).__name__} in batches of {self._loader.batch_size}"


def source(data: Any, batch: int | None, seed: int, like: Tensor, name: str = "data") -> Source:
    """A source from what the caller gave; finite points get the device and precision of ``like`` once.

    Raises
    ------
    TypeError, ValueError
        For data of another kind, and for a batch size that does not go with it.
    """
    if batch is not None:
        whole("batch", batch)
    if isinstance(data, IterableDataset):
        if batch is None:
            raise ValueError("batch: None given for an IterableDataset, expected a number of points.")
        return Loader(DataLoader(data, batch_size=batch), seed)
    if isinstance(data, DataLoader):
        if batch is not None:
            raise ValueError(f"batch: {batch} given with a DataLoader, which makes its own batches; expected None.")
        return Loader(data, seed)
    if isinstance(data, (str, PathLike)):
        data = Shape(data)
    if isinstance(data, Shape) or (callable(data) and not isinstance(data, Dataset)):
        if batch is None:
            raise ValueError(
                "batch: None given for data that are drawn anew at each step, expected a number of points."
            )
        if isinstance(data, Shape):
            draw = data.sampler()
            file = Path(fspath(data.path_or_name)).name
            return Drawn(draw, batch, seed, f"{file}, normalize={data.normalize}{_digest(draw(100, 0))}", like.device)
        described = f"points of {getattr(data, '__qualname__', type(data).__name__)}"
        return Drawn(lambda n, _: data(n), batch, seed, described, like.device)
    if isinstance(data, Dataset):
        items: Any = data
        if not hasattr(data, "__len__"):
            raise TypeError(f"{name}: {type(data).__name__} has no length, expected a Dataset of known length.")
    else:
        items = arguments.points(name, data if isinstance(data, Tensor) else _array(name, data)).detach().to(like)
    if batch is not None and batch > len(items):
        raise ValueError(f"batch: {batch} given, but data has {len(items)} points; expected no more than that.")
    return Rows(items, batch, seed)


def set_apart(given: Source, amount: Any, seed: int) -> tuple[Source, Tensor]:
    """A source of the rest, and points of this process that are no part of it.

    Parameters
    ----------
    given : Source
    amount : int or float
        A number of points, or a share of finite data.
    seed : int

    Raises
    ------
    TypeError, ValueError
        For a loader, for a share of what is drawn, for too many.
    """
    if isinstance(given, Drawn):
        n = whole("held_out", amount)
        return given, replace(given, size=n, seed=seed_of(seed, HELD_OUT)).batch(0)
    if not isinstance(given, Rows):
        raise TypeError(
            f"held_out: {amount} given with a DataLoader or an IterableDataset, expected data of their own."
        )
    total = len(given.items)
    n = max(1, round(arguments.share("held_out", amount) * total)) if isinstance(amount, float) else amount
    left = total - whole("held_out", n)
    if left < (given.size or 1):
        batches = "" if given.size is None else f" for batches of {given.size}"
        raise ValueError(
            f"held_out: {n} of {total} points given, which leaves {max(left, 0)}{batches}; expected fewer."
        )
    order = np.random.default_rng(seed_of(seed, SPLIT)).permutation(total)
    apart, rest = order[:n], np.sort(order[n:])
    held = given.items
    items: Any = held[torch.from_numpy(rest)] if isinstance(held, Tensor) else Subset(held, rest.tolist())
    return replace(given, items=items), given.take(apart, HELD_OUT)


def all_of(name: str, data: Any, seed: int, like: Tensor) -> Tensor:
    """This process's part of all points of finite data.

    Raises
    ------
    TypeError, ValueError
        For data without an end, and as `source`.
    """
    if isinstance(data, (str, PathLike, Shape)) or (callable(data) and not isinstance(data, Dataset)):
        raise TypeError(f"{name}: data that are drawn anew were given, expected a number of points or finite data.")
    if isinstance(data, IterableDataset):
        data = DataLoader(data)
    if isinstance(data, DataLoader):
        with seeded(seed, HELD_OUT):
            batches = [arguments.points(name, _first(batch)) for batch in data]
        if not batches:
            raise ValueError(f"{name}: the DataLoader gave no batch, expected one at least.")
        return _mine(torch.cat(batches), data)
    return source(data, None, seed, like, name).batch(0)


def _array(name: str, data: Any) -> Any:
    if not isinstance(data, (np.ndarray, list, tuple)):
        kinds = "a tensor, an array, a Dataset, a DataLoader, a shape or a function of a number of points"
        raise TypeError(f"{name}: a {type(data).__name__} was given, expected {kinds}.")
    return tensor(name, data)


def _mine(points: Tensor, loader: DataLoader[Any]) -> Tensor:
    """This process's part of what its loader gave."""
    return points if isinstance(loader.sampler, DistributedSampler) else points[processes.part(len(points))]


def _first(batch: Any) -> Any:
    """The points of a batch that may have labels, too."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _digest(items: Any) -> str:
    """A few characters that tell one set of points from another; of a Dataset, nothing."""
    if isinstance(items, Dataset):
        return ""
    if isinstance(items, Tensor):
        items = items.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()  # NumPy has no bfloat16
    return f" ({hashlib.blake2b(np.ascontiguousarray(items).tobytes(), digest_size=6).hexdigest()})"
