"""Options that several commands have, each in one place."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from geomsink import costs, engine
from geomsink.divergences import DTYPES, MAX_ITER, TOL
from geomsink.processes import TIMEOUT
from geomsink.transport import OPTIMIZERS

from .clouds import SHAPE_SAMPLES, Reading
from .figures import look_from
from .problem import BLUR, Problem, blur_of

Command = Callable[..., Any]


def _all(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


pair = _all(click.argument("a"), click.argument("b"))

_samples = click.option(
    "--samples", type=int, metavar="N",
    help="Draw N random points from the surface of each, or from the points of a file without faces. "
         f"[default: all points of a file, {SHAPE_SAMPLES:,} of shape:NAME]",
)  # fmt: skip

_seed = click.option(
    "--seed", type=int, default=0, show_default=True,
    help="For drawing: A is drawn with this seed, B with the next, and so on.",
)  # fmt: skip

UNIT_CUBE = (
    "Move and scale each cloud by itself into the unit cube, so that shapes are compared whatever their place and size."
)

columns = _all(
    click.option("--columns", metavar="X,Y,Z",
                 help="Columns of the files that are coordinates, by name or counted from 0. [default: those named x, "
                      "y and z; of others the first three, or all up to three and beyond ten]"),
    click.option("--drop-invalid", is_flag=True,
                 help="Leave out points that are not finite, as depth cameras write them."),
)  # fmt: skip

_normalize = click.option(
    "--normalize/--no-normalize", default=True, show_default=True,
    help=f"{UNIT_CUBE} Without it, coordinates stay as they are.",
)  # fmt: skip

_blur = click.option("--blur", type=float, help=f"Temperature as a length. [default: {BLUR}, in the unit cube]")

_blur_or_auto = click.option(
    "--blur", metavar="FLOAT|auto", callback=blur_of,
    help=f"Temperature as a length; auto is three spacings of the points. [default: {BLUR}, in the unit cube]",
)  # fmt: skip

_kernel = _all(
    click.option("--epsilon", type=float, help="Temperature in units of the cost, in place of --blur."),
    _samples,
    _seed,
    columns,
    click.option("--normalize/--no-normalize", default=True, show_default=True,
                 help=f"{UNIT_CUBE} Without it, coordinates stay as they are, and --blur or --epsilon must be given."),
)  # fmt: skip

cost = click.option("--cost", default="sqeuclidean", show_default=True, help=f"One of {', '.join(costs.names())}.")

_problem = _all(
    _blur_or_auto,
    _kernel,
    click.option("--reach", type=float,
                 help="Length beyond which mass is rather given up than moved. [default: all is moved]"),
    cost,
)  # fmt: skip


def _as_one(kind: type[Reading], name: str, options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that a command gets as one argument, an object whose fields they are."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_one(**given: Any) -> Any:
            chosen = {field.name: given.pop(field.name) for field in fields(kind) if field.name in given}
            return command(**{name: kind(**chosen)}, **given)

        return options(with_one)

    return decorate


problem = _as_one(Problem, "problem", _problem)

kernel = _as_one(Problem, "problem", _all(_blur, _kernel, cost))

reading = _as_one(Reading, "reading", _all(_samples, _seed, columns, _normalize))

reading_as_is = _as_one(Reading, "reading", _all(_samples, _seed, columns))

progress = click.option(
    "--progress/--no-progress", default=None, help="A progress bar on stderr. [default: when stderr is a terminal]",
    callback=lambda context, option, given: sys.stderr.isatty() if given is None else given,
)  # fmt: skip

engines = click.option("--engine", type=click.Choice(engine.ENGINES), default="auto", show_default=True)

solver = _all(
    click.option("--tol", type=float, default=TOL, show_default=True, help="Marginal error at which to stop."),
    click.option("--max-iter", type=int, default=MAX_ITER, show_default=True,
                 help="Iterations at most, for each problem."),
    click.option("--scaling", type=float, default=0.5, show_default=True,
                 help="Factor between two temperatures, as lengths, while annealing."),
    click.option("--multiscale/--single-scale", default=None,
                 help="Whether to solve between cells of points first. [default: where it pays]"),
    engines,
    click.option("--dtype", type=click.Choice(list(DTYPES)),
                 help="Working precision. [default: float32 where it is good enough]"),
    progress,
)  # fmt: skip

timeout = click.option(
    "--timeout", type=float, default=TIMEOUT, show_default=True, metavar="SECONDS",
    help="How long the processes that torchrun has started wait for each other.",
)  # fmt: skip

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else.")

output = _all(
    as_json,
    click.option("--plot", metavar="FILE", help="Also write a figure; the extension chooses the format."),
    click.option("--view", metavar="AZIMUTH,ELEVATION[,UP]", expose_value=False, callback=look_from,
                 help="From where figures show clouds in three dimensions: degrees around the axis that is up, degrees "
                      "above the horizon, and that axis. [default: 28,22,y]"),
)  # fmt: skip


def descent(steps: int, tol: float, optimizer: str, lr: str) -> Callable[[Command], Command]:
    """The options of what goes down a loss step by step, with these defaults."""
    return _all(
        click.option("--steps", type=int, default=steps, show_default=True, help="Steps at most."),
        click.option("--tol-loss", type=float, default=tol, show_default=True,
                     help="Stop when ten steps bring the loss down by no more than this share."),
        click.option("--optimizer", type=click.Choice(sorted(OPTIMIZERS)), default=optimizer, show_default=True),
        click.option("--lr", type=float, help=f"Step size. [default: {lr}]"),
    )  # fmt: skip
