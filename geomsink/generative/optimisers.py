"""Optimisers by name, from a factory, or as they are; and how long their gradients are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..counts import one_of, positive

LEARNING_RATE = 1e-3
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def optimiser(name: str, given: Any, lr: float | None, module: nn.Module, of: str) -> torch.optim.Optimizer:
    """An optimiser of a module's parameters.

    Parameters
    ----------
    name : str
        Of the argument, for sentences.
    given : str, callable or torch.optim.Optimizer
        ``"rmsprop"`` (as arXiv:1706.00292), ``"adam"``, ``"adamw"`` or ``"sgd"``; a function of the parameters; or an
        optimiser that has them.
    lr : float, optional
        The learning rate of a named one; None is 1e-3.
    module : torch.nn.Module
    of : str
        What the module is, for sentences.

    Raises
    ------
    TypeError, ValueError
        For anything else, for a module without parameters, for parameters of another module.
    """
    mine = [p for p in module.parameters() if p.requires_grad]
    if not mine:
        raise ValueError(f"{of}: {type(module).__name__} has no parameters to train, expected one at least.")
    if not isinstance(given, str) and lr is not None:
        raise ValueError(f"lr: {lr} given with an optimiser that has its own; expected None.")
    if isinstance(given, str):
        one_of(name, given, OPTIMISERS)
        return OPTIMISERS[given](mine, lr=LEARNING_RATE if lr is None else positive("lr", lr))
    made = given if isinstance(given, torch.optim.Optimizer) or not callable(given) else given(mine)
    if not isinstance(made, torch.optim.Optimizer):
        kind = type(made).__name__
        raise TypeError(f"{name}: a {kind} was given, expected a name, a function of the parameters or an optimiser.")
    theirs = [p for group in made.param_groups for p in group["params"]]
    strange = len({id(p) for p in theirs} - {id(p) for p in mine})
    if strange:
        raise ValueError(f"{name}: {strange} of its {len(theirs)} parameters are not trained ones of the {of}.")
    return made


def describe(optimizer: torch.optim.Optimizer) -> str:
    """For checkpoints: its kind and numbers, such as learning rates, at the start."""
    groups = [
        ", ".join(f"{k}={v}" for k, v in sorted(group.items()) if isinstance(v, (int, float, tuple)))
        for group in optimizer.param_groups
    ]
    return f"{type(optimizer).__name__}({'; '.join(groups)})"


def gradient_norm(module: nn.Module, most: float | None) -> Tensor:
    """The Euclidean norm of all gradients of a module, which are then scaled down to norm ``most`` if that is less."""
    return torch.nn.utils.clip_grad_norm_(list(module.parameters()), math.inf if most is None else most)
