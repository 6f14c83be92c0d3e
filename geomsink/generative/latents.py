"""What generators make points from: latent variables, and points by the thousand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..counts import whole
from .randomness import SAMPLE, normal, seeded

CHUNK = 1 << 14
"""Points that are generated at once where their number is not bounded by a loss."""

Sampler = Callable[[int], Tensor]


def sampler(latent: Any, generator: nn.Module) -> Sampler:
    """n ↦ n latent variables on the generator's device.

    Parameters
    ----------
    latent : None, int, tuple of int, torch.distributions.Distribution or callable
        Standard normal of a dimension or shape; what a distribution or function of n gives; None is
        ``generator.latent``.
    generator : torch.nn.Module

    Raises
    ------
    TypeError, ValueError
        For anything else, and for None where the generator says nothing of its latent variables.

    Examples
    --------
    >>> sampler(2, nn.Linear(2, 3))(5).shape
    torch.Size([5, 2])
    """
    function: Any
    if latent is None:
        function = getattr(generator, "latent", None)
        if not callable(function):
            raise TypeError(
                f"latent: None given, but {type(generator).__name__} has no method latent(n); expected a dimension, a "
                "distribution or a function of n."
            )
    elif isinstance(latent, torch.distributions.Distribution):

        def function(n: int) -> Tensor:
            return latent.sample(torch.Size((n,)))
    elif callable(latent):
        function = latent
    elif isinstance(latent, (tuple, list)):
        function = _normal(tuple(whole("latent", size) for size in latent))
    else:
        function = _normal((whole("latent", latent),))

    def draw(n: int) -> Tensor:
        z = function(n)
        if not isinstance(z, Tensor) or z.ndim < 1 or len(z) != n:
            found = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
            raise ValueError(f"latent: {found} was drawn for {n} points, expected a tensor ({n}, ...).")
        like = next(generator.parameters(), None)
        if like is None:
            return z
        return z.to(like.device, like.dtype if z.is_floating_point() else None)

    return draw


def _normal(shape: tuple[int, ...]) -> Sampler:
    return lambda n: normal(n, *shape)


@torch.no_grad()
def sample(generator: nn.Module, n: int, *, latent: Any = None, seed: int = 0) -> Tensor:
    """n points of a generator, in evaluation mode and without history.

    Parameters
    ----------
    generator : torch.nn.Module
    n : int
    latent : None, int, tuple of int, torch.distributions.Distribution or callable
        As `Trainer` takes it.
    seed : int, default 0
        The same seed gives the same points.

    Returns
    -------
    points : Tensor, shape (n, ...)
        On the generator's device.

    Raises
    ------
    TypeError, ValueError
        For a bad generator, number, seed or latent.

    Examples
    --------
    >>> sample(nn.Linear(2, 3), 1000, latent=2).shape
    torch.Size([1000, 3])
    """
    if not isinstance(generator, nn.Module):
        raise TypeError(f"generator: a {type(generator).__name__} was given, expected a torch.nn.Module.")
    n, seed = whole("n", n), whole("seed", seed, 0)
    draw, was_training, parts = sampler(latent, generator), generator.training, []
    like = next(generator.parameters(), None)
    generator.eval()
    try:
        with seeded(seed, SAMPLE, device=None if like is None else like.device):
            for start in range(0, n, CHUNK):
                parts.append(generator(draw(min(CHUNK, n - start))))
    finally:
        generator.train(was_training)
    return torch.cat(parts)
