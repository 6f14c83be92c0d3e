"""The front door of fitting generators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec

from torch import nn

from . import checkpoints, processes
from .checkpoints import CheckpointError
from .generators import rebuilt
from .result import Fit
from .trainer import Trainer

P = ParamSpec("P")


def _like(trainer: Callable[P, Trainer]) -> Callable[[Callable[..., Fit]], Callable[P, Fit]]:
    """For a function that hands all its arguments to a trainer: they are said there, and seen by tools here, too."""

    def decorate(function: Callable[..., Fit]) -> Callable[P, Fit]:
        signature = inspect.signature(trainer)
        function.__signature__ = signature.replace(return_annotation="Fit")  # type: ignore[attr-defined]
        return function

    return decorate


@_like(Trainer)
def fit(*given: Any, **options: Any) -> Fit:
    """Train a generator so that its points resemble data: min_θ loss(g_θ(z), data).

    Parameters
    ----------
    generator : torch.nn.Module
        g_θ, from latent variables (n, ...) to points (n, ...). It is trained in place, in training mode.
    data : tensor or array (N, ...), Dataset, DataLoader, Shape, str, path or callable
        Points, which get the generator's device and precision; of items (points, label) the first.
        A file of a shape or the name of one is resampled on its surface at each step, and a function n ↦ points
        (n, ...) is called at each step. Otherwise data are passed through in a new order each time.
    loss : callable
        ``loss(x, y)`` of points (n, D) and (m, D), flattened if they are images: `geomsink.SinkhornDivergence`,
        `geomsink.MMD`, `geomsink.EntropicOT`, or any function that gives a scalar tensor.
    steps : int, default 1000
        Of the generator, in all.
    batch : int, optional
        Data points a step. None is all of finite data, and is wanted with a DataLoader, which has batches of its own.
    samples : int, optional
        Generated points a step; None is as many as there are data points.
    latent : int, tuple of int, torch.distributions.Distribution or callable, optional
        Standard normal variables of a dimension or shape; others; n ↦ z. None is ``generator.latent``.
    optimizer : str, callable or torch.optim.Optimizer, default "rmsprop"
        ``"rmsprop"`` as in the paper, ``"adam"``, ``"adamw"`` or ``"sgd"``; a function of the parameters; an optimiser.
    lr : float, pair of float, or callable, optional
        Of a named optimiser; None is 1e-3. ``(start, end)`` falls as half a cosine does, over ``steps``; or a function
        of the step, from 0 on.
    blur, epsilon : pair of float, or callable, optional
        A schedule for the loss's: ``(start, end)``, geometric over ``steps``, or a function of the step, from 0 on.
    features : torch.nn.Module or LearnedCost, optional
        φ of a cost that is learned against the generator, c(φ(x), φ(y)).
    targets : Targets, optional
        Evaluate the loss once for many steps of the optimiser: a step of ``steps`` is then an evaluation, and has
        ``targets.steps`` of those, so that there are few, and ``evaluate_every`` and ``checkpoint_every`` count them.
        For large clouds and precise fits.
    clip : float, optional
        Largest norm of the generator's gradient.
    average : float, optional
        Decay of an exponential moving average of the generator's weights, such as 0.999.
    seed : int, default 0
        All random numbers follow from it and the step. Random numbers outside are left as they were.
    held_out : int, float or data, optional
        Data to measure on: so many points, or such a share, set apart before training; of data that are drawn, so many,
        drawn once; or data of their own.
    score : callable, optional
        The loss on them; None is ``loss`` at its last temperature. With learned features it has to be given.
    evaluate_every : int, default 100
        Steps from one measurement to the next; there is one after the last step, too.
    patience : int, optional
        Stop after so many measurements without a new best.
    folder : path, optional
        For checkpoints and the log. A run that is there is gone on with: the same numbers come out as without a stop.
        Other settings than its own are refused, but for ``steps`` (unless a schedule runs over them), ``patience`` and
        what is written when.
    checkpoint_every : int, default 100
        Steps from one checkpoint to the next; there is one after the last step, too. The last two are kept.
    log : path, optional
        A row of numbers a step, ``.csv`` or ``.jsonl``; None is ``folder/log.csv``, or no file without a folder.
    tensorboard : bool, default False
        The same in ``folder/tensorboard``.
    progress : bool, default False
        Show a progress bar with the loss and its held-out value (needs tqdm).

    Returns
    -------
    Fit

    Raises
    ------
    TypeError, ValueError
        For bad input: one sentence that says which argument, what was found and what was expected.
    NonFiniteError
        When numbers are NaN or infinite: a report of the step, its batch and the solver.
    ProcessesError
        If another one of several processes fails, ends, or does not answer in time.
    CheckpointError
        If none of the folder's checkpoints can be read, or they are of other networks.
    ImportError
        If tqdm or TensorBoard are asked for and not installed.

    Warns
    -----
    CheckpointWarning
        If the last checkpoint is damaged and the one before is used.
    ConvergenceWarning
        Once, if a solve does not converge.

    Notes
    -----
    Genevay, Peyré, Cuturi 2018 (arXiv:1706.00292), Algorithm 1.

    Between n generated points themselves a debiased loss is off by O(1/n), as each point is nothing away from itself.
    That makes generators a little too narrow: more ``samples`` help, more data points do not.

    With `torch.distributed` initialised, ``batch`` and
    ``samples`` are of all processes together: each makes its part, the loss sees the union, and weights stay the same
    everywhere. The first process writes files and reads checkpoints. They wait for each other for five minutes, or for
    as long as a `geomsink.Group` of all that was made before says.

    Examples
    --------
    >>> import torch
    >>> from geomsink import SinkhornDivergence
    >>> from geomsink.generative import MLP
    >>> data = 0.1 * torch.randn(500, 2) + 3.0
    >>> fitted = fit(MLP(2, 2, width=16), data, SinkhornDivergence(blur=0.5), batch=50, steps=60, lr=0.01)
    >>> fitted.sample(1000).mean(0).round()
    tensor([3., 3.])
    """
    with processes.step("fit"):
        return Trainer(*given, **options).train()


def load(folder: str | PathLike[str], generator: nn.Module | None = None) -> nn.Module:
    """The generator of a folder of checkpoints, in evaluation mode.

    Parameters
    ----------
    folder : path
    generator : torch.nn.Module, optional
        A module of the same form, which gets the weights and is returned. None is for `MLP`, `Surface`, `Ellipse` and
        `Images`, which are made again from what the checkpoint says of them.

    Returns
    -------
    torch.nn.Module
        With the weights that a `Fit` has: the best on held-out data, or else averaged, or else the last.

    Raises
    ------
    FileNotFoundError
        If the folder has no checkpoint.
    CheckpointError
        If none can be read, or the last is of another network.
    TypeError
        If a generator of another kind is not given.

    Warns
    -----
    CheckpointWarning
        If the last checkpoint is damaged and the one before is used.

    Examples
    --------
    >>> import tempfile, torch
    >>> from geomsink import MMD
    >>> from geomsink.generative import Ellipse
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted = fit(Ellipse(), torch.rand(50, 2), MMD(kernel="energy"), steps=5, folder=folder)
    ...     bool((load(folder).matrix == fitted.generator.matrix).all())
    True
    """
    found = checkpoints.newest(Path(folder))
    if found is None:
        raise FileNotFoundError(f"folder: {folder} has no checkpoint, expected one that `fit` wrote.")
    path, state = found
    held_out = state["held_out"]
    weights = held_out["weights"] if held_out else None
    if generator is None and state["recipe"] is None:
        raise TypeError(f"generator: None given, but {path} is of a module of another kind; expected one like it.")
    try:
        if weights is None and "average" in state:
            weights = {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}
        generator = rebuilt(state["recipe"]) if generator is None else generator
        generator.load_state_dict(state["generator"] if weights is None else weights)
    except checkpoints.UNFIT as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: it is of another generator ({reason}); expected the same one.") from error
    return generator.eval()
