"""Sketches as callers have them: a few points with signed weights that are given in the place of a cloud."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import costs
from ..costs import Cost
from ..counts import flag, number
from ..guards import guarded
from ..measures import Container, Measure, measure, working
from ..multiscale import FINEST, merged
from ..progress import Progress
from ..shown import Facts, Shown, Words
from .options import TOL
from .sketchfiles import Stored, read_sketch, write_sketch
from .streams import Gathering, joined, pieces

ACCURACY = 0.3 * TOL
"""Solves between clouds sketch them to ``tol`` and look at all points then; of a sketch these are not at hand. A third
of it takes 1.4 times the nodes, for values right to 2e-6 in the place of 4e-6: surfaces of 40,000 points at blur 0.1,
whole and merged from 4 and 64 parts (by hand)."""
SAME = 1e-6
"""Relative difference of temperatures that are the same: float32 has no more digits."""


@dataclass(frozen=True, eq=False, repr=False)
class Sketch(Shown):
    """Points of a cloud with weights of any sign that stand for all of it in sums of a Gaussian kernel.

    Made by `geomsink.sketch`, and taken by `geomsink.sinkhorn_divergence`, `geomsink.solve`, `geomsink.mmd` and the
    losses in the place of a cloud, together with its weights. It follows the other cloud: its kind of array, and its
    device. It is a constant: gradients are those in the other cloud. Its length is that of ``points``.

    Attributes
    ----------
    points : array, shape (K, D)
        Some of the cloud's, in the caller's kind of array.
    weights : array, shape (K,), float64
        ω, with Σ_k ω_k h(z_k) ≈ Σ_j b_j h(y_j) for functions h as smooth as exp(−C(x, ·)/ε). A few in a hundred of the
        mass are negative.
    nearby : array, shape (K,), float64
        The mass of the cloud's points near each, none negative.
    epsilon : float
        The temperature that it is made for; it serves this one and larger ones.
    cost : str or Cost
    accuracy : float
        Largest share of the kernel at a point that it may miss.
    count : int
        Points that it stands for.
    weighted : bool
        Whether these had weights; otherwise they have 1/``count`` each.
    normalized : bool
        Whether the cloud was moved into the unit cube first, as commands do; they ask for clouds that all are, or none.

    Examples
    --------
    >>> import geomsink
    >>> x = geomsink.shapes.sample("shape:torus", 20_000, seed=0)
    >>> small = geomsink.sketch(x, blur=0.2)
    >>> len(small) < 2_000, bool((small.weights < 0.0).any()), round(float(small.weights.sum()), 4)
    (True, True, 1.0)
    """

    points: Any
    weights: Any
    nearby: Any
    epsilon: float
    cost: str | Cost
    accuracy: float
    count: int
    weighted: bool = False
    normalized: bool = False

    def __len__(self) -> int:
        return len(self.points)

    def _facts(self) -> Facts:
        n, dimension = self.points.shape
        return {
            "points": Words(f"{n:,} points for {self.count:,}"),
            "dimension": Words(f"dimension {dimension}"),
            "epsilon": self.epsilon if self.blur is None else None,
            "blur": self.blur,
            "cost": self.ground.name,
            "accuracy": self.accuracy,
        }

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Not an array: its points without their weights would be another cloud."""
        raise TypeError(
            "a Sketch was given, expected points; sketches take the place of a cloud in sinkhorn_divergence, solve, "
            "mmd and their losses."
        )

    @property
    def ground(self) -> Cost:
        """The cost itself, where it was given by its name."""
        return costs.get(self.cost)

    @property
    def blur(self) -> float | None:
        """The length σ that it is made for, or None where the cost is no power of a length."""
        ground = self.ground
        if ground.degree is None:
            return None
        return float((self.epsilon / (ground.unit * ground.degree)) ** (1.0 / ground.degree))

    @property
    def mass(self) -> float:
        """Of the cloud."""
        return float(self.nearby.sum())

    @property
    def negative(self) -> float:
        """Share of the mass that has negative weights."""
        return float(-self.weights.clip(max=0.0).sum()) / self.mass

    def merge(self, others: Sketch | Iterable[Sketch]) -> Sketch:
        """The sketch of the union of clouds, from those of the clouds: no larger than one made of all points.

        Parameters
        ----------
        others : Sketch, or several
            Of the same cost and temperature. Clouds without weights are together one without weights, whose points
            have 1/N each; those of clouds with weights add up.

        Returns
        -------
        Sketch
            To the largest accuracy of all. Each merging may miss as much as that again, so that many are better merged
            at once than one after the other; `geomsink.sketch` does it with ``chunks``.

        Raises
        ------
        TypeError, ValueError
            For sketches of another cost, temperature or dimension, and for clouds with weights and others without: one
            sentence each.

        Examples
        --------
        >>> import geomsink
        >>> x = geomsink.shapes.sample("shape:torus", 10_000, seed=0)
        >>> parts = [geomsink.sketch(part, blur=0.2) for part in (x[:2_000], x[2_000:])]
        >>> whole = parts[0].merge(parts[1])
        >>> whole.count, len(whole) < sum(map(len, parts))
        (10000, True)
        """
        if not isinstance(others, (Sketch, Iterable)):
            raise TypeError(f"others: a {type(others).__name__} was given, expected a Sketch or several.")
        several = [self, *([others] if isinstance(others, Sketch) else others)]
        for k, other in enumerate(several[1:]):
            _check_mergeable(self, other, f"others[{k}]")
        total = sum(one.count for one in several)
        is_numpy = not isinstance(self.points, Tensor)
        parts = [as_measure(one, one.count / total if not self.weighted else 1.0) for one in several]
        accuracy = max(one.accuracy for one in several)
        found = sketched(joined(parts), self.ground, self.epsilon, accuracy)
        container = Container(is_numpy, found.points.dtype, parts[0].points.device)
        return replace(self, **_arrays(found, container), accuracy=accuracy, count=total)

    def save(self, path: str | PathLike[str]) -> None:
        """Write it as ``.npz``, without pickles: the file is whole, or what was there before is.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ValueError
            If the name does not end in ``.npz``, or the cost is none of those that names stand for.
        OSError
            If the file cannot be written.
        """
        name = self.cost if isinstance(self.cost, str) else self.cost.name
        if not isinstance(self.cost, str) and (name not in costs.names() or costs.get(name) != self.cost):
            raise ValueError(
                f"cost: {name!r} is no cost that a file can name, expected one of {', '.join(costs.names())}."
            )
        host = replace(self, **{key: on_host(getattr(self, key)) for key in ("points", "weights", "nearby")})
        write_sketch(path, Stored(**{key: getattr(host, key) for key in Stored.__annotations__} | {"cost": name}))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Sketch:
        """Read what `save` has written, as NumPy arrays.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        Sketch

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no sketch, is damaged, or has a cost that is not registered here: one sentence.

        Examples
        --------
        >>> import tempfile, geomsink
        >>> x = geomsink.shapes.sample("shape:torus", 5_000, seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     geomsink.sketch(x, blur=0.3).save(folder + "/x.npz")
        ...     Sketch.load(folder + "/x.npz").count
        5000
        """
        return cls(**vars(read_sketch(path)))


@guarded
def sketch(
    x: Any = None,
    a: Any = None,
    *,
    blur: float | None = None,
    epsilon: float | None = None,
    cost: str | Cost = "sqeuclidean",
    accuracy: float = ACCURACY,
    chunks: Any = None,
    engine: str = "auto",
    progress: bool = False,
) -> Sketch:
    """A few points of a weighted cloud that stand for all of it, for kernels exp(−C/ε) that are Gaussian.

    Parameters
    ----------
    x : array_like, shape (N, D), optional
        Points: a NumPy array, a torch tensor or anything that NumPy reads.
    a : array_like, shape (N,), optional
        Weights, none negative; None is 1/N each.
    blur : float, optional
        The smallest length σ that the sketch is to serve, with ε = p σ^p for a cost of degree p.
    epsilon : float, optional
        The same as a temperature, in units of the cost. One of the two is given.
    cost : str or Cost, default "sqeuclidean"
        A squared distance, of points or of their features: ``"sqeuclidean"``, ``"mahalanobis:..."``, ``"cosine"``, or
        one's own with ``quadratic``. Kernels of other costs, such as exp(−‖x − y‖/ε), are not smooth at 0, and no few
        points stand for others. Features must not be learned.
    accuracy : float, default 3e-4
        Largest share of the kernel at a point that its cell's nodes may miss, 3e-7 at best. The default is 0.3 of
        that of ``tol``: divergences of about ε come out right to some 1e-6, to 1e-5 at worst.
    chunks : optional
        In the place of ``x``, a cloud that memory need not hold, in pieces of about a million points, each of which is
        sketched: an array such as a `numpy.memmap`, a folder of shape files, a file, or any iterable of files, of
        arrays (n, D) or of tuples (points, weights). Without weights, points have 1/N each of all.
    engine : {"auto", "keops", "dense"}, default "auto"
    progress : bool, default False
        Show a progress bar of ``chunks`` (needs tqdm).

    Returns
    -------
    Sketch

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.

    Notes
    -----
    Kernel interpolation on cells a few σ wide: pivoted Cholesky factorisation finds the points, and their weights are
    ω = Σ_j G⁻¹ (K(z_k, y_j))_k b_j, G the kernel between them (Harbrecht, Peters, Schneider 2012, Appl. Numer. Math.
    62). Where σ is near the spacing of the points, the sketch is the cloud. Pieces of ``chunks`` are merged sixteen at
    a time, so that memory does not grow with N, and errors with log N.

    Examples
    --------
    >>> import geomsink
    >>> x, y = (geomsink.shapes.sample(f"shape:{name}", 10_000, seed=0) for name in ("torus", "knot"))
    >>> few = geomsink.sketch(x, blur=0.1)
    >>> whole = geomsink.sinkhorn_divergence(x, y, blur=0.1).value
    >>> abs(geomsink.sinkhorn_divergence(few, y, blur=0.1).value / whole - 1.0) < 1e-4
    True
    """
    ground, temperature = _kernel(cost, blur, epsilon)
    _check_accuracy(accuracy)
    flag("progress", progress)
    if (x is None) == (chunks is None):
        found = "neither was" if x is None else "both were"
        raise ValueError(f"x, chunks: {found} given, expected one of them.")
    if chunks is None:
        points, mass, container = measure(x, a, ("x", "a"))
        if points.ndim != 2:
            raise ValueError(f"x: shape is {tuple(points.shape)}, expected one cloud (points, coordinates).")
        count, weighted = len(points), a is not None
        whole = sketched(Measure(points.detach(), mass.detach()), ground, temperature, accuracy, engine)
    else:
        if a is not None:
            raise ValueError("a: given with chunks, expected tuples (points, weights) in chunks.")
        gathered = Gathering(lambda part: sketched(part, ground, temperature, accuracy, engine))
        with Progress(progress) as bar:
            for piece in pieces(chunks):
                gathered.add(piece)
                of = f" of {piece.total:,}" if piece.total else ""
                bar.steps(f"sketch  {gathered.count:,}{of} points", gathered.count, piece.total)
            whole = gathered.whole()
        count, weighted, container = gathered.count, gathered.weighted, gathered.container
    return Sketch(
        **_arrays(whole, container), epsilon=temperature, cost=cost, accuracy=float(accuracy), count=count,
        weighted=weighted,
    )  # fmt: skip


def sketched(cloud: Measure, cost: Cost, epsilon: float, accuracy: float, engine_name: str = "auto") -> Measure:
    """The nodes of a cloud, or of a sketch, with their weights: points as they are before the cost's features.

    Raises
    ------
    ValueError
        For features that are learned.
    """
    points = cloud.points.double()
    if cost.translation_invariant:  # rounding errors are relative to the coordinates: keep those small
        points = points - points.mean(0)
    features = cost.map(points)
    if features.requires_grad:
        raise ValueError(f"cost: features of cost {cost.name!r} require gradients, expected constant ones.")
    found, index = merged(replace(cloud, points=features), cost, epsilon, accuracy, engine_name)
    return replace(found, points=cloud.points[index])


def same_cost(one: str | Cost, other: str | Cost) -> bool:
    """Whether two costs are one, by their names or by what they are."""
    return one == other or costs.get(one) == costs.get(other)


def as_measure(one: Sketch, factor: float = 1.0) -> Measure:
    """Its points and weights as tensors, these times a factor."""
    points, weights, nearby = (
        array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
        for array in (one.points, one.weights, one.nearby)
    )
    return Measure(points, factor * weights, factor * nearby)


def _arrays(found: Measure, container: Container) -> dict[str, Any]:
    """In the caller's kind of arrays, points in the caller's precision."""
    exact = replace(container, dtype=torch.float64)
    weights, nearby = (exact.array(w, 0) for w in (found.weights, found.sizes))
    return {"points": container.array(found.points, 0), "weights": weights, "nearby": nearby}


def _kernel(cost: str | Cost, blur: Any, epsilon: Any) -> tuple[Cost, float]:
    """The cost, if its kernel is a Gaussian, and the temperature."""
    ground = costs.get(cost)
    if ground.quadratic is None:
        raise ValueError(
            f"cost: {ground.name!r} given, whose kernel exp(-C/epsilon) is not smooth at 0, or not known to be, so "
            "that few points cannot stand for others; expected a squared distance, such as 'sqeuclidean'."
        )
    temperature = costs.temperature(ground, blur, epsilon)
    if temperature == math.inf:
        raise ValueError("blur, epsilon: inf given, expected a finite temperature.")
    return ground, temperature


def _check_accuracy(accuracy: Any) -> None:
    if not FINEST <= number("accuracy", accuracy) < 1.0:
        raise ValueError(f"accuracy: {accuracy} given, expected a share of the kernel from {FINEST:g} up to 1.")


def _check_mergeable(one: Sketch, other: Any, name: str) -> None:
    if not isinstance(other, Sketch):
        raise TypeError(f"{name}: a {type(other).__name__} was given, expected a Sketch.")
    if not same_cost(one.cost, other.cost):
        raise ValueError(f"{name}: its cost is {other.ground.name!r}, expected {one.ground.name!r}.")
    if abs(other.epsilon - one.epsilon) > SAME * one.epsilon:
        raise ValueError(f"{name}: it is for epsilon {other.epsilon:.6g}, expected {one.epsilon:.6g}.")
    if other.points.shape[1] != one.points.shape[1]:
        raise ValueError(f"{name}: {other.points.shape[1]} coordinates a point, expected {one.points.shape[1]}.")
    for what, mine, its in (
        ("weights", one.weighted, other.weighted),
        ("the unit cube", one.normalized, other.normalized),
    ):
        if mine != its:
            said = ("without", "with") if what == "weights" else ("not moved into", "moved into")
            raise ValueError(f"{name}: of a cloud {said[its]} {what}, expected one {said[mine]} {what}.")


def on_host(array: Any) -> Any:
    """As an array of NumPy's, which has no bfloat16."""
    return array.to(working(array.dtype)).cpu().numpy() if isinstance(array, Tensor) else array
