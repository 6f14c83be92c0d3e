"""The commands that fit a generator to a shape, and draw points from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
import torch
from numpy.typing import NDArray

from geomsink import SinkhornDivergence, generative, shapes
from geomsink.counts import whole
from geomsink.generative import OPTIMISERS, START, existing, seeded

from . import options, report, several
from .clouds import SHAPE_SAMPLES, Reading, is_shape, name_of
from .figures import check_figure, plotting
from .frames import NAME, Frame
from .group import NOT_CONVERGED, ending, leave
from .outputs import CLOUDS, check_dimension, check_out

BLUR = (0.1, 0.01)
INNER_BATCH = 250
LAST_RATE = 1 / 100
"""Of the learning rate, in the last step."""
RADIUS = 0.3
"""Half the size of a generator at the start, in sides of the shape's box."""
TOL = 1e-2
"""Marginal error of the solves, whose clouds of points are further from the surface's law than that."""


@click.command()
@click.argument("shape")
@click.option("--out", required=True, metavar="DIR", type=click.Path(file_okay=False),
              help="Folder of checkpoints, log.csv and fit.png. A fit that is there is gone on with.")  # fmt: skip
@click.option("--base", type=click.Choice(("sphere", "square")), default="sphere", show_default=True,
              help="What is bent into the shape.")  # fmt: skip
@click.option("--patches", type=int, default=1, show_default=True, help="How many of them.")
@click.option("--steps", type=int, default=40, show_default=True, help="Evaluations of the divergence, in all.")
@click.option("--batch", type=int, default=10_000, show_default=True,
              help="Points of each, of the surface and of the generator.")  # fmt: skip
@click.option("--inner", type=int, default=400, show_default=True,
              help="Steps of the optimiser after each, towards where it sends the generated points.")  # fmt: skip
@click.option("--inner-batch", type=int, help=f"Points of those. [default: {INNER_BATCH}, or --batch if that is less]")
@click.option("--blur", type=float, nargs=2, metavar="START END",
              help="Temperature as a length, falling step by step. "
                   f"[default: {BLUR[0]} {BLUR[1]}, in the unit cube]")  # fmt: skip
@click.option("--lr", type=float, default=1e-2, show_default=True,
              help="Learning rate at the start; it falls as half a cosine, to a hundredth.")  # fmt: skip
@click.option("--optimizer", type=click.Choice(list(OPTIMISERS)), default="adam", show_default=True)
@click.option("--average", type=float, default=0.998, show_default=True,
              help="Decay of a moving average of the weights; 0 is none.")  # fmt: skip
@click.option("--held-out", type=int, default=10_000, show_default=True, metavar="N",
              help="Points of the surface to measure on, which no step sees.")  # fmt: skip
@click.option("--every", type=int, default=5, show_default=True,
              help="Steps from one checkpoint and measurement to the next.")  # fmt: skip
@click.option("--patience", type=int, help="Stop after so many measurements without a new best. [default: never]")
@click.option("--seed", type=int, default=0, show_default=True, help="All random numbers follow from it.")
@options.columns
@click.option("--normalize/--no-normalize", default=True, show_default=True,
              help="Fit in the unit cube; the command sample undoes it. Without it, --blur must be given.")  # fmt: skip
@options.engines
@options.progress
@options.timeout
@options.output
def fit(
    shape: str,
    out: str,
    base: str,
    patches: int,
    steps: int,
    batch: int,
    inner: int,
    inner_batch: int | None,
    blur: tuple[float, float] | None,
    lr: float,
    optimizer: str,
    average: float,
    held_out: int,
    every: int,
    patience: int | None,
    seed: int,
    columns: str | None,
    drop_invalid: bool,
    normalize: bool,
    engine: str,
    progress: bool,
    timeout: float,
    as_json: bool,
    plot: str | None,
) -> None:
    """Fit a generator to SHAPE: bend a sphere, or squares, until their points are those of its surface.

    SHAPE is a file or a shape, as for the command divergence, in three dimensions. Each step draws new points of it,
    evaluates their Sinkhorn divergence to generated ones, and teaches the generator where that sends them. A figure is
    written, too, to DIR/fit.png or where --plot says, if matplotlib is installed. The command sample draws points from
    the result.

    A fit that was interrupted goes on from its last checkpoint when the command is given again; --steps cannot change
    then, since blur and learning rate fall over them.

    Processes that torchrun has started make parts of each batch; the first writes.

    Exit codes: 0 done, 2 bad use, 3 numbers were no longer finite, 4 another process failed, 130 interrupted,
    143 terminated.
    """
    several.group(timeout)  # before what trainers make
    if blur is None:
        if not normalize:
            raise click.UsageError("--no-normalize needs --blur, in the scale of the coordinates.")
        blur = BLUR
    if not out:
        raise ValueError("--out: found no name, expected that of a folder.")
    for option, n in (("--batch", batch), ("--held-out", held_out)):
        shapes.check_count(whole(option, n), option)
    reading = Reading(seed=whole("--seed", seed, 0), columns=columns, drop_invalid=drop_invalid, normalize=normalize)
    targets = generative.Targets(inner, min(INNER_BATCH, batch) if inner_batch is None else inner_batch)
    figure, reason = _figure(plot, out)
    frame = Frame.of(shape, reading)
    source = f"shape:{name_of(shape)}" if is_shape(shape) else Path(shape)
    data = generative.Shape(source, normalize, reading.chosen, drop_invalid)
    with seeded(seed, START):
        generator = _generator(base, patches, frame)
    trainer = generative.Trainer(
        generator, data,
        SinkhornDivergence(blur=blur[0], tol=TOL, dtype="float32", engine=engine),
        steps=steps, batch=batch, optimizer=optimizer, lr=(lr, lr * LAST_RATE), blur=blur, targets=targets,
        average=average or None, seed=seed, held_out=held_out,
        score=SinkhornDivergence(blur=blur[1], engine=engine), evaluate_every=every,
        patience=patience, folder=out, checkpoint_every=every, progress=progress,
    )  # fmt: skip
    start = trainer.step
    writes = several.speaks()
    if start:
        click.echo(f"geomsink: resumed from step {start} in {out}.", err=True)
    with _nothing_left_of_what_failed(out) if writes else nullcontext():
        if writes:
            frame.write(out)
        result = _train(trainer, out)
    if not writes:
        return
    if not result.history:
        raise ValueError(f"--out: the fit in {out} is done, but its log.csv is gone; expected it, or another folder.")
    if figure is not None:
        target = data.sampler()(SHAPE_SAMPLES, seed)
        _draw(result, frame, target, figure)
    seconds = result.history[-1]["seconds"]
    checkpoint, log = str(existing(Path(out))[0]), str(Path(out) / "log.csv")
    said = {"steps": result.steps, "stopped": result.stopped, "resumed_from": start or None}
    said |= {"loss": report.finite(result.loss), "held_out": result.held_out, "best_step": result.best_step}
    said |= {"seconds": seconds, "shape": frame.shape, "base": base, "patches": patches, "batch": batch}
    said |= {"inner": inner, "inner_batch": targets.batch}
    said |= {"blur": list(blur), "lr": lr, "optimizer": optimizer, "average": average or None, "seed": seed}
    said |= {"held_out_points": held_out, "normalize": normalize, "out": out, "log": log}
    report.say(as_json, said | {"checkpoint": checkpoint, "figure": figure}, [
        ("held-out divergence", report.bold(f"{result.held_out:.6g}").append(
            f", the best, after step {result.best_step} ({held_out:,} points, blur {blur[1]:g})", "not bold")),
        ("loss", f"{result.loss:.6g}, of the last step"),
        ("steps", f"{result.steps:,} of {steps:,}" + (f", resumed from step {start}" if start else "")),
        ("stopped", "all steps are done" if result.stopped == "steps" else f"no new best {patience} times"),
        ("shape", frame.shape),
        ("generator", f"{base}, patches {patches}"),
        ("frame", "in the unit cube" if normalize else "coordinates as they are"),
        ("cost", f"sqeuclidean, blur from {blur[0]:g} to {blur[1]:g}, {batch:,} points"),
        ("inner steps", f"{inner:,} for each, with {targets.batch:,} points"),
        ("optimizer", f"{optimizer}, lr from {lr:g} to {lr * LAST_RATE:.3g}"),
        ("seconds", f"{seconds:.2f}"),
        ("written", f"{checkpoint}, {log}"),
        ("figure", reason if figure is None else figure),
    ])  # fmt: skip


@click.command()
@click.argument("folder", metavar="DIR")
@click.argument("out")
@click.option("-n", "--samples", "n", type=int, default=SHAPE_SAMPLES, show_default=True, metavar="N", help="Points.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same points.")
@options.output
def sample(folder: str, out: str, n: int, seed: int, as_json: bool, plot: str | None) -> None:
    """Draw points from the generator that the command fit left in DIR, and write them to OUT (.ply, .npz).

    They are in the coordinates of the file that it was fitted to; those of a fit by the library are as the generator
    gives them. While a fit is going on, they are of its last checkpoint.

    Exit codes: 0 done, 2 bad use, 130 interrupted, 143 terminated.
    """
    shapes.check_count(n, "--samples")
    check_out(out, CLOUDS)
    check_figure(plot)
    frame = Frame.read(folder)
    generator = generative.load(folder)
    shape = tuple(generative.sample(generator, 1).shape[1:])
    if len(shape) != 1:
        raise ValueError(f"{folder}: its generator gives samples of shape {shape}, expected points, of shape (D,).")
    check_dimension(out, shape[0])
    drawn = generative.sample(generator, n, seed=seed)
    points = drawn.numpy() if frame is None else frame.undo(drawn)
    shapes.write(out, points)
    if plot is not None:
        draw = plotting()
        draw.save(draw.plot_colors(points, draw.position_colors(points)).figure, plot)
    kind, parameters = type(generator).__name__, sum(p.numel() for p in generator.parameters())
    said = {"points": n, "dimension": shape[0], "folder": folder, "generator": kind, "parameters": parameters}
    report.say(as_json, said | {"seed": seed, "shape": frame and frame.shape, "out": out}, [
        ("points", f"{n:,} in dimension {shape[0]}"),
        ("generator", f"{kind}, {parameters:,} parameters"),
        ("fitted to", "not known" if frame is None else frame.shape),
        ("frame", "as the generator gives them" if frame is None else f"coordinates of {frame.shape}"),
        ("seed", str(seed)),
        *report.file_rows(written=out, figure=plot),
    ])  # fmt: skip


def _figure(plot: str | None, folder: str) -> tuple[str | None, str]:
    """Where the figure goes, or why there is none; one that is asked for is refused at once if it cannot be."""
    if plot is not None:
        check_figure(plot)
        return plot, ""
    try:
        plotting()
    except ImportError as error:
        return None, f"none: {error}"
    return str(Path(folder) / "fit.png"), ""


def _generator(base: str, patches: int, frame: Frame) -> generative.Surface:
    """One that starts in the middle of the shape."""
    middle, side = frame.box
    generator = generative.Surface(base, patches=patches, radius=RADIUS * side)
    with torch.no_grad():
        generator.centre.copy_(generator.centre.new_tensor(middle))
    return generator


@contextmanager
def _nothing_left_of_what_failed(folder: str) -> Iterator[None]:
    """A fit that a full disk ends before its first checkpoint leaves nothing; a later one leaves what can be gone on
    from."""
    path = Path(folder)
    there = path.exists()
    before = set(path.iterdir()) if there else set()
    try:
        yield
    except OSError:
        if not existing(path):
            for left in (path / NAME, path / "log.csv"):
                if left not in before:
                    left.unlink(missing_ok=True)
            if not there and path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise


def _train(trainer: generative.Trainer, folder: str) -> generative.Fit:
    rows: Any = trainer.run()
    try:
        with closing(rows):  # and its progress bar, before anything else is said
            for _ in rows:
                pass
    except KeyboardInterrupt as error:
        how, code = ending(error)
        kept = existing(Path(folder))
        then = f"{kept[0]} is kept, and the same command goes on from it" if kept else "there is no checkpoint yet"
        leave(f"{how} after step {trainer.step}: {then}.", code)
    except generative.NonFiniteError as error:
        leave(str(error), NOT_CONVERGED)
    return trainer.result()


def _draw(result: generative.Fit, frame: Frame, target: NDArray[Any], path: str) -> None:
    draw = plotting()
    generated = result.sample(SHAPE_SAMPLES, seed=1)
    details = f"held-out divergence {result.held_out:.4g} after {result.best_step:,} steps"
    names = (frame.shape, "generated")
    draw.save(draw.plot_fit(target, generated, result.history, names, f"A generator of {frame.shape}", details), path)
