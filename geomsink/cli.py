"""The commands: what they are called, what they read, and how they show what the library found."""

from __future__ import annotations

import errno
import json
import math
import platform
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from geomsink import ConvergenceWarning, __version__, costs, engine, shapes, sinkhorn_divergence
from geomsink.options import DTYPES, FORMS, MAX_ITER, TOL

NOT_CONVERGED, BAD_USE, INTERRUPTED = 3, 2, 130
SHAPE_SAMPLES = 20_000
DEMO_SAMPLES = 100_000
BLUR = 0.05
MEASURED_SECONDS = 5.0


class Commands(click.Group):
    """Turns what the library refuses into one sentence and an exit code, for all commands."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                warnings.simplefilter("always", ConvergenceWarning)
                return super().invoke(ctx)
        except KeyboardInterrupt:
            _leave("interrupted.", INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone: click ends quietly
                raise
            _leave(str(error), BAD_USE)
        except (ValueError, TypeError, ImportError, engine.BuildError) as error:
            _leave(str(error), BAD_USE)


def _leave(message: str, code: int) -> NoReturn:
    click.echo(f"geomsink: {message}", err=True)
    raise click.exceptions.Exit(code)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line that says what, without the place in the source, which tells a user nothing."""
    click.echo(f"geomsink: {message}", err=True)


@dataclass(frozen=True)
class Cloud:
    """One of the two clouds of a command, and what to call it."""

    name: str
    points: NDArray[Any]

    @classmethod
    def load(cls, source: str, samples: int | None, seed: int, normalize: bool) -> Cloud:
        """The points of a file, or random points on the surface of a file's mesh or of a named shape."""
        name = source.removeprefix("shape:")
        if samples is None and (name != source or source in shapes.names()):
            samples = SHAPE_SAMPLES
        if samples is None:
            return cls(Path(source).name, shapes.read(source, normalize=normalize))
        return cls(Path(name).name, shapes.sample(source, samples, seed=seed, normalize=normalize))

    def __str__(self) -> str:
        n, dimension = self.points.shape
        return f"{self.name}, {n:,} points in dimension {dimension}"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="geomsink")
def cli() -> None:
    """Sinkhorn divergences between large point clouds."""


def _solver_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how to solve, the same for all commands that do."""
    for option in (
        click.option("--progress/--no-progress", default=None,
                     help="A progress bar on stderr. [default: when stderr is a terminal]"),
        click.option("--dtype", type=click.Choice(list(DTYPES)),
                     help="Working precision. [default: float32 where it is good enough]"),
        click.option("--engine", type=click.Choice(engine.ENGINES), default="auto", show_default=True),
        click.option("--multiscale/--single-scale", default=None,
                     help="Whether to solve between cells of points first. [default: where it pays]"),
        click.option("--scaling", type=float, default=0.5, show_default=True,
                     help="Factor between two temperatures, as lengths, while annealing."),
        click.option("--max-iter", type=int, default=MAX_ITER, show_default=True,
                     help="Iterations at most, for each of the three problems."),
        click.option("--tol", type=float, default=TOL, show_default=True, help="Marginal error at which to stop."),
    ):  # fmt: skip
        command = option(command)
    return command


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option("--blur", type=float, help=f"Temperature as a length. [default: {BLUR}, in the unit cube]")
@click.option("--epsilon", type=float, help="Temperature in units of the cost, in place of --blur.")
@click.option("--samples", type=int, metavar="N",
              help="Draw N random points from the surface of each, or from the points of a file without faces. "
                   f"[default: all points of a file, {SHAPE_SAMPLES:,} of shape:NAME]")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True,
              help="For drawing: A is drawn with this seed, B with the next.")  # fmt: skip
@click.option("--normalize/--no-normalize", default=True, show_default=True,
              help="Move and scale each cloud by itself into the unit cube, so that shapes are compared whatever "
                   "their place and size. Without it, coordinates stay as they are, and --blur or --epsilon "
                   "must be given.")  # fmt: skip
@click.option("--reach", type=float,
              help="Length beyond which mass is rather given up than moved. [default: all is moved]")  # fmt: skip
@click.option("--cost", default="sqeuclidean", show_default=True, help=f"One of {', '.join(costs.names())}.")
@click.option("--form", type=click.Choice(FORMS), default="entropic", show_default=True)
@_solver_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else.")
@click.option("--plot", metavar="FILE", help="Also write a figure; the extension chooses the format.")
def divergence(
    a: str,
    b: str,
    blur: float | None,
    epsilon: float | None,
    samples: int | None,
    seed: int,
    normalize: bool,
    reach: float | None,
    cost: str,
    form: str,
    as_json: bool,
    plot: str | None,
    **solver: Any,
) -> None:
    """The Sinkhorn divergence between A and B.

    Each is a file of points or a mesh (.ply .obj .off .stl .xyz .csv .npy .npz) or shape:NAME, a surface
    given by a formula (shape:sphere, torus, knot, coil, blob, cube, star).

    Exit codes: 0 converged, 3 not converged, 2 bad use, 130 interrupted.
    """
    if blur is None and epsilon is None:
        if not normalize:
            raise click.UsageError("--no-normalize needs --blur or --epsilon, in the scale of the coordinates.")
        blur = BLUR
    costs.get(cost)  # refused now rather than after large files are read
    if plot is not None:
        _plotting().check_path(plot)
    x = Cloud.load(a, samples, seed, normalize)
    y = Cloud.load(b, samples, seed + 1, normalize)
    result = _solve(x, y, blur=blur, epsilon=epsilon, reach=reach, cost=cost, form=form, **solver)
    settings = {"cost": cost, "form": form, "blur": blur, "seed": seed, "normalize": normalize}
    settings |= {} if reach is None else {"reach": reach}
    if plot is not None:
        _draw(result, x, y, plot)
    if as_json:
        click.echo(json.dumps(_report(result, x, y, settings), indent=2, allow_nan=False))
    else:
        frame = "each in the unit cube" if normalize else "coordinates as they are"
        _show(result, x, y, frame, settings, plot)
    _exit(result)


@cli.command()
@click.option("--samples", type=int, default=DEMO_SAMPLES, show_default=True, help="Points on each shape.")
@click.option("--blur", type=float, default=BLUR, show_default=True, help="Temperature as a length.")
@click.option("--out", default="demo.png", show_default=True, help="The figure to write.")
@click.option("--seed", type=int, default=0, show_default=True)
@_solver_options
def demo(samples: int, blur: float, out: str, seed: int, **solver: Any) -> None:
    """A knot and a star, their divergence, and a figure of both."""
    _plotting().check_path(out)
    x = Cloud.load("shape:knot", samples, seed, True)
    y = Cloud.load("shape:star", samples, seed + 1, True)
    settings: dict[str, Any] = {"cost": "sqeuclidean", "form": "entropic", "blur": blur}
    result = _solve(x, y, **settings, **solver)
    _draw(result, x, y, out)
    _show(result, x, y, "each in the unit cube", settings, out)
    _exit(result)


@cli.command()
def doctor() -> None:
    """Versions, compiler, cache and GPU found here, and the speed.

    Exit codes: 0 when the compiled engine works, 1 when it does not.
    """
    console = _console()
    table = _table()
    table.add_row("geomsink", __version__)
    for name, found in engine.describe().items():
        table.add_row(name, found)
    console.print(table)
    with Console(stderr=True).status(f"measuring for {MEASURED_SECONDS:.0f} seconds"):
        speeds = engine.speed(MEASURED_SECONDS)
    table = _table()
    for name, speed in speeds.items():
        table.add_row(name, f"{speed:.2f} billion pairs a second")
    console.print(table)
    if "keops" not in speeds:
        _leave(f"the compiled engine does not work here, and large clouds will be slow. {_advice()}", 1)


def _advice() -> str:
    compiler = {
        "Darwin": "the command line tools (xcode-select --install)",
        "Linux": "g++ (apt install g++, dnf install gcc-c++, or conda install -c conda-forge cxx-compiler)",
    }.get(platform.system(), "a C++ compiler that KeOps can call (on Windows: under WSL)")
    return f"Install {compiler} and check that pip install 'pykeops>=2.3' succeeds."


def _solve(x: Cloud, y: Cloud, progress: bool | None, **options: Any) -> Any:
    given = {name: value for name, value in options.items() if value is not None}
    show = sys.stderr.isatty() if progress is None else progress
    return sinkhorn_divergence(x.points, y.points, progress=show, **given)


def _plotting() -> Any:
    """Imported before any work starts, so that a missing package is said at once."""
    from geomsink import plotting

    return plotting


def _draw(result: Any, x: Cloud, y: Cloud, path: str) -> None:
    plotting = _plotting()
    plotting.save(plotting.plot_divergence(result, x.points, y.points, (x.name, y.name)), path)


def _exit(result: Any) -> None:
    if not result.converged:
        raise click.exceptions.Exit(NOT_CONVERGED)


def _console() -> Console:
    # Numbers are not coloured by guess, and a pipe gets each row on one line, however long.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 1000)


def _table() -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _show(result: Any, x: Cloud, y: Cloud, frame: str, settings: dict[str, Any], figure: str | None) -> None:
    table = _table()
    kind = "" if settings["form"] == "entropic" else f" ({settings['form']} form)"
    table.add_row("Sinkhorn divergence", f"[bold]{result.value:.8g}[/bold]{kind}")
    table.add_row("A", str(x))
    table.add_row("B", str(y))
    table.add_row("frame", frame)
    blur = "" if settings["blur"] is None else f"blur {settings['blur']:g}, "
    reach = f", reach {settings['reach']:g}" if "reach" in settings else ""
    table.add_row("cost", f"{settings['cost']}, {blur}epsilon {result.epsilon:.4g}{reach}")
    state = "[green]converged[/green]" if result.converged else f"[bold red]NOT CONVERGED[/bold red]: {result.status}"
    table.add_row("state", state)
    table.add_row("marginal error", f"{result.marginal_error:.2e} (tol {result.tol:.1e})")
    table.add_row("iterations", f"{result.n_iter}")
    first, last = result.temperatures[0], result.temperatures[-1]
    table.add_row("temperatures", f"{len(result.temperatures)}, from {first:.3g} to {last:.3g}")
    table.add_row("levels", _levels(result.xy))
    table.add_row("engine", result.engine)
    table.add_row("precision", result.dtype)
    table.add_row("seconds", f"{result.seconds:.2f}")
    if figure is not None:
        table.add_row("figure", figure)
    _console().print(table)


def _levels(solution: Any) -> str:
    """What was solved between, and how much of it."""
    used = solution.approximation
    if used is None:
        return "the points alone, all pairs"
    sizes = ", then ".join(f"{n:,} x {m:,}" for n, m in used.levels)
    certificate = f"audit {used.audit:.1e}, skipped {used.skipped:.1e}"
    return f"{sizes}; {100 * used.share:.2g} % of the pairs an evaluation, {certificate}"


def _report(result: Any, x: Cloud, y: Cloud, settings: dict[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints: names as in the library, numbers at full precision."""
    report: dict[str, Any] = {"geomsink": __version__}
    for key in ("value", "converged", "status", "marginal_error", "tol", "n_iter", "epsilon"):
        report[key] = _finite(getattr(result, key))
    report["temperatures"] = [_finite(temperature) for temperature in result.temperatures]
    for key in ("engine", "dtype", "seconds"):
        report[key] = getattr(result, key)
    report |= settings
    for key, cloud in (("x", x), ("y", y)):
        n, dimension = cloud.points.shape
        report[key] = {"name": cloud.name, "points": n, "dimension": dimension}
    for key in ("xy", "xx", "yy"):
        part = getattr(result, key)
        names = ("value", "converged", "status", "marginal_error", "n_iter")
        report[key] = {name: _finite(getattr(part, name)) for name in names}
        report[key]["approximation"] = None if part.approximation is None else asdict(part.approximation)
    return report


def _finite(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
