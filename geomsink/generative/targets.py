"""Where points should be: a step down the loss's gradient in the points, which a generator then learns to reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..counts import positive, whole
from .randomness import TARGETS, seed_of


@dataclass(frozen=True)
class Targets:
    """One evaluation of the loss on a large cloud for many steps of the generator.

    Points x_i = g_θ(z_i), i = 1, ..., n, have the targets T_i = x_i − move · n · ∂loss/∂x_i, and the optimiser makes
    ``steps`` steps on batches I of

        mean_{i ∈ I} ‖g_θ(z_i) − T_i‖² / (2 move),

    whose gradient is the loss's at first, if a point depends on its z_i alone: what dropout or a batch norm changes
    from one pass to the next counts as distance. Make ``steps`` · ``batch`` several times n, so that all are seen. With
    move = ½ and squared distances as the cost, T_i is where the debiased plan sends x_i.

    Parameters
    ----------
    steps : int
        Of the optimiser, for each evaluation of the loss.
    batch : int, optional
        Points of the cloud for each of them, pass after pass in a new order; None is all.
    move : float, default 0.5
        Of targets, in units of n times the loss's gradient.

    Raises
    ------
    TypeError, ValueError
        For numbers that are not positive.

    Notes
    -----
    Johnson, Zhang 2018 (arXiv:1801.06309) and Gao et al. 2019 (arXiv:1901.08469) train generators on moved points. What
    two small clouds of one law differ by is far more than what large ones do, and the time of one evaluation is shared
    by all steps. With a smaller ``move`` the noise of more evaluations averages out, and they have to be more.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.rand(100, 2), torch.rand(100, 2) + 1.0
    >>> Targets(10).of(x, 2 * (x - y) / 100, 100).allclose(y)
    True
    """

    steps: int
    batch: int | None = None
    move: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", whole("targets, steps", self.steps))
        object.__setattr__(self, "move", positive("targets, move", self.move))
        if self.batch is not None:
            object.__setattr__(self, "batch", whole("targets, batch", self.batch))

    def of(self, x: Tensor, gradient: Tensor, n: int) -> Tensor:
        """T, for points and the loss's gradient in them.

        Parameters
        ----------
        x, gradient : Tensor, shape (m, ...)
        n : int
            Points of the whole cloud, of which these are m.

        Returns
        -------
        Tensor, shape (m, ...)
        """
        return x - self.move * n * gradient

    def check(self, n: int) -> None:
        """Refuse a cloud of n points, where a batch has more.

        Parameters
        ----------
        n : int

        Raises
        ------
        ValueError
            If it does.
        """
        if self.batch is not None and self.batch > n:
            raise ValueError(
                f"targets: batches of {self.batch} given for a cloud of {n} points, expected no more than that."
            )

    def batches(self, n: int, place: tuple[int, ...]) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """Rows of n points, for each of the steps; the order follows from the place.

        Parameters
        ----------
        n : int
            Points of the cloud.
        place : tuple of int
            What the random order follows from.

        Yields
        ------
        array of int64, shape (batch,)
        """
        size = n if self.batch is None else self.batch
        order = np.arange(n)
        for k in range(self.steps):
            epoch, at = divmod(k, n // size)
            if at == 0 and size < n:
                order = np.random.default_rng(seed_of(place[0], TARGETS, *place[1:], epoch)).permutation(n)
            yield order[at * size : (at + 1) * size]

    def distance(self, x: Tensor, goals: Tensor, size: int) -> Tensor:
        """What points of a batch of that size have to it.

        Parameters
        ----------
        x, goals : Tensor, shape (m, ...)
            Points and their targets.
        size : int
            Of the batch, of which these are m.

        Returns
        -------
        Tensor, shape ()
        """
        return (x - goals).square().sum() / (2.0 * self.move * size)
