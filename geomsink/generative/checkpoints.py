"""Checkpoints that are whole or not there: written beside, moved into place, read without running what they hold."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..atomic import clear, replacing
from .arguments import finite

KEPT = 2
VERSION = 1
NAME = re.compile(r"checkpoint-(\d{9})\.pt")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, and why."""


class CheckpointWarning(UserWarning):
    """A checkpoint was passed over for the one before it."""


def existing(folder: Path) -> list[Path]:
    """Checkpoints of a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)


def path_of(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:09d}.pt"


def write(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and keep the one before it; a process that is killed leaves all that was complete.

    Parameters
    ----------
    folder : Path
        It is made if it is not there.
    step : int
    state : dict
        Of tensors, numbers, texts and containers of them.

    Returns
    -------
    Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, step)
    clear(path.with_stem("checkpoint-*"))
    whole = io.BytesIO()  # torch says of a full disk what nobody understands
    torch.save({"version": VERSION, "step": step} | state, whole)
    with replacing(path) as file:
        file.write(whole.getbuffer())
    # Those of later steps could not be read, or this run would have gone on from them.
    before = [other for other in existing(folder) if other <= path]
    for other in set(existing(folder)) - set(before[:KEPT]):
        other.unlink(missing_ok=True)
    return path


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU.

    Raises
    ------
    CheckpointError
        For a file that is damaged (each part has a checksum), holds anything but tensors, numbers, texts and
        containers of them, or is no checkpoint.
    """
    expected = "expected a file that a Trainer wrote."
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: its part {damaged} is damaged, {expected}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever torch and zipfile raise on a file that they cannot make sense of
        reason = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")
        raise CheckpointError(f"{path}: it is damaged, or holds what is not numbers ({reason}), {expected}") from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        found = f"version {state.get('version')!r}" if isinstance(state, dict) else f"a {type(state).__name__}"
        raise CheckpointError(f"{path}: it holds {found} where version {VERSION} belongs, {expected}")
    for name, right in ENTRIES.items():
        if name not in state or not right(state[name]):
            found = f"no {name}" if name not in state else f"a {type(state[name]).__name__} as {name}"
            raise CheckpointError(f"{path}: it holds {found}, {expected}")
    return state


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair)


def _recipe(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and value.keys() == {"kind", "options"})


def _weights(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _held_out(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"value", "step", "weights", "misses"}:
        return False
    measured = value["weights"] is None or (_weights(value["weights"]) and isinstance(value["value"], float))
    return measured and _whole(value["misses"]) and (value["step"] is None or _whole(value["step"]))


ENTRIES: dict[str, Callable[[Any], bool]] = {
    "step": _whole, "settings": _texts, "recipe": _recipe, "seconds": finite, "held_out": _held_out,
    "generator": _weights,
}  # fmt: skip
"""What a checkpoint has in any case; all else is compared with the networks and optimisers that it is given to."""
UNFIT = (RuntimeError, ValueError, LookupError, TypeError, AttributeError)
"""What torch raises for a state that is not of the module or optimiser that it is given to."""


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The last complete checkpoint of a folder; None where there is none at all.

    Raises
    ------
    CheckpointError
        If there are checkpoints, and none can be read.

    Warns
    -----
    CheckpointWarning
        For each one that is passed over.
    """
    problems: list[CheckpointError] = []
    for path in existing(folder):
        try:
            state = read(path)
        except CheckpointError as problem:
            problems.append(problem)
            continue
        for passed_over in problems:
            warnings.warn(f"{passed_over} {path.name} is used in its place.", CheckpointWarning, stacklevel=4)
        return path, state
    if problems:
        raise problems[0]
    return None
